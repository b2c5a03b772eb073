"""The condition operators of IAM policies, with set operators and IfExists. Evaluating a condition never raises.

Pure. Source: IAM User Guide, "IAM JSON policy elements: Condition operators", "Multivalued context keys" and "Grammar".

A condition evaluates to True, False or None. None means that it cannot be evaluated: the operator cannot parse a value
of the request, or a negated operator compares with a policy variable that has no value. None does not match in an Allow
and matches in a Deny. Otherwise a caller could gain a grant, or avoid a Deny, by sending a malformed value (THREATS
G02).
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

from iam.errors import excerpt
from iam.policy.patterns import ContextKeys, Dialect, Match, matcher

T = TypeVar("T")
Verdict = bool | None
# (values of the policy, are variables replaced, is the operator negated) -> Match. ValueError names an invalid value.
Build = Callable[[tuple[str, ...], bool, bool], Match]
Holds = Callable[[ContextKeys], Verdict]

# Lengths are limited: the text can come from a request, and the work for one value must be bounded.
_NUMBER = re.compile(r"[+-]?[0-9]{1,40}(\.[0-9]{1,40})?", re.ASCII)
_EPOCH = re.compile(r"-?[0-9]{5,15}", re.ASCII)  # at least five digits: four digits are a year in ISO 8601
_DATE = re.compile(
    r"(?P<year>[0-9]{4})(-(?P<month>[0-9]{2})(-(?P<day>[0-9]{2})"
    r"(T(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})(:(?P<second>[0-9]{2})(\.(?P<fraction>[0-9]{1,9}))?)?"
    r"(Z|(?P<sign>[+-])(?P<zone_hour>[01][0-9]|2[0-3]):?(?P<zone_minute>[0-5][0-9]))?)?)?)?",
    re.ASCII,
)
_EPOCH_START = datetime(1970, 1, 1, tzinfo=UTC)


def number(text: str) -> Decimal | None:
    """Return the number that a text denotes, an integer or a decimal fraction, or None."""
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def parse_date(text: str) -> Decimal | None:
    """Return the epoch seconds of a date in the W3C profile of ISO 8601 or in epoch seconds, or None.

    A date without a time zone is in UTC.
    """
    if _EPOCH.fullmatch(text):
        return Decimal(text)
    match = _DATE.fullmatch(text)
    if not match:
        return None
    fields = {name: int(value) for name, value in match.groupdict("0").items() if name not in {"sign", "fraction"}}
    try:
        moment = datetime(
            fields["year"],
            fields["month"] or 1,
            fields["day"] or 1,
            fields["hour"],
            fields["minute"],
            fields["second"],
            tzinfo=UTC,
        )
    except ValueError:  # 30 February
        return None
    # The offset is subtracted as a number: a datetime near year 1 or 9999 would overflow and raise.
    offset = (fields["zone_hour"] * 60 + fields["zone_minute"]) * 60 * (-1 if match["sign"] == "-" else 1)
    return int((moment - _EPOCH_START).total_seconds()) - offset + Decimal(f"0.{match['fraction'] or 0}")


def parse_boolean(text: str) -> bool | None:
    """Return the Boolean that a text denotes, whatever its case, or None."""
    return {"true": True, "false": False}.get(text.lower())


def parse_binary(text: str) -> bytes | None:
    """Return the bytes of a base64 text, or None."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return None


def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """Return an IP address, or None; an IPv4-mapped IPv6 address is the IPv4 address.

    On a dual-stack socket an IPv4 client appears as ``::ffff:a.b.c.d``; a Deny of its IPv4 range must still match.
    """
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def parse_network(text: str) -> IPv4Network | IPv6Network | None:
    """Return the network of a CIDR range or of a single address, or None; host bits may be set, as in AWS.

    As for addresses, an IPv4-mapped IPv6 network is the IPv4 network.
    """
    length = text.partition("/")[2]
    # ipaddress also accepts netmasks and host masks after the slash, and 0.0.0.255 means the opposite of 255.255.255.0.
    if length and not length.isdecimal():
        return None
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        return None
    mapped = (
        isinstance(network, IPv6Network) and network.prefixlen >= _MAPPED_BITS and network.network_address.ipv4_mapped
    )
    return IPv4Network((mapped, network.prefixlen - _MAPPED_BITS)) if mapped else network


_MAPPED_BITS = 96  # prefix length of ::ffff:0:0/96, the IPv4-mapped addresses (RFC 4291, section 2.5.5.2)


def _string_operator(dialect: Dialect) -> Build:
    dialects = {variables: replace(dialect, variables=variables) for variables in (False, True)}

    def build(values: tuple[str, ...], variables: bool, negated: bool) -> Match:  # noqa: FBT001 - Build's signature
        # A comparison with a variable that has no value is false. If it were false for a negated operator too, the
        # negated condition would be true and could grant; so the result is None there.
        return matcher(values, dialects[variables], unknown=None if negated else False)

    return build


def _typed_operator(
    name: str,
    parse: Callable[[str], T | None],
    compare: Callable[[Any, Any], bool],
    parse_expected: Callable[[str], Any] | None = None,
) -> Build:
    """Return a builder for an operator that parses values; ``parse_expected`` parses the values of the policy."""

    def build(values: tuple[str, ...], _variables: bool, _negated: bool) -> Match:  # noqa: FBT001 - Build's signature
        expected = [(parse_expected or parse)(value) for value in values]
        if None in expected:
            raise ValueError(f"{excerpt(values[expected.index(None)])} is not a valid {name}")

        def match(value: str, _keys: ContextKeys) -> Verdict:
            parsed = parse(value)
            return None if parsed is None else any(compare(parsed, expected_value) for expected_value in expected)

        return match

    return build


def _within(address: IPv4Address | IPv6Address, network: IPv4Network | IPv6Network) -> bool:
    return address in network


class Operator(NamedTuple):
    """One row of the table of operators."""

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
    """One condition key under one operator; ``holds`` evaluates it for the condition keys of a request.

    ``operator`` and ``name`` are as written in the policy; ``key`` is the name in lower case.
    """

    operator: str
    key: str
    values: tuple[str, ...]
    name: str = field(compare=False)
    holds: Holds = field(compare=False, repr=False)

    @classmethod
    def of(cls, operator: str, key: str, values: tuple[str, ...], *, variables: bool) -> "Condition":
        """Return a condition; raise KeyError for an unknown operator, ValueError for a value that it cannot parse."""
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
    expected = [parse_boolean(value) for value in values]
    if None in expected:
        raise ValueError(f"{excerpt(values[expected.index(None)])} is not a valid Boolean")
    return lambda keys: (not keys.get(key)) in expected


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


# "Multivalued context keys": a set operator treats an empty string as an absent key.
_NOTHING = ((), ("",))
_QUALIFIERS = MappingProxyType({"": _single_value, "ForAllValues:": _for_all, "ForAnyValue:": _for_any})
# The result for an absent key ("Multivalued context keys"): ForAllValues is true even without the key, which is why
# an Allow with it also needs Null: false; ForAnyValue is false. Without a set operator only negated operators are true.
_ABSENT = MappingProxyType({"ForAllValues": True, "ForAnyValue": False})


def _negate_if(verdict: Verdict, *, negated: bool) -> Verdict:
    return _not(verdict) if negated else verdict


def _not(verdict: Verdict) -> Verdict:
    return None if verdict is None else not verdict


def _any(verdicts: list[Verdict]) -> Verdict:
    return True if True in verdicts else (None if None in verdicts else False)


def _all(verdicts: list[Verdict]) -> Verdict:
    return False if False in verdicts else (None if None in verdicts else True)
