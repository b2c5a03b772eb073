"""A served broker whose pages have something to show, and browsers in which people of it are signed in."""

import base64
import contextlib
import subprocess
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from botocore.credentials import Credentials
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Response

from broker.demo.people import BASE
from iam.credentials import totp
from support.broker_process import ACCOUNT, DIRECTORY, FEDGATE, PASSWORDS, Broker, document, environment, group
from support.directories import RunningDirectory, ldap_tool
from support.saml_idp import ATTRIBUTES, encoded, metadata, signed
from support.saml_idp import Response as Answer
from support.servers import HANG, free_port

LAB = "210987654321"
PAGES = """
[pages]
organisation = "Acme"
help_url = "mailto:help@acme.example"
status_url = "https://status.acme.example/"
privacy_url = "https://acme.example/privacy"
"""
# People who must set a password of their own first: each test that does so has one for itself.
NEWCOMERS = ("gina", "hugo", "iris")
NEWCOMER_PASSWORD = "welcome-to-acme-1"
NEWCOMER = """
dn: uid={name},ou=people,{base}
objectClass: inetOrgPerson
uid: {name}
cn: {name}
sn: Newcomer
userPassword: {password}
pwdPolicySubentry: cn=strict,ou=policies,{base}
"""
RESET = "dn: uid={name},ou=people,{base}\nchangetype: modify\nreplace: pwdReset\npwdReset: TRUE\n"
PARTNER, PARTNER_ROLES = f"arn:aws:iam::{ACCOUNT}:saml-provider/Partner", ("PartnerAuditor", "PartnerSupport")
USER, USER_WITH_APP, USER_PASSWORD = "jane", "mona", "Correct-horse-battery-9"
WITH_APP = "dave"  # of the directory: sets up an app when he first signs in with a browser
OWNER, OWNER_PASSWORD = "owner@acme.example", "Staple-for-the-owner-7"


@dataclass(frozen=True)
class Role:
    """A role, whose it is, and what it says about itself."""

    name: str
    group: str
    about: str
    policy: str = "ReadOnlyAccess"
    hours: int = 1
    account: str = ACCOUNT
    second_factor: bool = False
    ticket: bool = False

    @property
    def arn(self) -> str:
        return f"arn:aws:iam::{self.account}:role/{self.name}"

    @property
    def trust(self) -> str:
        condition: dict[str, object] = {"ForAnyValue:StringEquals": {"ldap:groups": [group(self.group)]}}
        if self.second_factor:
            condition["Bool"] = {"aws:MultiFactorAuthPresent": "true"}
        if self.ticket:
            condition["StringLike"] = {"aws:RequestTag/Ticket": "CHG-*"}
            condition["ForAllValues:StringEquals"] = {"aws:TagKeys": ["Ticket"]}
            condition["Null"] = {"aws:TagKeys": "false"}
        return document(
            {
                "Effect": "Allow",
                "Principal": {"Federated": f"arn:aws:iam::{self.account}:ldap-provider/{DIRECTORY}"},
                "Action": ["sts:AssumeRoleWithLDAPIdentity", *(["sts:TagSession"] if self.ticket else [])],
                "Condition": condition,
            }
        )


# Alice, of engineering and platform, has nine of them, one with a second factor, one with a ticket; of two she is told.
ROLES = (
    Role("Administrator", "platform", "The platform team runs this account", "AdministratorAccess", 12),
    Role("BillingReader", "staff", "Reads invoices and budgets", "IAMReadOnlyAccess"),
    Role("BreakGlass", "platform", "For outages; security reads every use", "AdministratorAccess", second_factor=True),
    Role("ChangeDesk", "platform", "Changes what customers see", "PowerUserAccess", 2, ticket=True),
    Role("Deployer", "engineering", "Rolls out what the pipeline has built", "PowerUserAccess", 4),
    Role("Developer", "engineering", "Engineers use all but IAM", "PowerUserAccess", 8),
    Role("ReadOnly", "staff", "Everybody on the staff looks", "ReadOnlyAccess", 12),
    Role("SupportDesk", "staff", "Opens and answers support cases", "IAMReadOnlyAccess", 4),
    Role("Ledger", "finance", "Finance closes the books"),
    Role("Archive", "contractors", "Contractors read what is stored", "AmazonS3ReadOnlyAccess"),
    Role("Experimenter", "engineering", "Tries things out; emptied every Friday", "PowerUserAccess", 8, LAB),
    Role("LabAdmin", "platform", "Looks after the laboratory", "AdministratorAccess", 4, LAB),
    Role("LabReader", "staff", "Looks into the laboratory", "IAMReadOnlyAccess", 12, LAB),
)
ARNS = {role.name: role.arn for role in ROLES}


