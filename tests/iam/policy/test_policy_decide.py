from dataclasses import replace

import pytest
from support.policies import (
    AWAY,
    BUCKET,
    FEDERATED,
    FEDERATED_ARN,
    FEDERATED_USER,
    GOOGLE,
    HOME,
    PRINCIPALS,
    PROVIDER,
    ROLE_ARN,
    ROOT,
    ROOT_ARN,
    SERVICE,
    SESSION,
    SESSION_ARN,
    TARGET,
    USER,
    USER_ARN,
    layers,
    on_resource,
    policy,
    statement,
    trust,
)

from iam.policy.decide import DecisionType, Layers, RequestContext, decide, denial_message
from iam.policy.document import PolicyKind

ALLOW, DENY, OTHER = policy(statement()), policy(statement("Deny")), policy(statement(action="iam:GetUser"))
ASSUME = policy(statement(action="sts:AssumeRole"))
READ = RequestContext("s3:GetObject", BUCKET, SESSION, {})


def ask(principal=SESSION, action="s3:GetObject", on=BUCKET, keys=None, **found):
    return decide(RequestContext(action, on, principal, keys or {}), layers(**found))


def assume(principal, **found):
    return ask(principal, "sts:AssumeRole", TARGET, **found)


def test_without_policies_nobody_may_do_anything_but_root_at_home():
    found = {
        name: decide(READ._replace(principal=principal), Layers()).allowed for name, principal in PRINCIPALS.items()
    }
    assert found == dict.fromkeys(PRINCIPALS, False) | {"root": True}


def test_a_statement_allows_its_own_actions_on_its_own_resources_alone():
    mine = {"identity": policy(statement(action=["s3:Get*"], Resource="arn:aws:s3:::b/*"))}
    assert ask(**mine).allowed
    assert ask(action="S3:GETobject", **mine).allowed
    assert not ask(action="s3:PutObject", **mine).allowed
    assert not ask(on="arn:aws:s3:::c/k", **mine).allowed


def test_not_action_and_not_resource_leave_out_what_they_name():
    but_iam = policy({"Effect": "Allow", "NotAction": "iam:*", "NotResource": "arn:aws:s3:::secret/*"})
    assert ask(identity=(but_iam,)).allowed
    assert not ask(action="iam:GetUser", identity=(but_iam,)).allowed
    assert not ask(on="arn:aws:s3:::secret/k", identity=(but_iam,)).allowed


