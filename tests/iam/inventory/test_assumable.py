"""Whether anybody can assume a role: by whom its trust policy names, and by who of them there still is."""

import json

import pytest

from iam.inventory.assumable import ExistingPrincipals, is_unassumable
from iam.inventory.known_providers import KnownProviders
from iam.policy.document import Policy, PolicyKind

MINE, OTHER = "111122223333", "444455556666"
ANN = f"arn:aws:iam::{MINE}:user/ann"
SAML = f"arn:aws:iam::{MINE}:saml-provider/Corp"
EXISTING = ExistingPrincipals(
    accounts={MINE, OTHER},
    entities={"AIDAANN", "AROAROLE"},
    providers=KnownProviders({"corp": (), "mine": (MINE,), "other": (OTHER,)}, {SAML}.__contains__),
)  # fmt: skip
ALL = ["sts:AssumeRole", "sts:AssumeRoleWithSAML", "sts:AssumeRoleWithWebIdentity", "sts:AssumeRoleWithLDAPIdentity"]


def statement(principal, effect="Allow", action="sts:AssumeRole", element="Principal", **more):
    return {"Effect": effect, element: principal, "Action": action, **more}


def unassumable(*statements, ids=()):
    text = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
    policy = Policy.parse(text, PolicyKind.TRUST).bind(dict(ids))
    return is_unassumable(policy, MINE, EXISTING)


@pytest.mark.parametrize(
    ("principal", "ids", "gone"),
    [
        ("*", {}, False),
        ({"AWS": MINE}, {}, False),
        ({"AWS": "999999999999"}, {}, True),
        ({"AWS": ["999999999999", OTHER]}, {}, False),
        ({"AWS": ANN}, {ANN: "AIDAANN"}, False),
        ({"AWS": ANN}, {ANN: "AIDAGONE"}, True),
        (
            {"AWS": f"arn:aws:sts::{MINE}:assumed-role/r/s"},
            {f"arn:aws:sts::{MINE}:assumed-role/r/s": "AROAROLE"},
            False,
        ),
        ({"AWS": f"arn:aws:sts::{MINE}:federated-user/f"}, {}, False),
        ({"AWS": "arn:aws:sts::999999999999:federated-user/f"}, {}, True),
        ({"Service": "ec2.amazonaws.com"}, {}, True),
    ],
)
def test_a_role_needs_somebody_who_exists(principal, ids, gone):
    assert unassumable(statement(principal), ids=ids) is gone


@pytest.mark.parametrize(
    ("action", "provider", "gone"),
    [
        ("AssumeRoleWithSAML", SAML, False),
        ("AssumeRoleWithSAML", SAML.replace("Corp", "Gone"), True),
        ("AssumeRoleWithLDAPIdentity", f"arn:aws:iam::{MINE}:ldap-provider/corp", False),
        ("AssumeRoleWithLDAPIdentity", f"arn:aws:iam::{MINE}:ldap-provider/gone", True),
        ("AssumeRoleWithLDAPIdentity", f"arn:aws:iam::{MINE}:ldap-provider/mine", False),
        ("AssumeRoleWithLDAPIdentity", f"arn:aws:iam::{MINE}:ldap-provider/other", True),
        ("AssumeRoleWithLDAPIdentity", f"arn:aws:iam::{OTHER}:ldap-provider/corp", True),
        ("AssumeRoleWithWebIdentity", "accounts.google.com", False),
        ("AssumeRoleWithWebIdentity", f"arn:aws:iam::{MINE}:oidc-provider/gone.example", True),
    ],
)
def test_a_role_of_a_provider_needs_the_provider(action, provider, gone):
    more = {"Condition": {"StringEquals": {f"{provider}:aud": "me"}}} if "google" in provider else {}
    assert unassumable(statement({"Federated": provider}, action=f"sts:{action}", **more)) is gone


def test_whoever_is_let_in_for_something_else_alone_assumes_nothing():
    assert unassumable(statement({"AWS": MINE}, action="sts:TagSession"))


def test_a_denial_of_everybody_leaves_nobody_and_one_with_a_condition_leaves_somebody():
    allowed = statement({"AWS": MINE})
    assert unassumable(allowed, statement("*", "Deny"))
    assert not unassumable(allowed, statement("*", "Deny", Condition={"Bool": {"aws:SecureTransport": "false"}}))
    assert not unassumable(allowed, statement({"AWS": OTHER}, "Deny"))
    assert not unassumable(statement("*", action=ALL), statement("*", "Deny"))
    assert unassumable(statement("*", action=ALL), statement("*", "Deny", action=ALL))


def test_everybody_but_somebody_is_somebody():
    assert not unassumable(statement({"AWS": OTHER}, element="NotPrincipal"))
