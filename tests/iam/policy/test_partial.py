import pytest
from support.policies import BUCKET, SESSION, layers, policy, statement

from iam.policy.decide import RequestContext, decide
from iam.policy.partial import least_permissive, most_permissive, unknown_conditions

MFA = {"Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}}}
HOME = {"Resource": "arn:aws:s3:::${aws:PrincipalTag/home}/*"}


def answers(unknown, **given):
    found = layers(**given)

    def known(key):
        return key not in unknown

    context = RequestContext("s3:GetObject", BUCKET, SESSION, {})
    return tuple(decide(context, suppose(found, known)).allowed for suppose in (least_permissive, most_permissive))


MFA_KEY = {"aws:multifactorauthpresent"}


@pytest.mark.parametrize(
    ("unknown", "given", "expected"),
    [
        (set(), {"identity": policy(statement())}, (True, True)),
        (MFA_KEY, {"identity": policy(statement(**MFA))}, (False, True)),
        (set(), {"identity": policy(statement(**MFA))}, (False, False)),
        (MFA_KEY, {"identity": policy(statement(), statement("Deny", **MFA))}, (False, True)),
        ({"aws:principaltag/home"}, {"identity": policy(statement(**HOME))}, (False, True)),
        ({"aws:principaltag/home"}, {"identity": policy(statement(), statement("Deny", **HOME))}, (False, True)),
        (MFA_KEY, {"identity": policy(statement()), "boundary": policy(statement(**MFA))}, (False, True)),
        (MFA_KEY, {"identity": policy(statement()), "guardrails": policy(statement(**MFA))}, (False, True)),
        (MFA_KEY, {"identity": policy(statement()), "session": ()}, (False, False)),
    ],
)
def test_what_is_unknown_counts_for_and_against(unknown, given, expected):
    assert answers(unknown, **given) == expected


def test_a_condition_is_open_where_its_key_or_a_variable_in_its_values_is_unknown():
    both = {"StringEquals": {"k:one": "${k:two}", "k:three": "x"}}
    (found,) = policy(statement(Condition=both)).statements
    assert [one.name for one in unknown_conditions(found, lambda key: key != "k:two")] == ["k:one"]
    assert [one.name for one in unknown_conditions(found, lambda key: key != "k:three")] == ["k:three"]
    assert unknown_conditions(found, lambda _key: True) == ()
