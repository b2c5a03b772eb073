import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iam.errors import MalformedPolicyDocument
from iam.policy.document import Effect, Policy, PolicyKind, size
from iam.policy.principals import PrincipalType

IDENTITY, TRUST, SESSION, BOUNDARY, RESOURCE, GUARDRAIL = PolicyKind
GITHUB = "arn:aws:iam::111111111111:oidc-provider/token.actions.githubusercontent.com"
SUB = "token.actions.githubusercontent.com:sub"
ROLE = "arn:aws:iam::111111111111:role/r"


def document(*statements, **more):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)} | more)


def permits(**changes):
    return _changed({"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}, changes)


def trusts(principal=..., **changes):
    who = {"AWS": "111111111111"} if principal is ... else principal
    return _changed({"Effect": "Allow", "Principal": who, "Action": "sts:AssumeRole"}, changes)


def _changed(statement, changes):
    return {name: value for name, value in (statement | changes).items() if value is not None}


def federated(condition, provider=GITHUB):
    return trusts({"Federated": provider}, Action="sts:AssumeRoleWithWebIdentity", Condition=condition)


def refusal(text, kind=IDENTITY):
    with pytest.raises(MalformedPolicyDocument) as caught:
        Policy.parse(text, kind)
    return caught.value.message


LONG = "9" * 5000


@pytest.mark.parametrize("text", [
    document(permits(), Version=LONG),
    document(permits(), **{LONG: 1}),
    document(permits(Action=f"s3:{LONG}(")),
    document(permits(Action=f"_{LONG}:Get")),
    document(permits(Resource=LONG)),
    document(permits(Resource=f"arn:{LONG}:s3:::b")),
    document(permits(Resource=f"arn:aws:iam:{LONG}:1:user/u")),
    document(permits(Resource=f"arn:aws:s3:::${{{LONG}")),
    document(permits(Resource=f"arn:aws:s3:::${{{LONG}}}")),
    document(permits(Resource=f"arn:aws:s3:::${{aws:username,{LONG}}}")),
    document(permits(Condition={"NumericEquals": {"aws:epochtime": f"{LONG}x"}})),
    document(permits(Condition={"Null": {"aws:username": LONG}})),
    document(permits(Condition={"IpAddress": {"aws:sourceip": LONG}})),
    document(permits(Condition={LONG: {"aws:username": "a"}})),
    document(permits(Condition={"StringLike": {f"aws:{LONG}": "${"}})),
    document(permits(Sid=f"{LONG}_")),
    f'{{"{LONG}',
])  # fmt: skip
def test_an_error_repeats_little_of_a_policy(text):
    assert len(refusal(text)) < 1000


@pytest.mark.parametrize(
    "principal", [LONG, {LONG: "a"}, {"AWS": LONG}, {"Federated": LONG}, {"CanonicalUser": LONG}, {"Service": LONG}]
)
def test_an_error_repeats_little_of_a_principal(principal):
    assert len(refusal(document(trusts(principal)), TRUST)) < 1000


SYNTAX = "Syntax errors in policy."
VENDOR = "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."
ONLY_ASSUME = "AssumeRole policy may only specify STS AssumeRole actions."
REGEX = "Resource vendor must be fully qualified and cannot contain regexes."
BAD_JSON = ["", "{", "[1", "null x", "{'a': 1}", '{"a": 1, "a": 2}', '{"a": NaN}', '{"a": -Infinity}', "\ufeff{}",
            '{"a": 1,}', "[" * 100_000, '{"a":' * 5000 + "1" + "}" * 5000,
            '{"a": "\\ud800"}', '{"a": "\x00"}', '"' + '\\"' * 50_000]  # fmt: skip


@pytest.mark.parametrize("text", BAD_JSON)
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (IDENTITY, SYNTAX),
        (BOUNDARY, SYNTAX),
        (RESOURCE, SYNTAX),
        (TRUST, "This policy contains invalid Json"),
        (SESSION, "The policy is not in the valid JSON format."),
    ],
)
def test_what_is_not_strict_json_is_no_policy(text, kind, words):
    assert refusal(text, kind) == words


