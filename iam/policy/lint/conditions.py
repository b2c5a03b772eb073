"""The checks of when a statement applies.

Pure.
"""

from collections.abc import Iterator, Mapping

from iam.policy.conditions import Condition
from iam.policy.lint.findings import CheckEntry, KnownServices, Level, Note, shorten
from iam.policy.lint.store_keys import conditions_of_the_store, resources_of_the_store
from iam.policy.statement import Effect, Statement

# The types of condition keys that each family of operators can compare; values of other types never match.
_COMPARABLE_TYPES = {
    "String": ("String", "ARN", "Date", "Numeric", "Bool", "IPAddress"),
    "Arn": ("ARN", "String"),
    "Numeric": ("Numeric", "String", "Date"),
    "Date": ("Date", "String", "Numeric"),
    "Bool": ("Bool", "String"),
    "Binary": ("String",),
    "IpAddress": ("IPAddress", "String"),
    "NotIpAddress": ("IPAddress", "String"),
}


def _place(condition: Condition) -> str:
    return f"Condition.{condition.operator}.{condition.name}"


def split_operator(condition: Condition) -> tuple[str, str]:
    """Return the set qualifier and the operator without it and without IfExists."""
    qualifier, _, rest = condition.operator.rpartition(":")
    return qualifier, rest.removesuffix("IfExists")


def is_positive(condition: Condition) -> bool:
    """Return whether the operator is not negated and is false for an absent key."""
    qualifier, operator = split_operator(condition)
    negated = "Not" in operator or operator == "Null"
    return not negated and qualifier != "ForAllValues" and not condition.operator.endswith("IfExists")


def _negated_with_allow(statement: Statement, _services: KnownServices) -> Iterator[Note]:
    if statement.effect is Effect.DENY:
        return
    for condition in statement.conditions:
        if "Not" in split_operator(condition)[1] and not _must_be_there(condition.key, statement):
            text = f"An Allow with {condition.operator} also allows requests without any {shorten(condition.name)}."
            yield Note(_place(condition), text)


def _for_all_values_on_absent_key(statement: Statement, services: KnownServices) -> Iterator[Note]:
    for condition in statement.conditions:
        if split_operator(condition)[0] != "ForAllValues":
            continue
        if statement.effect is Effect.ALLOW and not _must_be_there(condition.key, statement):
            name = shorten(condition.name)
            text = f"ForAllValues also holds for a request that has no {name}; add Null: false for that key."
            yield Note(_place(condition), text)
        elif services.is_multivalued(condition.key) is False:
            yield Note(_place(condition), f"{shorten(condition.name)} has one value: leave the qualifier out.")


def _must_be_there(key: str, statement: Statement) -> bool:
    return any(
        condition.key == key
        and ((condition.operator == "Null" and set(condition.values) == {"false"}) or is_positive(condition))
        for condition in statement.conditions
    )


def _any_value_expected(statement: Statement, services: KnownServices) -> Iterator[Note]:
    for condition in statement.conditions:
        qualifier, operator = split_operator(condition)
        if not qualifier and operator != "Null" and services.is_multivalued(condition.key):
            text = f"{shorten(condition.name)} has several values: say ForAnyValue: or ForAllValues:."
            yield Note(_place(condition), text)


def _unknown_key(statement: Statement, services: KnownServices) -> Iterator[Note]:
    for condition in statement.conditions:
        if services.key_type(condition.key) is None:
            text = f"No request has a condition key {shorten(condition.name)}, as far as is known."
            yield Note(_place(condition), text)


def _mismatched_type(statement: Statement, services: KnownServices) -> Iterator[Note]:
    for condition in statement.conditions:
        kind = (services.key_type(condition.key) or "Any").removeprefix("ArrayOf")
        operator = split_operator(condition)[1]
        reads = next((types for name, types in _COMPARABLE_TYPES.items() if operator.startswith(name)), ())
        if kind != "Any" and reads and kind not in reads:
            text = f"{condition.operator} cannot read {shorten(condition.name)}, which is of the type {kind}."
            yield Note(_place(condition), text)


def _wildcard_without_like(statement: Statement, _services: KnownServices) -> Iterator[Note]:
    for condition in statement.conditions:
        exact = split_operator(condition)[1] in ("StringEquals", "StringNotEquals", "StringEqualsIgnoreCase")
        wild = next(filter(_has_wildcard, condition.values), None)
        if exact and wild is not None:
            text = f"{condition.operator} compares {shorten(wild)} letter by letter; wildcards need StringLike."
            yield Note(_place(condition), text)


def _has_wildcard(value: str) -> bool:
    return "*" in value.replace("${*}", "") or "?" in value.replace("${?}", "")


def _decided_closed(statement: Statement, _services: KnownServices) -> Iterator[Note]:
    for condition, text in conditions_of_the_store(statement):
        yield Note(_place(condition), text)
    for place, text in resources_of_the_store(statement):
        yield Note(place, text)


def _empty_condition(statement: Statement, _services: KnownServices) -> Iterator[Note]:
    for condition in statement.conditions:
        if "" in condition.values:
            yield Note(_place(condition), "An empty text equals no value that a request has.")


CONDITION_CHECKS: Mapping[str, CheckEntry] = {
    "NEGATED_OPERATOR_WITH_ALLOW": CheckEntry(
        Level.SECURITY_WARNING,
        _negated_with_allow,
        "An Allow has a negated condition, which also holds where the request lacks the key.",
    ),
    "FORALLVALUES_WITH_ABSENT_KEY": CheckEntry(
        Level.SECURITY_WARNING,
        _for_all_values_on_absent_key,
        "`ForAllValues:` also holds where the request lacks the key, or is asked of a key with one value.",
    ),
    "MULTIVALUED_KEY_WITHOUT_QUALIFIER": CheckEntry(
        Level.WARNING,
        _any_value_expected,
        "A key with several values is compared without `ForAnyValue:` or `ForAllValues:`.",
    ),
    "INVALID_CONDITION_KEY": CheckEntry(Level.WARNING, _unknown_key, "No request is known to have the key."),
    "MISMATCHED_CONDITION_TYPE": CheckEntry(
        Level.ERROR, _mismatched_type, "The operator cannot read values of the key's type."
    ),
    "WILDCARD_WITHOUT_LIKE_OPERATOR": CheckEntry(
        Level.WARNING, _wildcard_without_like, "A value has a wildcard, and the operator compares letter by letter."
    ),
    "KEY_KNOWN_TO_THE_STORE_ONLY": CheckEntry(
        Level.WARNING,
        _decided_closed,
        "Tags of objects and buckets are known to the store alone: at the authorizer a Deny with them always applies,"
        " and an Allow never does.",
    ),
    "EMPTY_CONDITION_VALUE": CheckEntry(Level.WARNING, _empty_condition, "A value is empty."),
}
