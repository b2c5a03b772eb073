import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.policies import policy, statement

from iam.policy.document import Policy, PolicyKind
from iam.policy.policy_set import PolicySet


def resources(found):
    return [one.resources[0] if one.resources else "-" for one in found]


def many(texts):
    return PolicySet([policy(*[statement(Resource=text) for text in texts])])


def test_only_statements_that_can_match_are_asked_however_many_there_are():
    wide = [statement(action="s3:Get*", Resource=f"arn:aws:s3:::bucket-{number}/*") for number in range(10_000)]
    others = [statement(action=f"service{number}:*") for number in range(10_000)]
    found = PolicySet([policy(*wide), policy(*others)])
    assert resources(found.find("s3:GetObject", "arn:aws:s3:::bucket-77/k")) == ["arn:aws:s3:::bucket-77/*"]
    assert found.find("s3:PutObject", "arn:aws:s3:::bucket-77/k") == ()
    assert len(found.find("service5:Read", "*")) == 1


# Heads that begin with one another, in an order that their lengths do not tell.
NESTED = ["arn:aws:s3:::a*", "arn:aws:s3:::ab*", "arn:aws:s3:::abc", "arn:aws:s3:::b*", "arn:aws:s3:::a?c/*",
          "arn:aws:s3:::${aws:username}", "*", "arn:aws:s3", "arn:aws:iam::1:user/x", "arn:aws:s3:::abd"]  # fmt: skip


@given(st.lists(st.text("ab", max_size=4), min_size=9, max_size=20), st.text("abc", max_size=6))
@example(["", "a", "ab", "aba", "abab", "b", "ba", "a", "a", "bb"], "abab")
def test_a_head_is_found_exactly_where_a_text_begins_with_it(heads, text):
    patterns = [f"arn:aws:s3:::x{one}*" for one in heads]
    asked = f"arn:aws:s3:::x{text}"
    found = resources(many(patterns).find("s3:GetObject", asked))
    assert sorted(found) == sorted(one for one in patterns if asked.startswith(one[:-1]))


@pytest.mark.parametrize(
    "asked", ["arn:aws:s3:::abc", "arn:aws:s3:::abd", "arn:aws:iam::1:user/x", "*", "a", "zzz", ""]
)
def test_no_statement_that_applies_is_left_out(asked):
    found = many(NESTED)
    keys = {"aws:username": ("abc",)}
    statements_about = found.policies[0].statements_about("s3:getobject")
    applying = {one.resources[0] for one in statements_about if one.applies(asked, keys)}
    assert applying <= set(resources(found.find("s3:GetObject", asked)))


def test_a_statement_with_several_resources_is_asked_once():
    both = statement(Resource=["arn:aws:s3:::a*", "arn:aws:s3:::ab*"])
    everywhere = statement(Resource=["*", "arn:aws:s3:::a*"])
    found = PolicySet([policy(*[both] * 5, *[everywhere] * 5)])
    assert len(found.find("s3:GetObject", "arn:aws:s3:::abc")) == 10


def test_the_same_answer_is_given_whatever_the_case_of_the_action_and_however_often_it_is_asked():
    found = many(NESTED)
    one = found.find("s3:GetObject", "arn:aws:s3:::abc")
    assert one == found.find("S3:GETOBJECT", "arn:aws:s3:::abc") == found.find("s3:GetObject", "arn:aws:s3:::abc")


def test_strangers_who_ask_for_ever_new_actions_fill_no_memory():
    found = PolicySet([policy(statement(action="s3:*"))])
    for number in range(5_000):
        assert len(found.find(f"s3:Get{number}", "*")) == 1
    assert len(found._by_action) <= 500
    assert len(found.policies[0].by_action.cache) <= 2_000


def test_a_set_is_what_its_policies_are():
    one, other = policy(statement()), policy(statement("Deny"))
    assert PolicySet([one]) == PolicySet((one,)) != PolicySet([other])
    assert PolicySet() != ()
    assert len({PolicySet([one]), PolicySet([one]), PolicySet()}) == 2
    assert (list(PolicySet([one, other])), len(PolicySet([one, other]))) == ([one, other], 2)
    assert repr(PolicySet()) == "PolicySet(())"


def test_a_set_with_a_trust_policy_says_so():
    document = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}}
    assert PolicySet([Policy.parse(json.dumps(document), PolicyKind.TRUST)]).trust
    assert not PolicySet([policy(statement())]).trust


def test_sets_that_are_derived_for_ever_new_keys_fill_no_memory():
    found = PolicySet()
    made = [found.derive(number, lambda _: PolicySet()) for number in range(250)]
    assert found.derive(249, lambda _: PolicySet()) is made[249]
    assert len(found._derived) <= 100
