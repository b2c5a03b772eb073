"""The condition keys that a policy uses: in its conditions, and as policy variables in resources and values.

Pure.
"""

import re
from collections.abc import Iterable, Iterator

from iam.policy.grammar import VERSION_WITH_VARIABLES
from iam.policy.statement import Statement

_VARIABLE = re.compile(r"\$\{([^}]*)\}")


def context_keys_in(statements: Iterable[Statement], version: str) -> tuple[str, ...]:
    """Return the condition keys as written, in order of first use; names that differ only in case are one key."""
    names: dict[str, str] = {}
    for statement in statements:
        for name in _names(statement, with_variables=version == VERSION_WITH_VARIABLES):
            names.setdefault(name.lower(), name)
    return tuple(names.values())


def _names(statement: Statement, *, with_variables: bool) -> Iterator[str]:
    texts = [*statement.resources, *statement.not_resources]
    for condition in statement.conditions:
        yield condition.name
        texts += condition.values
    if with_variables:
        yield from variable_keys(texts)


def variable_keys(texts: Iterable[str]) -> Iterator[str]:
    """Yield the condition keys that texts use as policy variables, as written."""
    for text in texts:
        for variable in _VARIABLE.findall(text):
            name = variable.partition(",")[0].strip()
            if ":" in name:  # ${*}, ${?} and ${$} are literal characters, not keys
                yield name
