"""Our own issuer: tokens that others verify, a second Fedgate among them."""

import json
import urllib.parse
from datetime import datetime, timedelta

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet
from support.administrator import Administrator, allow, assumed, refused, trust
from support.installation import Installation, environment
from support.saml_fixtures import Still
from support.web_server import web_server

from broker import wiring
from iam.store.revocation import revoke
from iam.store.vault import Vault
from sts.federation.jwt_issuer import PROPAGATION, make_key
from sts.federation.token_origin import CLAIM, TokenOrigin, open_origin, seal_origin
from sts.lineage import Lineage
from sts.mint import open_token
from sts.store import sealing_keys
from sts.token import Sealer, SealingKey

ACCOUNT = "111122223333"
AUDIENCE = {"Audience.member.1": "https://api.example.com"}


class JwtIssuerSetup:
    """An installation whose pages a real web server shows to others, over TLS."""

    def __init__(self, folder, redis_url, server):
        self.clock = Still()
        self.server = server
        self.public = server.url("/fed")
        self.installation = Installation(
            folder,
            environment(
                folder, redis_url, FEDGATE_PUBLIC_URL=self.public,
                FEDGATE_OUTBOUND_ALLOWED_NETWORKS="127.0.0.0/8,::1/128", FEDGATE_OUTBOUND_CA_FILE=str(server.ca_file),
            ),
            self.clock,
        )  # fmt: skip
        self.admin = Administrator.of_a_new_account(self.installation, ACCOUNT)
        server.answers = Forwarded(self)
        self.user = self.admin.user("ann", allow(["sts:GetWebIdentityToken", "sts:SetWebIdentityTokenScope"]), **{
            "Tags.member.1.Key": "Team", "Tags.member.1.Value": "red"})  # fmt: skip

    def enable(self):
        return self.admin.do("EnableOutboundWebIdentityFederation").text("IssuerIdentifier")

    def token(self, credentials=None, **more):
        given = AUDIENCE | {"SigningAlgorithm": "RS256"} | more
        return self.installation.call("GetWebIdentityToken", credentials or self.user, **given)

    def get(self, address):
        return self.installation.request("GET", address.removeprefix(self.public), {"Host": "127.0.0.1:8080"})

    def keys(self, issuer):
        about = json.loads(self.get(f"{issuer}/.well-known/openid-configuration").body)
        assert about["issuer"] == issuer
        return KeySet.import_key_set(json.loads(self.get(about["jwks_uri"]).body))


class Forwarded(dict):
    """Answers of the installation, by path, under the path of its public address."""

    def __init__(self, world):
        super().__init__()
        self.world = world

    def get(self, path, _default=None):
        if not path.startswith("/fed/"):
            return None

        def answer(handler):
            told = self.world.installation.request("GET", path.removeprefix("/fed"), {"Host": "127.0.0.1:8080"})
            handler.send_response(told.status)
            handler.send_header("Content-Length", str(len(told.body)))
            handler.end_headers()
            handler.wfile.write(told.body)

        return answer


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with web_server(tmp_path_factory.mktemp("tls")) as running:
        yield running


@pytest.fixture
def world(tmp_path, redis_url, server):
    made = JwtIssuerSetup(tmp_path, redis_url, server)
    yield made
    made.installation.close()


def verified(world, issuer, answer, algorithm="RS256"):
    """Return header and claims, verified by a library as any other system would."""
    found = jwt.decode(answer.text("WebIdentityToken"), world.keys(issuer), algorithms=[algorithm])
    return found.header, found.claims


# --- the account's issuer ---------------------------------------------------------------------------------------------


def test_an_issuer_is_enabled_told_of_and_disabled(world):
    call = world.installation.call
    refused(call("GetOutboundWebIdentityFederationInfo", world.admin.root), 404, "FeatureDisabled")
    refused(call("DisableOutboundWebIdentityFederation", world.admin.root), 404, "FeatureDisabled")
    issuer = world.enable()
    assert issuer.startswith(f"{world.public}/issuer/")
    refused(call("EnableOutboundWebIdentityFederation", world.admin.root), 409, "FeatureEnabled")
    info = world.admin.do("GetOutboundWebIdentityFederationInfo")
    assert (info.text("IssuerIdentifier"), info.text("JwtVendingEnabled")) == (issuer, "true")
    world.admin.do("DisableOutboundWebIdentityFederation")
    assert world.admin.do("GetOutboundWebIdentityFederationInfo").text("JwtVendingEnabled") == "false"
    assert world.enable() == issuer


