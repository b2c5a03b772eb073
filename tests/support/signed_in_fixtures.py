"""An installation with two accounts, and perhaps a directory, and the people who sign in to its pages."""

import html
import json
import re
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path

from botocore.credentials import Credentials

from broker import wiring
from broker.audit import log as audit_log
from broker.providers.ldap.config import LdapConfig
from iam.credentials import factors, totp
from iam.credentials.root_login import set_root_login
from support.administrator import Administrator, trust
from support.directories import as_toml
from support.installation import Answer, Installation, environment
from support.saml_fixtures import Browser, Still

HOME, AWAY = "111122223333", "444455556666"
PASSWORD, NEW = "Correct horse, battery & staple 4", "Quite another one, 5 words long"
EMAIL = "owner@home.example"
SEED = bytes(range(20))


@dataclass
class BrowserSetup:
    """The installation; ``admin`` is of the account HOME, ``other`` of AWAY."""

    installation: Installation
    clock: Still
    admin: Administrator
    other: Administrator
    workers: list[Installation] = field(default_factory=list)
    keys: dict[str, Credentials] = field(default_factory=dict)  # of users, by name

    # --- who there is -------------------------------------------------------------------------------------------------

    def user(self, name: str, *policies: str, password: str = PASSWORD, **more) -> str:
        """Make a user with a password and an access key; return the unique id."""
        self.keys[name] = self.admin.user(name, *policies)
        self.admin.do("CreateLoginProfile", UserName=name, Password=password, **more)
        return self.user_id(name)

    def user_id(self, name: str) -> str:
        return self.admin.do("GetUser", UserName=name).text("UserId")

    def owner(self, *, password: str = PASSWORD, account_id: str = HOME, email: str = EMAIL, reset: bool = False):
        """Give the owner of an account a password."""
        with self.installation.store.write() as tx:
            set_root_login(
                tx, account_id, email, password, now=self.clock(), random=wiring.random, reset_required=reset
            )

    def enrol(self, person: str) -> None:
        """Give a person an authenticator app."""
        gate, now = self.installation.services.api.gate, self.clock()
        code = totp.code_at(SEED, totp.step_at(now))
        with self.installation.store.write() as tx:
            assert factors.add_totp(tx, person, "app", SEED, code, now, gate.vault, gate.random)
        self.clock.advance(seconds=totp.STEP)

    def directory_role(self, name: str, *policies: str, group: str = "", admin: Administrator | None = None, **more):
        """Make a role for the people of the directory, or one group of them."""
        admin = admin or self.admin
        wanted = {"Condition": {"ForAnyValue:StringEquals": {"ldap:group-names": group}}} if group else {}
        trusted = trust({"Federated": admin.arn("ldap-provider", "corp")}, ["sts:AssumeRoleWithLDAPIdentity"],
                        **(wanted | more))  # fmt: skip
        return admin.role(name, trusted, *policies)

    # --- where they are -----------------------------------------------------------------------------------------------

    def browser(self, peer: str = "127.0.0.1", worker: Installation | None = None) -> Browser:
        return Browser(worker or self.installation, peer)

    def worker(self) -> Installation:
        """Return another worker over the same data."""
        self.workers.append(self.installation.another_worker())
        return self.workers[-1]

    def close(self) -> None:
        for one in (*self.workers, self.installation):
            one.close()

    def records(self, *names: str) -> list[dict]:
        found = audit_log.read_last_records(self.installation.settings.audit_dir, 10_000)
        return [one for one in found if not names or one["eventName"] in names]

    def files(self) -> bytes:
        """Return all that is kept but the configuration."""
        paths = (path for path in self.installation.folder.rglob("*") if path.is_file() and path.suffix != ".toml")
        return b"\n".join(path.read_bytes() for path in paths)


