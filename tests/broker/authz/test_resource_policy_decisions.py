"""Resource policies as AWS evaluates them: IAM User Guide, "Policy evaluation logic" and "Cross-account policy
evaluation logic"."""

import json
import time
from dataclasses import replace

import pytest
from support.administrator import deny
from support.authz import haproxy, signed
from support.documents import allow

from broker.authz.known_services import KnownServices
from broker.authz.resource import Resource, ResourceKind, Route
from broker.authz.resource_policies import ResourcePolicies
from iam.limits import Limits
from iam.operations.request_context import SimulatedRequester, build_request
from iam.operations.required_permission import RequiredPermission
from iam.policy.decide import IDENTITY, RESOURCE, SESSION, Layers, decide
from iam.policy.document import Policy, PolicyKind
from iam.policy.lint.policies import lint
from iam.policy.policy_set import PolicySet
from iam.principal import Principal, PrincipalKind
from iam.resource_policies import ResourcePolicy, put
from iam.store.store import Store
from iam.store.vault import Vault

OWNER, OTHER = "111122223333", "444455556666"
OBJECT = "arn:aws:s3:::photos/cat.jpg"
USER, ROLE, SESSION_ARN, ACCOUNT, ALL, NOBODY = "user", "role", "session", "account", "all", "nobody"


def user(account):
    arn = f"arn:aws:iam::{account}:user/ann"
    return Principal(PrincipalKind.USER, account, arn, "AIDAANN", arn, "AIDAANN", "ann")


def session(account):
    arn = f"arn:aws:sts::{account}:assumed-role/reader/ann"
    role = f"arn:aws:iam::{account}:role/reader"
    return Principal(PrincipalKind.ROLE_SESSION, account, arn, "AROAX:ann", role, "AROAX", "reader")


def policy_set(kind, *statements):
    document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
    return PolicySet((Policy.parse(document, kind),)) if statements else None


def statement(effect, principal=None, **more):
    named = {"Principal": principal} if principal else {}
    return {"Effect": effect, "Action": "s3:GetObject", "Resource": "arn:aws:s3:::photos/*", **named, **more}


def principal_of(word, account):
    return {
        USER: {"AWS": f"arn:aws:iam::{account}:user/ann"},
        ROLE: {"AWS": f"arn:aws:iam::{account}:role/reader"},
        SESSION_ARN: {"AWS": f"arn:aws:sts::{account}:assumed-role/reader/ann"},
        ACCOUNT: {"AWS": f"arn:aws:iam::{account}:root"},
        ALL: "*",
        NOBODY: {"AWS": f"arn:aws:iam::{account}:user/somebody-else"},
    }[word]


def decision(caller, identity, resource, session_policy=()):
    layers = Layers(
        identity=policy_set(PolicyKind.IDENTITY, *identity) or PolicySet(),
        session=policy_set(PolicyKind.SESSION, *session_policy),
    )
    permission = RequiredPermission(
        OBJECT, trust=policy_set(PolicyKind.RESOURCE, *resource), account_id=OWNER, action="s3:GetObject"
    )
    return decide(*build_request(SimulatedRequester(caller, layers, {}), permission, permission.action, {}))


YES, NO = [statement("Allow")], []


@pytest.mark.parametrize(
    ("caller", "named", "identity", "allowed"),
    [
        # in the owner's account either suffices, where the resource policy names the caller
        (user(OWNER), None, YES, True),
        (user(OWNER), None, NO, False),
        (user(OWNER), USER, NO, True),
        (user(OWNER), ALL, NO, True),
        (user(OWNER), ACCOUNT, NO, False),  # the account delegates to its administrators
        (user(OWNER), ACCOUNT, YES, True),
        (user(OWNER), NOBODY, NO, False),
        (user(OWNER), NOBODY, YES, True),
        (session(OWNER), None, YES, True),
        (session(OWNER), ROLE, NO, True),
        (session(OWNER), SESSION_ARN, NO, True),
        (session(OWNER), ALL, NO, True),
        (session(OWNER), USER, NO, False),
        # across accounts both must allow
        (user(OTHER), None, YES, False),
        (user(OTHER), USER, NO, False),
        (user(OTHER), USER, YES, True),
        (user(OTHER), ALL, NO, False),
        (user(OTHER), ALL, YES, True),
        (user(OTHER), ACCOUNT, YES, True),
        (user(OTHER), ACCOUNT, NO, False),
        (user(OTHER), NOBODY, YES, False),
        (session(OTHER), ROLE, YES, True),
        (session(OTHER), ROLE, NO, False),
        (session(OTHER), SESSION_ARN, YES, True),
        (session(OTHER), SESSION_ARN, NO, False),
    ],
)
def test_who_is_let_in_by_which_policies(caller, named, identity, allowed):
    resource = [statement("Allow", principal_of(named, caller.account_id))] if named else []
    assert decision(caller, identity, resource).allowed is allowed
    denied = decision(caller, identity, [*resource, statement("Deny", "*", Sid="no")])
    assert not denied.allowed
    assert denied.layer == RESOURCE


@pytest.mark.parametrize(("named", "allowed"), [(ROLE, False), (ALL, False), (SESSION_ARN, True)])
def test_a_session_policy_limits_what_is_granted_to_the_role_but_not_to_the_session_by_name(named, allowed):
    caller = session(OWNER)
    resource = [statement("Allow", principal_of(named, OWNER))]
    elsewhere = [statement("Allow", Resource="arn:aws:s3:::other/*")]
    found = decision(caller, NO, resource, elsewhere)
    assert found.allowed is allowed
    assert allowed or found.layer == SESSION


