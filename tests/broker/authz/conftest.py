"""An authorizer over a whole installation with resources, and the directory that tests of sign-ins share."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from botocore.credentials import Credentials
from support.authz import STORE_HOST, Sent, Verdict, asked, document, nginx, resources
from support.directories import demo_directory
from support.installation import Installation

from broker.authz.endpoints import Endpoints
from broker.authz.original import AuthorizationRequest
from broker.authz.resource import Resource

__all__ = ["demo_directory"]


@dataclass
class Authorized:
    """An installation whose authorizer knows a store and an HTTP service, and a role to sign as."""

    installation: Installation
    account: str
    root: Credentials
    resources: dict[str, Resource] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.resources |= resources(self.account)
        authorizer = replace(
            self.installation.services.authz.authorizer,
            find_resource=self.resources.get,
        )
        self.endpoints: Endpoints = replace(self.installation.services.authz, authorizer=authorizer)

    def ask(self, sent: Sent, convention: Callable[..., Any] = nginx, *more: tuple[str, str]) -> Verdict:
        return asked(self.endpoints, convention(sent, *more))

    def denied(self, ticket: str) -> Verdict:
        """Fetch what a ticket says."""
        return asked(self.endpoints, AuthorizationRequest("GET", "/authz/denied", (("x-fedgate-denied", ticket),)))

    def another(self, account: str, root: Credentials) -> "Authorized":
        """Return the same with another account's people."""
        return Authorized(self.installation, account, root)

    def change(self, host: str = STORE_HOST, **members: object) -> None:
        self.resources[host] = replace(self.resources[host], **members)

    def records(self) -> list[Mapping[str, Any]]:
        """Return the audit records of requests to resources."""
        folder = self.installation.settings.audit_dir
        lines = (line for file in sorted(Path(folder).glob("*.jsonl")) for line in file.read_text().splitlines())
        return [record for record in map(json.loads, lines) if record.get("eventCategory") == "Data"]

    def role(self, name: str, policy: str, **session: str) -> Credentials:
        """Make a role that the account's user may assume, and return credentials of a session."""
        installation = self.installation
        user = self.user("tester", document(Effect="Allow", Action="sts:*", Resource="*"))
        people, actions = {"AWS": f"arn:aws:iam::{self.account}:root"}, ["sts:AssumeRole", "sts:TagSession"]
        trust = document(Effect="Allow", Principal=people, Action=actions)
        made = installation.call("CreateRole", self.root, RoleName=name, AssumeRolePolicyDocument=trust)
        assert made.status == 200, made.body
        put = installation.call("PutRolePolicy", self.root, RoleName=name, PolicyName="inline", PolicyDocument=policy)
        assert put.status == 200, put.body
        answer = installation.call("AssumeRole", user, RoleArn=made.text("Arn"), RoleSessionName="test", **session)
        assert answer.status == 200, answer.body
        return answer.credentials

    def user(self, name: str, policy: str) -> Credentials:
        """Make a user with a policy, and return a long-term key."""
        installation = self.installation
        assert installation.call("CreateUser", self.root, UserName=name).status == 200
        put = {"UserName": name, "PolicyName": "inline", "PolicyDocument": policy}
        assert installation.call("PutUserPolicy", self.root, **put).status == 200
        return installation.call("CreateAccessKey", self.root, UserName=name).credentials


@pytest.fixture
def authorized(installation: Installation) -> Authorized:
    account, root = installation.account()
    return Authorized(installation, account, root)
