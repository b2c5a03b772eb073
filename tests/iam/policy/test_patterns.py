from functools import cache

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.timing import cost

from iam.policy.patterns import Dialect, Variable, Wildcard, matcher, tokenize_pattern

PLAIN = Dialect()
ARN = Dialect(variables=True, arn=True, resource=True)
LIKE = Dialect(variables=True)


def specification(pattern, text):
    """The definition of * and ?, read aloud."""

    @cache
    def matches(at, to):
        if at == len(pattern):
            return to == len(text)
        if pattern[at] == "*":
            return matches(at + 1, to) or (to < len(text) and matches(at, to + 1))
        return to < len(text) and pattern[at] in ("?", text[to]) and matches(at + 1, to + 1)

    return matches(0, 0)


@given(st.one_of(st.text(signs, max_size=12) for signs in ("a*", "ab*", "ab*?")), st.text("ab", max_size=12))
@example("*ab*b", "aab")  # a chunk must not reach into the tail
@example("a*a", "a")  # nor the tail into the head
def test_a_pattern_matches_exactly_what_its_definition_says(pattern, text):
    assert matcher([pattern], PLAIN)(text, {}) is specification(pattern, text)


@given(st.text(max_size=12), st.text(max_size=12))
def test_signs_of_regular_expressions_are_ordinary_letters(pattern, text):
    assert matcher([pattern], PLAIN)(text, {}) is specification(pattern, text)


six_patterns = st.lists(st.text("ab:*?", max_size=3), min_size=6, max_size=6)
some_texts = st.lists(st.text("ab", max_size=2), min_size=6, max_size=8)


def parted(pattern):
    return [*(part.replace(":", "") for part in pattern[:5]), pattern[5]]


@given(six_patterns, some_texts)
def test_an_arn_in_a_condition_matches_when_each_of_its_six_parts_does(pattern, text):
    texts, patterns = [*text[:5], ":".join(text[5:])], parted(pattern)
    wanted = all(map(specification, patterns, texts))
    found = matcher([":".join(patterns)], Dialect(arn=True))(":".join(texts), {})
    assert found is (wanted or set(":".join(patterns)) == {"*"})


@given(six_patterns, some_texts)
def test_a_resource_is_an_arn_whose_parts_stay_apart_except_after_a_star_at_their_end(pattern, text):
    patterns, whole = parted(pattern), ":".join(text)
    found = matcher([":".join(patterns)], ARN)(whole, {})
    if all(map(specification, patterns, [*text[:5], ":".join(text[5:])])):
        assert found
    elif not any(part.endswith("*") for part in patterns[:5]):
        assert not found
    assert not found or specification(":".join(patterns), whole)


def test_some_patterns_match_when_one_does():
    match = matcher(["a", "b*", "*c", "d?d"], PLAIN)
    assert [text for text in ("a", "b", "bx", "xc", "dxd", "x", "ab", "dd") if match(text, {})] == [
        "a",
        "b",
        "bx",
        "xc",
        "dxd",
    ]


def test_folding_ignores_case_on_both_sides():
    assert matcher(["iam:GET*"], Dialect(fold=True))("IAM:getUser", {})


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("arn:aws:s3:::b/*", "arn:aws:s3:::b/k:with:colons", True),
        ("arn:aws:s3:::b", "arn:aws:s3:::bb", False),
        ("arn:aws:iam::*:role/r", "arn:aws:iam::1:role/r", True),
        ("arn:aws:iam::*:role/r", "arn:aws:iam::1:x:role/r", True),  # a star that ends a part reaches on
        ("arn:aws:iam:*:role/r", "arn:aws:iam::1:role/r", True),
        ("arn:aws:iam::*1:role/r", "arn:aws:iam::21:role/r", True),
        ("arn:aws:iam::*1:role/r", "arn:aws:iam::2:1:role/r", False),  # one within it does not
        ("arn:aws:iam::1?:role/r", "arn:aws:iam::1::role/r", False),
        ("arn:aws:iam::1?*:role/r", "arn:aws:iam::12:x:role/r", True),
        ("arn:aws:s3:::b?k", "arn:aws:s3:::b:k", True),
        ("arn:aws:iam:*r", "arn:aws:iam::1:role/r", False),
        ("arn:aws:ia?", "arn:aws:iam::1:role/r", True),
        ("arn:aws:ia?", "arn:aws:ia::1:role/r", False),
        ("arn:aws:iam::1*", "arn:aws:iam::12:user/a", True),
        ("arn:aws:iam::1*", "arn:aws:iam::2:user/a", False),
        ("arn:aws:s3", "arn:aws:s3:::b", True),
        ("arn:aws:s3", "arn:aws:sqs:::b", False),
        ("arn:aws:iam::1:role/*", "*", False),
        ("arn:*:iam::1:role/r", "*", False),
        ("*", "*", True),
        ("arn:aws:iam::1:user/${aws:username}", "arn:aws:iam::1:user/ann", True),
        ("arn:aws:iam::1:user/${aws:username}*", "arn:aws:iam::1:user/anna", True),
        ("arn:aws:iam::1:user/${aws:username}", "arn:aws:iam::1:user/bob", False),
        ("arn:aws:iam::*:user/${aws:username}", "arn:aws:iam::1:user/ann", True),
        ("arn:aws:iam::1:user/${AWS:UserName}", "arn:aws:iam::1:user/ann", True),
        ("arn:aws:iam::1:user/${t:star}", "arn:aws:iam::1:user/ann", False),
        ("arn:aws:iam::1:user/${t:star}", "arn:aws:iam::1:user/*", True),
        ("arn:aws:iam::1:user/${*}", "arn:aws:iam::1:user/*", True),
        ("arn:aws:iam::1:user/${*}", "arn:aws:iam::1:user/ann", False),
        ("arn:aws:iam::1:user/${?}${$}", "arn:aws:iam::1:user/?$", True),
        ("arn:aws:iam::1:user/${t:none, 'x y'}", "arn:aws:iam::1:user/x y", True),
        ("arn:aws:iam::1:user/${t:none,''}", "arn:aws:iam::1:user/", True),
        ("arn:aws:iam::1:user/${aws:username, 'x'}", "arn:aws:iam::1:user/ann", True),
        ("arn:aws:iam::1:user/${t:none}", "arn:aws:iam::1:user/ann", None),
        ("arn:aws:iam::1:user/${t:many}", "arn:aws:iam::1:user/a", None),
        ("arn:aws:iam::1:user/${t:many, 'd'}", "arn:aws:iam::1:user/d", True),
        # A value with colons must not become several parts.
        ("arn:aws:iam::${t:colons}:role/a", "arn:aws:iam::1:role/a:role/a", False),
    ],
)
def test_a_resource_pattern_matches(pattern, text, expected):
    keys = {
        "aws:username": ("ann",),
        "t:star": ("*",),
        "t:many": ("a", "b"),
        "t:colons": ("1:role/a",),
    }
    match = matcher([pattern], ARN)
    assert match(text, keys) is expected
    surely = matcher([pattern], ARN, unknown=False)
    assert surely(text, keys) is (expected is True)