@pytest.mark.parametrize(("effect", "applies"), [("Allow", False), ("Deny", True)])
@pytest.mark.parametrize(
    "doubtful",
    [
        {"Condition": {"NumericLessThan": {"s3:max-keys": "10"}}},
        {"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}},
        {"Condition": {"StringNotEquals": {"aws:PrincipalTag/team": "${aws:ResourceTag/team}"}}},
    ],
)
def test_doubt_is_no_match_for_an_allow_and_a_match_for_a_deny(effect, applies, doubtful):
    keys = {"s3:max-keys": ("many",), "aws:sourceip": ("unknown",), "aws:principaltag/team": ("a",)}
    found = ask(keys=keys, identity=(policy(statement(effect, **doubtful)),))
    assert bool(found.statements) is applies


def test_a_not_resource_whose_variable_has_no_value_allows_nothing_and_denies_everything():
    unknown = {"Effect": "Allow", "Action": "*", "NotResource": "arn:aws:s3:::${aws:PrincipalTag/x}/*"}
    assert ask(identity=(policy(unknown),)).decision_type is DecisionType.IMPLICIT_DENY
    assert ask(identity=(policy(unknown | {"Effect": "Deny"}),)).decision_type is DecisionType.EXPLICIT_DENY


def test_every_condition_must_hold():
    both = {"Condition": {"Bool": {"aws:SecureTransport": "true"}, "StringEquals": {"aws:PrincipalTag/team": "a"}}}
    mine = {"identity": policy(statement(**both))}
    assert ask(keys={"aws:securetransport": ("true",), "aws:principaltag/team": ("a",)}, **mine).allowed
    assert not ask(keys={"aws:securetransport": ("true",), "aws:principaltag/team": ("b",)}, **mine).allowed
    assert not ask(keys={"aws:principaltag/team": ("a",)}, **mine).allowed


LAYER_NAMES = {
    "guardrails": "service control policy",
    "resource": "resource-based policy",
    "identity": "identity-based policy",
    "boundary": "permissions boundary",
    "session": "session policy",
}


def everything_allows():
    return {
        "guardrails": (ALLOW,),
        "resource": on_resource({"AWS": SESSION_ARN}),
        "identity": (ALLOW,),
        "boundary": ALLOW,
        "session": (ALLOW,),
    }


@pytest.mark.parametrize("layer", LAYER_NAMES)
def test_an_explicit_deny_in_any_layer_wins_and_is_named(layer):
    denies = {"resource": on_resource("*", "Deny"), "boundary": DENY}.get(layer, (DENY,))
    found = ask(**everything_allows() | {layer: denies})
    assert (found.allowed, found.decision_type, found.layer) == (False, DecisionType.EXPLICIT_DENY, LAYER_NAMES[layer])
    assert [reason.layer for reason in found.statements] == [LAYER_NAMES[layer]]
    assert ask(**everything_allows()).allowed


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({}, "identity-based policy"),
        ({"identity": (OTHER,)}, "identity-based policy"),
        ({"identity": (ALLOW,), "guardrails": (OTHER,)}, "service control policy"),
        ({"identity": (ALLOW,), "guardrails": ()}, "service control policy"),
        ({"identity": (ALLOW,), "boundary": OTHER}, "permissions boundary"),
        ({"identity": (ALLOW,), "session": (OTHER,)}, "session policy"),
        ({"identity": (ALLOW,), "session": ()}, "session policy"),
        ({"identity": (ALLOW,), "resource_account": AWAY}, "resource-based policy"),
        ({"identity": (ALLOW,), "resource": on_resource("*"), "resource_account": AWAY}, ""),
        ({"resource": on_resource("*"), "resource_account": AWAY}, "identity-based policy"),
        ({"identity": (ALLOW,), "resource": on_resource({"AWS": AWAY})}, ""),
        ({"identity": (ALLOW,), "session": (OTHER, ALLOW), "boundary": ALLOW, "guardrails": (OTHER, ALLOW)}, ""),
    ],
)
def test_a_layer_that_does_not_allow_is_named(given, missing):
    found = ask(**given)
    assert (found.allowed, found.layer) == (not missing, missing or "identity-based policy")
    assert found.decision_type is (DecisionType.IMPLICIT_DENY if missing else DecisionType.ALLOWED)


# How a grant on a resource depends on the caller's own policies. Columns: who; the principal named; needs an identity
# allow at home; limited by boundary and session policy at home.
GRANTS = [
    ("user", USER_ARN, False, False),
    ("user", HOME, True, True),
    ("user", "*", False, True),
    ("session", SESSION_ARN, False, False),
    ("session", ROLE_ARN, False, True),
    ("session", ROOT_ARN, True, True),
    ("session", "*", False, True),
    ("federated user", FEDERATED_ARN, False, False),
    ("federated user", USER_ARN, False, True),
    ("federated user", HOME, True, True),
]


@pytest.mark.parametrize(("who", "named", "needs_identity", "limited"), GRANTS)
@pytest.mark.parametrize("kind", ["resource", "trust"])
def test_a_grant_in_the_same_account(who, named, needs_identity, limited, kind):
    principal = PRINCIPALS[who]
    if kind == "trust":
        call, mine, grant = assume, (ASSUME,), trust({"AWS": named})
    else:
        call, mine, grant = ask, (ALLOW,), on_resource({"AWS": named})
    session = mine if who == "federated user" else None
    assert call(principal, resource=grant, identity=mine, session=session).allowed
    assert call(principal, resource=grant, session=session).allowed is not needs_identity
    for ceiling in ({"boundary": OTHER}, {"session": (OTHER,)}):
        assert call(principal, resource=grant, identity=mine, **{"session": session} | ceiling).allowed is not limited
    assert not call(principal, resource=grant, identity=mine, session=session, guardrails=(OTHER,)).allowed


