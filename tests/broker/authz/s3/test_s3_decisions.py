"""Requests to S3 from the wire to the decision, with policies as they are documented for Amazon S3."""

from dataclasses import replace

import pytest
from support.policies import SESSION, layers, policy, statement
from support.s3_requests import s3_request, s3_resource

from broker.authz.s3.requests import read_s3_request
from iam.operations.request_context import SimulatedRequester, build_request
from iam.policy.decide import decide
from iam.policy.every_resource import decide_every

NONE: dict[str, tuple[str, ...]] = {}
ANN = {"ldap:username": ("ann",)}
HOME = policy(
    statement(
        action="s3:ListBucket",
        Resource="arn:aws:s3:::b-1",
        Condition={"StringLike": {"s3:prefix": ["home/${ldap:username}/*", "home/${ldap:username}"]}},
    ),
    statement(action=["s3:GetObject", "s3:PutObject"], Resource="arn:aws:s3:::b-1/home/${ldap:username}/*"),
)
VERSION = {"StringEquals": {"s3:VersionId": "1"}}
TAG = {"StringEquals": {"s3:ExistingObjectTag/class": "secret"}}


def allows(found, method, uri, /, keys=NONE, *, secure=False, **headers):
    request = read_s3_request(s3_resource(), replace(s3_request(method, uri, **headers), secure=secure))
    requester = SimulatedRequester(SESSION, layers(identity=found), ANN)
    single = [build_request(requester, one, one.action, keys) for one in request.permissions]
    every = [build_request(requester, one, one.action, keys) for one in request.every_resource]
    return all(decide(*one).allowed for one in single) and all(decide_every(*one).allowed for one in every)


@pytest.mark.parametrize(
    ("method", "uri", "expected"),
    [
        ("GET", "/b-1?list-type=2&prefix=home%2Fann%2F&delimiter=%2F", True),
        ("GET", "/b-1?prefix=home/ann/", True),
        ("GET", "/b-1?prefix=home/bob/", False),
        ("GET", "/b-1?prefix=", False),
        ("GET", "/b-1", False),
        ("GET", "/b-1?versions&prefix=home/ann/", False),
        ("PUT", "/b-1/home/ann/a%20b", True),
        ("GET", "/b-1/home/ann%2Fx", True),
        ("GET", "/b-1/home/bob/x", False),
        ("GET", "/b-1/home/ann/../bob/x", True),  # a key of Ann's, whatever it looks like
        ("GET", "/b-1/home/ann/../../x?versionId=1", False),
        ("GET", "/b-1/home/*/x", False),
        ("GET", "/b-1/home/$%7Bldap:username%7D/x", False),
        ("DELETE", "/b-1/home/ann/x", False),
    ],
)
def test_a_person_has_a_prefix_of_their_own(method, uri, expected):
    assert allows(HOME, method, uri) is expected


def test_a_copy_needs_both_ends():
    copy = {"x_amz_copy_source": "/b-1/home/ann/x"}
    assert allows(HOME, "PUT", "/b-1/home/ann/y", **copy)
    assert not allows(HOME, "PUT", "/b-1/home/bob/y", **copy)
    assert not allows(HOME, "PUT", "/b-1/home/ann/y", x_amz_copy_source="/b-1/home/bob/x")
    assert not allows(HOME, "PUT", "/b-1/home/ann/y", x_amz_tagging="a=b")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (policy(statement(action="s3:*", Resource="arn:aws:s3:::b-1/*")), True),
        (policy(statement(action="s3:*")), True),
        (policy(statement(action="s3:DeleteObject", Resource="arn:aws:s3:::b-1/*")), False),  # versions in the body
        (policy(statement(action="s3:DeleteObject*", Resource="arn:aws:s3:::b-1/*")), True),
        (policy(statement(action="s3:*", Resource="arn:aws:s3:::b-1/home/*")), False),
        (policy(statement(action="s3:*"), statement("Deny", "s3:*", Resource="arn:aws:s3:::b-1/locked/*")), False),
        (policy(statement(action="s3:*"), statement("Deny", "s3:*", Resource="arn:aws:s3:::b-2/*")), True),
        (
            policy(
                statement(action="s3:*"), statement("Deny", "s3:*", Condition={"StringEquals": {"s3:VersionId": "1"}})
            ),
            False,
        ),
    ],
)
def test_many_objects_are_deleted_where_every_key_of_the_bucket_may_be(found, expected):
    assert allows(found, "POST", "/b-1?delete") is expected


def test_deleting_many_past_retention_needs_the_bypass_for_every_key():
    found = policy(
        statement(action=["s3:DeleteObject*"], Resource="arn:aws:s3:::b-1/*"),
        statement(action="s3:BypassGovernanceRetention", Resource="arn:aws:s3:::b-1/a/*"),
    )
    assert allows(found, "POST", "/b-1?delete")
    assert not allows(found, "POST", "/b-1?delete", x_amz_bypass_governance_retention="true")


def test_tags_at_the_store_are_decided_closed():
    everything = statement(action="s3:*")
    assert not allows(policy(everything, statement("Deny", "s3:*", Condition=TAG)), "GET", "/b-1/k")
    assert not allows(policy(statement(action="s3:GetObject", Condition=TAG)), "GET", "/b-1/k")
    # A new object has no tags yet: AWS has no such key for PutObject either.
    assert allows(policy(everything, statement("Deny", "s3:*", Condition=TAG)), "PUT", "/b-1/k")


def test_the_version_of_tls_counts_where_the_proxy_tells_it():
    old = statement("Deny", "s3:*", Condition={"NumericLessThan": {"s3:TlsVersion": "1.2"}})
    found = policy(statement(action="s3:*"), old)
    assert allows(found, "GET", "/b-1/k", {"s3:tlsversion": ("1.3",)}, secure=True)
    assert not allows(found, "GET", "/b-1/k", {"s3:tlsversion": ("1.1",)}, secure=True)
    assert not allows(found, "GET", "/b-1/k", secure=True)
    assert allows(found, "GET", "/b-1/k")


def test_what_the_body_says_is_decided_closed():
    limited = statement("Deny", "s3:*", Condition={"StringNotEquals": {"s3:object-lock-mode": "GOVERNANCE"}})
    assert not allows(policy(statement(action="s3:*"), limited), "PUT", "/b-1/k?retention")
    tags = statement(action="s3:PutObject*", Condition={"StringEquals": {"s3:RequestObjectTag/a": "b"}})
    assert allows(policy(tags), "PUT", "/b-1/k", x_amz_tagging="a=b")
    assert not allows(policy(tags), "PUT", "/b-1/k?tagging")


def test_a_body_that_can_name_another_bucket_needs_all_of_them():
    one = statement(action="s3:*", Resource=["arn:aws:s3:::b-1", "arn:aws:s3:::b-1/*"])
    assert not allows(policy(one), "PUT", "/b-1?logging")
    assert allows(policy(statement(action="s3:*", Resource="arn:aws:s3:::*")), "PUT", "/b-1?logging")
    assert allows(policy(one), "PUT", "/b-1?lifecycle")
