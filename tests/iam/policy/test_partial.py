import pytest
from support.policies import BUCKET, SESSION, layers, policy, statement

from iam.policy.decide import RequestContext, decide
from iam.policy.partial import close, least_permissive, most_permissive, unknown_conditions

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


# --- keys that nobody but the service knows ---------------------------------------------------------------------------

TAG = "s3:ExistingObjectTag/class"
UNKNOWN = frozenset({"s3:existingobjecttag/", "s3:versionid"})


def allowed_when_closed(*statements, keys=(), unknown=UNKNOWN):
    context = RequestContext("s3:GetObject", BUCKET, SESSION, dict(keys))
    return decide(context, close(layers(identity=policy(*statements)), unknown)).allowed


@pytest.mark.parametrize(
    "condition",
    [
        {"StringEquals": {TAG: "secret"}},
        {"StringNotEquals": {TAG: "public"}},
        {"StringEqualsIfExists": {TAG: "secret"}},
        {"Null": {TAG: "true"}},
        {"Null": {TAG: "false"}},
        {"StringEquals": {"s3:VersionId": "3"}},
        {"StringEquals": {"aws:PrincipalTag/class": f"${{{TAG}}}"}},
        {"ForAllValues:StringEquals": {"s3:existingobjecttag/CLASS": "secret"}},
    ],
)
def test_a_deny_with_an_unknown_key_applies_and_an_allow_does_not(condition):
    assert not allowed_when_closed(statement(), statement("Deny", Condition=condition))
    assert not allowed_when_closed(statement(Condition=condition))
    assert allowed_when_closed(statement(), statement(Condition=condition))


def test_the_other_conditions_of_a_deny_still_limit_it():
    condition = {"StringEquals": {TAG: "secret", "aws:PrincipalTag/team": "guests"}}
    denied = statement("Deny", Condition=condition)
    assert allowed_when_closed(statement(), denied, keys={"aws:principaltag/team": ("staff",)})
    assert not allowed_when_closed(statement(), denied, keys={"aws:principaltag/team": ("guests",)})


def test_an_unknown_variable_in_a_resource_stands_for_anything():
    resource = f"arn:aws:s3:::b/${{{TAG}}}"
    assert not allowed_when_closed(statement(), statement("Deny", Resource=resource))
    assert not allowed_when_closed(statement(Resource=resource))
    many = [statement("Deny", Resource=f"arn:aws:s3:::other/{number}") for number in range(9)]
    assert not allowed_when_closed(statement(), *many, statement("Deny", Resource=resource))


def test_layers_that_use_no_unknown_key_stay_as_they_are():
    found = layers(identity=policy(statement(**MFA)), boundary=policy(statement()), session=())
    closed = close(found, UNKNOWN)
    assert all(ours is theirs for ours, theirs in zip(closed, found, strict=True))
    assert close(found, frozenset()) is found


def test_what_is_closed_is_made_once():
    found = layers(identity=policy(statement(Condition={"StringEquals": {TAG: "x"}})))
    assert close(found, UNKNOWN).identity is close(found, UNKNOWN).identity
    assert close(found, UNKNOWN).identity is not close(found, frozenset({"s3:versionid"})).identity