@pytest.mark.parametrize(("who", "named", "_needs", "_limited"), GRANTS)
def test_across_accounts_both_sides_must_allow_within_every_ceiling(who, named, _needs, _limited):
    given = {"resource": trust({"AWS": named}), "resource_account": AWAY, "session": (ASSUME,)}
    principal = PRINCIPALS[who]
    assert assume(principal, identity=(ASSUME,), **given).allowed
    assert assume(principal, **given).layer == "identity-based policy"
    assert assume(principal, identity=(ASSUME,), boundary=OTHER, **given).layer == "permissions boundary"
    assert assume(principal, identity=(ASSUME,), **given | {"session": (OTHER,)}).layer == "session policy"
    assert (
        assume(principal, identity=(ASSUME,), **given | {"resource": trust({"AWS": AWAY})}).layer == "role trust policy"
    )


def test_an_identity_policy_alone_assumes_no_role_even_at_home():
    assert assume(USER, identity=(ASSUME,), resource=trust({"AWS": AWAY})).layer == "role trust policy"


@pytest.mark.parametrize(
    ("principal", "named", "expected"),
    [
        (FEDERATED, {"Federated": PROVIDER}, True),
        (FEDERATED, {"Federated": f"{PROVIDER}2"}, False),
        (FEDERATED, {"AWS": "*"}, False),
        (FEDERATED, "*", False),
        (FEDERATED, {"AWS": HOME}, False),
        (FEDERATED, {"Service": "ec2.amazonaws.com"}, False),
        (replace(FEDERATED, arn=GOOGLE), {"Federated": "accounts.google.com"}, True),
        (replace(FEDERATED, arn="accounts.google.com"), {"Federated": "accounts.google.com"}, True),
        (replace(FEDERATED, arn=GOOGLE), {"Federated": GOOGLE}, True),
        (replace(FEDERATED, arn=GOOGLE.replace("accounts.", "evil")), {"Federated": "accounts.google.com"}, False),
        (SERVICE, {"Service": "ec2.amazonaws.com"}, True),
        (SERVICE, {"Service": "ecs.amazonaws.com"}, False),
        (SERVICE, {"AWS": HOME}, False),
        (SERVICE, "*", False),
        (USER, {"Federated": PROVIDER}, False),
        (USER, {"Service": "ec2.amazonaws.com"}, False),
        (USER, {"AWS": f"{USER_ARN}2"}, False),
        (USER, {"AWS": SESSION_ARN}, False),
        (SESSION, {"AWS": f"{SESSION_ARN}2"}, False),
    ],
)
def test_who_a_trust_policy_lets_in(principal, named, expected):
    pinned = {"Condition": {"StringEquals": {"accounts.google.com:aud": "app"}}}
    found = assume(principal, resource=trust(named, **pinned), keys={"accounts.google.com:aud": ("app",)})
    assert found.allowed is expected


def test_a_deny_to_everyone_reaches_services_and_federated_people():
    everyone = {"Effect": "Deny", "Principal": "*", "Action": "sts:*"}
    named = {"Effect": "Allow", "Principal": {"Federated": PROVIDER, "Service": "ec2.amazonaws.com"}, "Action": "sts:*"}
    both = policy(named, everyone, kind=PolicyKind.TRUST)
    for principal in (FEDERATED, SERVICE):
        assert assume(principal, resource=policy(named, kind=PolicyKind.TRUST)).allowed
        assert assume(principal, resource=both).decision_type is DecisionType.EXPLICIT_DENY


def test_a_deny_to_an_account_does_not_reach_who_has_none():
    both = policy(
        {"Effect": "Deny", "Principal": {"AWS": HOME}, "Action": "sts:*"},
        {"Effect": "Allow", "Principal": {"Federated": PROVIDER, "AWS": USER_ARN}, "Action": "sts:*"},
        kind=PolicyKind.TRUST,
    )
    assert [assume(who, resource=both).allowed for who in (FEDERATED, USER)] == [True, False]


def test_a_canonical_user_is_nobody_here():
    assert not ask(USER, resource=on_resource({"CanonicalUser": "a" * 64})).allowed


@pytest.mark.parametrize(
    ("given", "allowed"),
    [
        ({}, True),
        ({"identity": (DENY,), "boundary": DENY, "session": (DENY,)}, True),
        ({"guardrails": (OTHER,)}, False),
        ({"guardrails": (DENY,)}, False),
        ({"resource": on_resource("*", "Deny")}, False),
        ({"resource_account": AWAY}, False),
        ({"resource_account": AWAY, "resource": on_resource({"AWS": HOME})}, True),
    ],
)
def test_root_is_bound_by_nothing_at_home_but_guardrails_and_explicit_denies_around_it(given, allowed):
    assert ask(ROOT, **given).allowed is allowed


