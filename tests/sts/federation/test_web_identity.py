"""AssumeRoleWithWebIdentity through the whole application, over issuers that are real servers."""

import json
import os
import re
import textwrap
import threading
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import update
from support.administrator import Administrator, allow, assume, deny, refused, trust
from support.oidc_issuer import Issuer, b64, compact, hmac_sign, jwk, number, private_key, signature
from support.servers import HANG
from support.web_identity_fixtures import ACCOUNT, open_setup
from support.web_server import web_server

from broker.providers.oidc.keys import _POWERS, _ROCA_PRIMES
from iam.store.revocation import revoke
from iam.store.schema import oidc_provider

NOT_ALLOWED = "Not authorized to perform sts:AssumeRoleWithWebIdentity"
NO_JWT = "The ID Token provided is not a valid JWT."
NO_KEY = "Couldn't retrieve verification key from your identity provider,"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with web_server(tmp_path_factory.mktemp("tls")) as running:
        yield running


@pytest.fixture(scope="module")
def world(tmp_path_factory, redis_url, server):
    made = open_setup(tmp_path_factory.mktemp("web"), redis_url, server)
    yield made
    made.installation.close()


@pytest.fixture
def fresh(tmp_path, redis_url, server):
    made = open_setup(tmp_path, redis_url, server)
    server.asked.clear()
    yield made
    made.installation.close()


def last_record(world):
    return json.loads(world.installation.services.storage.audit.path.read_text().splitlines()[-1])


# --- what a good token gets -------------------------------------------------------------------------------------------


def test_the_answer_is_that_of_aws(world):
    answer = world.assume(world.issuer.token())
    assert answer.status == 200, answer.message
    assert answer.text("Arn") == f"arn:aws:sts::{ACCOUNT}:assumed-role/app/session"
    assert answer.text("AssumedRoleId").endswith(":session")
    assert answer.text("SubjectFromWebIdentityToken") == "user-1"
    assert (answer.text("Provider"), answer.text("Audience")) == (world.issuer.url, "app-1")
    assert answer.text("PackedPolicySize") is None
    expires = datetime.fromisoformat(answer.text("Expiration"))
    assert (expires - world.clock()).total_seconds() == 3600
    who = world.installation.call("GetCallerIdentity", answer.credentials)
    assert who.text("Arn") == f"arn:aws:sts::{ACCOUNT}:assumed-role/app/session"


@pytest.mark.parametrize(
    "kind", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
)
def test_a_token_may_be_signed_by_any_algorithm_that_its_key_has(world, server, kind):
    issuer = Issuer(server, world.clock, f"/{kind}", keys=[jwk(kind, "k1")])
    role = world.trusts(f"by-{kind}", world.registered(issuer))
    assert world.assume(issuer.token(kind), role=role).status == 200


def test_an_issuer_may_have_a_path_and_a_slash_at_its_end(world, server):
    issuer = Issuer(server, world.clock, "/realms/one", url=server.url("/realms/one/"))
    world.admin.do("CreateOpenIDConnectProvider", Url=issuer.url, **{"ClientIDList.member.1": "app-1"})
    provider = world.provider(issuer)
    assert provider.endswith("/realms/one/")
    mine = {"StringEquals": {f"{issuer.arn_part}:sub": "user-1"}}
    role = world.trusts("slash", issuer, Condition=mine)
    assert world.assume(issuer.token(), role=role).status == 200
    asked = len(server.asked)
    other = world.assume(issuer.token(iss=issuer.url.rstrip("/")), role=role)
    refused(other, 400, "InvalidIdentityToken", "No OpenIDConnect provider found")
    assert len(server.asked) == asked


def test_a_token_for_several_clients_is_for_each_and_azp_says_which(world):
    assert world.assume(world.issuer.token(aud=["other", "app-1"])).text("Audience") == "app-1"
    assert world.assume(world.issuer.token(aud="other", azp="app-1")).text("Audience") == "app-1"
    refused(world.assume(world.issuer.token(aud="app-1", azp="other")), 400, "InvalidIdentityToken", "Incorrect token")


def test_a_token_is_accepted_until_it_expires_as_aws_does(world):
    token = world.issuer.token()
    assert [world.assume(token).status for _ in range(2)] == [200, 200]


def test_a_token_that_was_issued_more_than_a_day_ago_is_expired_however_long_it_is_valid(world):
    def issued(hours):
        now = int(world.clock().timestamp())
        return world.issuer.token(iat=now - int(hours * 3600), exp=now + 86_400 * 30)

    assert world.assume(issued(23.9)).status == 200
    for hours in (25, 441_398 / 3600):
        refused(world.assume(issued(hours)), 400, "ExpiredTokenException", "Token expired: it was issued")


def test_session_policies_and_durations_are_those_of_any_role(world):
    answer = world.assume(world.issuer.token(), Policy=allow("sts:GetCallerIdentity"), DurationSeconds=900)
    assert 0 < int(answer.text("PackedPolicySize")) <= 100
    assert world.installation.call("ListRoles", answer.credentials).status == 403
    refused(world.assume(world.issuer.token(), DurationSeconds=3601), 400, "ValidationError", "MaxSessionDuration")
    arn = world.admin.policy("NoRoles", deny("iam:ListRoles"))
    answer = world.assume(world.issuer.token(), **{"PolicyArns.member.1.arn": arn})
    assert world.installation.call("ListRoles", answer.credentials).status == 403


# --- what the token asks of a session ---------------------------------------------------------------------------------

NESTED = {"https://aws.amazon.com/tags": {"principal_tags": {"Project": ["Heart"], "Team": ["red"]},
                                          "transitive_tag_keys": ["Project"]}}  # fmt: skip
FLAT = {"https://aws.amazon.com/tags/principal_tags/Project": "Heart",
        "https://aws.amazon.com/tags/principal_tags/Team": "red",
        "https://aws.amazon.com/tags/transitive_tag_keys": ["Project"]}  # fmt: skip


