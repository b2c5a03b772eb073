"""What `fedgate check-config` and `fedgate run` say of resources: accounts and roles that do not exist."""

from collections.abc import Iterator

from sqlalchemy import Connection

from broker.authz.resource import Resource
from broker.commands.current_database import current_database
from broker.config.settings import Settings
from iam.accounts import list_accounts
from iam.errors import MalformedPolicyDocument, ServiceError
from iam.policy.policy_set import PolicySet
from iam.principal_ids import resolve_principal_ids


def resource_findings(settings: Settings) -> tuple[str, ...]:
    """Return a line for each finding about a resource of the settings; nothing is changed."""
    if not settings.resources:
        return ()
    try:
        with current_database(settings) as tx:
            return () if tx is None else tuple(_findings(tx, settings))
    except ServiceError as error:
        return (f"the resources were not checked: the database does not answer ({error.code})",)


def _findings(tx: Connection, settings: Settings) -> Iterator[str]:
    accounts = {account.id for account in list_accounts(tx)}
    for one in settings.resources.values():
        name = f"resource.{one.name}"
        if one.account not in accounts:
            yield f"{name}: there is no account {one.account}, so that nobody is the owner: `fedgate account create`"
        if one.browser and not _exists(tx, one.browser):
            yield f"{name}: the role {one.browser} of browser does not exist, so that nobody gets in with it"
        yield from (f"{name}: {arn} of policy_file does not exist" for arn in _unknown_principals(tx, one))


def _unknown_principals(tx: Connection, one: Resource) -> Iterator[str]:
    arns = {arn for policy in one.policy or PolicySet() for arn in policy.principal_arns()}
    yield from (arn for arn in sorted(arns) if not _exists(tx, arn))


def _exists(tx: Connection, arn: str) -> bool:
    try:
        return bool(resolve_principal_ids(tx, (arn,)))
    except MalformedPolicyDocument:
        return False
