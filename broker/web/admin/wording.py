"""Texts of the administration pages: trusted entities in words, and a remedy for each security finding."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from flask_babel import gettext as _

from iam.arn import parse_arn
from iam.distinguished_names import first_rdn_value
from iam.inventory.roles import Role
from iam.inventory.security_findings import FindingKind, SecurityFinding
from iam.policy.conditions import Condition
from iam.policy.principals import EVERYONE, PolicyPrincipal, PrincipalType
from iam.policy.statement import Statement

_MOST: Final = 50  # of whom a statement names, told one by one
_GROUPS: Final = frozenset({"ldap:groups", "ldap:group-names"})
_DIRECTORY: Final = "ldap-provider/"


# --- whom a role trusts -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TrustStatement:
    """One statement of a trust policy in words; ``but``: all except these. ``more`` are not told one by one."""

    denies: bool
    all_except: bool
    who: tuple[str, ...]
    more: int
    conditions: tuple[tuple[str, str, tuple[str, ...]], ...]


def trust_statements(role: Role) -> tuple[TrustStatement, ...]:
    """Return each statement of a role's trust policy in words."""
    return tuple(_trust_statement(statement, role.present) for statement in role.trust.statements)


def _trust_statement(statement: Statement, present: Mapping[str, str]) -> TrustStatement:
    names = statement.not_principals or statement.principals or (EVERYONE,)
    groups = tuple(_groups(statement))
    who = [text for one in names for text in _principal_texts(one, present, groups)]
    conditions = tuple((one.operator, one.name, one.values) for one in statement.conditions)
    shown = tuple(islice(who, _MOST))
    return TrustStatement(statement.denies, bool(statement.not_principals), shown, len(who) - len(shown), conditions)


def _groups(statement: Statement) -> Iterator[str]:
    """Yield the directory groups that a statement requires; negated operators are shown as conditions instead."""
    for condition in statement.conditions:
        if condition.key in _GROUPS and _is_positive(condition):
            yield from condition.values


def _is_positive(condition: Condition) -> bool:
    operator = condition.operator.rpartition(":")[2]
    return operator.startswith("String") and "Not" not in operator and not operator.endswith("IfExists")


def _principal_texts(principal: PolicyPrincipal, present: Mapping[str, str], groups: tuple[str, ...]) -> Iterator[str]:
    arn = parse_arn(principal.value)
    if principal.principal_type is PrincipalType.PROVIDER and arn and arn.resource.startswith(_DIRECTORY):
        name = arn.resource.removeprefix(_DIRECTORY)
        for group in groups:
            yield _("Directory %(name)s, group %(group)s", name=name, group=_short(group))
        if not groups:
            yield _("Directory %(name)s", name=name)
    else:
        yield _PRINCIPAL_NAMES[principal.principal_type](principal, present)


def _short(group: str) -> str:
    """Return the name of a group that is written as a distinguished name, and any other text as it is."""
    try:
        return first_rdn_value(group) if "=" in group else group
    except ValueError:
        return group


def _iam_entity_text(principal: PolicyPrincipal, present: Mapping[str, str]) -> str:
    arn = parse_arn(present.get(principal.bound_id, "") if principal.bound_id else principal.value)
    if arn is None:
        return str(_("Deleted principal: %(arn)s", arn=principal.value))
    kind, _slash, name = arn.resource.partition("/")
    if kind == "role":
        return str(_("Role %(name)s of account %(account)s", name=name, account=arn.account))
    return str(_("User %(name)s of account %(account)s", name=name, account=arn.account))


def _provider_text(principal: PolicyPrincipal, _present: Mapping[str, str]) -> str:
    arn = parse_arn(principal.value)
    kind, _slash, name = (arn.resource if arn else f"oidc-provider/{principal.value}").partition("/")
    if kind == "saml-provider":
        return str(_("SAML provider %(name)s", name=name))
    return str(_("OpenID Connect issuer %(name)s", name=name))


_PRINCIPAL_NAMES: Final[Mapping[PrincipalType, Callable[[PolicyPrincipal, Mapping[str, str]], str]]] = {
    PrincipalType.EVERYONE: lambda _principal, _present: str(_("Everyone")),
    PrincipalType.ACCOUNT: lambda principal, _present: str(
        _("Account %(account)s: principals that its policies allow", account=principal.value)
    ),
    PrincipalType.ENTITY: _iam_entity_text,
    PrincipalType.SESSION: lambda principal, _present: str(_("Session %(arn)s", arn=principal.value)),
    PrincipalType.PROVIDER: _provider_text,
    PrincipalType.SERVICE: lambda principal, _present: str(_("AWS service %(name)s", name=principal.value)),
    PrincipalType.CANONICAL_USER: lambda principal, _present: str(_("Canonical user %(id)s", id=principal.value)),
}


# --- concerns ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FindingText:
    """A security finding in words: description, remedy, command, and the label of its time."""

    what: str
    remedy: str
    command: str
    time_label: str = ""