@pytest.mark.parametrize("claims", [NESTED, FLAT], ids=["nested", "flat"])
def test_tags_of_the_token_are_tags_of_the_session_and_transitive_ones_stay(world, claims, request):
    name = request.node.callspec.id
    seen = allow("iam:ListRoles", Condition={"StringEquals": {"aws:PrincipalTag/Project": "Heart"}})
    role = world.trusts(f"tagged-{name}", None, seen, allow("sts:AssumeRole"),
                        Condition={"StringEquals": {"aws:RequestTag/Team": "red"}})  # fmt: skip
    chained = world.admin.role(f"chained-{name}", trust({"AWS": role}, ["sts:AssumeRole", "sts:TagSession"]), seen)
    answer = world.assume(world.issuer.token(**claims), role=role)
    assert world.installation.call("ListRoles", answer.credentials).status == 200, answer.message
    second = assume(world.installation, answer.credentials, chained)
    assert world.installation.call("ListRoles", second.credentials).status == 200
    refused(world.assume(world.issuer.token(), role=role), 403, "AccessDenied", NOT_ALLOWED)


def test_tags_and_a_source_identity_need_leave(world):
    role = world.trusts("bare", action="sts:AssumeRoleWithWebIdentity")
    assert world.assume(world.issuer.token(), role=role).status == 200
    refused(world.assume(world.issuer.token(**NESTED), role=role), 403, "AccessDenied")
    named = world.issuer.token(**{"https://aws.amazon.com/source_identity": "ann"})
    refused(world.assume(named, role=role), 403, "AccessDenied")
    assert world.assume(named).text("SourceIdentity") == "ann"


WRONG = {
    "51 tags": {"https://aws.amazon.com/tags": {"principal_tags": {f"k{n}": ["v"] for n in range(51)}}},
    "a tag with two values": {"https://aws.amazon.com/tags": {"principal_tags": {"a": ["1", "2"]}}},
    "a tag that is a number": {"https://aws.amazon.com/tags": {"principal_tags": {"a": [1]}}},
    "tags that are a list": {"https://aws.amazon.com/tags": []},
    "a reserved tag": {"https://aws.amazon.com/tags": {"principal_tags": {"aws:a": ["1"]}}},
    "tags that differ in case": {"https://aws.amazon.com/tags": {"principal_tags": {"a": ["1"], "A": ["1"]}}},
    "transitive and no tag": {"https://aws.amazon.com/tags": {"transitive_tag_keys": ["a"]}},
    "a source identity with a space": {"https://aws.amazon.com/source_identity": "a b"},
    "a reserved source identity": {"https://aws.amazon.com/source_identity": "aws:x"},
    "a source identity that is a number": {"https://aws.amazon.com/source_identity": 12345},
}


@pytest.mark.parametrize("name", WRONG)
def test_what_a_token_asks_wrongly_is_refused(world, name):
    refused(world.assume(world.issuer.token(**WRONG[name])), 400, "InvalidIdentityToken")


# --- what a trust policy sees -----------------------------------------------------------------------------------------

GITHUB = {
    "sub": "repo:octo-org/octo-repo:ref:refs/heads/main", "aud": "app-1", "repository": "octo-org/octo-repo",
    "repository_id": "1234", "run_attempt": 1, "ref_protected": True, "amr": ["pwd", "mfa"], "environment": "prod",
}  # fmt: skip
SEEN = {
    "sub": GITHUB["sub"], "aud": "app-1", "repository": "octo-org/octo-repo", "repository_id": "1234",
    "run_attempt": "1", "ref_protected": "true", "environment": "prod", "Environment": "prod",
}  # fmt: skip


@pytest.mark.parametrize("claim", SEEN)
def test_a_trust_policy_asks_for_any_claim(world, claim):
    key, value = f"{world.issuer.arn_part}:{claim}", SEEN[claim]
    name = f"{claim}-{claim[0].isupper()}"
    role = world.trusts(f"by-{name}", Condition={"StringEquals": {key: value}})
    assert world.assume(world.issuer.token(**GITHUB), role=role).status == 200
    other = world.trusts(f"not-{name}", Condition={"StringEquals": {key: f"{value}x"}})
    refused(world.assume(world.issuer.token(**GITHUB), role=other), 403, "AccessDenied", NOT_ALLOWED)


def test_a_claim_with_several_values_is_a_key_with_several(world):
    key = f"{world.issuer.arn_part}:amr"
    role = world.trusts("amr", Condition={"ForAnyValue:StringEquals": {key: "mfa"}})
    assert world.assume(world.issuer.token(**GITHUB), role=role).status == 200
    assert world.assume(world.issuer.token(amr=["pwd"]), role=role).status == 403


IMPOSTORS = {
    "Sub": {"Sub": "admin"},
    "SUB in a list": {"SUB": ["x", "admin"]},
    "AUD": {"AUD": "admin"},
    "two that differ in case": {"Team": "a", "team": "b"},
}


@pytest.mark.parametrize("how", IMPOSTORS)
def test_a_claim_never_passes_for_another_by_its_case(world, how):
    answer = world.assume(world.issuer.token(**IMPOSTORS[how]))
    refused(answer, 400, "InvalidIdentityToken", "whose names differ in case alone")


@pytest.mark.parametrize("claims", [{"app_id": "x"}, {"oaud": "secret-app"}, {"OAUD": "secret-app"}, {"id": "x"}])
def test_the_audience_is_what_was_verified_whatever_else_is_claimed(world, claims):
    part = world.issuer.arn_part
    name = f"{len(''.join(claims))}{next(iter(claims)).isupper()}"
    by_aud = world.trusts(f"aud-{name}", Condition={"StringEquals": {f"{part}:aud": "secret-app"}})
    by_oaud = world.trusts(f"oaud-{name}", Condition={"StringEquals": {f"{part}:oaud": "secret-app"}})
    token = world.issuer.token(aud=["app-1", "other"], azp="app-1", **claims)
    for role in (by_aud, by_oaud):
        refused(world.assume(token, role=role), 403, "AccessDenied", NOT_ALLOWED)


@pytest.mark.parametrize("value", ["sales", ["sales", None], ["sales", {"a": 1}], ["sales", "x" * 3000]])
def test_no_claim_hides_from_a_deny(world, value):
    key = f"{world.issuer.arn_part}:dept"
    denying = {"Effect": "Deny", "Principal": {"Federated": world.provider()},
               "Action": "sts:AssumeRoleWithWebIdentity",
               "Condition": {"ForAnyValue:StringEquals": {key: "sales"}}}  # fmt: skip
    allowing = {"Effect": "Allow", "Principal": {"Federated": world.provider()},
                "Action": "sts:AssumeRoleWithWebIdentity"}  # fmt: skip
    document = json.dumps({"Version": "2012-10-17", "Statement": [allowing, denying]})
    role = world.admin.role(f"deny{len(str(value))}", document)
    filler = {f"claim{number}": number for number in range(150)}
    assert world.assume(world.issuer.token(**filler), role=role).status == 200
    assert world.assume(world.issuer.token(**filler, dept=value), role=role).status == 403


