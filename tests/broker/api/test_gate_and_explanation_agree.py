"""A law: what the gate decides, `fedgate explain` explains, and the policy simulator simulates.

Each vector is a caller, the policies that limit it, and a call. The call goes to the gate as a signed request; the same
request is built as a hypothetical one, with only those condition keys added that an HTTP request or a session brings.
"""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest
from botocore.credentials import Credentials
from support.administrator import Administrator, allow, assumed, deny, statements, trust
from support.installation import Installation

from iam import guardrails
from iam.clock import iso8601
from iam.credentials import totp
from iam.guardrails import Guardrail
from iam.limits import Limits
from iam.policy.decide import DecisionType
from iam.policy.document import Policy, PolicyKind
from iam.policy.policy_set import PolicySet
from sts.hypothetical_request import HypotheticalRequest, RequestSimulator

# What an HTTP request of these tests brings, besides what it asks.
HTTP_KEYS = {
    "aws:SourceIp": ("127.0.0.1",),
    "aws:SecureTransport": ("false",),
    "aws:RequestedRegion": ("us-east-1",),
}
DENIALS = frozenset({"AccessDenied", "InvalidClientTokenId"})


@dataclass(frozen=True)
class Caller:
    """Who signs, by which ARN it is explained, and what its session adds to the request."""

    credentials: Credentials
    arn: str
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    session_policy: str | None = None
    simulated_as: str = ""  # PolicySourceArn, where the simulator knows all policies of the caller


@dataclass(frozen=True)
class Call:
    """An operation with its parameters; ``resource`` is what it asks permission for."""

    operation: str
    resource: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def action(self) -> str:
        return f"{'sts' if self.operation in STS else 'iam'}:{self.operation}"


STS = frozenset({"AssumeRole", "GetCallerIdentity", "GetFederationToken", "GetSessionToken", "GetAccessKeyInfo"})