def describe_finding(finding: SecurityFinding, accounts: Mapping[str, str], endpoint: str) -> FindingText:
    """Return a finding in the reader's language; ``accounts`` maps account IDs to names.

    ``endpoint`` is the address of this service: without it the AWS CLI would call Amazon.
    """
    text = _FINDING_TEXTS[finding.kind](finding, accounts.get(finding.account_id, finding.account_id))
    if not text.command.startswith("aws "):
        return text
    return replace(text, command=f"{text.command} --endpoint-url {endpoint}")


def _root_without_factor(_one: SecurityFinding, account: str) -> FindingText:
    return FindingText(
        _("The root user of account %(account)s has no second factor.", account=account),
        _("Sign in as the root user and add one on the Security page."),
        "",
    )


def _root_with_key(one: SecurityFinding, account: str) -> FindingText:
    return FindingText(
        _("The root user of account %(account)s has the access key %(key)s.", account=account, key=_masked_key(one)),
        _("Move its workload to a user or a role, then delete the key as the root user."),
        f"aws iam delete-access-key --access-key-id {one.detail}",
        _("Created:"),
    )


def _trust_questionable(one: SecurityFinding, account: str) -> FindingText:
    return FindingText(
        _(
            "The trust policy of role %(name)s in account %(account)s needs review: %(finding)s",
            name=one.name,
            account=account,
            finding=one.detail,
        ),
        _("List the intended principals explicitly and replace the trust policy."),
        f"aws iam update-assume-role-policy --role-name {one.name} --policy-document file://trust.json",
    )


def _user_without_factor(one: SecurityFinding, account: str) -> FindingText:
    return FindingText(
        _(
            "User %(name)s of account %(account)s has a password but no second factor.",
            name=one.name,
            account=account,
        ),
        _(
            "Ask the user to add one on the Security page, or require one from all users with the setting"
            " pages.second_factor."
        ),
        "",
    )


def _certificate_ends(one: SecurityFinding, account: str) -> FindingText:
    return FindingText(
        _(
            "The certificate %(certificate)s of SAML provider %(name)s in account %(account)s expires soon or has"
            " expired.",
            name=one.name,
            account=account,
            certificate=one.detail,
        ),
        _("Get new metadata from the identity provider before that date."),
        f"fedgate saml set {one.name} --account {one.account_id} --metadata FILE-OR-URL",
        _("Expires:"),
    )


def _metadata_ends(one: SecurityFinding, account: str) -> FindingText:
    return FindingText(
        _(
            "The metadata of SAML provider %(name)s in account %(account)s expires soon.",
            name=one.name,
            account=account,
        ),
        _("Set the metadata URL so that the metadata is refreshed automatically."),
        f"fedgate saml set {one.name} --account {one.account_id} --metadata URL",
        _("Expires:"),
    )


def _metadata_failed(one: SecurityFinding, account: str) -> FindingText:
    return FindingText(
        _(
            "The metadata of SAML provider %(name)s in account %(account)s could not be fetched: %(error)s",
            name=one.name,
            account=account,
            error=one.detail,
        ),
        _("Try again. If it fails again, check the URL."),
        f"fedgate saml refresh {one.name} --account {one.account_id}",
        _("Last changed:"),
    )


def _role_abandoned(one: SecurityFinding, account: str) -> FindingText:
    return FindingText(
        _("Nobody can assume the role %(name)s of account %(account)s.", name=one.name, account=account),
        _(
            "Its trust policy names only principals that do not exist, or denies everyone."
            " Change it, or delete the role."
        ),
        f"aws iam update-assume-role-policy --role-name {one.name} --policy-document file://trust.json",
    )


def _key_unused(one: SecurityFinding, account: str) -> FindingText:
    return FindingText(
        _(
            "The access key %(key)s of user %(name)s in account %(account)s has not been used for 90 days.",
            key=_masked_key(one),
            name=one.name,
            account=account,
        ),
        _("Deactivate it, then delete it if nothing depends on it."),
        f"aws iam update-access-key --user-name {one.name} --access-key-id {one.detail} --status Inactive",
        _("Last used:"),
    )


def _key_old(one: SecurityFinding, account: str) -> FindingText:
    return FindingText(
        _(
            "The access key %(key)s of user %(name)s in account %(account)s is older than 90 days.",
            key=_masked_key(one),
            name=one.name,
            account=account,
        ),
        _("Create a new key, have the user switch to it, then deactivate the old key."),
        f"aws iam create-access-key --user-name {one.name}",
        _("Created:"),
    )


def _masked_key(one: SecurityFinding) -> str:
    return f"…{one.detail[-4:]}"


_FINDING_TEXTS: Final[Mapping[FindingKind, Callable[[SecurityFinding, str], FindingText]]] = {
    FindingKind.ROOT_WITHOUT_FACTOR: _root_without_factor,
    FindingKind.ROOT_WITH_KEY: _root_with_key,
    FindingKind.TRUST_QUESTIONABLE: _trust_questionable,
    FindingKind.USER_WITHOUT_FACTOR: _user_without_factor,
    FindingKind.CERTIFICATE_ENDS: _certificate_ends,
    FindingKind.METADATA_ENDS: _metadata_ends,
    FindingKind.METADATA_FAILED: _metadata_failed,
    FindingKind.ROLE_ABANDONED: _role_abandoned,
    FindingKind.KEY_UNUSED: _key_unused,
    FindingKind.KEY_OLD: _key_old,
}