def test_claims_that_are_long_do_not_grow_the_session(world):
    answer = world.assume(world.issuer.token(amr="a" * 4000, id="b" * 4000, app_id="c" * 2000))
    assert answer.status == 200
    assert len(answer.credentials.token) < 1500


def test_azp_is_the_audience_and_aud_the_original_one(world):
    part = world.issuer.arn_part
    both = {"StringEquals": {f"{part}:aud": "app-1", f"{part}:oaud": "server"}}
    role = world.trusts("azp", Condition=both)
    assert world.assume(world.issuer.token(aud="server", azp="app-1"), role=role).status == 200
    assert world.assume(world.issuer.token(), role=role).status == 403


def test_the_subject_and_the_provider_stay_with_the_session(world):
    part = world.issuer.arn_part
    seen = allow("iam:ListRoles", Condition={"StringEquals": {
        f"{part}:sub": "user-1", f"{part}:aud": "app-1", "aws:FederatedProvider": world.provider()}})  # fmt: skip
    role = world.trusts("lasting", None, seen)
    for subject, status in (("user-1", 200), ("user-2", 403)):
        answer = world.assume(world.issuer.token(sub=subject), role=role)
        assert world.installation.call("ListRoles", answer.credentials).status == status


# --- who is not trusted -----------------------------------------------------------------------------------------------


def test_a_role_that_does_not_trust_the_issuer_looks_like_one_that_is_not_there(world):
    stranger = world.admin.role("stranger", trust({"AWS": ACCOUNT}))
    for role in (stranger, world.admin.arn("role", "none")):
        refused(world.assume(world.issuer.token(), role=role), 403, "AccessDenied", NOT_ALLOWED)


def test_an_issuer_that_the_account_does_not_know_is_refused_and_not_asked(world, server):
    issuer = Issuer(server, world.clock, "/unknown")
    told = f"No OpenIDConnect provider found in your account for {issuer.url}"
    refused(world.assume(issuer.token()), 400, "InvalidIdentityToken", told)
    assert issuer.fetches() == 0
    other = Administrator.of_a_new_account(world.installation)
    refused(world.assume(world.issuer.token(), role=other.arn("role", "x")), 400, "InvalidIdentityToken", "No OpenID")


def test_a_role_that_is_no_arn_is_refused(world):
    refused(world.assume(world.issuer.token(), role="arn:aws:iam::x:role/y"), 400, "ValidationError", "is invalid")


# --- hostile tokens (THREATS C) ---------------------------------------------------------------------------------------


def with_header(**header):
    return lambda issuer: issuer.token(header=header)


def said(kid="k1", kind="RS256", **changes):
    return lambda issuer: issuer.token(kind, kid, **changes)


def secret_of_the_public_key(form):
    key = private_key("RS256").public_key()
    return {
        "PEM": key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "DER": key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "PKCS1": key.public_bytes(Encoding.PEM, PublicFormat.PKCS1),
        "JWK": json.dumps(jwk("RS256", "k1")).encode(),
        "n": number(key.public_numbers().n).encode(),
        "empty": b"",
    }[form]


def by_hmac(form, alg="HS256"):
    return lambda issuer: compact({"alg": alg, "kid": "k1"}, issuer.claims(), hmac_sign(secret_of_the_public_key(form)))


def unsigned(alg):
    return lambda issuer: compact({"alg": alg, "kid": "k1"}, issuer.claims(), lambda _data: b"")


def raw(header=None, claims=None):
    """A token whose parts are texts or bytes, signed by the issuer's key."""

    def make(issuer):
        told = '{"alg":"RS256","kid":"k1"}' if header is None else header
        body = json.dumps(issuer.claims()) if claims is None else claims
        return compact(told, body(issuer) if callable(body) else body, lambda data: signature("RS256", data))

    return make


def changed(change):
    return lambda issuer: change(issuer.token())


def numeric(name, text):
    """A token whose claim is written as this text."""

    def body(issuer):
        claims = issuer.claims()
        claims.pop(name, None)
        return json.dumps(claims)[:-1] + f', "{name}": {text}}}'

    return raw(claims=body)


def parts(token):
    return token.split(".")


