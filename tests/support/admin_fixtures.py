"""Two accounts and the people who administer them: both, one, none, or who may only look."""

import json
from dataclasses import dataclass
from pathlib import Path

from sts.identity import Identity
from support.administrator import Administrator
from support.directories import as_toml, free_port
from support.installation import Clock, Installation, environment
from support.saml_fixtures import Browser

A, B = "111122223333", "444455556666"
# Who may take which role: the account, the role's name, the managed policy, and the people.
ROLES = (
    (A, "Administrator", "AdministratorAccess", ("alice", "olga")),
    (B, "Administrator", "AdministratorAccess", ("bob", "olga")),
    (A, "Auditor", "IAMReadOnlyAccess", ("carol",)),
    (A, "Developer", "PowerUserAccess", ("dave",)),
)


@dataclass
class AdminSetup:
    """An installation with the directories ``corp``, which answers, and ``gone``, which does not."""

    installation: Installation
    clock: Clock
    a: Administrator
    b: Administrator

    @property
    def site(self):
        return self.installation.services.pages.site

    def browser(self, name: str) -> Browser:
        """A browser in which somebody of the directory is signed in."""
        token, _ = self.site.sessions.open(self.person(name))
        made = Browser(self.installation)
        made.cookies["fedgate-session"] = token
        return made

    def person(self, name: str) -> Identity:
        return Identity("ldap-provider/corp", f"id-of-{name}", name, self.clock())

    def records(self) -> list[dict]:
        folder = self.installation.settings.audit_dir
        return [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]


def admin_setup(folder: Path, redis_url: str, slapd, **settings: str) -> AdminSetup:
    config = folder / "fedgate.toml"
    gone = slapd.config(name="gone", urls=(f"ldap://127.0.0.1:{free_port()}",), bind_password="hunter2-of-gone")
    config.write_text(as_toml(slapd.config()) + as_toml(gone))
    clock = Clock()
    installation = Installation(folder, environment(folder, redis_url, FEDGATE_CONFIG=str(config), **settings), clock)
    a, b = (Administrator.of_a_new_account(installation, one) for one in (A, B))
    for account_id, name, policy, people in ROLES:
        admin = a if account_id == A else b
        admin.role(name, trusting(account_id, people))
        admin.do("AttachRolePolicy", RoleName=name, PolicyArn=f"arn:aws:iam::aws:policy/{policy}")
    return AdminSetup(installation, clock, a, b)


def trusting(account_id: str, people, **conditions) -> str:
    statement = {
        "Effect": "Allow",
        "Principal": {"Federated": f"arn:aws:iam::{account_id}:ldap-provider/corp"},
        "Action": "sts:AssumeRoleWithLDAPIdentity",
        "Condition": conditions or {"StringEquals": {"ldap:username": list(people)}},
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})
