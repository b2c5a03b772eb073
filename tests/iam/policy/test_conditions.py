import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.condition_vectors import ARN, NEGATED, POSITIVE, VECTORS

from iam.policy.conditions import OPERATORS, Condition

UNREADABLE = {"Numeric": "ten", "Date": "soon", "Bool": "yes", "Binary": "?", "Ip": "here", "NotIp": "here"}


def ask(operator, wanted, actual, *, variables=True, **keys):
    condition = Condition.of(operator, "K:Key", tuple(wanted), variables=variables)
    found = {name.replace("_", ":"): value for name, value in keys.items()}
    return condition.holds(found if actual is None else found | {"k:key": tuple(actual)})


def test_the_tables_here_know_every_operator():
    assert set(OPERATORS) == set(POSITIVE) | set(NEGATED)


@pytest.mark.parametrize(("operator", "wanted", "actual", "holds"), VECTORS)
def test_an_operator_holds_or_not(operator, wanted, actual, holds):
    assert ask(operator, [wanted], actual) is holds


@pytest.mark.parametrize("operator", POSITIVE)
def test_several_wanted_values_are_alternatives(operator):
    wanted, match, other = POSITIVE[operator]
    far = {
        "NumericLessThan": "-99",
        "NumericLessThanEquals": "-99",
        "DateLessThan": "1990",
        "DateLessThanEquals": "1990",
    }
    assert ask(operator, [far.get(operator, wanted), wanted], [match]) is True
    assert ask(operator, [wanted, wanted], [other]) is False


@pytest.mark.parametrize("operator", NEGATED)
def test_a_negated_operator_means_none_of_the_wanted_values(operator):
    wanted, match, other = POSITIVE[NEGATED[operator]]
    assert ask(operator, [wanted, wanted], [match]) is False
    assert ask(operator, [wanted, wanted], [other]) is True


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_value_that_the_operator_cannot_read_is_doubt(operator):
    kind = next((name for name in UNREADABLE if operator.startswith(name)), None)
    if kind is None:  # any text is a string or an ARN pattern's text
        assert ask(operator, [POSITIVE[NEGATED.get(operator, operator)][0]], ["?"]) is (operator in NEGATED)
        return
    wanted, match, other = POSITIVE[NEGATED.get(operator, operator)]
    unreadable = UNREADABLE[kind]
    assert ask(operator, [wanted], [unreadable]) is None
    assert ask(f"ForAllValues:{operator}", [wanted], [unreadable]) is None
    assert ask(f"ForAnyValue:{operator}", [wanted], [unreadable]) is None
    refusing = match if operator in NEGATED else other
    assert ask(f"ForAllValues:{operator}", [wanted], [unreadable, refusing]) is False
    with pytest.raises(ValueError, match="is not a valid"):
        ask(operator, [unreadable], [match])


@pytest.mark.parametrize(
    ("wanted", "actual", "expected"),
    [
        (["true"], None, True),
        (["true"], ["x"], False),
        (["false"], None, False),
        (["False"], ["x"], True),
        (["true"], [], True),
    ],
)
def test_null_asks_whether_the_key_is_absent(wanted, actual, expected):
    assert ask("Null", wanted, actual) is expected


def test_null_reads_only_booleans():
    with pytest.raises(ValueError, match="Boolean"):
        ask("Null", ["perhaps"], None)


@pytest.mark.parametrize(
    "operator",
    ["StringEqual", "stringequals", "", "IfExists", "NullIfExists", "ForAllValues:Null", "ForAll:StringEquals",
     ":StringEquals",      "StringEqualsIfExistsIfExists", "ForAnyValue:ForAllValues:StringEquals", "ForAnyValue:"],
)  # fmt: skip
def test_an_unknown_operator_is_refused(operator):
    with pytest.raises(KeyError):
        ask(operator, ["a"], ["a"])