def test_without_it_there_is_no_token(world):
    refused(world.token(), 403, "OutboundWebIdentityFederationDisabledException", "EnableOutboundWebIdentityFederation")
    issuer = world.enable()
    answer = world.token()
    assert answer.status == 200
    world.admin.do("DisableOutboundWebIdentityFederation")
    refused(world.token(), 403, "OutboundWebIdentityFederationDisabledException")
    assert verified(world, issuer, answer)  # what was issued can still be verified


def test_every_account_has_an_issuer_of_its_own_and_strangers_have_none(world):
    other = Administrator.of_a_new_account(world.installation)
    assert other.do("EnableOutboundWebIdentityFederation").text("IssuerIdentifier") != world.enable()
    for path in ("openid-configuration", "jwks.json"):
        assert world.get(f"{world.public}/issuer/{'0' * 36}/.well-known/{path}").status == 404


# --- the token --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["RS256", "ES384"])
def test_a_token_tells_who_called_and_any_library_verifies_it(world, algorithm):
    issuer = world.enable()
    answer = world.token(SigningAlgorithm=algorithm, DurationSeconds=60, **{
        "Tags.member.1.Key": "job", "Tags.member.1.Value": "42"})  # fmt: skip
    assert answer.status == 200, answer.message
    header, claims = verified(world, issuer, answer, algorithm)
    assert (header["typ"], header["alg"]) == ("JWT", algorithm)
    now = int(world.clock().timestamp())
    about = claims.pop("https://sts.amazonaws.com/")
    assert len(claims.pop("jti")) == 36
    assert ACCOUNT not in claims.pop(CLAIM)  # sealed
    assert claims == {
        "iss": issuer,
        "sub": f"arn:aws:iam::{ACCOUNT}:user/ann",
        "aud": "https://api.example.com",
        "iat": now,
        "exp": now + 60,
    }
    assert about == {
        "aws_account": ACCOUNT,
        "principal_id": f"arn:aws:iam::{ACCOUNT}:user/ann",
        "source_region": "us-east-1",
        "principal_tags": {"Team": "red"},
        "request_tags": {"job": "42"},
    }
    assert datetime.fromisoformat(answer.text("Expiration")) == world.clock() + timedelta(seconds=60)