# G01: what is malformed in a policy that grants permissions, and AWS's words.
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", SYNTAX),
        ("5", SYNTAX),
        ('"x"', SYNTAX),
        ("{}", SYNTAX),
        (document(), SYNTAX),
        (document("x"), SYNTAX),
        ('{"Statement": "x"}', SYNTAX),
        (document(permits(), Version="2012-10-18"), SYNTAX),
        (document(permits(), Version=2012), SYNTAX),
        (document(permits(), Version=["2012-10-17"]), SYNTAX),
        (document(permits(), Id=5), SYNTAX),
        (document(permits(), Extra="x"), SYNTAX),
        (document(permits(Extra="x")), SYNTAX),
        (document(permits(effect="Allow")), SYNTAX),
        (document(permits(Effect=None)), "Missing required field Effect"),
        (document(permits(Effect="allow")), SYNTAX),
        (document(permits(Effect=["Allow"])), SYNTAX),
        (document(permits(Action=None)), "Policy statement must contain actions."),
        (document(permits(Action=[])), "Policy statement must contain actions."),
        (document(permits(NotAction=[], Action=None)), "Policy statement must contain actions."),
        (document(permits(Resource=None)), "Policy statement must contain resources."),
        (document(permits(Resource=[])), "Policy statement must contain resources."),
        (document(permits(NotAction="s3:Put*")), SYNTAX),
        (document(permits(NotResource="*")), SYNTAX),
        (document(permits(Action=5)), SYNTAX),
        (document(permits(Action=[["s3:Get"]])), SYNTAX),
        (document(permits(Action={"a": "b"})), SYNTAX),
        (document(permits(Action="")), VENDOR),
        (document(permits(Action="GetObject")), VENDOR),
        (document(permits(Action="s3*")), VENDOR),
        (document(permits(Action="s*:Get")), "Vendor s* is not valid"),
        (document(permits(Action=":Get")), "Vendor  is not valid"),
        (document(permits(Action="s 3:Get")), "Vendor s 3 is not valid"),
        (document(permits(Action="s3:")), SYNTAX),
        (document(permits(Action="s3:Get Object")), SYNTAX),
        (document(permits(Action="s3:${aws:username}")), SYNTAX),
        (document(permits(Action="s3:a:b")), SYNTAX),
        (document(permits(Resource="bucket")), 'Resource bucket must be in ARN format or "*".'),
        (document(permits(Resource="")), 'Resource  must be in ARN format or "*".'),
        (document(permits(Resource="**")), 'Resource ** must be in ARN format or "*".'),
        (document(permits(Resource="arn:x:s3:::b")), 'Partition "x" is not valid for resource "arn:x:s3:::b".'),
        (document(permits(Resource="arn::s3:::b")), "The policy failed legacy parsing"),
        (document(permits(Resource="arn:aws::::b")), "The policy failed legacy parsing"),
        (document(permits(Resource="arn:")), "The policy failed legacy parsing"),
        (document(permits(Resource="arn:aws")), REGEX),
        (document(permits(Resource="arn:aws:s*:::b")), REGEX),
        (document(permits(Resource="arn:aws:*")), REGEX),
        (document(permits(Resource="arn:aws:iam:us-east-1:1:user/a")), "IAM resource arn:aws:iam:us-"),
        (document(permits(Resource="arn:aws:iam::1:thing/a")), 'IAM resource path must either be "*" or start w'),
        (document(permits(Resource="arn:aws:s3:::${nokey}")), SYNTAX),
        (document(permits(Resource="arn:aws:s3:::${aws:username")), SYNTAX),
        (document(permits(Sid="a b")), "Statement IDs (SID) must be alpha-numeric."),
        (document(permits(Sid=5)), SYNTAX),
        (document(permits(Sid="a"), permits(Sid="a")), "Statement IDs (SID) in a single policy must be unique."),
        (document(permits(Principal="*")), "Has prohibited field Principal"),
        (document(permits(NotPrincipal="*")), "Has prohibited field NotPrincipal"),
        (document(permits(Condition="x")), SYNTAX),
        (document(permits(Condition={"StringEquals": "x"})), SYNTAX),
        (document(permits(Condition={"StringEquals": {}})), SYNTAX),
        (document(permits(Condition={"StringEquals": {"aws:a": []}})), SYNTAX),
        (document(permits(Condition={"StringEquals": {"aws:a": {}}})), SYNTAX),
        (document(permits(Condition={"StringEquals": {"aws:a": [[]]}})), SYNTAX),
        (document(permits(Condition={"StringEquals": {"aws:a": None}})), SYNTAX),
        (document(permits(Condition={"StringEquals": {"username": "x"}})), VENDOR),
        (document(permits(Condition={"StringEquals": {"aws:": "x"}})), VENDOR),
        (document(permits(Condition={"StringEquals": {"aws:*": "x"}})), VENDOR),
        (document(permits(Condition={"StringEqual": {"aws:a": "x"}})), "Invalid Condition type : StringEqual"),
        (document(permits(Condition={"NullIfExists": {"aws:a": "true"}})), "Invalid Condition type : NullIfExists"),
        (document(permits(Condition={"Bool": {"aws:a": "yes"}})), SYNTAX),
        (document(permits(Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/33"}})), SYNTAX),
        (document(permits(Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/255.0.0.0"}})), SYNTAX),
        (document(permits(Condition={"NumericEquals": {"aws:a": "${aws:b}"}})), SYNTAX),
        (document(permits(Condition={"ArnLike": {"aws:a": "role/r"}})), SYNTAX),
        (document(permits(Condition={"StringLike": {"aws:a": "${aws:b"}})), SYNTAX),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", [IDENTITY, SESSION, BOUNDARY, GUARDRAIL])
def test_a_malformed_permission_policy_is_refused_in_the_words_of_aws(text, words, kind):
    assert refusal(text, kind).startswith(words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (document(trusts(Principal=None)), "Missing required field Principal"),
        (document(trusts([])), 'Invalid principal in policy: "list"'),
        (document(trusts({})), "Missing required field Principal cannot be empty!"),
        (document(trusts({"AWS": []})), "Missing required field Principal cannot be empty!"),
        (document(trusts({"AWS": 5})), SYNTAX),
        (document(trusts("111111111111")), 'Invalid principal in policy: "111111111111"'),
        (document(trusts(NotPrincipal="*")), SYNTAX),
        (document(trusts(Resource="*")), "Has prohibited field Resource"),
        (document(trusts(NotResource="*")), "Has prohibited field NotResource"),
        (document(trusts(Action=None)), "Missing required field Action"),
        (document(trusts(Action=[])), "Missing required field Action cannot be empty!"),
        (document(trusts(Action="*")), ONLY_ASSUME),
        (document(trusts(Action="s3:GetObject")), ONLY_ASSUME),
        (document(trusts(Action="sts:GetCallerIdentity")), ONLY_ASSUME),
        (document(trusts(Action=["sts:AssumeRole", "sts:Get*"])), ONLY_ASSUME),
        (document(trusts(Action=None, NotAction="sts:AssumeRole")), ONLY_ASSUME),
    ],
)
def test_a_malformed_trust_policy_is_refused_in_the_words_of_aws(text, words):
    assert refusal(text, TRUST).startswith(words)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("AWS", "arn:aws:iam::111111111111:user/*"),
        ("AWS", "arn:aws:iam::111111111111:user/a?"),
        ("AWS", "arn:aws:iam::111111111111:role/*"),
        ("AWS", "arn:aws:iam::111111111111:*"),
        ("AWS", "arn:aws:iam::*:root"),
        ("AWS", "arn:aws:iam::111111111111:group/g"),
        ("AWS", "arn:aws:iam::111111111111:user"),
        ("AWS", "arn:aws:iam::111111111111:user/"),
        ("AWS", "arn:aws:iam::111111111111:policy/p"),
        ("AWS", "arn:aws:iam:us-east-1:111111111111:user/a"),
        ("AWS", "arn:aws:iam::11111:user/a"),
        ("AWS", "arn:xx:iam::111111111111:user/a"),
        ("AWS", "arn:aws:s3:::b"),
        ("AWS", "arn:aws:sts::111111111111:assumed-role/r"),
        ("AWS", "arn:aws:sts::111111111111:assumed-role/r/*"),
        ("AWS", "arn:aws:sts::111111111111:federated-user/*"),
        ("AWS", "arn:aws:iam::111111111111:user/${aws:username}x*"),
        ("AWS", "11111111111"),
        ("AWS", "AIDAQAAAAAAAAAAAAAAAA"),
        ("AWS", "ann"),
        ("AWS", ""),
        ("Service", "*"),
        ("Service", "ec2"),
        ("Service", "*.amazonaws.com"),
        ("CanonicalUser", "a" * 64),
        ("aws", "*"),
        ("Everyone", "*"),
    ],
)
def test_a_principal_that_means_nobody_in_particular_is_refused(kind, text):
    assert refusal(document(trusts({kind: text})), TRUST) == f'Invalid principal in policy: "{kind.upper()}":"{text}"'


@pytest.mark.parametrize(
    "text",
    ["*", "arn:aws:iam::111111111111:oidc-provider/*", "evil.example", "arn:aws:iam::1:saml-provider/x", ROLE,
     "arn:aws:s3::111111111111:saml-provider/x", "arn:aws:iam::111111111111:saml-provider/",
     "arn:aws:iam::111111111111:ldap-provider/de\0mo",
     "arn:aws:iam::111111111111:oidc-provider/" + "x" * 500],
)  # fmt: skip
def test_a_federated_principal_is_a_provider(text):
    statement = trusts({"Federated": text}, Action="sts:AssumeRoleWithSAML")
    assert (
        refusal(document(statement), TRUST) == "Federated principals must be valid domain names or SAML metadata ARNs"
    )


@pytest.mark.parametrize(
    ("kind", "text", "principal_type"),
    [
        ("AWS", "*", PrincipalType.EVERYONE),
        ("AWS", "111111111111", PrincipalType.ACCOUNT),
        ("AWS", "arn:aws:iam::111111111111:root", PrincipalType.ACCOUNT),
        ("AWS", "arn:aws:iam::111111111111:user/a/b/ann", PrincipalType.ENTITY),
        ("AWS", ROLE, PrincipalType.ENTITY),
        ("AWS", "arn:aws-cn:iam::111111111111:role/r", PrincipalType.ENTITY),
        ("AWS", "arn:aws:sts::111111111111:assumed-role/r/s", PrincipalType.SESSION),
        ("AWS", "arn:aws:sts::111111111111:federated-user/f", PrincipalType.SESSION),
        ("Service", "ec2.amazonaws.com", PrincipalType.SERVICE),
        ("Federated", "arn:aws:iam::111111111111:saml-provider/idp", PrincipalType.PROVIDER),
        ("Federated", "arn:aws:iam::111111111111:ldap-provider/corp", PrincipalType.PROVIDER),
        ("Federated", "arn:aws:iam::111111111111:oidc-provider/id.example/realms/x", PrincipalType.PROVIDER),
    ],
)
def test_a_principal_is_read(kind, text, principal_type):
    (statement,) = Policy.parse(document(trusts({kind: [text]})), TRUST).statements
    (one,) = statement.principals
    assert (one.kind, one.text, one.principal_type) == (kind, text, principal_type)


def test_a_resource_policy_may_name_a_canonical_user_and_have_a_free_sid():
    statement = permits(Principal={"CanonicalUser": "a" * 64}, Sid="who may read")
    (found,) = Policy.parse(document(statement), RESOURCE).statements
    assert found.principals[0].principal_type is PrincipalType.CANONICAL_USER
    assert refusal(document(permits()), RESOURCE) == "Missing required field Principal"
    empty = document(permits(Principal="*", Resource=[]))
    assert refusal(empty, RESOURCE) == "Missing required field Resource cannot be empty!"


PINNED = [
    {"StringEquals": {SUB: "repo:org/app:ref:refs/heads/main"}},
    {"StringLike": {SUB: "repo:org/*"}},
    {"StringLike": {SUB.upper(): ["repo:org/*", "repo:other/app:*"]}},
    {"ForAnyValue:StringEquals": {SUB: "repo:org/app"}},
    {"StringEqualsIgnoreCase": {SUB: "repo:org/app"}, "Bool": {"aws:SecureTransport": True}},
    {"StringEquals": {SUB: "*"}},  # no wildcard here: a subject that nobody has
]
LOOSE = [
    None,
    {},
    {"StringEquals": {"token.actions.githubusercontent.com:aud": "sts.amazonaws.com"}},
    {"StringLike": {SUB: "*"}},
    {"StringLike": {SUB: "repo:*"}},
    {"StringLike": {SUB: "re*"}},
    {"StringLike": {SUB: "repo:*/app"}},
    {"StringLike": {SUB: ["repo:org/*", "*"]}},
    {"StringEquals": {SUB: ""}},
    {"StringEquals": {SUB: "${aws:username}"}},
    {"StringLike": {SUB: "repo:${aws:username}/*"}},
    {"StringEqualsIfExists": {SUB: "repo:org/app"}},
    {"ForAllValues:StringEquals": {SUB: "repo:org/app"}},
    {"StringNotEquals": {SUB: "repo:org/app"}},
    {"Null": {SUB: "false"}},
    {"StringEquals": {"gitlab.com:sub": "project_path:org/app"}},
]


@pytest.mark.parametrize("condition", PINNED)
def test_a_shared_issuer_is_trusted_for_a_named_subject(condition):
    assert Policy.parse(document(federated(condition)), TRUST).statements


@pytest.mark.parametrize("condition", LOOSE)
def test_a_shared_issuer_without_a_named_subject_is_refused(condition):
    assert refusal(document(federated(condition)), TRUST) == (
        f"Trust policy of a shared OIDC provider must evaluate the claim {SUB}."
    )


@pytest.mark.parametrize(
    ("provider", "key"),
    [
        ("accounts.google.com", "sub"),
        ("accounts.google.com", "aud"),
        ("graph.facebook.com", "app_id"),
        ("www.amazon.com", "user_id"),
        ("cognito-identity.amazonaws.com", "aud"),
        ("arn:aws:iam::111111111111:oidc-provider/accounts.google.com", "aud"),
        ("arn:aws:iam::111111111111:oidc-provider/gitlab.com", "sub"),
    ],
)
def test_a_consumer_issuer_is_trusted_for_a_subject_or_an_application(provider, key):
    issuer = provider.rpartition("/")[2]
    assert Policy.parse(document(federated({"StringEquals": {f"{issuer}:{key}": "x"}}, provider)), TRUST)
    assert "must evaluate the claim" in refusal(document(federated({"Bool": {"aws:x": True}}, provider)), TRUST)


def test_an_issuer_of_ones_own_needs_no_condition_and_a_deny_none_either():
    own = "arn:aws:iam::111111111111:oidc-provider/id.corp.example"
    assert Policy.parse(document(federated(None, own)), TRUST)
    assert Policy.parse(document(trusts({"Federated": GITHUB}, Effect="Deny")), TRUST)


def test_a_policy_keeps_its_text_and_says_what_it_means():
    text = (
        '{ "Version":"2012-10-17",\n"Id": "one", '
        '"Statement":{"Sid":"A","Effect":"Deny","NotAction":["iam:Get*"],"NotResource":"*"}}'
    )
    policy = Policy.parse(text, IDENTITY, label="ann/inline")
    (statement,) = policy.statements
    assert (policy.text, policy.id, policy.label, policy.version) == (text, "one", "ann/inline", "2012-10-17")
    assert (statement.policy, statement.index, statement.sid, statement.effect) == ("ann/inline", 0, "A", Effect.DENY)
    assert (statement.not_actions, statement.not_resources) == (("iam:Get*",), ("*",))
    assert policy == Policy.parse(text, IDENTITY, label="ann/inline")


def test_condition_values_are_texts_as_written():
    condition = '{"StringEquals":{"AWS:x":[1.50,true,false,"a"]}}'
    text = '{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":' + condition + "}}"
    (statement,) = Policy.parse(text, IDENTITY).statements
    assert statement.conditions[0].values == ("1.50", "true", "false", "a")
    assert statement.conditions[0].key == "aws:x"


def test_a_policy_nests_as_deep_as_it_needs_and_no_deeper():
    assert Policy.parse(document(*[permits(Condition={"StringEquals": {"aws:a": ["[[[[{{{{"] * 9}})] * 40), IDENTITY)
    assert refusal("[" * 17 + "]" * 17) == SYNTAX


def test_the_arns_to_resolve_are_those_of_users_roles_and_role_sessions():
    names = [ROLE, "arn:aws:iam::111111111111:user/ann", "arn:aws:sts::111111111111:assumed-role/r/s"]
    others = ["111111111111", "*", "arn:aws:sts::111111111111:federated-user/f"]
    allow = trusts({"AWS": [*names[:2], *others], "Service": "ec2.amazonaws.com"})
    deny = trusts(None, Effect="Deny", NotPrincipal={"AWS": names[2]})
    assert Policy.parse(document(allow, deny), TRUST).principal_arns() == frozenset(names)


def test_a_bound_policy_remembers_the_ids_and_stays_the_same_otherwise():
    policy = Policy.parse(document(trusts({"AWS": [ROLE, "111111111111"]})), TRUST)
    bound = policy.bind({ROLE: "AROAX"})
    assert [one.bound_id for one in bound.statements[0].principals] == ["AROAX", ""]
    assert bound.text == policy.text
    assert bound.bind({}) == bound
    assert bound.statements_about("sts:assumerole") == bound.statements


def test_candidates_are_the_statements_about_an_action():
    exact, wild, mixed, negative, star = (
        permits(Sid="exact"),
        permits(Sid="wild", Action="s3:G?t*"),
        permits(Sid="mixed", Action=["iam:*", "s3:PutObject"]),
        permits(Sid="negative", Action=None, NotAction=["s3:*"]),
        permits(Sid="star", Action=["*:*", "s3:GetObject"]),
    )
    policy = Policy.parse(document(exact, wild, mixed, negative, star), IDENTITY)

    def statements_about(action):
        return {statement.sid for statement in policy.statements_about(action)}

    assert statements_about("s3:getobject") == {"exact", "wild", "star"}
    assert statements_about("s3:putobject") == {"mixed", "star"}
    assert statements_about("iam:getuser") == {"mixed", "negative", "star"}
    assert statements_about("ec2:x") == {"negative", "star"}


@pytest.mark.parametrize(("text", "expected"), [("", 0), (' { "a b" :\t"c" }\r\n', 10), ("\u00a0", 1)])
def test_a_policy_is_measured_without_white_space(text, expected):
    assert size(text) == expected


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["*", "Allow", "sts:*", ROLE]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
ELEMENTS = ["Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition"]
NEARLY = st.builds(
    lambda statement, changes, top: {"Version": "2012-10-17", "Statement": [statement | changes]} | top,
    st.sampled_from([permits(), trusts(), federated({"StringLike": {SUB: "repo:o/*"}})]),
    st.dictionaries(st.sampled_from(ELEMENTS), JSON, max_size=2),
    st.dictionaries(st.sampled_from(["Version", "Id", "Statement"]), JSON, max_size=1),
)


@settings(max_examples=200)
@given(st.text() | JSON.map(json.dumps) | NEARLY.map(json.dumps), st.sampled_from(PolicyKind))
def test_parsing_ends_in_a_policy_or_in_malformed_policy_document(text, kind):
    try:
        policy = Policy.parse(text, kind)
    except MalformedPolicyDocument:
        return
    assert policy.text == text
    assert policy.statements