@dataclass
class ServedPages:
    """The broker, its directory, the seed of one user's app, and the cookies of those who signed in once."""

    broker: Broker
    directory: RunningDirectory
    roots: Mapping[str, Credentials]
    seed: bytes = b""
    door: dict[str, str] = field(default_factory=dict)  # what `fedgate saml add` said
    cookies: dict[str, Any] = field(default_factory=dict)

    def code(self, step: int = 0) -> str:
        """Return what the app of the user who has one shows now, or some steps later."""
        return totp.code_at(self.seed, totp.step_at(datetime.now(UTC)) + step)

    def forget_apps(self, account: str) -> None:
        """Take the apps of an account's owner away, so that a first one can be set up again."""
        iam = self.broker.client("iam", self.roots[account])
        for device in iam.list_mfa_devices()["MFADevices"]:
            iam.deactivate_mfa_device(SerialNumber=device["SerialNumber"])
            iam.delete_virtual_mfa_device(SerialNumber=device["SerialNumber"])


@contextlib.contextmanager
def running_house(folder: Path, slapd: RunningDirectory, port: int = 0) -> Iterator[ServedPages]:
    """Serve a furnished broker; its Redis is its own."""
    port = port or free_port()
    # By this name, since browsers have passkeys for names alone.
    server = {"bind": f"127.0.0.1:{port}", "public_url": f"http://localhost:{port}"}
    broker = Broker(folder, slapd, server=server, more=PAGES).make()
    lab = broker.fedgate("account", "create", "--id", LAB, "--alias", "acme-lab")["root"]
    assert broker.root is not None
    roots = {ACCOUNT: broker.root, LAB: Credentials(lab["access_key_id"], lab["secret_access_key"])}
    give_password(broker, ACCOUNT, OWNER)
    try:
        house = ServedPages(broker.start(), slapd, roots)
        furnish(house)
        yield house
    finally:
        broker.close()


def give_password(broker: Broker, account: str, address: str) -> None:
    """Give the owner of an account a password that need not be changed."""
    command = [FEDGATE, "account", "root", "--account", account, "--email", address, "--password-stdin"]
    command += ["--config", str(broker.config)]
    home = environment(broker.folder)
    subprocess.run(command, input=OWNER_PASSWORD, env=home, text=True, capture_output=True, timeout=HANG, check=True)


def furnish(house: ServedPages) -> None:
    """Make the roles, the users, the newcomers and the door of a partner."""
    iams = {account: house.broker.client("iam", keys) for account, keys in house.roots.items()}
    for role in ROLES:
        make_role(iams[role.account], role)
    iam = iams[ACCOUNT]
    house.door = open_door(house.broker, iam)
    for name in (USER, USER_WITH_APP):
        iam.create_user(UserName=name)
        iam.create_login_profile(UserName=name, Password=USER_PASSWORD)
        iam.attach_user_policy(UserName=name, PolicyArn="arn:aws:iam::aws:policy/ReadOnlyAccess")
    house.seed = give_app(iam, USER_WITH_APP)
    people = "".join(NEWCOMER.format(name=name, base=BASE, password=NEWCOMER_PASSWORD) for name in NEWCOMERS)
    ldap_tool("ldapadd", house.directory.ldapi, people)
    house.directory.modify("\n".join(RESET.format(name=name, base=BASE) for name in NEWCOMERS))


def open_door(broker: Broker, iam: Any) -> dict[str, str]:
    """Let people of a partner in, also where the partner's own page sends them, and give them two roles; return how."""
    file = broker.folder / "partner.xml"
    file.write_text(metadata())
    facts: dict[str, str] = broker.fedgate(
        "saml", "add", "Partner", "--metadata", str(file), "--account", ACCOUNT, "--idp-initiated"
    )
    broker.fedgate("saml", "sign-in", "Partner", "--account", ACCOUNT)
    trust = {"Effect": "Allow", "Principal": {"Federated": PARTNER}, "Action": "sts:AssumeRoleWithSAML"}
    for name in PARTNER_ROLES:
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=document(trust))
    return facts


def partners_answer(house: ServedPages) -> dict[str, str]:
    """Return where the partner's page sends somebody, and the form that it sends along."""
    roles = tuple(f"arn:aws:iam::{ACCOUNT}:role/{name},{PARTNER}" for name in PARTNER_ROLES)
    attributes = {f"{ATTRIBUTES}Role": roles, f"{ATTRIBUTES}RoleSessionName": ("ann",)}
    address, audiences = house.door["our_acs"], ((house.door["our_entity_id"],),)
    given = {"attributes": attributes, "recipient": address, "destination": address, "audiences": audiences}
    return {"address": address, "response": encoded(signed(Answer(now=datetime.now(UTC), **given)))}