def test_the_token_of_a_session_names_its_role_and_what_is_behind_it(world):
    issuer = world.enable()
    trusted = trust({"AWS": ACCOUNT}, ["sts:AssumeRole", "sts:SetSourceIdentity"])
    role = world.admin.role("job", trusted, allow("sts:GetWebIdentityToken"))
    ben = world.admin.user("ben", allow(["sts:AssumeRole", "sts:SetSourceIdentity"]))
    session = assumed(world.installation, ben, role, "run", SourceIdentity="ben@corp")
    _, claims = verified(world, issuer, world.token(session))
    about = claims["https://sts.amazonaws.com/"]
    assert claims["sub"] == about["principal_id"] == role
    assert about["session_arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/job/run"
    assert about["source_identity"] == "ben@corp"
    assert about["original_session_exp"].endswith("Z")


def test_several_audiences_and_a_scope_are_told_as_they_are(world):
    issuer = world.enable()
    _, claims = verified(world, issuer, world.token(**{"Audience.member.2": "other"}))
    assert (claims["aud"], claims.get("scope")) == (["https://api.example.com", "other"], None)
    _, claims = verified(world, issuer, world.token(Scope="read write"))
    assert (claims["aud"], claims["scope"]) == ("https://api.example.com", "read write")


def test_a_scope_needs_leave_of_its_own_and_a_policy_may_limit_it(world):
    world.enable()
    ben = world.admin.user("ben", allow("sts:GetWebIdentityToken"))
    assert world.token(ben).status == 200
    refused(world.token(ben, Scope="read"), 403, "AccessDenied", "sts:SetWebIdentityTokenScope on resource: *")
    limit = {"ForAllValues:StringEquals": {"sts:IdentityTokenScope": ["read", "list"]}}
    limited = allow("sts:SetWebIdentityTokenScope", Condition=limit)
    eve = world.admin.user("eve", allow("sts:GetWebIdentityToken"), limited)
    assert world.token(eve, Scope="read list").status == 200
    refused(world.token(eve, Scope="read write"), 403, "AccessDenied", "sts:SetWebIdentityTokenScope on resource: *")


def test_a_token_never_outlives_its_session(world):
    world.enable()
    role = world.admin.role("job", trust({"AWS": ACCOUNT}), allow("sts:GetWebIdentityToken"))
    ben = world.admin.user("ben", allow("sts:AssumeRole"))
    session = assumed(world.installation, ben, role, DurationSeconds=900)
    assert world.token(session, DurationSeconds=900).status == 200
    refused(world.token(session, DurationSeconds=901), 403, "SessionDurationEscalationException")


DENIED = {
    "sts:IdentityTokenAudience": "https://other.example.com",
    "sts:SigningAlgorithm": "ES384",
    "aws:RequestTag/job": "43",
}


@pytest.mark.parametrize("key", DENIED)
def test_a_policy_may_ask_what_the_token_shall_be(world, key):
    world.enable()
    given = {"Tags.member.1.Key": "job", "Tags.member.1.Value": "42"}
    operator = "ForAnyValue:StringEquals" if "Audience" in key else "StringEquals"
    ben = world.admin.user("ben", allow("sts:GetWebIdentityToken", Condition={operator: {key: DENIED[key]}}))
    refused(world.token(ben, **given), 403, "AccessDenied", "sts:GetWebIdentityToken on resource: *")
    right = {"Audience": "https://api.example.com", "Algorithm": "RS256", "job": "42"}
    value = next(value for name, value in right.items() if name in key)
    eve = world.admin.user("eve", allow("sts:GetWebIdentityToken", Condition={operator: {key: value}}))
    assert world.token(eve, **given).status == 200


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"SigningAlgorithm": "HS256"}, "ValidationError"),
        ({"DurationSeconds": 59}, "ValidationError"),
        ({"DurationSeconds": 3601}, "ValidationError"),
        ({"Tags.member.1.Key": "aws:x", "Tags.member.1.Value": "y"}, "ValidationError"),
        ({"SubjectMode": "OriginIdentity"}, "NotImplemented"),
        ({"Scope": "read read"}, "ValidationError"),
        ({"Scope": "read  write"}, "ValidationError"),
        ({"Scope": "a,b"}, "ValidationError"),
        ({"Scope": "read", "Audience.member.2": "other"}, "ValidationError"),
    ],
)
def test_what_a_token_cannot_be_is_refused(world, more, code):
    world.enable()
    assert world.token(**more).code == code


def test_an_audience_is_told_once(world):
    issuer = world.enable()
    answer = world.token(**{"Audience.member.2": "https://api.example.com"})
    assert verified(world, issuer, answer)[1]["aud"] == "https://api.example.com"


def test_claims_have_a_size_as_they_are_signed(world):
    world.enable()
    accents = {f"Tags.member.{n}.{part}": f"{n}{'é' * (100 if part == 'Key' else 10)}"[:128]
               for n in range(1, 31) for part in ("Key", "Value")}  # fmt: skip
    assert world.token(**accents).status == 200  # 13 kB with the escapes of JSON, 7 kB as it is signed
    many = {f"Tags.member.{n}.{part}": f"{n}{'v' * 250}"[: 128 if part == "Key" else 256]
            for n in range(1, 51) for part in ("Key", "Value")}  # fmt: skip
    refused(world.token(**many), 400, "JWTPayloadSizeExceededException")


def test_root_and_whoever_may_not_get_none(world):
    world.enable()
    refused(world.token(world.admin.root), 403, "AccessDenied", "Root of an account gets no web identity token")
    refused(world.token(world.admin.user("eve")), 403, "AccessDenied", "sts:GetWebIdentityToken")


