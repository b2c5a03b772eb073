"""Which condition keys a policy asks about: in its conditions, and as variables in its resources and values.

Pure.
"""

import re
from collections.abc import Iterable, Iterator

from iam.policy.grammar import VERSION_WITH_VARIABLES
from iam.policy.statement import Statement

_VARIABLE = re.compile(r"\$\{([^}]*)\}")


def context_keys_in(statements: Iterable[Statement], version: str) -> tuple[str, ...]:
    """Return the keys as their authors wrote them, each once whatever its case, in the order of their first use."""
    found: dict[str, str] = {}
    for statement in statements:
        for name in _names(statement, with_variables=version == VERSION_WITH_VARIABLES):
            found.setdefault(name.lower(), name)
    return tuple(found.values())


def _names(statement: Statement, *, with_variables: bool) -> Iterator[str]:
    texts = [*statement.resources, *statement.not_resources]
    for condition in statement.conditions:
        yield condition.name
        texts += condition.values
    if with_variables:
        yield from variable_keys(texts)


def variable_keys(texts: Iterable[str]) -> Iterator[str]:
    """Yield the keys that texts have as variables, as they are written."""
    for text in texts:
        for inner in _VARIABLE.findall(text):
            name = inner.partition(",")[0].strip()
            if ":" in name:  # ${*}, ${?} and ${$} are signs
                yield name