def house_in(folder: Path, redis_url: str, *directories: LdapConfig, more: str = "", **settings: str) -> BrowserSetup:
    """Return an installation with these directories; ``more`` stands at the end of the configuration."""
    file = folder / "fedgate.toml"
    file.write_text("".join(as_toml(one) for one in directories) + f"\n{more}\n")
    clock = Still()
    installation = Installation(folder, environment(folder, redis_url, FEDGATE_CONFIG=str(file), **settings), clock)
    admins = [Administrator.of_a_new_account(installation, account_id) for account_id in (HOME, AWAY)]
    return BrowserSetup(installation, clock, *admins)


# --- what a browser does ----------------------------------------------------------------------------------------------


def hidden(answer: Answer) -> dict[str, str]:
    """Return the hidden fields of the first form of a page that has any."""
    found = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', answer.body.decode())
    return {html.unescape(name): html.unescape(value) for name, value in reversed(found)}


def send(browser: Browser, path: str, fields: dict[str, str], **headers: str) -> Answer:
    """Load a page and send its form."""
    page = browser.get(path)
    return browser.post(path.partition("?")[0], hidden(page) | fields, **headers)


def sign_in(browser: Browser, username: str, password: str = PASSWORD, account: str = HOME, **more: str) -> Answer:
    path = f"/signin/{urllib.parse.quote(account, safe='')}" if account else "/root"
    query = f"?{urllib.parse.urlencode(more)}" if more else ""
    return send(browser, path + query, {"username": username, "password": password})


def sign_in_as_owner(house: BrowserSetup, browser: Browser, email: str = EMAIL, password: str = PASSWORD) -> Answer:
    """Sign in with the password and with a code of the app that `BrowserSetup.enrol` gave."""
    answer = sign_in(browser, email, password, account="")
    assert answer.headers.get("Location") == "/mfa", answer.body.decode()
    return give_code(house, browser)


def give_code(house: BrowserSetup, browser: Browser, path: str = "/mfa") -> Answer:
    """Give the code of the app; it counts once, so that the clock goes on to the next one."""
    answer = send(browser, path, {"use": "code", "code": totp.code_at(SEED, totp.step_at(house.clock()))})
    house.clock.advance(seconds=totp.STEP)
    return answer


def sign_in_to_directory(browser: Browser, username: str, password: str, **more: str) -> Answer:
    return send(browser, "/login", {"username": username, "password": password, **more})


def is_in(browser: Browser) -> bool:
    """Return whether somebody is signed in."""
    return browser.get("/sessions").status == 200


def take(browser: Browser, role: str, **more: str) -> Credentials:
    """Take credentials of a role, or of oneself."""
    answer = browser.post("/portal", {"roleIndex": role, "form_token": token(browser), **more},
                          Accept="application/json")  # fmt: skip
    assert answer.status == 200, (answer.status, answer.body.decode())
    got = json.loads(answer.body)
    return Credentials(got["AccessKeyId"], got["SecretAccessKey"], got["SessionToken"])


def try_to_take(browser: Browser, role: str, **more: str) -> Answer:
    return browser.post("/portal", {"roleIndex": role, "form_token": token(browser), **more},
                        Accept="application/json")  # fmt: skip


def token(browser: Browser) -> str:
    return json.loads(browser.get("/sessions", Accept="application/json").body)["form_token"]


def told(answer: Answer) -> str:
    """Return what the alert of a page says, or nothing."""
    found = re.search(r'role="alert"[^>]*>\s*<p>(.*?)</p>', answer.body.decode(), re.DOTALL)
    return html.unescape(found[1]) if found else ""


def reference(answer: Answer) -> str:
    """Return the reference that a page shows, or nothing."""
    found = re.search(r'class="reference">.*?<code[^>]*>([0-9a-f]{8})</code>', answer.body.decode(), re.DOTALL)
    return found[1] if found else ""


def credentials_on(answer: Answer) -> Credentials:
    """Return the credentials that a page shows."""
    found = dict(re.findall(r"export (AWS_\w+)=(\S+)", html.unescape(answer.body.decode())))
    return Credentials(found["AWS_ACCESS_KEY_ID"], found["AWS_SECRET_ACCESS_KEY"], found["AWS_SESSION_TOKEN"])