def test_what_is_missing_is_named():
    assert decision(user(OTHER), YES, []).layer == RESOURCE
    assert decision(user(OTHER), NO, [statement("Allow", "*")]).layer == IDENTITY
    assert decision(user(OWNER), NO, []).layer == IDENTITY


def test_the_owner_of_a_resource_is_a_condition_key():
    own = [statement("Allow", Condition={"StringEquals": {"aws:ResourceAccount": OWNER}})]
    assert decision(user(OWNER), own, []).allowed


# --- the three places -------------------------------------------------------------------------------------------------

STORE = Resource(name="store", kind=ResourceKind.S3, hosts=("s3.example.com",), account=OWNER, service="s3")


@pytest.fixture
def store(tmp_path):
    store = Store(f"sqlite:///{tmp_path}/iam.db", Vault(bytes(range(32))), monotonic=time.monotonic)
    store.migrate()
    yield store
    store.close()


def stored(store, bucket, action="s3:GetObject", document=""):
    default = allow(action, f"arn:aws:s3:::{bucket}/*", Principal="*")
    with store.write() as tx:
        put(tx, ResourcePolicy("store", bucket, document or default, 1), Limits())


def labels(policies):
    return policies and [policy.label for policy in policies]


def test_the_policies_of_the_settings_of_the_resource_and_of_the_bucket_count_together(store):
    of_file = PolicySet((Policy.parse(allow(Principal="*"), PolicyKind.RESOURCE, label="policy.json"),))
    with_file, find = replace(STORE, policy=of_file), ResourcePolicies(store)
    assert find(STORE, "photos") is None
    assert find(with_file, "photos") is of_file
    stored(store, "")
    stored(store, "photos")
    assert labels(find(STORE, "photos")) == ["store", "store/photos"]
    assert labels(find(with_file, "photos")) == ["policy.json", "store", "store/photos"]
    assert find(with_file, "photos") is find(with_file, "photos")
    assert labels(find(with_file, "")) == ["policy.json", "store"]


def test_a_changed_policy_counts_at_once_where_it_was_made(store):
    find = ResourcePolicies(store)
    with_file = replace(STORE, policy=PolicySet((Policy.parse(allow(Principal="*"), PolicyKind.RESOURCE),)))
    stored(store, "photos")
    before = find(with_file, "photos")
    stored(store, "photos", "s3:PutObject")
    after = find(with_file, "photos")
    assert before != after
    assert [policy.statements[0].actions for policy in after] == [("s3:GetObject",), ("s3:PutObject",)]


def test_the_source_of_a_copy_has_the_policy_of_its_own_bucket(authorized):
    ann = authorized.user("ann", allow("s3:*"))
    copy = signed(ann, "/public/key", method="PUT", **{"x-amz-copy-source": "/secret/key"})
    assert authorized.ask(copy).status == 200
    stored(authorized.installation.store, "public")
    stored(
        authorized.installation.store, "secret", document=deny("s3:GetObject", "arn:aws:s3:::secret/*", Principal="*")
    )
    denied = authorized.ask(copy, haproxy)
    assert denied.status == 403
    assert b"explicit deny in a resource-based policy" in denied.body
    assert authorized.ask(signed(ann, "/public/key")).status == 200


@pytest.mark.parametrize(
    ("uri", "action"),
    [
        ("/logs?logging", "s3:PutObject"),
        ("/logs?replication", "s3:ReplicateObject"),
        ("/logs?inventory&id=1", "s3:Put*"),
    ],
)
def test_a_deny_of_the_bucket_that_only_the_body_names_holds(authorized, uri, action):
    ann = authorized.user("ann", allow("s3:*"))
    asked = signed(ann, uri, method="PUT")
    assert authorized.ask(asked).status == 200
    stored(authorized.installation.store, "logs")
    assert authorized.ask(asked).status == 200
    document = deny(action, "arn:aws:s3:::secret/kept/*", Principal="*")
    stored(authorized.installation.store, "secret", document=document)
    denied = authorized.ask(asked, haproxy)
    assert denied.status == 403
    assert b"explicit deny in a resource-based policy" in denied.body


def test_another_account_is_let_in_by_a_policy_that_is_set_while_it_runs(authorized):
    stranger = authorized.another(*authorized.installation.account("444455556666")).user("bob", allow("s3:*"))
    asked = signed(stranger, "/photos/key")
    assert authorized.ask(asked).status == 403
    stored(authorized.installation.store, "photos")
    assert authorized.ask(asked).status == 200
    assert authorized.ask(signed(stranger, "/other/key")).status == 403


# --- lint -------------------------------------------------------------------------------------------------------------


def test_the_actions_and_keys_of_routes_are_known_to_the_checks():
    route = Route(
        methods=frozenset({"GET"}),
        path="/{team}",
        action="reports:GetReport",
        resource="arn:aws:reports:::{team}",
        keys={"reports:team": "{team}"},
    )
    services = KnownServices([replace(STORE, routes=(route,))])
    condition = {"StringEquals": {"reports:Team": "a"}, "NumericEquals": {"s3:max-keys": "1"}}
    known = allow("reports:GetReport", Principal={"AWS": OWNER}, Condition=condition)
    assert codes(known, services) == []
    assert codes(allow("reports:Get", Principal={"AWS": OWNER}), services) == ["INVALID_ACTION"]
    several = allow(
        "reports:Get*", Principal={"AWS": OWNER}, Condition={"ForAllValues:StringEquals": {"reports:team": "a"}}
    )
    assert codes(several, services) == ["FORALLVALUES_WITH_ABSENT_KEY"]
    assert services.actions("S3")["getobject"] == "GetObject"
    assert services.is_multivalued("aws:TagKeys")


def codes(document, services):
    return [finding.code for finding in lint(Policy.parse(document, PolicyKind.RESOURCE), services)]