JWE = {"alg": "PBES2-HS256+A128KW", "enc": "A128GCM", "p2c": 2**31 - 1, "p2s": "AAAA"}
HOSTILE = (
    {f"C01 {alg}": unsigned(alg) for alg in ("none", "None", "NONE", "nOnE", "")}
    | {"C01 none with a signature": with_header(alg="none")}
    | {f"C02 HS256 by {form}": by_hmac(form) for form in ("PEM", "DER", "PKCS1", "JWK", "n", "empty")}
    | {"C02 RS256 by HMAC": by_hmac("PEM", "RS256")}
    | {f"C03 {alg!r}": with_header(alg=alg) for alg in (
        "RS1", ["RS256"], "rs256", None, 256, "ES256", "PS256", "RS384")}
    | {"C03 PS256 by the key of RS256": lambda issuer: compact(
        {"alg": "PS256", "kid": "k1"}, issuer.claims(), lambda data: signature("PS256", data))}
    | {f"C04 {name}": with_header(**{name: value}) for name, value in {
        "jwk": jwk("RS256", "k1", "mallory"), "x5u": "https://evil.example/"}.items()}
    | {"C04 jku of another key": lambda issuer: issuer.token(header={"jku": "https://evil.example/"}, name="mallory")}
    | {"C05 crit": with_header(crit=["exp"]), "C05 empty crit": with_header(crit=[])}
    | {"C06 b64": with_header(b64=False), "zip": with_header(zip="DEF")}
    | {f"C07 {kid!r:.40}": with_header(kid=kid) for kid in (
        "../../etc/passwd", "https://evil.example/", "' OR 1=1", "k1\0", "k" * 8192, 1, {"k": 1}, ["k1"], True, "")}
    | {
        "C10 signature stripped": changed(lambda token: ".".join(parts(token)[:2]) + "."),
        "C10 signature cut": changed(lambda token: token[:-8]),
        "C10 two parts": changed(lambda token: ".".join(parts(token)[:2])),
        "C10 four parts": changed(lambda token: token + ".AA"),
        "C10 payload of another token": lambda issuer: ".".join(
            [*parts(issuer.token())[:1], parts(issuer.token(sub="evil"))[1], parts(issuer.token())[2]]),
        "C10 padded": changed(lambda token: token + "=="),
        "C10 another spelling of the last character": changed(
            lambda token: token[:-1] + chr(ord(token[-1]) + 1) if token[-1] in "AQgw" else token + "A"),
        "C10 other key": said(name="mallory"),
        "C11 JWE": lambda _issuer: ".".join([b64(json.dumps(JWE).encode()), "AA", "AA", "AA", "AA"]),
        "C13 duplicate alg": raw(header='{"alg":"RS256","kid":"k1","alg":"RS256"}'),
        "C13 duplicate sub": raw(claims=lambda issuer: json.dumps(issuer.claims())[:-1] + ',"sub":"evil"}'),
        "C13 byte order mark": raw(claims=lambda issuer: b"\xef\xbb\xbf" + json.dumps(issuer.claims()).encode()),
        "C13 bad UTF-8": raw(claims=b'{"iss":"\xff"}'),
        "C13 list": raw(claims="[]"),
        "C13 text": raw(claims='"x"'),
        "C13 deep": raw(claims="[" * 6000 + "]" * 6000),
        "C13 long number": numeric("exp", "1" * 5000),
        "C15 exp missing": said(exp=None),
        "C16 iat missing": said(iat=None),
        "C16 nbf ahead": lambda issuer: issuer.token(nbf=int(issuer.now().timestamp()) + 900),
        "C16 iat ahead": lambda issuer: issuer.token(iat=int(issuer.now().timestamp()) + 900),
        "C18 issuer list": lambda issuer: issuer.token(iss=[issuer.url]),
        "C18 issuer prefix": lambda issuer: issuer.token(iss=issuer.url[:-1]),
        "C18 issuer suffix": lambda issuer: issuer.token(iss=f"{issuer.url}x"),
        "C18 issuer case": lambda issuer: issuer.token(iss=issuer.url.upper()),
        "C18 issuer without https": lambda issuer: issuer.token(iss=issuer.arn_part),
        "C18 issuer with a slash": lambda issuer: issuer.token(iss=f"{issuer.url}/"),
        "C18 issuer with a zero byte": lambda issuer: issuer.token(iss=f"{issuer.url}\0"),
        "C18 issuer with a port": lambda issuer: issuer.token(iss=issuer.url.replace("/main", ":443/main")),
        "C18 issuer aws": lambda issuer: issuer.token(iss="https://aws"),
        "C18 issuer with two slashes": lambda issuer: issuer.token(iss=f"{issuer.url}//"),
        "C18 issuer missing": said(iss=None),
        "C22 access token": with_header(typ="at+jwt"),
        "C22 access token by its whole type": with_header(typ="Application/AT+JWT"),
        "C22 typ that is no text": with_header(typ=["JWT"]),
        "C22 logout token": with_header(typ="logout+jwt"),
        "C22 logout token by its claims": said(events={"http://schemas.openid.net/event/backchannel-logout": {}}),
        "C22 access token of Cognito": said(token_use="access"),
        "kid of nobody": said(kid="k9"),
    }
    | {f"C15 exp {text:.12}": numeric("exp", text) for text in (
        '"9999999999"', "NaN", "Infinity", "true", "1e30", "1e999", "null", "1" + "0" * 30, "[1]")}
    | {f"C19 aud {value!r}": said(aud=value) for value in (
        "other", None, "", "app-", "APP-1", {"a": 1}, [], [""], ["app-2"], 1)}
    | {f"C20 azp {value!r}": said(azp=value) for value in ("other", "", 1)}
    | {f"C21 sub {value!r:.12}": said(sub=value) for value in (None, "", 1, "s" * 256, ["user-1"])}
)  # fmt: skip
AUDIENCE, SUBJECT = "Incorrect token audience", "Missing a required claim: sub"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_token_gets_nothing(world, name):
    answer = world.assume(HOSTILE[name](world.issuer))
    refused(answer, 400, "InvalidIdentityToken")
    if name.startswith(("C19", "C20")):
        assert answer.message == AUDIENCE
    if name.startswith("C21"):
        assert answer.message == SUBJECT
    assert "evil.example" not in " ".join(world.issuer.server.asked)


def test_the_good_token_behind_them_is_taken(world):
    assert world.assume(world.issuer.token()).status == 200


HARMLESS = {
    "jku": "https://evil.example/token_keys", "x5c": ["MIIB", "A" * 4000], "x5t": 5, "x5t#S256": "AA", "cty": "JWT",
    "enc": "x", "nonce": "n", "ver": {"deep": [1]}, "typ": "application/jwt",
}  # fmt: skip


@pytest.mark.parametrize("name", HARMLESS)
def test_c04_a_header_that_is_never_used_does_no_harm(world, name):
    assert world.assume(world.issuer.token(header={name: HARMLESS[name]})).status == 200
    assert "evil.example" not in " ".join(world.issuer.server.asked)


@pytest.mark.parametrize("typ", ["jwt", "Jwt", "APPLICATION/JWT", None])
def test_the_type_of_a_token_is_a_media_type(world, typ):
    assert world.assume(world.issuer.token(header={"typ": typ})).status == 200


@pytest.mark.parametrize("form", ["{:.9e}", "{}.0", "{}.123456789012345", "{}e0", "{}E+0"])
def test_any_json_number_is_a_time(world, form):
    now = int(world.issuer.now().timestamp())
    assert world.assume(numeric("exp", form.format(now + 600))(world.issuer)).status == 200
    refused(world.assume(numeric("exp", form.format(now - 600))(world.issuer)), 400, "ExpiredTokenException")
    refused(world.assume(numeric("exp", "-1")(world.issuer)), 400, "ExpiredTokenException")