def test_an_arn_that_a_variable_holds_is_compared_whole():
    match = matcher(["${aws:PrincipalArn}"], Dialect(variables=True, arn=True))
    keys = {"aws:principalarn": ("arn:aws:iam::1:role/r",)}
    assert match("arn:aws:iam::1:role/r", keys) is True
    assert match("arn:aws:iam::1:role/s", keys) is False


def test_a_text_is_still_matched_when_another_pattern_has_a_variable_without_value():
    assert matcher(["${t:none}", "a${t:none, ''}b"], LIKE)("ab", {}) is True


def test_without_variables_their_signs_are_ordinary():
    assert matcher(["${aws:username}"], PLAIN)("${aws:username}", {"aws:username": ("a",)}) is True


def test_a_pattern_is_read_into_literals_wildcards_and_variables():
    assert tokenize_pattern("a*${k:b, 'd'}?", LIKE) == ("a", Wildcard.RUN, Variable("k:b", "d"), Wildcard.ONE)


@pytest.mark.parametrize(
    "text",
    ["${", "${a:b", "${}", "${nokey}", "${a:b, c}", "${a:b, 'c}", "${a:b, 'c'd'}", "${a:*}", "${a:${b:c}}", "${a:b,'}"],
)
def test_a_malformed_variable_is_refused(text):
    with pytest.raises(ValueError, match="variable"):
        matcher([text], LIKE)


def test_an_incomplete_arn_is_refused_where_nothing_completes_it():
    with pytest.raises(ValueError, match="six parts"):
        matcher(["arn:aws:iam::1"], Dialect(arn=True))


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("*" * 6144, "x" * 2048),
        ("*a" * 3072, "a" * 2048),
        ("*a" * 1024, "a" * 2048),
        ("*a" * 1000 + "b", "a" * 2048),
        ("*?" * 1024, "x" * 2048),
        ("a?" * 700 + "*b", "a" * 2048),
        ("*a?a?a" * 250 + "b", "a" * 2048),
        ("arn:*:*:*:*:" + "*a" * 1000 + "b", "arn:aws:s3:::" + "a" * 2030),
    ],
)
def test_no_pattern_takes_long(pattern, text):
    match = matcher([pattern], ARN if pattern.startswith("arn") else PLAIN)
    # About a millisecond; a pattern that backtracks takes thousands.
    assert cost(lambda: match(text, {}), tries=20) < 5


def test_each_request_is_matched_with_its_own_values_however_many_there_were_before():
    match = matcher(["arn:aws:s3:::home/${aws:username}/*"], Dialect(variables=True, arn=True, resource=True))
    names = [f"user{number}" for number in range(600)]
    for name in (*names, *names):
        keys = {"aws:username": (name,)}
        assert match(f"arn:aws:s3:::home/{name}/key", keys)
        assert not match("arn:aws:s3:::home/user/key", keys)
    assert match("arn:aws:s3:::home/user1/key", {}) is None
    assert match("arn:aws:s3:::home/*/key", {"aws:username": ("*",)})
    assert not match("arn:aws:s3:::home/user1/key", {"aws:username": ("*",)})
