"""Every condition operator, with every qualifier and IfExists, on keys that are absent, have one value, or several."""

ARN = "arn:aws:iam::1:role/r"

# Operator -> a wanted value, a value of the request that matches it, one that does not.
POSITIVE = {
    "StringEquals": ("a", "a", "A"),
    "StringEqualsIgnoreCase": ("Ab", "aB", "c"),
    "StringLike": ("a*", "abc", "bc"),
    "NumericEquals": ("10", "10.0", "11"),
    "NumericLessThan": ("10", "9.5", "10"),
    "NumericLessThanEquals": ("10", "10", "10.1"),
    "NumericGreaterThan": ("-1", "0", "-1"),
    "NumericGreaterThanEquals": ("10", "10", "9"),
    "DateEquals": ("2026-01-01T00:00:00Z", "1767225600", "2026-01-02"),
    "DateLessThan": ("2026-01-01", "2025-12-31T23:59:59Z", "2026-01-01T00:00:00Z"),
    "DateLessThanEquals": ("2026-01-01", "2026-01-01T01:00:00+01:00", "2026-01-01T00:00:01Z"),
    "DateGreaterThan": ("2026", "2026-01-01T00:00:00.5Z", "2026-01"),
    "DateGreaterThanEquals": ("2026-01-01", "2025-12-31T22:00-02:00", "2025-12-31T23:59Z"),
    "Bool": ("true", "True", "false"),
    "BinaryEquals": ("QmluYXJ5", "QmluYXJ5", "QmluYXJz"),
    "IpAddress": ("10.0.0.0/8", "10.1.2.3", "11.0.0.1"),
    "ArnEquals": ("arn:aws:iam::*:role/r*", "arn:aws:iam::1:role/rr", "arn:aws:iam::1:user/r"),
    "ArnLike": ("arn:aws:iam::1:role/?", ARN, "arn:aws:iam::2:role/r"),
}
NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "NumericNotEquals": "NumericEquals",
    "DateNotEquals": "DateEquals",
    "NotIpAddress": "IpAddress",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
}

# Qualifier, IfExists, the request's values (m matches, o does not), and whether a positive operator holds.
_POSITIVELY = [
    ("", "", "m", True),
    ("", "", "o", False),
    ("", "", None, False),
    ("", "", "", False),
    ("", "", "om", True),
    ("", "", "oo", False),
    ("", "IfExists", "m", True),
    ("", "IfExists", "o", False),
    ("", "IfExists", None, True),
    ("ForAllValues:", "", "mm", True),
    ("ForAllValues:", "", "mo", False),
    ("ForAllValues:", "", None, True),
    ("ForAllValues:", "", "e", True),
    ("ForAllValues:", "IfExists", None, True),
    ("ForAllValues:", "IfExists", "mo", False),
    ("ForAnyValue:", "", "om", True),
    ("ForAnyValue:", "", "o", False),
    ("ForAnyValue:", "", None, False),
    ("ForAnyValue:", "", "e", False),
    ("ForAnyValue:", "IfExists", None, True),
    ("ForAnyValue:", "IfExists", "oo", False),
]
# The same for a negated operator: what matches its positive one is what it excludes.
_NEGATIVELY = [
    ("", "", "m", False),
    ("", "", "o", True),
    ("", "", None, True),
    ("", "", "", True),
    ("", "", "om", False),
    ("", "IfExists", "m", False),
    ("", "IfExists", "o", True),
    ("", "IfExists", None, True),
    ("ForAllValues:", "", "oo", True),
    ("ForAllValues:", "", "om", False),
    ("ForAllValues:", "", None, True),
    ("ForAllValues:", "", "e", True),
    ("ForAnyValue:", "", "om", True),
    ("ForAnyValue:", "", "m", False),
    ("ForAnyValue:", "", None, False),
    ("ForAnyValue:", "", "e", False),
    ("ForAnyValue:", "IfExists", None, True),
]


def _vectors():
    for operator in [*POSITIVE, *NEGATED]:
        wanted, match, other = POSITIVE[NEGATED.get(operator, operator)]
        values = {"m": match, "o": other, "e": ""}
        for qualifier, modifier, actual, holds in _NEGATIVELY if operator in NEGATED else _POSITIVELY:
            given = None if actual is None else tuple(values[one] for one in actual)
            yield qualifier + operator + modifier, wanted, given, holds
    for wanted, actual, holds in (("true", None, True), ("false", None, False), ("true", ("x",), False),
                                  ("false", ("x",), True), ("true", (), True)):  # fmt: skip
        yield "Null", wanted, actual, holds


# (operator as a policy has it, the wanted value, the request's values or None, whether the condition holds)
VECTORS = list(_vectors())
