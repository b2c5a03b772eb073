"""An installation with a SAML identity provider and a role that trusts it, and a browser that keeps cookies."""

import html
import re
import urllib.parse
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select, update

from broker import wiring
from iam.store.schema import saml_provider
from support.administrator import Administrator, allow, trust
from support.installation import FORM, Answer, Installation, environment
from support.saml_idp import ATTRIBUTES, AWS, Response, encoded, key_pair, metadata, signed

OUR_KEY, OUR_CERTIFICATE = key_pair("fedgate")
AUD = {"Condition": {"StringEquals": {"SAML:aud": [AWS, "http://127.0.0.1:8080/saml/111122223333/Corp/acs"]}}}


class Still:
    """A clock that stands, on a full second, until a test moves it."""

    def __init__(self):
        self.at = wiring.now().replace(microsecond=0)

    def __call__(self) -> datetime:
        return self.at

    def advance(self, **amount):
        self.at += timedelta(**amount)


@dataclass
class SamlSetup:
    """An account with a SAML provider and a role that trusts it."""

    installation: Installation
    clock: Still
    admin: Administrator
    provider: str
    role: str
    counter: int = 0

    @property
    def door(self) -> str:
        """Where the button of the provider on the sign-in page leads."""
        with self.installation.store.read() as tx:
            return f"/saml/{tx.scalar(select(saml_provider.c.id).where(saml_provider.c.name == 'Corp'))}/login"

    def show(self, name: str) -> None:
        """Put a provider on the sign-in page, as the operator does with `fedgate saml sign-in`."""
        with self.installation.store.write() as tx:
            tx.execute(update(saml_provider).where(saml_provider.c.name == name).values(sign_in_name=name))

    def response(self, *, role=None, name="ann", **changes) -> Response:
        """A good response about ann, made just now, with ids of its own."""
        self.counter += 1
        attributes = {f"{ATTRIBUTES}Role": (f"{role or self.role},{self.provider}",),
                      f"{ATTRIBUTES}RoleSessionName": (name,)}  # fmt: skip
        attributes |= {f"{ATTRIBUTES}{key}": value for key, value in changes.pop("more", {}).items()}
        given = {"now": self.clock(), "id": f"_r{self.counter}",
                 "assertion_id": f"_a{self.counter}", "attributes": attributes}  # fmt: skip
        return Response(**given | changes)

    def assume(self, response, *, role=None, provider=None, **more) -> Answer:
        text = response if isinstance(response, str) else encoded(signed(response))
        given = {"RoleArn": role or self.role, "PrincipalArn": provider or self.provider, "SAMLAssertion": text}
        return self.installation.call("AssumeRoleWithSAML", None, **given | more)

    def trusting(self, **more) -> str:
        actions = ["sts:AssumeRoleWithSAML", "sts:TagSession", "sts:SetSourceIdentity"]
        return trust({"Federated": self.provider}, actions, **more)

    def trusts(self, role_name, **more) -> str:
        """Make a role whose trust asks for a condition, and return its ARN."""
        return self.admin.role(role_name, self.trusting(**more))


def open_setup(folder, redis_url, **settings) -> SamlSetup:
    clock = Still()
    installation = Installation(folder, environment(folder, redis_url, **settings), clock)
    admin = Administrator.of_a_new_account(installation, "111122223333")
    pem = OUR_KEY.decode()
    arn = admin.do("CreateSAMLProvider", Name="Corp", SAMLMetadataDocument=metadata(), AddPrivateKey=pem,
                   AssertionEncryptionMode="Allowed").text("SAMLProviderArn")  # fmt: skip
    made = SamlSetup(installation, clock, admin, arn, admin.arn("role", "developer"))
    made.show("Corp")
    made.admin.role("developer", made.trusting(**AUD), allow(["iam:*", "sts:*"]), MaxSessionDuration=7200)
    return made


class Browser:
    """Keeps cookies as a browser does, and says where it came from."""

    def __init__(self, installation: Installation, peer: str = "127.0.0.1") -> None:
        self.installation = installation
        self.peer = peer
        self.cookies: dict[str, str] = {}

    def get(self, target: str, **headers: str) -> Answer:
        return self._send("GET", target, headers, b"")

    def post(self, target: str, fields: dict[str, str], **headers: str) -> Answer:
        body = urllib.parse.urlencode(fields).encode()
        return self._send("POST", target, {"Content-Type": FORM, **headers}, body)

    def _send(self, method, target, headers, body):
        if self.cookies:
            headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items()), **headers}
        host = urllib.parse.urlsplit(self.installation.settings.public_url).netloc
        answer = self.installation.request(method, target, {"Host": host, **headers}, body, self.peer)
        for line in answer.all_headers.get("Set-Cookie", ()):
            name, _, value = line.partition(";")[0].partition("=")
            if "Max-Age=0" in line:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value
        return answer


def field_of(answer: Answer, name: str) -> str:
    """Return the value of a hidden field of a page."""
    return html.unescape(re.search(rf'name="{name}" value="([^"]*)"', answer.body.decode())[1])


__all__ = ["Answer", "Browser", "SamlSetup", "Still", "field_of", "open_setup"]
