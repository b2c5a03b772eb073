"""Findings about condition keys of Amazon S3 whose value nobody but the store has.

Pure. The authorizer decides before a request reaches the store, and so without them: see ``partial.close``.
"""

from collections.abc import Iterable, Iterator

from iam.errors import excerpt
from iam.policy.conditions import Condition
from iam.policy.context_keys import variable_keys
from iam.policy.statement import Statement

# Tags of objects and of buckets.
_KEYS = ("s3:buckettag/", "s3:existingobjecttag/")
_LONGEST = 160  # characters of the policy that a finding quotes


def conditions_of_the_store(statement: Statement) -> Iterator[tuple[Condition, str]]:
    """Yield each condition with a key that only the store knows, and what it means at the authorizer."""
    outcome = "always applies" if statement.denies else "never applies"
    for condition in statement.conditions:
        if _has_key((condition.key, *variable_keys(condition.values))):
            name = excerpt(condition.name, _LONGEST)
            text = f"Only the store knows tags of objects and buckets ({name}): at the authorizer, this {outcome}."
            yield condition, text


def resources_of_the_store(statement: Statement) -> Iterator[tuple[str, str]]:
    """Yield the element of a statement whose resources have a variable that only the store knows, and the finding."""
    for place, texts in (("Resource", statement.resources), ("NotResource", statement.not_resources)):
        if _has_key(variable_keys(texts)):
            outcome = "is about every resource" if statement.denies else "is about none"
            yield place, f"Only the store knows tags of objects and buckets: at the authorizer, this {outcome}."


def _has_key(names: Iterable[str]) -> bool:
    return any(name.lower().startswith(_KEYS) for name in names)