def test_a_federated_user_may_do_what_its_maker_and_its_session_policy_both_allow():
    assert ask(FEDERATED_USER, identity=(ALLOW,), session=(ALLOW,)).allowed
    assert ask(FEDERATED_USER, identity=(ALLOW,)).layer == "session policy"
    assert not ask(FEDERATED_USER, session=(ALLOW,)).allowed
    made_by_root = replace(FEDERATED_USER, entity_arn=ROOT_ARN, entity_id=HOME)
    assert ask(made_by_root, session=(ALLOW,)).allowed
    assert not ask(made_by_root, session=(OTHER,)).allowed


@pytest.mark.parametrize(
    ("principal", "listed", "spared"),
    [
        (USER, [USER_ARN, ROOT_ARN], True),
        (USER, [USER_ARN], False),
        (USER, [HOME], False),
        (SESSION, [SESSION_ARN, ROLE_ARN, HOME], True),
        (SESSION, [ROLE_ARN, HOME], False),
        (FEDERATED_USER, [FEDERATED_ARN, HOME], True),
        (ROOT, [HOME], True),
        (ROOT, [AWAY], False),
    ],
)
def test_a_deny_with_not_principal_spares_only_a_caller_whose_every_arn_is_listed(principal, listed, spared):
    everyone_but = {"Effect": "Deny", "NotPrincipal": {"AWS": listed}, "Action": "*", "Resource": "*"}
    given = {"identity": (ALLOW,), "session": (ALLOW,), "resource": policy(everyone_but, kind=PolicyKind.RESOURCE)}
    assert ask(principal, **given).allowed is spared


def test_a_deny_with_not_principal_spares_nobody_who_has_a_boundary():
    everyone_but = {"Effect": "Deny", "NotPrincipal": {"AWS": [USER_ARN, HOME]}, "Action": "*", "Resource": "*"}
    given = {"identity": (ALLOW,), "resource": policy(everyone_but, kind=PolicyKind.RESOURCE)}
    assert ask(USER, **given).allowed
    assert ask(USER, **given, boundary=ALLOW).decision_type is DecisionType.EXPLICIT_DENY


@pytest.mark.parametrize("principal", [USER, SESSION])
@pytest.mark.parametrize(
    ("condition", "limited"),
    [
        ({"ArnEquals": {"aws:PrincipalArn": [USER_ARN, ROLE_ARN]}}, False),
        ({"StringLike": {"AWS:principalarn": f"arn:aws:iam::{HOME}:*"}}, False),
        ({"ArnEqualsIfExists": {"aws:PrincipalArn": [USER_ARN, ROLE_ARN]}}, True),
        ({"ArnNotEquals": {"aws:PrincipalArn": TARGET}}, True),
        ({"StringEquals": {"aws:PrincipalAccount": HOME}}, True),
        ({}, True),
    ],
)
def test_everyone_narrowed_to_an_arn_is_granted_whatever_boundary_and_session_policy_leave_out(
    principal, condition, limited
):
    keys = {"aws:principalarn": (principal.entity_arn,), "aws:principalaccount": (HOME,)}
    given = {"keys": keys, "boundary": OTHER, "session": (OTHER,)}
    found = ask(principal, **given, resource=on_resource("*", Condition=condition))
    assert found.allowed is not limited
    assert not ask(principal, **given, identity=(DENY,), resource=on_resource("*", Condition=condition)).allowed
    assert not ask(principal, **given, guardrails=(OTHER,), resource=on_resource("*", Condition=condition)).allowed


@pytest.mark.parametrize(
    ("principal", "listed", "allowed"),
    [
        (USER, {"AWS": AWAY}, True),
        (USER, {"AWS": HOME}, False),
        (USER, {"AWS": USER_ARN}, False),
        (SESSION, {"AWS": ROLE_ARN}, False),
        (FEDERATED, {"AWS": AWAY}, False),
        (SERVICE, {"AWS": AWAY}, False),
    ],
)
def test_an_allow_with_not_principal_leaves_out_who_is_listed_and_whoever_has_no_account(principal, listed, allowed):
    everyone_but = {"Effect": "Allow", "NotPrincipal": listed, "Action": "sts:AssumeRole"}
    found = assume(principal, identity=(ASSUME,), resource=policy(everyone_but, kind=PolicyKind.TRUST))
    assert found.allowed is allowed


