"""What `fedgate check-config` says of stored roles: identity providers and groups that do not exist."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing

from broker.commands.current_database import current_database
from broker.config.settings import Settings
from broker.providers.ldap.provider import LdapProvider
from broker.wiring import directory_accounts, now
from iam.accounts import list_accounts
from iam.arn import parse_arn
from iam.errors import ServiceError
from iam.inventory.roles import Role, all_roles
from iam.policy.lint.findings import Level
from iam.policy.lint.providers import named_groups
from iam.policy.statement import Statement
from sts.identity import ProviderUnavailable

_SEVERAL = 2  # accounts


def directory_findings(settings: Settings) -> tuple[str, ...]:
    """Return a line for each directory that serves every account of several: each may let its people take roles."""
    shared = [one.name for one in settings.directories.values() if not one.accounts]
    try:
        with current_database(settings) as tx:
            accounts = len(tuple(list_accounts(tx))) if tx is not None and shared else 0
    except ServiceError:
        return ()  # `role_findings` says so
    if accounts < _SEVERAL:
        return ()
    text = f"serves all {accounts} accounts: each may offer roles to its people, and all of them are looked at whenever"
    text = f"{text} somebody opens the portal. Set the accounts that may, with accounts"
    return tuple(f"directory.{name}: {text}" for name in shared)


def role_findings(settings: Settings) -> tuple[str, ...]:
    """Return a line for each finding about a stored role; directories are asked for the groups that policies name.

    Nothing is changed: a database of another version, or one that does not exist yet, is left alone.
    """
    try:
        roles = _stored_roles(settings)
    except ServiceError as error:
        return (f"the roles were not checked: the database does not answer ({error.code})",)
    return (*(line for role in roles for line in _about(role)), *_unknown_groups(settings, roles))


def _stored_roles(settings: Settings) -> tuple[Role, ...]:
    with current_database(settings) as tx:
        if tx is None:
            return ()
        accounts = tuple(account.id for account in list_accounts(tx))
        return tuple(all_roles(tx, accounts, directory_accounts(settings)))


def _about(role: Role) -> Iterator[str]:
    if role.unassumable:
        yield f"{role.arn}: nobody can assume it, since its trust policy names only principals that do not exist"
    for finding in role.findings:
        if finding.level is not Level.SUGGESTION:
            yield f"{role.arn}: {finding}: {finding.text}"


def _unknown_groups(settings: Settings, roles: tuple[Role, ...]) -> Iterator[str]:
    """Yield a line for each role and each unknown group of it; a directory that does not answer is told once."""
    named: dict[str, dict[str, dict[str, None]]] = {}  # the innermost is a set of role ARNs that keeps their order
    for role in roles:
        for directory, group in _groups_of(role, settings.directories):
            named.setdefault(directory, {}).setdefault(group, {})[role.arn] = None
    for directory, groups in named.items():
        with closing(LdapProvider(settings.directories[directory], now=now)) as provider:
            yield from _unknown_in(provider, groups)


def _unknown_in(provider: LdapProvider, groups: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """Yield a line for each role that names an unknown group; the directory is asked once for each group."""
    name = provider.config.name
    try:
        for group, role_arns in groups.items():
            if not provider.has_entry(group):
                unknown = f"the directory {name} has no group {group}, or may not show it to Fedgate"
                yield from (f"{role_arn}: {unknown}" for role_arn in role_arns)
    except ProviderUnavailable as error:
        yield f"the groups of the directory {name} were not checked: {error.log or error.message}"


def _groups_of(role: Role, directories: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for statement in role.trust.statements:
        for directory in _directories_of(statement):
            if directory in directories:
                yield from ((directory, group) for group in named_groups(statement))


def _directories_of(statement: Statement) -> Iterator[str]:
    for principal in statement.all_principals():
        arn = parse_arn(principal.value)
        kind, _slash, name = arn.resource.partition("/") if arn else ("", "", "")
        if kind == "ldap-provider":
            yield name
