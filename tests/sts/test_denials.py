"""Encoded authorization messages: who reads what, and how long they become."""

import json
import random

from hypothesis import given
from support.policies import AWAY, HOME, ROLE_ARN, TARGET, USER, policy, statement, trust
from support.policies import layers as layers_of
from support.policy_strategies import CONTEXTS, LAW, LAYERS

from iam.policy.decide import RequestContext
from iam.policy.explain import explain
from sts.denials import decode, encode
from sts.token import Sealer, SealingKey

SEALER = Sealer((SealingKey("0a0b0c0d", bytes(range(32))),))
LONGEST = 10_240  # STS API reference, DecodeAuthorizationMessage, EncodedMessage
KEYS = {"sts:externalid": ("wrong",), "aws:principaltag/project": ("merger",), "aws:sourceip": ("10.0.0.1",)}
ASKS = {"StringEquals": {"sts:ExternalId": "right", "aws:PrincipalAccount": "${aws:PrincipalTag/team}"}}


def told(found, reader, *, fixed_length=True):
    text = encode(found, reader, fixed_length=fixed_length, sealer=SEALER, random=random.randbytes)
    assert len(text) <= LONGEST
    return json.loads(decode(text, reader, sealer=SEALER))


def assume_abroad(**layers):
    context = RequestContext("sts:AssumeRole", TARGET.replace(HOME, AWAY), USER, KEYS)
    return explain(context, layers_of(resource_account=AWAY, **layers))


def items(found, name):
    return found[name]["items"]


def test_the_other_account_reads_its_own_statements_and_the_keys_that_they_ask_about():
    found = told(assume_abroad(resource=trust({"AWS": HOME}, Condition=ASKS)), AWAY)
    trusts, grants = items(found, "failures")
    assert trusts["layer"] == "role trust policy"
    assert trusts["nearest"]["misses"][0]["key"] == "sts:ExternalId"
    assert grants == {"layer": "identity-based policy"}
    assert [one["key"] for one in items(found["context"], "conditions")] == ["sts:externalid"]


def test_of_the_caller_s_policies_the_other_account_reads_which_kind_denied_and_nothing_else():
    secret = statement(
        "Deny", "sts:*", Sid="merger", Condition={"StringEquals": {"aws:PrincipalTag/project": "merger"}}
    )
    given = {"identity": policy(statement(action="sts:*"), secret), "resource": trust({"AWS": HOME})}
    found = told(assume_abroad(**given), AWAY)
    assert items(found, "matchedStatements") == [{"effect": "DENY", "policyType": "identity-based policy"}]
    assert "merger" not in json.dumps(found)
    mine = told(assume_abroad(**given), HOME)
    assert items(mine, "matchedStatements")[0]["statementId"] == "merger"
    assert {one["key"] for one in items(mine["context"], "conditions")} == KEYS.keys()


def test_what_does_not_fit_is_left_out_context_first():
    noise = random.Random(1)
    long = RequestContext("s3:GetObject", "arn:aws:s3:::b/k", USER, {
        f"aws:principaltag/{number}": (noise.randbytes(500).hex(),) for number in range(50)
    })  # fmt: skip
    cut = told(explain(long, layers_of()), HOME, fixed_length=False)
    assert items(cut["context"], "conditions") == []
    assert items(cut, "failures")
    some = long._replace(keys=dict([*long.keys.items()][:5]))
    kept = told(explain(some, layers_of()), HOME, fixed_length=False)
    assert [len(items(one, "values")[0]["value"]) for one in items(kept["context"], "conditions")] == [256] * 5
    denies = [statement("Deny", Sid=f"s{number}", Resource=["*", f"arn:aws:s3:::{noise.randbytes(90).hex()}"])
              for number in range(200)]  # fmt: skip
    bare = told(explain(long, layers_of(identity=policy(*denies))), HOME, fixed_length=False)
    assert bare["explicitDeny"] is True
    assert items(bare, "matchedStatements") == []
    assert bare["context"]["principal"]["arn"] == USER.arn


def test_a_message_for_strangers_about_a_name_that_does_not_fit_says_little_and_is_no_shorter():
    role = f"arn:aws:iam::{AWAY}:role/{random.Random(2).randbytes(1500).hex()}"
    context = RequestContext("sts:AssumeRole", role, USER, KEYS)
    long = explain(context, layers_of(resource_account=AWAY, resource=trust({"AWS": ROLE_ARN})))
    assert told(long, AWAY) == {"allowed": False, "explicitDeny": False}
    short = assume_abroad(resource=trust({"AWS": ROLE_ARN}))
    lengths = {
        len(encode(one, AWAY, fixed_length=True, sealer=SEALER, random=random.randbytes)) for one in (long, short)
    }
    assert len(lengths) == 1


@LAW
@given(CONTEXTS, LAYERS)
def test_every_explanation_can_be_encoded_and_read_again(context, layers):
    found = explain(context, layers)
    for fixed_length in (False, True):
        read = told(found, HOME, fixed_length=fixed_length)
        assert read["allowed"] == found.decision.allowed