def make_role(iam: Any, role: Role) -> None:
    iam.create_role(
        RoleName=role.name,
        AssumeRolePolicyDocument=role.trust,
        Description=role.about,
        MaxSessionDuration=3600 * role.hours,
    )
    iam.attach_role_policy(RoleName=role.name, PolicyArn=f"arn:aws:iam::aws:policy/{role.policy}")


def give_app(iam: Any, user: str) -> bytes:
    """Give a user an authenticator app, and return its seed."""
    made = iam.create_virtual_mfa_device(VirtualMFADeviceName=user)["VirtualMFADevice"]
    seed, step = base64.b32decode(made["Base32StringSeed"]), totp.step_at(datetime.now(UTC))
    codes = [totp.code_at(seed, step - before) for before in (2, 1)]
    iam.enable_mfa_device(
        UserName=user,
        SerialNumber=made["SerialNumber"],
        AuthenticationCode1=codes[0],
        AuthenticationCode2=codes[1],
    )
    return seed


# --- browsers ---------------------------------------------------------------------------------------------------------


@dataclass
class Complaints:
    """What a browser has to say against the pages: errors, what the policy forbade, and what was asked of others."""

    endpoint: str
    told: list[str] = field(default_factory=list)

    def watch(self, context: BrowserContext) -> None:
        context.on("console", self._console)
        context.on("weberror", lambda error: self.told.append(str(error.error)))
        context.on("request", self._request)
        context.on("response", self._response)

    def _console(self, message: ConsoleMessage) -> None:
        # Chromium reports the status of a page that was refused, which is told by its response as well.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            self.told.append(message.text)

    def _request(self, request: Request) -> None:
        if not request.url.startswith((f"{self.endpoint}/", "data:")):
            self.told.append(f"asked {request.url}")

    def _response(self, response: Response) -> None:
        if response.status >= 500 or (response.status >= 400 and not response.request.is_navigation_request()):
            self.told.append(f"{response.status} {response.url}")


@dataclass(frozen=True)
class Tab:
    """A page of a browser in which somebody is signed in or nobody, and what was complained about there."""

    page: Page
    complaints: Complaints


@contextlib.contextmanager
def open_tab(chromium: Browser, house: ServedPages, who: str = "", **options: Any) -> Iterator[Tab]:
    """Open a browser of its own; whoever signs in with one for the first time does so at this moment."""
    if who and who not in house.cookies:
        with browsing(chromium, house) as page:
            sign_in(page, who)
            if who == WITH_APP:
                set_up_app(page)
            house.cookies[who] = page.context.storage_state()
    context = chromium.new_context(
        base_url=house.broker.endpoint, storage_state=house.cookies.get(who), reduced_motion="reduce", **options
    )
    context.set_default_timeout(10_000)
    complaints = Complaints(house.broker.endpoint)
    complaints.watch(context)
    try:
        yield Tab(context.new_page(), complaints)
    finally:
        context.close()


@contextlib.contextmanager
def browsing(chromium: Browser, house: ServedPages, who: str = "", **options: Any) -> Iterator[Page]:
    """Open a browser of its own, in which nothing may be complained about."""
    with open_tab(chromium, house, who, **options) as tab:
        yield tab.page
    assert not tab.complaints.told


def sign_in(page: Page, who: str) -> None:
    """Sign in with the directory, or as a user of the account."""
    page.goto("/login?switch=1" if who in PASSWORDS else f"/signin/{ACCOUNT}")
    type_in(page, username=who, password=PASSWORDS.get(who, USER_PASSWORD))
    page.wait_for_url("**/portal")


def set_up_app(page: Page) -> None:
    """Set up an authenticator app for whoever is signed in or must have one, up to the recovery codes."""
    page.goto("/mfa/enrol")
    type_in(page, code=code_of(page.locator("#key").inner_text()))
    page.get_by_role("heading", level=1, name="Recovery codes").wait_for()


def code_of(key: str) -> str:
    """Return what an app shows now into which this key was typed."""
    text = key.replace(" ", "").upper()
    seed = base64.b32decode(text + "=" * (-len(text) % 8))
    return totp.code_at(seed, totp.step_at(datetime.now(UTC)))


def type_in(page: Page, **fields: str) -> None:
    """Fill a form, and send it from its last field with Enter."""
    for name, text in fields.items():
        page.locator(f"#{name}").fill(text)
    page.locator(f"#{name}").press("Enter")


def credentials_on(page: Page) -> Credentials:
    """Return the credentials that a page shows, from the lines for a shell."""
    lines = page.locator("#text-bash").input_value().splitlines()
    found = dict(line.removeprefix("export ").split("=", 1) for line in lines)
    return Credentials(found["AWS_ACCESS_KEY_ID"], found["AWS_SECRET_ACCESS_KEY"], found["AWS_SESSION_TOKEN"])


def portal(role: str) -> str:
    """Return the address at which a role stands chosen."""
    return f"/portal?{urllib.parse.urlencode({'role': ARNS[role]})}"
