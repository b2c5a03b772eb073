"""The condition operators as a table, with their set qualifiers and IfExists; nothing here raises at evaluation.

Pure. Source: IAM User Guide, "IAM JSON policy elements: Condition operators", "Multivalued context keys" and "Grammar".

A condition answers True, False or None. None is doubt: the request has a value that its operator cannot read, or a
negated operator compares with a variable that has no value. Doubt is no match for an Allow and a match for a Deny.
"""

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from operator import eq, ge, gt, le, lt
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from iam.policy.patterns import ContextKeys, Dialect, Match, matcher

T = TypeVar("T")
Verdict = bool | None
# (wanted values, whether variables count, whether the operator is negated) -> Match; ValueError names the wrong value.
Build = Callable[[tuple[str, ...], bool, bool], Match]
Holds = Callable[[ContextKeys], Verdict]

_NUMBER = re.compile(r"[+-]?[0-9]{1,40}(\.[0-9]{1,40})?", re.ASCII)
_EPOCH = re.compile(r"-?[0-9]{5,15}", re.ASCII)  # four digits are a year
_DATE = re.compile(
    r"(?P<year>[0-9]{4})(-(?P<month>[0-9]{2})(-(?P<day>[0-9]{2})"
    r"(T(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})(:(?P<second>[0-9]{2})(\.(?P<fraction>[0-9]{1,9}))?)?"
    r"(Z|(?P<sign>[+-])(?P<zone_hour>[01][0-9]|2[0-3]):?(?P<zone_minute>[0-5][0-9]))?)?)?)?",
    re.ASCII,
)
_EPOCH_START = datetime(1970, 1, 1, tzinfo=UTC)


def number(text: str) -> Decimal | None:
    """Return an integer or decimal number, or None."""
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def parse_date(text: str) -> Decimal | None:
    """Return seconds since 1970 of a W3C ISO 8601 date (UTC where it names no zone) or of epoch seconds, or None."""
    if _EPOCH.fullmatch(text):
        return Decimal(text)
    found = _DATE.fullmatch(text)
    if not found:
        return None
    part = {name: int(value) for name, value in found.groupdict("0").items() if name not in {"sign", "fraction"}}
    try:
        whole = datetime(
            part["year"],
            part["month"] or 1,
            part["day"] or 1,
            part["hour"],
            part["minute"],
            part["second"],
            tzinfo=UTC,
        )
    except ValueError:  # 30 February
        return None
    # An offset is taken off as a number: a datetime near year 1 or 9999 could not hold the result.
    offset = (part["zone_hour"] * 60 + part["zone_minute"]) * 60 * (-1 if found["sign"] == "-" else 1)
    return int((whole - _EPOCH_START).total_seconds()) - offset + Decimal(f"0.{found['fraction'] or 0}")


def parse_boolean(text: str) -> bool | None:
    """Return true or false in any case, or None."""
    return {"true": True, "false": False}.get(text.lower())