@pytest.mark.parametrize("name", ["nbf", "azp", "events", "token_use", "https://aws.amazon.com/tags"])
def test_a_claim_that_is_null_is_absent(world, name):
    token = compact({"alg": "RS256", "kid": "k1", "typ": None}, world.issuer.claims() | {name: None},
                    lambda data: signature("RS256", data))  # fmt: skip
    assert world.assume(token).status == 200


OVERAGE = {
    "Entra ID": {"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": "https://graph/x"}}},
    "Entra ID, implicit flow": {"hasgroups": True},
    "app roles": {"_claim_names": {"roles": "src1"}},
    "a value that is an object": {"groups": ["a", {"name": "contractors"}]},
    "a value that is a list": {"wids": [["a"]]},
    "an object in place of a list": {"groups": {"admins": True}},
    "a name with a prefix": {"cognito:groups": ["a", {"name": "contractors"}]},
    "a name that is a URL": {"https://app.example/claims/roles": {"admin": "1"}},
    "a name in another name": {"https://gitlab.org/claims/groups/owner": [["a"]]},
    "teams of an application": {"https://app.example/teams": {"a": "b"}},
}


@pytest.mark.parametrize("name", OVERAGE)
def test_a_token_that_leaves_groups_out_is_refused(world, name):
    refused(world.assume(world.issuer.token(**OVERAGE[name])), 400, "InvalidIdentityToken")


def test_a_token_with_all_its_groups_is_taken_whatever_else_it_leaves_out(world):
    elsewhere = {"_claim_names": {"address": "src1", "groups": "src1"}, "hasgroups": True}
    for groups in (["a", "b", None, 3], "a", [], 5):
        assert world.assume(world.issuer.token(groups=groups, **elsewhere)).status == 200
    assert world.assume(world.issuer.token(_claim_names={"address": "src1"})).status == 200
    assert world.assume(world.issuer.token(**{"https://group.example/address": {"locality": "X"}})).status == 200
    denied = {"StringNotEquals": {f"{world.issuer.arn_part}:groups": "contractors"}}
    role = world.trusts("one-group", None, Condition=denied)
    assert world.assume(world.issuer.token(groups="staff"), role=role).status == 200
    refused(world.assume(world.issuer.token(groups="contractors"), role=role), 403, "AccessDenied")


@pytest.mark.parametrize("length", [3, 20_001])
def test_what_is_too_short_or_too_long_is_refused_by_the_model(world, length):
    refused(world.assume("x" * length), 400, "ValidationError", "'webIdentityToken' failed to satisfy constraint")


def test_what_has_expired_is_told_when(world):
    now = int(world.clock().timestamp())
    assert world.assume(world.issuer.token(exp=now - 59)).status == 200
    refused(world.assume(world.issuer.token(exp=now - 60)), 400, "ExpiredTokenException",
            f"Token expired: current date/time {now} must be before the expiration date/time {now - 60}")  # fmt: skip


def weak_rsa(bits, e=65537):
    numbers = rsa.generate_private_key(65537, bits).public_key().public_numbers()
    return {"kty": "RSA", "alg": "RS256", "kid": "k1", "n": number(numbers.n), "e": number(e)}


def without(row, *names):
    return {key: value for key, value in row.items() if key not in names}


GOOD = jwk("RS256", "k1")
KEY_SETS = {
    "C08 two keys with one kid": [GOOD, jwk("RS256", "k1", "second")],
    "C08 a secret alone": [{"kty": "oct", "kid": "k1", "k": "AAAA", "alg": "HS256"}],
    "C09 RSA of 1024 bits": [weak_rsa(1024)],
    "C09 e = 1": [weak_rsa(2048, 1)],
    "C09 e = 3": [weak_rsa(2048, 3)],
    "C09 for encryption": [GOOD | {"use": "enc"}],
    "C09 not to verify": [GOOD | {"key_ops": ["sign"]}],
    "C09 a point on no curve": [jwk("ES256", "k1") | {"x": b64(b"\x01" * 32)}],
    "C09 no modulus": [without(GOOD, "n")],
    "a modulus that is a number": [GOOD | {"n": 12345}],
    "kid that is a number": [GOOD | {"kid": 1}],
    "an algorithm of nobody": [GOOD | {"alg": "RS257"}],
    "kinds that are no texts": [
        GOOD | {"kty": ["RSA"]},
        GOOD | {"kty": {}},
        GOOD | {"alg": ["RS256"]},
        jwk("ES256", "k1") | {"crv": ["P-256"]},
    ],
    "no keys": [],
    "51 keys": [jwk("RS256", f"k{n}") for n in range(51)],
}


@pytest.mark.parametrize("name", KEY_SETS)
def test_keys_that_cannot_be_believed_are_not(world, server, name):
    issuer = Issuer(server, world.clock, f"/keys{list(KEY_SETS).index(name)}", keys=KEY_SETS[name])
    role = world.trusts(f"keys{list(KEY_SETS).index(name)}", world.registered(issuer))
    answer = world.assume(issuer.token("ES256" if "curve" in name else "RS256"), role=role)
    assert answer.code in ("InvalidIdentityToken", "IDPCommunicationError"), answer.message
    assert answer.status == 400


SPOILED = {
    "one kid for several algorithms": [without(GOOD, "alg") | {"alg": alg} for alg in ("RS256", "RS384", "RS512")],
    "one kid for several types": [jwk("ES256", "k1"), GOOD],
    "two keys with one kid for two algorithms": [GOOD, jwk("RS256", "k1", "second") | {"alg": "RS384"}],
    "the same key twice": [GOOD, GOOD],
    "members that are null": [GOOD | {"alg": None, "use": None, "key_ops": None, "x5c": None, "crv": None}],
    "a secret among them": [{"kty": "oct", "kid": "k2", "k": "AAAA"}, GOOD],
    "a weak key": [weak_rsa(1024), GOOD],
    "what is no key": [None, "x", [], {}, {"kty": "XYZ"}, GOOD],
    "a key of a type that nobody knows": [{"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA", "kid": "k1"}, GOOD],
    "a kid that is a number": [GOOD | {"kid": 1}, GOOD],
}


@pytest.mark.parametrize("name", SPOILED)
def test_c08_an_odd_key_does_not_spoil_the_set(world, server, name):
    number = list(SPOILED).index(name)
    issuer = Issuer(server, world.clock, f"/odd{number}", keys=SPOILED[name])
    role = world.trusts(f"odd{number}", world.registered(issuer))
    assert world.assume(issuer.token(), role=role).status == 200
    refused(world.assume(issuer.token(name="mallory"), role=role), 400, "InvalidIdentityToken")