@pytest.mark.parametrize(
    ("operator", "wanted", "actual", "expected"),
    [
        ("StringEquals", "${k:one}", "v*", True),
        ("StringEquals", "*", "x", False),
        ("StringEquals", "a${*}", "a*", True),
        ("StringLike", "${k:one}", "v1", False),
        ("StringLike", "${k:one}", "v*", True),
        ("StringLike", "${*}", "x", False),
        ("StringLike", "${k:none, 'd'}*", "dx", True),
        ("StringEquals", "${k:none}", "", False),
        ("StringNotEquals", "${k:none}", "x", None),
        ("StringNotEquals", "${k:one}", "x", True),
        ("StringEqualsIgnoreCase", "${k:one}X", "V*x", True),
        ("ArnLike", "arn:aws:iam::1:role/${k:role}", ARN, True),
        ("ArnLike", "${k:arn}", ARN, True),
        ("ArnLike", "*", ARN, True),
    ],
)
def test_variables_in_wanted_values(operator, wanted, actual, expected):
    keys = {"k_one": ("v*",), "k_role": ("r",), "k_arn": (ARN,)}
    assert ask(operator, [wanted], [actual], **keys) is expected


def test_the_older_version_has_no_variables():
    assert ask("StringEquals", ["${k:one}"], ["${k:one}"], variables=False, k_one=("v",)) is True


@pytest.mark.parametrize(
    ("wanted", "actual", "expected"),
    [
        ("203.0.113.7", "203.0.113.7", True),
        ("203.0.113.7/24", "203.0.113.99", True),
        ("2001:db8::/32", "2001:db8::1", True),
        ("2001:db8::/32", "2001:db9::1", False),
        ("10.0.0.0/8", "::ffff:10.0.0.1", True),
        ("10.0.0.0/8", "2001:db8::1", False),
        ("::ffff:10.0.0.0/104", "10.9.9.9", True),
        ("::ffff:10.0.0.0/104", "::ffff:11.0.0.1", False),
        ("::/0", "10.0.0.1", False),
        ("0.0.0.0/0", "1.2.3.4", True),
        ("10.0.0.0/8", "010.0.0.1", None),
        ("10.0.0.0/8", "10.0.0.0/8", None),
    ],
)
def test_addresses(wanted, actual, expected):
    assert ask("IpAddress", [wanted], [actual]) is expected


@pytest.mark.parametrize(
    "text",
    ["2026-02-30", "2026-13", "2026-01-01T24:00Z", "2026-01-01T00:00:60Z", "26-01-01",
     "\uff12\uff10\uff12\uff16", "1e9", "",
     "2026-01-01 00:00",     "2026-01-01T00:00:00+24:00", "0000-01-01", "2026-00-01T"],
)  # fmt: skip
def test_a_text_that_is_no_date_is_refused(text):
    with pytest.raises(ValueError, match="date"):
        ask("DateEquals", [text], ["2026"])


@pytest.mark.parametrize("text", ["1_000", "\uff11", "0x10", "1e3", "NaN", "Infinity", " 1", "1.", "", "9" * 41])
def test_a_text_that_is_no_number_is_refused(text):
    with pytest.raises(ValueError, match="number"):
        ask("NumericEquals", [text], ["1"])


def test_dates_at_the_ends_of_the_calendar_are_ordinary():
    assert ask("DateLessThan", ["9999-12-31T23:59:59-23:59"], ["0001-01-01T00:00:00+23:59"]) is True


@given(
    st.sampled_from(sorted(OPERATORS)),
    st.sampled_from(["", "ForAllValues:", "ForAnyValue:"]),
    st.lists(st.text(), max_size=3),
)
def test_evaluation_never_raises(operator, qualifier, actual):
    wanted = POSITIVE[NEGATED.get(operator, operator)][0]
    assert ask(qualifier + operator, [wanted], actual) in {True, False, None}


@given(st.sampled_from(sorted(NEGATED)), st.lists(st.sampled_from("ab"), max_size=3))
def test_a_negated_operator_is_the_opposite_of_the_positive_one(operator, picks):
    positive = NEGATED[operator]
    wanted, match, other = POSITIVE[positive]
    actual = [match if pick == "a" else other for pick in picks]
    assert ask(operator, [wanted], actual) is not ask(positive, [wanted], actual)
