"""Principals, policies and layers of which the tests of the policy language are made."""

import json

from iam.policy.decide import Layers
from iam.policy.document import Policy, PolicyKind
from iam.policy.policy_set import PolicySet
from iam.principal import Principal, PrincipalKind

HOME, AWAY = "111111111111", "222222222222"
BUCKET = "arn:aws:s3:::b/k"
ROLE_ARN, USER_ARN = f"arn:aws:iam::{HOME}:role/r", f"arn:aws:iam::{HOME}:user/ann"
SESSION_ARN, FEDERATED_ARN = f"arn:aws:sts::{HOME}:assumed-role/r/s", f"arn:aws:sts::{HOME}:federated-user/f"
ROOT_ARN = f"arn:aws:iam::{HOME}:root"
PROVIDER, GOOGLE = f"arn:aws:iam::{HOME}:saml-provider/idp", f"arn:aws:iam::{HOME}:oidc-provider/accounts.google.com"
TARGET = f"arn:aws:iam::{HOME}:role/target"

USER = Principal(PrincipalKind.USER, HOME, USER_ARN, "AIDAX", USER_ARN, "AIDAX", "ann")
SESSION = Principal(PrincipalKind.ROLE_SESSION, HOME, SESSION_ARN, "AROAX:s", ROLE_ARN, "AROAX", "r")
FEDERATED_USER = Principal(PrincipalKind.FEDERATED_USER, HOME, FEDERATED_ARN, f"{HOME}:f", USER_ARN, "AIDAX", "f")
ROOT = Principal(PrincipalKind.ROOT, HOME, ROOT_ARN, HOME, ROOT_ARN, HOME)
FEDERATED = Principal(PrincipalKind.FEDERATED, HOME, PROVIDER, f"{PROVIDER}:ann", name="ann")
SERVICE = Principal(PrincipalKind.SERVICE, HOME, "ec2.amazonaws.com", "ec2.amazonaws.com")
PRINCIPALS = {
    "user": USER,
    "session": SESSION,
    "federated user": FEDERATED_USER,
    "root": ROOT,
    "federated": FEDERATED,
    "service": SERVICE,
}


def layers(resource_account="", **found):
    """Layers, each of which may be given as one policy or as several."""
    sets = {
        name: one if one is None else PolicySet((one,) if isinstance(one, Policy) else one)
        for name, one in found.items()
    }
    return Layers(resource_account=resource_account, **sets)


def policy(*statements, kind=PolicyKind.IDENTITY, label=""):
    return Policy.parse(json.dumps({"Version": "2012-10-17", "Statement": list(statements)}), kind, label=label)


def statement(effect="Allow", action="s3:GetObject", **more):
    return {"Effect": effect, "Action": action, "Resource": "*"} | more


def on_resource(principal, effect="Allow", **more):
    return policy(statement(effect, Principal=principal, **more), kind=PolicyKind.RESOURCE)


def trust(principal, effect="Allow", **more):
    action = {"Action": ["sts:AssumeRole", "sts:AssumeRoleWithSAML", "sts:AssumeRoleWithWebIdentity"]}
    return policy({"Effect": effect, "Principal": principal} | action | more, kind=PolicyKind.TRUST)
