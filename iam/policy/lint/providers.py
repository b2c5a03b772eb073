"""What a policy says of identity providers that can never be: groups in a form that none has, unknown providers.

Pure. A condition that no request can fulfil is valid, and so the grammar accepts it: an Allow then admits nobody, and a
Deny forbids nothing.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from iam.distinguished_names import normal_form
from iam.errors import excerpt
from iam.policy.conditions import Condition
from iam.policy.principals import PrincipalType
from iam.policy.statement import Statement

KnowsProvider = Callable[[str], bool | None]
"""Tells whether the provider of an ARN, or an issuer by its name, exists; None where that is not known."""

_Reason = Callable[[str, Condition], str]

_GROUPS: Final = "ldap:groups"
_GROUP_NAMES: Final = "ldap:group-names"
_LONGEST: Final = 160  # characters of a value that a finding quotes
_EXAMPLE: Final = "cn=engineering,ou=groups,dc=example,dc=com"


def groups_that_never_match(statement: Statement) -> Iterator[tuple[str, str]]:
    """Yield the place and the reason of each group in a statement's conditions that no person can be in."""
    yield from _compared(statement, {_GROUPS: _misspelled_name, _GROUP_NAMES: _no_short_name})


def groups_without_dn(statement: Statement) -> Iterator[tuple[str, str]]:
    """Yield the place and the reason of each group that is a word: few directories name groups so."""
    yield from _compared(statement, {_GROUPS: _word})


def named_groups(statement: Statement) -> Iterator[str]:
    """Yield the groups that a statement's conditions name by a whole distinguished name, as it is compared."""
    for condition in statement.conditions:
        if condition.key == _GROUPS and "String" in condition.operator:
            whole = (value for value in condition.values if _is_whole(value, condition))
            yield from (value for value in whole if value == _normal_form(value))


def _compared(statement: Statement, reasons: Mapping[str, _Reason]) -> Iterator[tuple[str, str]]:
    for condition in statement.conditions:
        reason = reasons.get(condition.key)
        if reason is None or "String" not in condition.operator:
            continue
        for value in condition.values:
            text = reason(value, condition) if _is_whole(value, condition) else ""
            if text:
                yield f"Condition.{condition.operator}.{condition.name}", text


def _is_whole(value: str, condition: Condition) -> bool:
    """Return whether a value is compared as it stands: no variable, no wildcard, and not empty."""
    wild = "Like" in condition.operator and ("*" in value or "?" in value)
    return bool(value) and not wild and "${" not in value


def _misspelled_name(value: str, condition: Condition) -> str:
    normal = _normal_form(value)
    compared = str.lower if "IgnoreCase" in condition.operator else str
    if "=" not in value or (normal and compared(normal) == compared(value)):
        return ""
    remedy = f"write {normal}" if normal else f"a name is written like {_EXAMPLE}"
    return f"{_shorten(value)} equals the name of no group: {_shorten(remedy)}."


def _word(value: str, _condition: Condition) -> str:
    if "=" in value:
        return ""
    return f"{_shorten(value)} is no distinguished name like {_EXAMPLE}: compare words with {_GROUP_NAMES}."


def _no_short_name(value: str, _condition: Condition) -> str:
    if "," not in value or not _normal_form(value):
        return ""
    return f"{_shorten(value)} is a distinguished name: compare it with {_GROUPS}, or write the first value alone."


def _normal_form(value: str) -> str:
    """Return a distinguished name in the one form that is compared, or "" for a value that is none."""
    try:
        return normal_form(value)
    except ValueError:
        return ""


def _shorten(text: str) -> str:
    return excerpt(text, _LONGEST)


def unknown_providers(statement: Statement, exists: KnowsProvider) -> Iterator[tuple[str, str]]:
    """Yield the place and the reason of each identity provider of a statement that does not exist."""
    for principal in statement.all_principals():
        if principal.principal_type is PrincipalType.PROVIDER and exists(principal.value) is False:
            element = "NotPrincipal" if statement.not_principals else "Principal"
            yield element, f"{_shorten(principal.value)}: this installation has no such identity provider."