def test_each_of_three_keys_with_one_kid_verifies_its_own_algorithm_alone(world, server):
    issuer = Issuer(server, world.clock, "/three", keys=[jwk(kind, "k1") for kind in ("RS256", "RS384", "RS512")])
    role = world.trusts("three", world.registered(issuer))
    assert all(world.assume(issuer.token(kind), role=role).status == 200 for kind in ("RS256", "RS384", "RS512"))
    refused(world.assume(issuer.token("PS256"), role=role), 400, "InvalidIdentityToken")


def test_a_discovery_document_may_have_members_that_are_null_and_a_byte_order_mark(world, server):
    issuer = Issuer(server, world.clock, "/null")
    about = {"issuer": issuer.url, "jwks_uri": server.url("/null/jwks"), "userinfo_endpoint": None}
    server.serve("/null/.well-known/openid-configuration", b"\xef\xbb\xbf" + json.dumps(about).encode())
    role = world.trusts("null", world.registered(issuer))
    assert world.assume(issuer.token(), role=role).status == 200


def test_a_key_without_an_algorithm_signs_by_those_of_its_kind(world, server):
    issuer = Issuer(server, world.clock, "/noalg", keys=[without(GOOD, "alg", "use")])
    role = world.trusts("noalg", world.registered(issuer))
    assert world.assume(issuer.token(), role=role).status == 200
    assert world.assume(issuer.token("PS256"), role=role).status == 400


def test_a_token_that_names_no_key_means_the_only_one(world, server):
    one = Issuer(server, world.clock, "/one", keys=[without(GOOD, "kid")])
    role = world.trusts("one", world.registered(one))
    assert world.assume(one.token(kid=None), role=role).status == 200
    two = Issuer(server, world.clock, "/two", keys=[GOOD, jwk("RS256", "k2", "second")])
    role = world.trusts("two", world.registered(two))
    refused(world.assume(two.token(kid=None), role=role), 400, "InvalidIdentityToken", NO_KEY)


def test_the_roca_fingerprint_is_known():
    """A modulus of that library is a power of 65537 modulo each of the primes; random ones are not."""
    product = 1
    for prime in _ROCA_PRIMES:  # a number that is 65537 modulo all of them
        product *= prime
    weak = 65537 + product * 12345
    assert all(weak % prime in _POWERS[prime] for prime in _ROCA_PRIMES)
    strong = private_key("RS256").public_key().public_numbers().n
    assert not all(strong % prime in _POWERS[prime] for prime in _ROCA_PRIMES)


# --- the issuer's life ------------------------------------------------------------------------------------------------


def counting(world):
    """Let the monotonic clock of the key sets stand, and return what moves it."""
    jwks_cache = world.installation.services.sign_ins.web_identity.jwks_cache
    moment = [jwks_cache._monotonic()]
    jwks_cache._monotonic = lambda: moment[0]

    def later(seconds):
        moment[0] += seconds

    return later


def test_keys_are_fetched_once_and_kept(fresh):
    for _ in range(5):
        assert fresh.assume(fresh.issuer.token()).status == 200
    assert fresh.issuer.fetches() == 1


def test_a_new_key_is_fetched_when_a_token_names_it(fresh):
    later = counting(fresh)
    assert fresh.assume(fresh.issuer.token()).status == 200
    fresh.issuer.keys.append(jwk("RS256", "k2", "second"))
    fresh.issuer.publish()
    new = fresh.issuer.token(kid="k2", name="second")
    refused(fresh.assume(new), 400, "InvalidIdentityToken", NO_KEY)  # fetched a moment ago: not again yet
    later(31)
    assert fresh.assume(new).status == 200
    assert fresh.issuer.fetches() == 2


def test_a_thousand_random_keys_cost_one_fetch(fresh):
    assert fresh.assume(fresh.issuer.token()).status == 200
    later = counting(fresh)
    later(31)
    for number_ in range(50):
        refused(fresh.assume(fresh.issuer.token(kid=f"random-{number_}")), 400, "InvalidIdentityToken", NO_KEY)
    assert fresh.issuer.fetches() == 2


def test_a_key_that_was_taken_away_is_refused_within_five_minutes(fresh):
    later = counting(fresh)
    token = fresh.issuer.token()
    assert fresh.assume(token).status == 200
    fresh.issuer.keys[:] = [jwk("RS256", "k2", "second")]
    fresh.issuer.publish()
    later(301)
    refused(fresh.assume(token), 400, "InvalidIdentityToken", NO_KEY)


def test_an_issuer_that_takes_all_its_keys_away_is_believed_no_more(fresh):
    later = counting(fresh)
    assert fresh.assume(fresh.issuer.token()).status == 200
    fresh.issuer.keys[:] = []
    fresh.issuer.publish()
    later(301)
    refused(fresh.assume(fresh.issuer.token()), 400, "InvalidIdentityToken", NO_KEY)


def test_while_an_issuer_hangs_only_one_waits(fresh):
    later = counting(fresh)
    assert fresh.assume(fresh.issuer.token()).status == 200
    later(301)
    asked, given_up = threading.Event(), threading.Event()

    def hang(_handler):
        asked.set()
        given_up.wait(HANG)

    fresh.issuer.server.answers[f"{fresh.issuer.path}/jwks"] = hang
    jwks_cache = fresh.installation.services.sign_ins.web_identity.jwks_cache
    object.__setattr__(jwks_cache._fetcher, "within", HANG)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: fresh.assume(fresh.issuer.token()).status)
        assert asked.wait(HANG)
        assert [fresh.assume(fresh.issuer.token()).status for _ in range(3)] == [200] * 3
        assert not waiting.done()
        given_up.set()
        assert waiting.result() == 200


def test_an_issuer_that_is_away_is_believed_by_its_last_keys_for_an_hour(fresh):
    later = counting(fresh)
    assert fresh.assume(fresh.issuer.token()).status == 200
    fresh.issuer.server.answers.pop(f"{fresh.issuer.path}/jwks")
    later(301)
    assert fresh.assume(fresh.issuer.token()).status == 200
    later(3400)
    refused(fresh.assume(fresh.issuer.token()), 400, "IDPCommunicationError", NO_KEY)
    fresh.issuer.publish()
    later(31)
    assert fresh.assume(fresh.issuer.token()).status == 200