# --- keys -------------------------------------------------------------------------------------------------------------


def test_a_new_key_is_published_before_it_signs_and_old_tokens_stay_valid(world):
    issuer = world.enable()
    old, _ = verified(world, issuer, first := world.token())
    with world.installation.store.write() as tx:
        vault = Vault(world.installation.settings.master_key)
        make_key(tx, vault, "RS256", now=world.clock(), random=wiring.random, at=world.clock() + PROPAGATION)
    assert len(world.keys(issuer).keys) == 3
    assert verified(world, issuer, world.token())[0]["kid"] == old["kid"]
    world.clock.advance(hours=1)
    assert verified(world, issuer, world.token())[0]["kid"] != old["kid"]
    assert verified(world, issuer, first)


def test_no_private_key_is_ever_published(world):
    issuer = world.enable()
    text = world.get(f"{issuer}/.well-known/jwks.json").body.decode()
    for key in json.loads(text)["keys"]:
        assert not set(key) & {"d", "p", "q", "dp", "dq", "qi", "k"}
    assert {key["alg"] for key in json.loads(text)["keys"]} == {"RS256", "ES384"}


# --- our own tokens, where an account trusts our own issuer -----------------------------------------------------------


class OwnTokens:
    """A role that admits whoever has a token of the account's own issuer."""

    def __init__(self, world):
        self.world, issuer = world, world.enable()
        audience = {"ClientIDList.member.1": AUDIENCE["Audience.member.1"]}
        provider = world.admin.do("CreateOpenIDConnectProvider", Url=issuer, **audience)
        federated = {"Federated": provider.text("OpenIDConnectProviderArn")}
        self.role = world.admin.role(
            "again", trust(federated, "sts:AssumeRoleWithWebIdentity"), allow("sts:GetWebIdentityToken")
        )
        self.job = world.admin.role("job", trust({"AWS": ACCOUNT}), allow("sts:GetWebIdentityToken"))
        self.ben = world.admin.user("ben", allow(["sts:AssumeRole", "sts:GetWebIdentityToken"]))

    def assume(self, token):
        given = {"RoleArn": self.role, "RoleSessionName": "again", "WebIdentityToken": token.text("WebIdentityToken")}
        return self.world.installation.call("AssumeRoleWithWebIdentity", None, **given)

    def session(self):
        return assumed(self.world.installation, self.ben, self.job, "run")

    def works(self, credentials):
        return self.world.installation.call("GetCallerIdentity", credentials).status == 200

    def revoke(self, kind, subject):
        with self.world.installation.store.write() as tx:
            revoke(tx, kind, subject, now_ms=1, random=wiring.random)


@pytest.fixture
def own(world):
    return OwnTokens(world)


def grant_of(world, credentials):
    return open_token(credentials.token, credentials.access_key, world.installation.services.storage.sealers.current())


REVOKED = {
    "session": lambda session: session.id,
    "role": lambda session: session.grant.entity_id,
    "person": lambda session: session.grant.person,
    "account": lambda session: session.grant.account_id,
    "installation": lambda _session: "",
}


@pytest.mark.parametrize("kind", REVOKED)
def test_a_token_of_our_own_falls_with_the_session_that_asked_for_it(world, own, kind):
    session = own.session()
    token = world.token(session)
    first = own.assume(token).credentials
    second = own.assume(world.token(first)).credentials
    assert own.works(second)
    assert grant_of(world, second).lineage.ancestors == (grant_of(world, session).id, grant_of(world, first).id)
    own.revoke(kind, REVOKED[kind](grant_of(world, session)))
    assert not any(map(own.works, (session, first, second)))
    refused(own.assume(token), 400, "InvalidIdentityToken", "The session that asked for the token has ended")
    assert own.works(own.assume(world.token(own.session())).credentials)  # begun afterwards