def test_a_deny_with_not_principal_spares_the_services_and_providers_it_lists():
    spared = {"Service": "ec2.amazonaws.com", "Federated": PROVIDER}
    both = policy(
        {"Effect": "Deny", "NotPrincipal": spared, "Action": "sts:*"},
        {"Effect": "Allow", "Principal": spared | {"AWS": USER_ARN}, "Action": "sts:*"},
        kind=PolicyKind.TRUST,
    )
    assert [assume(who, resource=both).allowed for who in (SERVICE, FEDERATED, USER)] == [True, True, False]


@pytest.mark.parametrize(("principal", "arn"), [(USER, USER_ARN), (SESSION, ROLE_ARN), (SESSION, SESSION_ARN)])
def test_a_bound_arn_means_the_principal_that_had_it_when_the_policy_was_written(principal, arn):
    written = trust({"AWS": arn})
    born_again = replace(principal, entity_id="NEW")
    assert assume(born_again, resource=written).allowed
    assert not assume(born_again, resource=written.bind({arn: principal.entity_id})).allowed
    assert assume(principal, resource=written.bind({arn: principal.entity_id})).allowed


MESSAGES = [
    ({}, "because no identity-based policy allows the s3:GetObject action"),
    ({"identity": (ALLOW,), "session": ()}, "because no session policy allows the s3:GetObject action"),
    ({"identity": (ALLOW,), "boundary": OTHER}, "because no permissions boundary allows the s3:GetObject action"),
    ({"guardrails": ()}, "because no service control policy allows the s3:GetObject action"),
    ({"resource_account": AWAY}, "because no resource-based policy allows the s3:GetObject action"),
    ({"identity": (DENY,)}, "with an explicit deny in an identity-based policy"),
    ({"session": (DENY,)}, "with an explicit deny in a session policy"),
    ({"boundary": DENY}, "with an explicit deny in a permissions boundary"),
    ({"guardrails": (DENY,)}, "with an explicit deny in a service control policy"),
    ({"resource": on_resource("*", "Deny")}, "with an explicit deny in a resource-based policy"),
]


@pytest.mark.parametrize(("given", "reason"), MESSAGES)
def test_a_denial_says_which_layer_denied_in_the_words_of_aws(given, reason):
    told = denial_message(READ, decide(READ, layers(**given)))
    assert told == f"User: {SESSION_ARN} is not authorized to perform: s3:GetObject on resource: {BUCKET} {reason}"


@pytest.mark.parametrize("action", ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"])
def test_a_denial_to_assume_a_role_never_says_why(action):
    context = RequestContext(action, TARGET, USER, {})
    for given in ({}, {"resource": trust("*", "Deny")}, {"identity": policy(statement("Deny", "sts:*"))}):
        told = denial_message(context, decide(context, layers(**given)))
        assert told == f"User: {USER_ARN} is not authorized to perform: {action} on resource: {TARGET}"


def test_somebody_without_an_account_is_told_only_the_action():
    context = RequestContext("sts:AssumeRoleWithSAML", TARGET, FEDERATED, {})
    assert denial_message(context, decide(context, Layers())) == "Not authorized to perform sts:AssumeRoleWithSAML"


def test_a_decision_names_the_statements_that_decided():
    two = policy(
        statement(Sid="A"), statement("Deny", "s3:Put*", Sid="B"), statement(action="s3:*", Sid="C"), label="mine"
    )
    allowed, denied = ask(identity=(two,)), ask(action="s3:PutObject", identity=(two,))
    assert [(one.statement.policy, one.statement.index, one.statement.sid) for one in allowed.statements] == [
        ("mine", 0, "A"),
        ("mine", 2, "C"),
    ]
    assert [one.statement.sid for one in denied.statements] == ["B"]
    assert ask(resource=on_resource({"AWS": SESSION_ARN})).layer == "resource-based policy"
