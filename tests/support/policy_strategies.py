"""Random policies, layers and requests for the laws of the policy language.

FEDGATE_EXAMPLES sets how many examples each law gets: `make laws` asks for tens of thousands.
"""

import json
import os

from hypothesis import settings
from hypothesis import strategies as st

from iam.policy.decide import Layers, RequestContext
from iam.policy.document import Policy, PolicyKind
from iam.policy.policy_set import PolicySet
from iam.principal import PrincipalKind
from support import policy_specification as specification
from support.policies import AWAY, BUCKET, GOOGLE, HOME, PRINCIPALS, PROVIDER, ROLE_ARN, SESSION_ARN, USER_ARN

LAW = settings(max_examples=int(os.environ.get("FEDGATE_EXAMPLES", "200")), deadline=None)

# Few values for everything, so that statements really meet requests.
ACTIONS = ["s3:GetObject", "s3:Get*", "s3:*", "*", "iam:GetUser", "S3:?etobject", "*:GetUser"]
OTHER_BUCKETS = [f"arn:aws:s3:::{name}/*" for name in ("a", "ba", "b", "bb", "c", "*", "b/k", "?")]
RESOURCES = ["*", BUCKET, *OTHER_BUCKETS, "arn:aws:s3", "arn:*:s3:::b*", "arn:aws:s3:::b/${k:one}",
             "arn:aws:s3:::${k:two, 'b'}/*", "arn:aws:s3:::b/${*}", "arn:aws:iam:*:user/k", "arn:*:iam::?:user/?",
             "arn:aws:s3:::*:k", "arn:aws:s3:*b/k", "arn:aws:s3:*:*k:*", "arn:aws:s3:*",
             "arn:aws:s3:${k:one}*:*"]  # fmt: skip
ASKED_RESOURCES = [
    BUCKET,
    "arn:aws:s3:::c/k",
    "arn:aws:s3:::b/*",
    "arn:aws:s3:::bb/k/k",
    "arn:aws:s3:::b:k",
    "arn:aws:iam::1:user/k",
    "*",
]
TEXTS = ["k", "K", "x", "k*", "", "${k:one}", "${k:two, 'x'}", "${*}"]
WANTED = {
    "String": TEXTS,
    "Numeric": ["3", "-1.5", "30"],
    "Date": ["2026-01-01T00:00:00Z", "2026", "1767225600"],
    "Bool": ["true", "False"],
    "Binary": ["aw=="],
    "IpAddress": ["10.0.0.0/8", "2001:db8::/32", "::ffff:10.0.0.0/104"],
    "NotIpAddress": ["10.0.0.0/8"],
    "Arn": ["*", "arn:aws:s3:::*", "arn:aws:s3:::b/k", "${k:one}", "arn:aws:s3:::b/${k:one}"],
    "Null": ["true", "false"],
}
VALUES = ["k", "K", "x", "3", "", "true", "aw==", "10.1.2.3", "::ffff:10.1.2.3", "2026-01-01T00:00:00Z", BUCKET]
OPERATORS = [*specification.MATCHES, *specification.NEGATED]


@st.composite
def conditions(draw):
    block = {}
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 1, 2]))):
        operator = draw(st.sampled_from([*OPERATORS, "Null"]))
        family = next(name for name in WANTED if operator.startswith(name))
        wanted = draw(st.lists(st.sampled_from(WANTED[family]), min_size=1, max_size=2))
        if operator != "Null":
            before = draw(st.sampled_from(["", "", "ForAllValues:", "ForAnyValue:"]))
            operator = before + operator + draw(st.sampled_from(["", "", "IfExists"]))
        block.setdefault(operator, {})[draw(st.sampled_from(["k:one", "K:Two"]))] = wanted
    if draw(st.sampled_from([False, False, False, True])):
        operator = draw(st.sampled_from(["ArnLike", "StringEquals", "ArnNotEquals", "ArnEqualsIfExists"]))
        block.setdefault(operator, {})["aws:PrincipalArn"] = draw(
            st.sampled_from([ROLE_ARN, USER_ARN, "arn:aws:*:*:*:*:*"])
        )
    return block


@st.composite
def statements(draw, effect=None, *, kind=PolicyKind.IDENTITY):
    found = {"Effect": effect or draw(st.sampled_from(["Allow", "Allow", "Deny"]))}
    if kind is PolicyKind.TRUST:
        found["Action"] = draw(st.sampled_from(["sts:AssumeRole", "sts:*", "sts:AssumeRoleWithSAML"]))
    else:
        action, resource = draw(st.sampled_from(["Action", "Action", "NotAction"])), "Resource"
        found[action] = draw(st.lists(st.sampled_from(ACTIONS), min_size=1, max_size=2))
        resource = draw(st.sampled_from(["Resource", "Resource", "NotResource"]))
        found[resource] = draw(st.lists(st.sampled_from(RESOURCES), min_size=1, max_size=2))
    found["Condition"] = draw(conditions())
    if kind in (PolicyKind.TRUST, PolicyKind.RESOURCE):
        name = draw(st.sampled_from(["Principal", "Principal", "NotPrincipal"]))
        who = [{"AWS": one} for one in (HOME, AWAY, "*", ROLE_ARN, SESSION_ARN, USER_ARN, [HOME, USER_ARN])]
        who += ["*", {"Federated": PROVIDER}, {"Service": "ec2.amazonaws.com"}, {"Federated": PROVIDER, "AWS": AWAY}]
        found[name] = draw(st.sampled_from(who))
    return found


@st.composite
def policies(draw, kind=PolicyKind.IDENTITY):
    found = draw(st.lists(statements(kind=kind), min_size=1, max_size=3))
    version = draw(st.sampled_from(["2012-10-17", "2012-10-17", "2008-10-17"]))
    if version == "2008-10-17" and "${k" in json.dumps(found):
        version = "2012-10-17"  # ArnLike with a variable is no ARN in the older version
    return Policy.parse(json.dumps({"Version": version, "Statement": found}), kind)


SETS = st.lists(policies(), max_size=2).map(PolicySet)
# More statements than are asked one after the other, so that they are looked up by their resources.
MANY = st.lists(policies(), min_size=4, max_size=6).map(PolicySet)
ONE = st.one_of(policies(PolicyKind.RESOURCE), policies(PolicyKind.TRUST)).map(lambda found: PolicySet((found,)))
LAYERS = st.builds(
    Layers,
    identity=SETS | MANY,
    boundary=st.none() | policies().map(lambda found: PolicySet((found,))),
    session=st.none() | SETS,
    guardrails=st.none() | SETS,
    resource=st.none() | ONE,
    resource_account=st.sampled_from(["", HOME, AWAY]),
)
CONTEXTS = st.builds(
    RequestContext,
    st.sampled_from(["s3:GetObject", "s3:PutObject", "iam:GetUser", "sts:AssumeRole", "S3:getobject"]),
    st.sampled_from(ASKED_RESOURCES),
    st.sampled_from([*PRINCIPALS.values(), PRINCIPALS["federated"].__class__(
        PrincipalKind.FEDERATED, HOME, GOOGLE, f"{GOOGLE}:ann", name="ann")]),
    st.dictionaries(st.sampled_from(["k:one", "k:two"]), st.lists(st.sampled_from(VALUES), max_size=2).map(tuple)),
).map(lambda asked: asked._replace(keys={"aws:principalarn": (asked.principal.entity_arn,), **asked.keys}))  # fmt: skip