def test_a_token_of_our_own_falls_with_the_user_who_asked_for_it(world, own):
    token = world.token(own.ben)
    session = own.assume(token).credentials
    assert own.works(session)
    user_id = world.admin.do("GetUser", UserName="ben").text("UserId")
    own.revoke("person", f"iam|{user_id}")
    assert not own.works(session)
    refused(own.assume(token), 400, "InvalidIdentityToken")
    assert own.works(own.assume(world.token(own.ben)).credentials)


@pytest.mark.parametrize("gone", ["the key", "the role", "the sealing key"])
def test_a_token_of_our_own_needs_whoever_asked_for_it(world, own, gone):
    token = world.token(own.session() if gone == "the role" else own.ben)
    assert own.assume(token).status == 200
    if gone == "the key":
        world.admin.do("UpdateAccessKey", UserName="ben", AccessKeyId=own.ben.access_key, Status="Inactive")
    elif gone == "the role":
        world.admin.do("DeleteRolePolicy", RoleName="job", PolicyName="p0")
        world.admin.do("DeleteRole", RoleName="job")
    else:
        replace_sealing_keys(world)
    refused(own.assume(token), 400, "InvalidIdentityToken", "The session that asked for the token has ended")


def replace_sealing_keys(world):
    vault = Vault(world.installation.settings.master_key)
    with world.installation.store.write() as tx:
        old = [key.id for key in sealing_keys.load(tx, vault)]
        sealing_keys.rotate(tx, vault, now=world.clock(), random=wiring.random)
    world.clock.advance(hours=0.01)
    with world.installation.store.write() as tx:
        for key_id in old:
            sealing_keys.remove(tx, key_id)


def test_the_claim_of_one_token_counts_in_no_other():
    sealer = Sealer((SealingKey("0a0b0c0d", bytes(range(32))),))
    origin = TokenOrigin(Lineage(7, (("account|1", 5),), ("ab",)), "AROAX", "ef")
    sealed = seal_origin(origin, "https://idp.example", "one", sealer, wiring.random)
    assert open_origin(sealed, "https://idp.example", "one", sealer) == origin
    for text, issuer, token_id in [
        (sealed, "https://evil.example", "one"),
        (sealed, "https://idp.example", "two"),
        (sealed, "https://idp.example", None),
        (None, "https://idp.example", "one"),
        ("text", "https://idp.example", "one"),
    ]:
        assert open_origin(text, issuer, token_id, sealer) is None


# --- a second Fedgate as the upstream ---------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["RS256", "ES384"])
def test_another_installation_believes_the_issuer_and_gives_credentials(world, tmp_path, redis_url, server, algorithm):
    issuer = world.enable()
    folder = tmp_path / "upstream"
    folder.mkdir()
    upstream = Installation(
        folder,
        environment(
            folder, redis_url, FEDGATE_OUTBOUND_ALLOWED_NETWORKS="127.0.0.0/8,::1/128",
            FEDGATE_OUTBOUND_CA_FILE=str(server.ca_file),
        ),
        world.clock,
    )  # fmt: skip
    cloud = Administrator.of_a_new_account(upstream, "444455556666")
    provider = cloud.do("CreateOpenIDConnectProvider", Url=issuer, **{"ClientIDList.member.1": "https://sts.cloud"})
    part = urllib.parse.urlsplit(issuer).netloc + urllib.parse.urlsplit(issuer).path
    condition = {"StringEquals": {f"{part}:sub": f"arn:aws:iam::{ACCOUNT}:user/ann"}}
    federated = {"Federated": provider.text("OpenIDConnectProviderArn")}
    role = cloud.role("onprem", trust(federated, "sts:AssumeRoleWithWebIdentity", Condition=condition))
    token = world.token(SigningAlgorithm=algorithm, **{"Audience.member.1": "https://sts.cloud"}).text(
        "WebIdentityToken"
    )
    answer = upstream.call("AssumeRoleWithWebIdentity", None, RoleArn=role, RoleSessionName="onprem",
                           WebIdentityToken=token)  # fmt: skip
    assert answer.status == 200, answer.message
    assert answer.text("Provider") == issuer
    who = upstream.call("GetCallerIdentity", answer.credentials)
    assert who.text("Arn") == "arn:aws:sts::444455556666:assumed-role/onprem/onprem"
    upstream.close()
