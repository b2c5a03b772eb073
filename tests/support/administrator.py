"""What an account's root does before a test begins: users, roles and policies, made through the API itself."""

import json
from dataclasses import dataclass

from botocore.credentials import Credentials

from support.documents import allow, trust
from support.installation import Answer, Installation


def statements(*parts: str) -> str:
    """Return one policy with the statements of several."""
    return json.dumps({"Version": "2012-10-17", "Statement": [json.loads(part)["Statement"] for part in parts]})


def deny(action="*", resource="*", **more) -> str:
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": {"Effect": "Deny", "Action": action, "Resource": resource, **more},
        }
    )


def deny_trust(principal, action="sts:AssumeRole", **more) -> str:
    return json.dumps(
        {"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Principal": principal, "Action": action, **more}}
    )


@dataclass(frozen=True)
class Administrator:
    """Root of one account; what it asks for must succeed."""

    installation: Installation
    account_id: str
    root: Credentials

    @classmethod
    def of_a_new_account(cls, installation: Installation, account_id: str | None = None) -> "Administrator":
        return cls(installation, *installation.account(account_id))

    def do(self, action: str, **parameters: object) -> Answer:
        answer = self.installation.call(action, self.root, **parameters)
        assert answer.status == 200, (action, answer.code, answer.message)
        return answer

    def arn(self, kind: str, name: str) -> str:
        return f"arn:aws:iam::{self.account_id}:{kind}/{name}"

    def key(self, name: str) -> Credentials:
        return self.do("CreateAccessKey", UserName=name).credentials

    def user(self, name: str, *policies: str, **more: object) -> Credentials:
        """Make a user with inline policies and a key."""
        self.do("CreateUser", UserName=name, **more)
        for number, policy in enumerate(policies):
            self.do("PutUserPolicy", UserName=name, PolicyName=f"p{number}", PolicyDocument=policy)
        return self.key(name)

    def role(self, name: str, trusted: str | None = None, *policies: str, **more: object) -> str:
        """Make a role that trusts the account, or what the document says, and return its ARN."""
        document = trusted or trust({"AWS": self.account_id})
        self.do("CreateRole", RoleName=name, AssumeRolePolicyDocument=document, **more)
        for number, policy in enumerate(policies):
            self.do("PutRolePolicy", RoleName=name, PolicyName=f"p{number}", PolicyDocument=policy)
        return self.arn("role", name)

    def policy(self, name: str, document: str) -> str:
        """Make a managed policy and return its ARN."""
        self.do("CreatePolicy", PolicyName=name, PolicyDocument=document)
        return self.arn("policy", name)


def assume(installation: Installation, credentials: Credentials, role: str, name: str = "test", **more) -> Answer:
    return installation.call("AssumeRole", credentials, RoleArn=role, RoleSessionName=name, **more)


def assumed(installation: Installation, credentials: Credentials, role: str, name: str = "test", **more) -> Credentials:
    """Return the credentials of a new session of a role."""
    answer = assume(installation, credentials, role, name, **more)
    assert answer.status == 200, (answer.code, answer.message)
    return answer.credentials


def refused(answer: Answer, status: int, code: str, text: str = "") -> None:
    """Fail unless the answer is that error, with that text in its message."""
    assert (answer.status, answer.code) == (status, code), (answer.status, answer.code, answer.message)
    assert text in (answer.message or ""), answer.message


__all__ = ["Administrator", "allow", "assume", "assumed", "deny", "deny_trust", "refused", "statements", "trust"]