@dataclass
class World:
    """Two accounts: at home a user, a role and what they ask about; abroad two roles."""

    installation: Installation
    home: Administrator
    away: Administrator

    def callers(self) -> dict[str, Callable[[], Caller]]:
        return {
            "root": lambda: Caller(self.home.root, f"arn:aws:iam::{self.home.account_id}:root"),
            "user": self.user,
            "user session": self.user_session,
            "user session with MFA": self.user_session_with_mfa,
            "role session": self.role_session,
            "role session with a session policy": self.limited_role_session,
            "federated user": self.federated_user,
        }

    def user(self) -> Caller:
        arn = self.home.arn("user", "eng/ann")
        return Caller(self.ann, arn, simulated_as=arn)

    def user_session(self) -> Caller:
        credentials = self.installation.call("GetSessionToken", self.ann).credentials
        return Caller(credentials, self.home.arn("user", "eng/ann"), self.session_keys("false"))

    def user_session_with_mfa(self) -> Caller:
        made = self.home.do("CreateVirtualMFADevice", VirtualMFADeviceName="phone")
        serial = made.text("SerialNumber")
        seed = base64.b32decode(base64.b64decode(made.text("Base32StringSeed")))
        step = totp.step_at(self.installation.now())
        first, second, third = (totp.code_at(seed, step + offset) for offset in (-1, 0, 1))
        codes = {"AuthenticationCode1": first, "AuthenticationCode2": second}
        self.home.do("EnableMFADevice", UserName="ann", SerialNumber=serial, **codes)
        proof = {"SerialNumber": serial, "TokenCode": third}
        credentials = self.installation.call("GetSessionToken", self.ann, **proof).credentials
        keys = {**self.session_keys("true"), "aws:MultiFactorAuthAge": ("0",)}
        return Caller(credentials, self.home.arn("user", "eng/ann"), keys)

    def role_session(self) -> Caller:
        credentials = assumed(self.installation, self.boss, self.worker, "night")
        keys = self.session_keys("false")
        return Caller(credentials, self.session_arn("night"), keys, simulated_as=self.worker)

    def limited_role_session(self) -> Caller:
        policy = statements(allow("iam:Get*"), allow("sts:*"))
        tags = {"Tags.member.1.Key": "team", "Tags.member.1.Value": "red"}
        credentials = assumed(self.installation, self.boss, self.worker, "day", Policy=policy, **tags)
        keys = {**self.session_keys("false"), "aws:PrincipalTag/team": ("red",)}
        return Caller(credentials, self.session_arn("day"), keys, policy)

    def federated_user(self) -> Caller:
        answer = self.installation.call("GetFederationToken", self.boss, Name="fay", Policy=allow("*"))
        arn = f"arn:aws:sts::{self.home.account_id}:federated-user/fay"
        return Caller(answer.credentials, arn, self.session_keys("false"))

    def session_arn(self, name: str) -> str:
        return f"arn:aws:sts::{self.home.account_id}:assumed-role/worker/{name}"

    def session_keys(self, mfa: str) -> dict[str, tuple[str, ...]]:
        return {"aws:TokenIssueTime": (iso8601(self.installation.now()),), "aws:MultiFactorAuthPresent": (mfa,)}

    def calls(self) -> list[Call]:
        home, away = self.home, self.away
        bob, nobody = home.arn("user", "bob"), home.arn("user", "nobody")
        profile = home.arn("instance-profile", "machines")
        return [
            Call("ListUsers", home.arn("user", "")),
            Call("GetUser", bob, {"UserName": "bob"}),
            Call("GetUser", nobody, {"UserName": "nobody"}),
            Call("GetUser", home.arn("user", "eng/ann"), {"UserName": "ann"}),
            Call("GetRole", self.worker, {"RoleName": "worker"}),
            Call("GetPolicy", self.shared, {"PolicyArn": self.shared}),
            Call("GetPolicy", away.arn("policy", "theirs"), {"PolicyArn": away.arn("policy", "theirs")}),
            Call("GetInstanceProfile", profile, {"InstanceProfileName": "machines"}),
            Call("GetCallerIdentity", "*"),
            Call("GetSessionToken", "*"),
            Call("GetAccessKeyInfo", "*", {"AccessKeyId": self.ann.access_key}),
            Call(
                "GetFederationToken", f"arn:aws:sts::{home.account_id}:federated-user/guest", {"Name": "guest"}
            ),
            *[
                Call("AssumeRole", arn, {"RoleArn": arn, "RoleSessionName": "s1"}, {"sts:RoleSessionName": ("s1",)})
                for arn in self.targets
            ],
        ]  # fmt: skip

    def furnish(self) -> None:
        home, away = self.home, self.away
        self.ann = home.user("ann", Path="/eng/", **tag("team", "blue"))
        self.boss = home.user("boss", allow("*"))
        taggers = trust({"AWS": home.account_id}, ["sts:AssumeRole", "sts:TagSession"])
        self.worker = home.role("worker", taggers, **tag("team", "blue"))
        home.user("bob", **tag("team", "blue"))
        home.do("CreateInstanceProfile", InstanceProfileName="machines", **tag("team", "blue"))
        home.do("CreatePolicy", PolicyName="shared", PolicyDocument=allow("s3:*"), **tag("team", "blue"))
        self.shared = home.arn("policy", "shared")
        away.policy("theirs", allow("s3:*"))
        ann, account = home.arn("user", "eng/ann"), {"AWS": home.account_id}
        self.targets = (
            home.role("open", trust(account), **tag("team", "blue")),
            home.role("by-name", trust({"AWS": ann})),
            home.role("everyone", trust("*", Condition={"Bool": {"aws:ViaAWSService": "false"}})),
            home.role("with-mfa", trust(account, Condition={"Bool": {"aws:MultiFactorAuthPresent": "true"}})),
            home.role("by-session-name", trust(account, Condition={"StringEquals": {"sts:RoleSessionName": "s1"}})),
            home.role("closed", trust({"Service": "ec2.amazonaws.com"})),
            home.arn("role", "nobody-made-it"),
            away.role("guests", trust(account)),
            away.role("private"),
        )

    def set_policy(self, document: str | None) -> None:
        """Give the user and the role one policy, or none."""
        if document is not None:
            self.home.do("PutUserPolicy", UserName="ann", PolicyName="p", PolicyDocument=document)
            self.home.do("PutRolePolicy", RoleName="worker", PolicyName="p", PolicyDocument=document)

    def limit(self) -> None:
        """Give the user and the role a boundary, and the account a guardrail."""
        boundary = self.home.policy("boundary", statements(allow("iam:Get*"), allow("sts:*")))
        self.home.do("PutUserPermissionsBoundary", UserName="ann", PermissionsBoundary=boundary)
        self.home.do("PutRolePermissionsBoundary", RoleName="worker", PermissionsBoundary=boundary)
        guardrail = statements(
            allow("*"), deny("iam:GetUser", "arn:aws:iam::*:user/nobody"), deny("sts:*", "arn:aws:iam::*:role/guests")
        )
        with self.installation.store.write() as tx:
            guardrails.put(tx, Guardrail(self.home.account_id, "g", guardrail, 0), Limits())


def tag(key: str, value: str) -> dict[str, str]:
    return {"Tags.member.1.Key": key, "Tags.member.1.Value": value}


def on_condition(operator: str, key: str, value: str) -> str:
    return allow("*", Condition={operator: {key: value}})


