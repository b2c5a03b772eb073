"""The checks of whom a statement names, and of what callers may choose about themselves.

Pure.
"""

from collections.abc import Iterator, Mapping

from iam.policy.conditions import Condition
from iam.policy.lint.conditions import is_positive, split_operator
from iam.policy.lint.findings import CheckEntry, KnownServices, Level, Note
from iam.policy.principals import PolicyPrincipal, PrincipalType
from iam.policy.statement import Effect, PolicyKind, Statement

_WITH_PRINCIPAL = frozenset({PolicyKind.TRUST, PolicyKind.RESOURCE})
# Keys that restrict the caller or its network; an Allow for "*" with one of them is not open to everybody.
_CALLER_KEYS = frozenset(
    {
        "aws:principalaccount",
        "aws:principalarn",
        "aws:principalorgid",
        "aws:principalorgpaths",
        "aws:sourceaccount",
        "aws:sourcearn",
        "aws:sourceip",
        "aws:userid",
        "aws:username",
        "sts:externalid",
    }
)
_CALLERS = frozenset({PrincipalType.ACCOUNT, PrincipalType.ENTITY, PrincipalType.SESSION})
# What callers choose with an action, and the condition key that limits it.
_CHOSEN_BY_CALLERS = {"sts:TagSession": "aws:TagKeys", "sts:SetSourceIdentity": "sts:SourceIdentity"}


def _allow_with_not_principal(statement: Statement, _services: KnownServices) -> Iterator[Note]:
    if statement.effect is Effect.ALLOW and statement.not_principals:
        yield Note("NotPrincipal", "An Allow with NotPrincipal lets in everybody else, strangers among them.")


def _trust_to_everyone(statement: Statement, _services: KnownServices) -> Iterator[Note]:
    everyone = any(principal.principal_type is PrincipalType.EVERYONE for principal in statement.principals)
    if statement.effect is Effect.ALLOW and everyone and not any(map(_names_somebody, statement.conditions)):
        yield Note("Principal", "The principal * is everybody, of every account; no condition says who is meant.")


def _names_somebody(condition: Condition) -> bool:
    return is_positive(condition) and (condition.key in _CALLER_KEYS or condition.key.startswith("aws:principaltag/"))


def _session_chooses_tags(statement: Statement, _services: KnownServices) -> Iterator[Note]:
    """Report grants with which people of a directory, or everybody, choose their own tags and source identity.

    A provider of SAML or OpenID Connect signs both; a person of a directory makes them up.
    """
    if any(map(_chooses_freely, statement.principals)):
        yield from _free_choices(statement)


def _caller_chooses_tags(statement: Statement, _services: KnownServices) -> Iterator[Note]:
    """Report the same of AssumeRole, whose callers have an identity of their own and may take another's name with it.

    What everybody or a directory's people are granted is reported as the graver finding already.
    """
    callers = any(principal.principal_type in _CALLERS for principal in statement.principals)
    if callers and not any(map(_chooses_freely, statement.principals)):
        yield from _free_choices(statement)


def _free_choices(statement: Statement) -> Iterator[Note]:
    """Yield a note for each value that an Allow lets callers choose, and that no condition limits.

    A condition on one aws:RequestTag leaves the other tags free, and so limits nothing.
    """
    if statement.effect is not Effect.ALLOW:
        return
    limited = {condition.key for condition in statement.conditions if _limits_all_values(condition)}
    for action, key in _CHOSEN_BY_CALLERS.items():
        if key.lower() not in limited and statement.covers(action.lower()):
            yield Note("Action", f"{action} lets callers choose a value that others trust: limit it by {key}.")


def _chooses_freely(principal: PolicyPrincipal) -> bool:
    """Return whether a principal is everybody, or the people of a directory."""
    return principal.principal_type is PrincipalType.EVERYONE or ":ldap-provider/" in principal.value


def _limits_all_values(condition: Condition) -> bool:
    """Return whether a condition bounds every value of its key; with ForAnyValue the others are free."""
    qualifier, operator = split_operator(condition)
    return qualifier != "ForAnyValue" and "Not" not in operator and operator != "Null"


PRINCIPAL_CHECKS: Mapping[str, CheckEntry] = {
    "ALLOW_WITH_NOT_PRINCIPAL": CheckEntry(
        Level.SECURITY_WARNING,
        _allow_with_not_principal,
        "An Allow names whom it leaves out, and so lets in everybody else.",
        _WITH_PRINCIPAL,
    ),
    "TRUST_TO_EVERYONE": CheckEntry(
        Level.SECURITY_WARNING,
        _trust_to_everyone,
        "An Allow names everybody as principal, and no condition says who is meant.",
        _WITH_PRINCIPAL,
    ),
    "SESSION_CHOOSES_TAGS": CheckEntry(
        Level.SECURITY_WARNING,
        _session_chooses_tags,
        "People of a directory, or everybody, may choose their own session tags or source identity.",
        frozenset({PolicyKind.TRUST}),
    ),
    "CALLER_CHOOSES_TAGS": CheckEntry(
        Level.WARNING,
        _caller_chooses_tags,
        "Users and roles that call AssumeRole may choose any session tags or source identity, also somebody else's.",
        frozenset({PolicyKind.TRUST}),
    ),
}