def parse_binary(text: str) -> bytes | None:
    """Return what a base64 text stands for, or None."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return None


def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """Return an address, or None; an IPv4 address written as IPv6 is the IPv4 address."""
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found


def parse_network(text: str) -> IPv4Network | IPv6Network | None:
    """Return a network in CIDR form (one address is a network of one), or None; host bits may be set, as AWS allows.

    Like an address, an IPv4 network written as IPv6 is the IPv4 network.
    """
    length = text.partition("/")[2]
    if length and not length.isdecimal():  # ipaddress also reads masks, and takes some for the reverse of what is meant
        return None
    try:
        found = ip_network(text, strict=False)
    except ValueError:
        return None
    mapped = isinstance(found, IPv6Network) and found.prefixlen >= _MAPPED_BITS and found.network_address.ipv4_mapped
    return IPv4Network((mapped, found.prefixlen - _MAPPED_BITS)) if mapped else found


_MAPPED_BITS = 96  # of ::ffff:0:0/96, which IPv4 addresses stand in


def _string_operator(dialect: Dialect) -> Build:
    dialects = {variables: replace(dialect, variables=variables) for variables in (False, True)}

    def build(values: tuple[str, ...], variables: bool, negated: bool) -> Match:  # noqa: FBT001 - Build's signature
        # A positive comparison with a variable that has no value is false; whether a negated one holds, nobody knows.
        return matcher(values, dialects[variables], unknown=None if negated else False)

    return build


def _typed_operator(
    name: str,
    read: Callable[[str], T | None],
    compare: Callable[[Any, Any], bool],
    want: Callable[[str], Any] | None = None,
) -> Build:
    """Return a builder for values which are read as a type; ``want`` reads the wanted ones where they differ."""

    def build(values: tuple[str, ...], _variables: bool, _negated: bool) -> Match:  # noqa: FBT001 - Build's signature
        wanted = [(want or read)(value) for value in values]
        if None in wanted:
            raise ValueError(f"{values[wanted.index(None)]} is not a valid {name}")

        def match(value: str, _keys: ContextKeys) -> Verdict:
            actual = read(value)
            return None if actual is None else any(compare(actual, one) for one in wanted)

        return match

    return build


def _within(one: IPv4Address | IPv6Address, block: IPv4Network | IPv6Network) -> bool:
    return one in block


class Operator(NamedTuple):
    """One row of the table."""

    build: Build
    negated: bool = False


_equals = _string_operator(Dialect(wildcards=False))
_equals_ignoring_case = _string_operator(Dialect(wildcards=False, fold=True))
_like = _string_operator(Dialect())
_arn_like = _string_operator(Dialect(arn=True))
_in_network = _typed_operator("IP address or range", parse_address, _within, parse_network)


def _comparison_operators(prefix: str, name: str, read: Callable[[str], Any]) -> dict[str, Operator]:
    return {
        f"{prefix}Equals": Operator(_typed_operator(name, read, eq)),
        f"{prefix}NotEquals": Operator(_typed_operator(name, read, eq), negated=True),
        f"{prefix}LessThan": Operator(_typed_operator(name, read, lt)),
        f"{prefix}LessThanEquals": Operator(_typed_operator(name, read, le)),
        f"{prefix}GreaterThan": Operator(_typed_operator(name, read, gt)),
        f"{prefix}GreaterThanEquals": Operator(_typed_operator(name, read, ge)),
    }


OPERATORS = MappingProxyType(
    {
        "StringEquals": Operator(_equals),
        "StringNotEquals": Operator(_equals, negated=True),
        "StringEqualsIgnoreCase": Operator(_equals_ignoring_case),
        "StringNotEqualsIgnoreCase": Operator(_equals_ignoring_case, negated=True),
        "StringLike": Operator(_like),
        "StringNotLike": Operator(_like, negated=True),
        **_comparison_operators("Numeric", "number", number),
        **_comparison_operators("Date", "date", parse_date),
        "Bool": Operator(_typed_operator("Boolean", parse_boolean, eq)),
        "BinaryEquals": Operator(_typed_operator("base64 text", parse_binary, eq)),
        "IpAddress": Operator(_in_network),
        "NotIpAddress": Operator(_in_network, negated=True),
        # "ARN condition operators": ArnEquals and ArnLike behave alike.
        "ArnEquals": Operator(_arn_like),
        "ArnLike": Operator(_arn_like),
        "ArnNotEquals": Operator(_arn_like, negated=True),
        "ArnNotLike": Operator(_arn_like, negated=True),
    }
)


@dataclass(frozen=True, slots=True)
class Condition:
    """One key (in lower case) under one operator (as written); ``holds`` answers for a request's keys.

    ``name`` is the key as its author wrote it.
    """

    operator: str
    key: str
    values: tuple[str, ...]
    name: str = field(compare=False)
    holds: Holds = field(compare=False, repr=False)

    @classmethod
    def of(cls, operator: str, key: str, values: tuple[str, ...], *, variables: bool) -> "Condition":
        """Prepare a condition; KeyError for an unknown operator, ValueError for a value that it cannot read."""
        lower = key.lower()
        return cls(operator, lower, values, key, _holds(operator, lower, values, variables=variables))


def _holds(operator: str, key: str, values: tuple[str, ...], *, variables: bool) -> Holds:
    if operator == "Null":
        return _null(key, values)
    qualifier, colon, rest = operator.rpartition(":")
    combine = _QUALIFIERS[qualifier + colon]
    row = OPERATORS[rest.removesuffix("IfExists")]
    absent = rest.endswith("IfExists") or _ABSENT.get(qualifier, row.negated)
    match = row.build(values, variables, row.negated)
    return combine(key, match, row.negated, absent)


def _null(key: str, values: tuple[str, ...]) -> Holds:
    wanted = [parse_boolean(value) for value in values]
    if None in wanted:
        raise ValueError(f"{values[wanted.index(None)]} is not a valid Boolean")
    return lambda keys: (not keys.get(key)) in wanted


def _single_value(key: str, match: Match, negated: bool, absent: bool) -> Holds:  # noqa: FBT001 - one signature for the table
    def holds(keys: ContextKeys) -> Verdict:
        values = keys.get(key)
        if not values:
            return absent
        return match(values[0], keys) if len(values) == 1 else _any([match(value, keys) for value in values])

    def does_not(keys: ContextKeys) -> Verdict:
        return _not(holds(keys)) if keys.get(key) else absent

    return does_not if negated else holds


def _for_all(key: str, match: Match, negated: bool, absent: bool) -> Holds:  # noqa: FBT001 - one signature for the table
    def holds(keys: ContextKeys) -> Verdict:
        values = keys.get(key, ())
        if values in _NOTHING:
            return absent
        return _all([_negate_if(match(value, keys), negated=negated) for value in values])

    return holds


def _for_any(key: str, match: Match, negated: bool, absent: bool) -> Holds:  # noqa: FBT001 - one signature for the table
    def holds(keys: ContextKeys) -> Verdict:
        values = keys.get(key, ())
        if values in _NOTHING:
            return absent
        return _any([_negate_if(match(value, keys), negated=negated) for value in values])

    return holds


# "Multivalued context keys": to a set operator, an empty text is the same as no values.
_NOTHING = ((), ("",))
_QUALIFIERS = MappingProxyType({"": _single_value, "ForAllValues:": _for_all, "ForAnyValue:": _for_any})
# What an absent key means under a set operator; without one, only negated operators hold.
_ABSENT = MappingProxyType({"ForAllValues": True, "ForAnyValue": False})


def _negate_if(found: Verdict, *, negated: bool) -> Verdict:
    return _not(found) if negated else found


def _not(found: Verdict) -> Verdict:
    return None if found is None else not found


def _any(found: list[Verdict]) -> Verdict:
    return True if True in found else (None if None in found else False)


def _all(found: list[Verdict]) -> Verdict:
    return False if False in found else (None if None in found else True)