POLICIES = {
    "nothing": None,
    "everything": allow("*"),
    "some resources": statements(allow("iam:*", "arn:aws:iam::*:user/bob"), allow("sts:*", "arn:aws:iam::*:role/open")),
    "its own user": allow("iam:*", "arn:aws:iam::*:user/eng/${aws:username}"),
    "an exception": statements(allow("*"), deny("*", Condition={"StringEquals": {"aws:ResourceTag/team": "blue"}})),
    "tags of the resource": on_condition("StringEquals", "aws:ResourceTag/team", "${aws:PrincipalTag/team}"),
    "IAM's own spelling": on_condition("StringEquals", "iam:ResourceTag/team", "blue"),
    "no tags": on_condition("Null", "aws:ResourceTag/team", "true"),
    "the owner of the resource": on_condition("StringEquals", "aws:ResourceAccount", "${aws:PrincipalAccount}"),
    "no service": on_condition("Bool", "aws:ViaAWSService", "false"),
    "no service principal": on_condition("Bool", "aws:PrincipalIsAWSService", "false"),
    "an address": on_condition("IpAddress", "aws:SourceIp", "127.0.0.0/8"),
    "another address": on_condition("IpAddress", "aws:SourceIp", "10.0.0.0/8"),
    "a time": on_condition("DateGreaterThan", "aws:CurrentTime", "2020-01-01T00:00:00Z"),
    "the past": on_condition("NumericLessThan", "aws:EpochTime", "1000000000"),
    "a second factor": on_condition("Bool", "aws:MultiFactorAuthPresent", "true"),
    "no session": on_condition("Null", "aws:TokenIssueTime", "true"),
    "a kind of principal": on_condition("StringEquals", "aws:PrincipalType", "User"),
    "a principal": on_condition("ArnLike", "aws:PrincipalArn", "arn:aws:iam::*:user/eng/*"),
    "a unique id": on_condition("StringLike", "aws:userid", "*:night"),
}  # fmt: skip


@pytest.fixture
def world(installation: Installation) -> World:
    made = World(
        installation, Administrator.of_a_new_account(installation), Administrator.of_a_new_account(installation)
    )
    made.furnish()
    return made


def gate_allows(world: World, caller: Caller, call: Call) -> bool:
    """Return whether the gate let the call through; what does not exist was allowed all the same, except abroad."""
    answer = world.installation.call(call.operation, caller.credentials, **call.parameters)
    is_abroad = call.action.startswith("iam:") and world.away.account_id in call.resource
    return answer.status == 200 or (answer.code not in DENIALS and not is_abroad)


def explained(world: World, caller: Caller, call: Call) -> HypotheticalRequest:
    """Return the same request as `fedgate explain` builds it."""
    session = caller.session_policy
    policies = PolicySet([Policy.parse(session, PolicyKind.SESSION)]) if session else None
    simulator = RequestSimulator(world.installation.store, world.installation.now())
    return simulator.build(caller.arn, call.action, call.resource, {**HTTP_KEYS, **caller.keys, **call.keys}, policies)


def simulation_allows(world: World, caller: Caller, call: Call, keys: Mapping[str, tuple[str, ...]]) -> bool:
    """Ask the policy simulator, with every condition key that the explained request has."""
    entries = {}
    for number, (name, values) in enumerate(keys.items(), 1):
        entry = f"ContextEntries.member.{number}"
        listed = {f"{entry}.ContextKeyValues.member.{place}": value for place, value in enumerate(values, 1)}
        kind = "string" if len(values) == 1 else "stringList"
        entries |= {f"{entry}.ContextKeyName": name, f"{entry}.ContextKeyType": kind, **listed}
    names = {"ActionNames.member.1": call.action, "ResourceArns.member.1": call.resource}
    answer = world.home.do("SimulatePrincipalPolicy", PolicySourceArn=caller.simulated_as, **names, **entries)
    return answer.text("EvalDecision") == "allowed"


# Each policy alone, and some of them below a boundary and a guardrail.
VECTORS = [(name, False) for name in POLICIES] + [(name, True) for name in ("everything", "some resources", "no tags")]


@pytest.mark.parametrize(("policy", "limited"), VECTORS)
def test_the_gate_decides_as_explain_explains_and_the_simulator_simulates(world, policy, limited):
    callers = {name: make() for name, make in world.callers().items()}
    world.set_policy(POLICIES[policy])
    if limited:
        world.limit()
    disagreements = []
    for name, caller in callers.items():
        for call in world.calls():
            allowed = gate_allows(world, caller, call)
            request = explained(world, caller, call)
            if (request.decision() is DecisionType.ALLOWED) != allowed:
                disagreements.append((name, "explain", call.operation, call.resource, allowed))
            if not is_simulated(world, caller, call):
                continue
            if simulation_allows(world, caller, call, request.context.keys) != allowed:
                disagreements.append((name, "simulator", call.operation, call.resource, allowed))
    assert not disagreements


def is_simulated(world: World, caller: Caller, call: Call) -> bool:
    """Return whether the simulator knows all that decides: it is told no session policy and no trust policy."""
    return bool(caller.simulated_as) and call.action.startswith("iam:") and world.away.account_id not in call.resource