DISCOVERY = {
    "of another issuer": {"issuer": "https://other.example.com"},
    "without keys": {"jwks_uri": None},
    "with keys over http": {"jwks_uri": "http://localhost/jwks"},
    "with keys in a file": {"jwks_uri": "file:///etc/passwd"},
    "with keys at a private address": {"jwks_uri": "https://10.0.0.1/jwks"},
}


@pytest.mark.parametrize("how", DISCOVERY)
def test_an_issuer_whose_documents_cannot_be_believed_is_not(fresh, how):
    fresh.issuer.publish(**DISCOVERY[how])
    refused(fresh.assume(fresh.issuer.token()), 400, "IDPCommunicationError", NO_KEY)


def test_a_provider_that_was_deleted_and_a_client_that_was_removed_get_nothing(fresh):
    arn = fresh.provider()
    fresh.admin.do("RemoveClientIDFromOpenIDConnectProvider", OpenIDConnectProviderArn=arn, ClientID="app-1")
    refused(fresh.assume(fresh.issuer.token()), 400, "InvalidIdentityToken", AUDIENCE)
    fresh.admin.do("AddClientIDToOpenIDConnectProvider", OpenIDConnectProviderArn=arn, ClientID="app-1")
    assert fresh.assume(fresh.issuer.token()).status == 200
    fresh.admin.do("DeleteOpenIDConnectProvider", OpenIDConnectProviderArn=arn)
    refused(fresh.assume(fresh.issuer.token()), 400, "InvalidIdentityToken", "No OpenIDConnect provider found")


# --- issuers that are principals by name ------------------------------------------------------------------------------


@pytest.mark.parametrize("issuer_said", ["https://accounts.google.com", "accounts.google.com"])
def test_google_needs_no_provider_in_the_account(world, server, issuer_said):
    google = Issuer(server, world.clock, "/google", url="https://accounts.google.com")
    condition = {
        "StringEquals": {"accounts.google.com:aud": "app.apps.googleusercontent.com", "accounts.google.com:sub": "7"}
    }
    document = trust({"Federated": "accounts.google.com"}, "sts:AssumeRoleWithWebIdentity", Condition=condition)
    role = world.admin.role(f"google{len(issuer_said)}", document)
    good = {"iss": issuer_said, "sub": "7", "aud": "server", "azp": "app.apps.googleusercontent.com"}
    answer = world.assume(google.token(**good), role=role)
    assert (answer.status, answer.text("Provider")) == (200, issuer_said), answer.message
    assert answer.text("Audience") == "app.apps.googleusercontent.com"
    refused(world.assume(google.token(**good | {"azp": "other"}), role=role), 403, "AccessDenied", NOT_ALLOWED)
    assert (
        world.assume(google.token(**good | {"iss": "https://accounts.google.com.evil.example"}), role=role).status
        == 400
    )


def test_identity_pools_of_cognito_tell_pool_and_kind_of_sign_in(world, server):
    cognito = Issuer(server, world.clock, "/cognito", url="https://cognito-identity.amazonaws.com")
    pool = "us-east-1:12345678-dc48-43df-af3d-8b3b8c0a3c3c"
    condition = {"StringEquals": {"cognito-identity.amazonaws.com:aud": pool},
                 "ForAnyValue:StringLike": {"cognito-identity.amazonaws.com:amr": "authenticated"}}  # fmt: skip
    own = allow("iam:ListRoles", Condition={"StringEquals": {"cognito-identity.amazonaws.com:sub": "us-east-1:person"}})
    document = trust(
        {"Federated": "cognito-identity.amazonaws.com"}, "sts:AssumeRoleWithWebIdentity", Condition=condition
    )
    role = world.admin.role("cognito", document, own)
    good = {"sub": "us-east-1:person", "aud": pool, "amr": ["authenticated", "graph.facebook.com"]}
    answer = world.assume(cognito.token(**good), role=role)
    assert world.installation.call("ListRoles", answer.credentials).status == 200, answer.message
    assert world.assume(cognito.token(**good | {"amr": ["unauthenticated"]}), role=role).status == 403


def answering(server, path, body, status=200):
    server.serve(path, json.dumps(body).encode(), status)


AMAZON_TRUST = {"StringEquals": {"www.amazon.com:app_id": "amzn1.application.1"}}
FACEBOOK_TRUST = {"StringEquals": {"graph.facebook.com:app_id": "4711", "graph.facebook.com:id": "815"}}


def test_login_with_amazon_is_asked_about_the_token(world, server):
    told = {"iss": "https://www.amazon.com", "user_id": "amzn1.account.A", "aud": "amzn1.oa2-client.1",
            "app_id": "amzn1.application.1", "exp": 3597, "iat": 1311280970}  # fmt: skip
    answering(server, "/amazon/auth/o2/tokeninfo", told)
    document = trust({"Federated": "www.amazon.com"}, "sts:AssumeRoleWithWebIdentity", Condition=AMAZON_TRUST)
    role = world.admin.role("amazon", document)
    answer = world.assume("Atza|IQEB+&x", role=role, ProviderId="www.amazon.com")
    assert answer.status == 200, answer.message
    assert answer.text("SubjectFromWebIdentityToken") == "amzn1.account.A"
    assert (answer.text("Provider"), answer.text("Audience")) == ("www.amazon.com", "amzn1.application.1")
    asked = urllib.parse.parse_qs(urllib.parse.urlsplit(server.asked[-1]).query)
    assert asked == {"access_token": ["Atza|IQEB+&x"]}
    assert "Atza" not in json.dumps(last_record(world))
    answering(server, "/amazon/auth/o2/tokeninfo", told | {"app_id": "amzn1.application.2"})
    refused(world.assume("Atza|IQEB", role=role, ProviderId="www.amazon.com"), 403, "AccessDenied", NOT_ALLOWED)
    answering(server, "/amazon/auth/o2/tokeninfo", told | {"exp": 0})
    refused(world.assume("Atza|IQEB", role=role, ProviderId="www.amazon.com"), 400, "ExpiredTokenException")
    answering(server, "/amazon/auth/o2/tokeninfo", {"error": "invalid_request"}, 400)
    refused(world.assume("Atza|IQEB", role=role, ProviderId="www.amazon.com"), 400, "InvalidIdentityToken")
    for status in (500, 429, 407):
        answering(server, "/amazon/auth/o2/tokeninfo", {}, status)
        refused(world.assume("Atza|IQEB", role=role, ProviderId="www.amazon.com"), 400, "IDPCommunicationError")
    for wrong in ({"exp": "5"}, {"exp": None}, {"iss": "https://evil.example"}):
        answering(server, "/amazon/auth/o2/tokeninfo", told | wrong)
        refused(world.assume("Atza|IQEB", role=role, ProviderId="www.amazon.com"), 400, "InvalidIdentityToken")
    answering(server, "/amazon/auth/o2/tokeninfo", told | {"user_id": 7})
    refused(world.assume("Atza|IQEB", role=role, ProviderId="www.amazon.com"), 400, "InvalidIdentityToken")


