"""An installation with an OpenID Connect issuer, and a role that trusts it."""

from dataclasses import dataclass

from support.administrator import Administrator, allow, trust
from support.installation import Answer, Installation, environment
from support.oidc_issuer import Issuer
from support.saml_fixtures import Still
from support.web_server import WebServer

ACCOUNT = "111122223333"


@dataclass
class WebIdentitySetup:
    installation: Installation
    clock: Still
    admin: Administrator
    issuer: Issuer
    role: str
    idp: Issuer | None = None
    facts: dict | None = None
    path: str = ""
    sales: str = ""

    def provider(self, issuer=None) -> str:
        return f"arn:aws:iam::{ACCOUNT}:oidc-provider/{(issuer or self.issuer).arn_part}"

    def assume(self, token, *, role=None, name="session", **more) -> Answer:
        given = {"RoleArn": role or self.role, "RoleSessionName": name, "WebIdentityToken": token}
        return self.installation.call("AssumeRoleWithWebIdentity", None, **given | more)

    def trusts(self, name, issuer=None, *policies, action=None, **more) -> str:
        actions = action or ["sts:AssumeRoleWithWebIdentity", "sts:TagSession", "sts:SetSourceIdentity"]
        return self.admin.role(name, trust({"Federated": self.provider(issuer)}, actions, **more), *policies)

    def registered(self, issuer, *clients) -> Issuer:
        clients = {f"ClientIDList.member.{n}": one for n, one in enumerate(clients or ("app-1",), 1)}
        self.admin.do("CreateOpenIDConnectProvider", Url=issuer.url, **clients)
        return issuer


def open_setup(folder, redis_url, server: WebServer, **more: str) -> WebIdentitySetup:
    clock = Still()
    here = server.url("").rstrip("/")
    installation = Installation(
        folder,
        environment(
            folder, redis_url, FEDGATE_OUTBOUND_ALLOWED_NETWORKS="127.0.0.0/8,::1/128",
            FEDGATE_OUTBOUND_CA_FILE=str(server.ca_file), FEDGATE_WEB_IDENTITY_GOOGLE_URL=f"{here}/google",
            FEDGATE_WEB_IDENTITY_COGNITO_URL=f"{here}/cognito", FEDGATE_WEB_IDENTITY_AMAZON_URL=f"{here}/amazon",
            FEDGATE_WEB_IDENTITY_FACEBOOK_URL=f"{here}/facebook",
            FEDGATE_WEB_IDENTITY_GITHUB_URL=f"{here}/github", FEDGATE_WEB_IDENTITY_GITHUB_API_URL=f"{here}/api", **more,
        ),
        clock,
    )  # fmt: skip
    admin = Administrator.of_a_new_account(installation, ACCOUNT)
    issuer = Issuer(server, clock, "/main")
    made = WebIdentitySetup(installation, clock, admin, issuer, admin.arn("role", "app"))
    made.registered(issuer)
    made.trusts("app", None, allow(["iam:*", "sts:*"]))
    return made