def test_facebook_is_asked_about_application_and_person(world, server):
    answering(server, "/facebook/app", {"id": "4711", "name": "App"})
    answering(server, "/facebook/me", {"id": "815"})
    document = trust({"Federated": "graph.facebook.com"}, "sts:AssumeRoleWithWebIdentity", Condition=FACEBOOK_TRUST)
    role = world.admin.role("facebook", document)
    answer = world.assume("EAACtoken", role=role, ProviderId="graph.facebook.com")
    assert (answer.status, answer.text("Audience")) == (200, "4711"), answer.message
    answering(server, "/facebook/app", {"id": "4712"})
    refused(world.assume("EAACtoken", role=role, ProviderId="graph.facebook.com"), 403, "AccessDenied", NOT_ALLOWED)


@pytest.mark.parametrize("service", ["www.amazon.com", "graph.facebook.com"])
def test_who_asks_for_a_role_that_trusts_no_such_service_costs_it_nothing(world, server, service):
    before = len(server.asked)
    for role in (world.role, "arn:aws:iam::999999999999:role/x"):
        refused(world.assume("token", role=role, ProviderId=service), 403, "AccessDenied", NOT_ALLOWED)
    assert len(server.asked) == before


def test_another_provider_id_is_refused(world):
    answer = world.assume(world.issuer.token(), ProviderId="accounts.google.com")
    refused(answer, 400, "ValidationError", "ProviderId is for access tokens of www.amazon.com and graph.facebook.com")


# --- once, and the record ---------------------------------------------------------------------------------------------


def test_where_the_operator_wants_it_a_token_counts_once(fresh):
    with fresh.installation.store.write() as tx:
        tx.execute(update(oidc_provider).values(use_once=True))
    for token in (fresh.issuer.token(), fresh.issuer.token(jti="one", sub="user-2")):
        refused(fresh.assume(token, DurationSeconds=3601), 400, "ValidationError")  # uses nothing up
        assert fresh.assume(token).status == 200
        refused(fresh.assume(token), 403, "IDPRejectedClaim", "The token has been used before")
        other = replace(fresh, installation=fresh.installation.another_worker())
        refused(other.assume(token), 403, "IDPRejectedClaim")
        other.installation.close()


def test_the_record_tells_who_and_never_the_token(fresh):
    token = fresh.issuer.token()
    answer = fresh.assume(token)
    record = last_record(fresh)
    assert record["userIdentity"]["type"] == "WebIdentityUser"
    assert record["userIdentity"]["userName"] == "user-1"
    assert record["userIdentity"]["identityProvider"] == fresh.issuer.url
    assert record["responseElements"]["subjectFromWebIdentityToken"] == "user-1"
    assert token[-40:] not in json.dumps(record)
    assert answer.credentials.secret_key not in json.dumps(record)
    fresh.assume(fresh.issuer.token(aud="other"))
    assert last_record(fresh)["errorCode"] == "InvalidIdentityToken"
    assert "'other'" in last_record(fresh)["additionalEventData"]["reason"]


def test_whom_an_operator_revokes_has_nothing_left(fresh):
    answer = fresh.assume(fresh.issuer.token())
    assert fresh.installation.call("GetCallerIdentity", answer.credentials).status == 200
    now = int((fresh.clock() + timedelta(seconds=1)).timestamp() * 1000)
    with fresh.installation.store.write() as tx:
        revoke(tx, "person", f"{fresh.provider()}|user-1", now_ms=now, random=os.urandom)
    assert fresh.installation.call("GetCallerIdentity", answer.credentials).status == 403


# --- the trust policies of the how-to pages ---------------------------------------------------------------------------

PAGES = {
    "github-actions": ("token.actions.githubusercontent.com", {
        "sub": "repo:octo-org/octo-repo:ref:refs/heads/main", "aud": "fedgate.example.com", "repository_id": "74",
    }, {"sub": "repo:other-org/octo-repo:ref:refs/heads/main"}),
    "gitlab-ci": ("gitlab.example.com", {
        "sub": "project_path:my-group/my-project:ref_type:branch:ref:main", "aud": "https://fedgate.example.com",
        "project_id": "22", "ref_protected": "true",
    }, {"ref_protected": "false"}),
    "kubernetes": ("k8s.example.com", {
        "sub": "system:serviceaccount:shop:orders", "aud": ["fedgate.example.com"],
        "kubernetes.io": {"namespace": "shop", "serviceaccount": {"name": "orders"}},
    }, {"sub": "system:serviceaccount:shop:other"}),
}  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_the_trust_policy_of_a_page_lets_in_whom_it_says_and_nobody_else(world, server, page):
    host, claims, others = PAGES[page]
    issuer = Issuer(server, world.clock, f"/{page}", url=f"https://{host}")
    world.installation.services.sign_ins.web_identity.jwks_cache._url_overrides[issuer.url] = server.url(f"/{page}")
    text = (Path(__file__).parents[3] / f"docs/how-to/web-identity-{page}.md").read_text()
    policy = textwrap.dedent(re.search(r"```json\n(.*?)```", text, re.DOTALL)[1])
    aud = claims["aud"] if isinstance(claims["aud"], str) else claims["aud"][0]
    world.registered(issuer, aud)
    role = world.admin.role(page, policy)
    assert world.assume(issuer.token(**claims), role=role).status == 200
    refused(world.assume(issuer.token(**claims | others), role=role), 403, "AccessDenied", NOT_ALLOWED)
