"""THREATS, section A: everything that can be wrong with a signed request, at the gate and with its audit record."""

import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from botocore.credentials import Credentials
from redis import Redis
from sqlalchemy import update
from support.documents import allow, trust
from support.installation import Answer, Installation, environment
from support.timing import alike, fastest
from support.wire import FORM, HOST, WHO, Signer, Wire

from broker import wiring
from iam.accounts import add_access_key
from iam.arn import root_arn
from iam.call import Call
from iam.limits import Limits
from iam.operations.credentials.access_keys import create_access_key
from iam.operations.policies.inline import put_user_policy
from iam.operations.roles import create_role
from iam.operations.users import create_user
from iam.principal import Principal, PrincipalKind
from iam.store.schema import access_key
from iam.store.vault import Vault
from sts.mint import Grant, SessionKind, mint

INVALID = "The security token included in the request is invalid."
MISMATCH = "The request signature we calculated does not match the signature you provided."
MISSING = "Request is missing Authentication Token"
MINUTE = timedelta(minutes=1)
# CloudTrail User Guide, "CloudTrail record contents": what every record has; "at" is ours.
ALWAYS = {
    "eventVersion",
    "userIdentity",
    "eventTime",
    "at",
    "eventSource",
    "eventName",
    "awsRegion",
    "sourceIPAddress",
    "userAgent",
    "requestParameters",
    "responseElements",
    "requestID",
    "eventID",
    "readOnly",
    "eventType",
    "managementEvent",
    "recipientAccountId",
    "eventCategory",
}


@dataclass(frozen=True)
class Account:
    """An account in an installation, and credentials of every kind."""

    installation: Installation
    id: str
    root: Credentials
    inactive: Credentials
    session: Credentials
    expired: Credentials

    def signer(self, credentials: Credentials | None = None, **wrong) -> Signer:
        return Signer(credentials or self.root, **wrong)

    def signed(self, *arguments, **more) -> Wire:
        return self.signer().signed(*arguments, **more)

    def presigned(self, *arguments, **more) -> Wire:
        return self.signer().presigned(*arguments, **more)

    def off(self, minutes: float) -> Signer:
        """Sign that many minutes away from now."""
        return self.signer(at=datetime.now(UTC) + minutes * MINUTE)

    @property
    def secrets(self) -> list[str]:
        kinds = (self.root, self.inactive, self.session, self.expired)
        return [text for one in kinds for text in (one.secret_key, one.token) if text]


def new_account(installation: Installation) -> Account:
    account_id, root = installation.account()
    vault = Vault(installation.settings.master_key)
    with installation.store.write() as tx:
        inactive = add_access_key(tx, account_id, None, now=wiring.now(), random=wiring.random, vault=vault)
        tx.execute(update(access_key).where(access_key.c.id == inactive[0]).values(active=False))
    live = installation.call("GetSessionToken", root).credentials
    grant = Grant(
        kind=SessionKind.USER, account_id=account_id, entity_id=account_id, name="root", provider="iam", subject="root"
    )
    long_ago = wiring.now() - timedelta(days=2)
    old = mint(
        grant, 3600, now=long_ago, random=wiring.random, sealer=installation.services.api.gate.sealer()
    ).credentials
    expired = Credentials(old.access_key_id, old.secret_access_key, old.session_token)
    return Account(installation, account_id, root, Credentials(*inactive), live, expired)


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[Account]:
    """One account for all rows: none of them changes anything."""
    folder = tmp_path_factory.mktemp("threats")
    installation = Installation(folder, environment(folder, redis_url))
    yield new_account(installation)
    installation.close()


def records(installation: Installation) -> list[dict]:
    return [json.loads(line) for line in installation.services.storage.audit.path.read_text().splitlines()]


@dataclass(frozen=True)
class Told:
    """An answer, and the records that were written for it."""

    answer: Answer
    records: list[dict]


def tell(account: Account, wire: Wire) -> Told:
    """Send a request and check what every row requires besides its own outcome."""
    before = len(records(account.installation))
    answer = wire.send(account.installation)
    written = account.installation.services.storage.audit.path.read_text()
    assert answer.status < 500
    assert b"Traceback" not in answer.body
    for secret in account.secrets:
        assert secret.encode() not in answer.body
        assert secret not in written
    new = records(account.installation)[before:]
    assert len(new) == 1
    assert new[0].keys() >= ALWAYS
    assert new[0]["requestID"] == answer.headers["x-amzn-RequestId"]
    assert new[0]["sourceIPAddress"] == "127.0.0.1"
    return Told(answer, new)


def refused(account: Account, wire: Wire, status: int, code: str, says: str) -> Told:
    """Check a refusal: in the answer, and as the same words in the record."""
    told = tell(account, wire)
    answer, record = told.answer, told.records[0]
    assert (answer.status, answer.code) == (status, code), answer.message
    assert says in answer.message
    assert answer.text("Type") == "Sender"
    assert answer.text("RequestId") == record["requestID"]
    assert (record["errorCode"], record["errorMessage"]) == (code, answer.message)
    assert record["responseElements"] is None
    return told


def row(number: str, wire: Callable[[Account], Wire], status: int, code: str, says: str):
    return pytest.param(wire, status, code, says, id=number)


def authorization(text: str) -> Callable[[Account], Wire]:
    return lambda a: a.signed().having("Authorization", text)


def part_removed(name: str) -> Callable[[Account], Wire]:
    """Leave ``name=value`` out of the Authorization header."""

    def made(a: Account) -> Wire:
        def without(text: str) -> str:
            algorithm, _, rest = text.partition(" ")
            return f"{algorithm} " + ", ".join(part for part in rest.split(", ") if not part.startswith(name))

        return a.signed().authorized(without)

    return made


def signature(change: Callable[[str], str]) -> Callable[[Account], Wire]:
    def changed(text: str) -> str:
        head, _, value = text.rpartition("=")
        return f"{head}={change(value)}"

    return lambda a: a.signed().authorized(changed)


def key(text: str) -> Callable[[Account], Wire]:
    return lambda a: a.signer(Credentials(text, "x" * 40)).signed()


def wrong(credentials: Credentials) -> Credentials:
    return Credentials(credentials.access_key, "x" * 40, credentials.token)


def one_off(text: str) -> str:
    return text[:-1] + ("B" if text[-1] == "A" else "A")


NO_SIGNATURE = [
    row("A01 nothing", lambda a: a.signed().lacking("Authorization"), 403, "MissingAuthenticationToken", MISSING),
    row("A01 GET", lambda _: Wire("GET", f"/?{WHO}", {"Host": HOST}), 403, "MissingAuthenticationToken", MISSING),
    row("A02 Bearer", authorization("Bearer abc"), 403, "MissingAuthenticationToken", MISSING),
    row("A02 empty", authorization(""), 403, "MissingAuthenticationToken", MISSING),
    row("A02 algorithm only", authorization("AWS4-HMAC-SHA256"), 400, "IncompleteSignature", "requires 'Credential'"),
    row("A02 algorithm, space", authorization("AWS4-HMAC-SHA256 "), 400, "IncompleteSignature", "'SignedHeaders'"),
    row("A03 no Credential", part_removed("Credential"), 400, "IncompleteSignature", "requires 'Credential'"),
    row("A03 no SignedHeaders", part_removed("SignedHeaders"), 400, "IncompleteSignature", "requires 'SignedHeaders'"),
    row("A03 no Signature", part_removed("Signature"), 400, "IncompleteSignature", "requires 'Signature'"),
    row("A03 no equals sign", authorization("AWS4-HMAC-SHA256 abc"), 400, "IncompleteSignature", "key=value"),
    *(
        row(
            f"A04 {other}",
            lambda a, other=other: a.signed().authorized(lambda text: text.replace("AWS4-HMAC-SHA256", other)),
            400,
            "IncompleteSignature",
            "Unsupported AWS 'algorithm'.",
        )
        for other in ("AWS4-HMAC-SHA1", "AWS4-ECDSA-P256-SHA256", "AWS3-HTTPS")
    ),
    row("A04 SigV2", authorization("AWS AKIAEXAMPLE:frJIUN8DYpKDtOLCwo="), 400, "IncompleteSignature", "algorithm"),
    *(
        row(
            f"A05 {count} parts",
            lambda a, change=change: a.signed().authorized(lambda text: text.replace("/sts/", change)),
            400,
            "IncompleteSignature",
            "Credential must have exactly 5 slash-delimited elements",
        )
        for count, change in ((4, "/"), (6, "/sts/sts/"))
    ),
    row("A12 no date", lambda a: a.signed().lacking("X-Amz-Date"), 400, "IncompleteSignature", "'X-Amz-Date'"),
    *(
        row(
            f"A12 {text!r}",
            lambda a, text=text: a.signed().having("X-Amz-Date", text),
            400,
            "IncompleteSignature",
            "ISO-8601 'basic format'",
        )
        for text in ("", "2026-11-23T20:00:00Z", "20261323T200000Z", "20261123T200000", "Mon, 23 Nov 2026 20:00:00 GMT")
    ),
]

KEYS = [
    row("A06 unknown", key("AKIAQAAAAAAAAAAAAAAA"), 403, "InvalidClientTokenId", INVALID),
    row(
        "A06 one character off",
        lambda a: a.signer(replace_key(a.root, one_off)).signed(),
        403,
        "InvalidClientTokenId",
        INVALID,
    ),
    row(
        "A06 lower case",
        lambda a: a.signer(replace_key(a.root, str.lower)).signed(),
        403,
        "InvalidClientTokenId",
        INVALID,
    ),
    row("A07 star", key("*"), 403, "InvalidClientTokenId", INVALID),
    row("A07 pattern", key("AKIA*"), 403, "InvalidClientTokenId", INVALID),
    row("A07 4 KB", key("AKIA" + "A" * 4092), 403, "InvalidClientTokenId", INVALID),
    row(
        "A07 CRLF",
        lambda a: a.signer(Credentials("AKIA\r\nERROR forged", "x" * 40)).presigned(),
        403,
        "InvalidClientTokenId",
        INVALID,
    ),
    row("A08 wrong secret", lambda a: a.signer(wrong(a.root)).signed(), 403, "SignatureDoesNotMatch", MISMATCH),
    row(
        "A08 presigned with a wrong secret",
        lambda a: a.signer(wrong(a.root)).presigned(),
        403,
        "SignatureDoesNotMatch",
        MISMATCH,
    ),
    row("A29 inactive, good", lambda a: a.signer(a.inactive).signed(), 403, "InvalidClientTokenId", INVALID),
    row("A29 inactive, bad", lambda a: a.signer(wrong(a.inactive)).signed(), 403, "InvalidClientTokenId", INVALID),
    row("A30 token, good", lambda a: a.signer(with_token(a.root)).signed(), 403, "InvalidClientTokenId", INVALID),
    row(
        "A30 token, presigned", lambda a: a.signer(with_token(a.root)).presigned(), 403, "InvalidClientTokenId", INVALID
    ),
    row(
        "A30 token, bad: after the HMAC",
        lambda a: a.signer(with_token(wrong(a.root))).signed(),
        403,
        "SignatureDoesNotMatch",
        MISMATCH,
    ),
]


def replace_key(credentials: Credentials, change: Callable[[str], str]) -> Credentials:
    return Credentials(change(credentials.access_key), credentials.secret_key)


def with_token(credentials: Credentials) -> Credentials:
    return Credentials(credentials.access_key, credentials.secret_key, "AQAAAAAtokenOfNobody")


CHANGED = [
    row("A09 empty", signature(lambda _: ""), 403, "SignatureDoesNotMatch", MISMATCH),
    row("A09 cut", signature(lambda s: s[:-1]), 403, "SignatureDoesNotMatch", MISMATCH),
    row("A09 upper case", signature(str.upper), 403, "SignatureDoesNotMatch", MISMATCH),
    row("A09 not ASCII", signature(lambda _: "\u00e9" * 64), 403, "SignatureDoesNotMatch", MISMATCH),
    row("A09 one digit", signature(lambda s: s[:-1] + "10"[s[-1] == "1"]), 403, "SignatureDoesNotMatch", MISMATCH),
    row("A16 host not signed", lambda a: a.signed(names=("x-amz-date",)), 403, "SignatureDoesNotMatch", "'Host'"),
    row(
        "A16 nothing signed",
        lambda a: a.signed().authorized(lambda t: t.replace("content-type;host;x-amz-date", "")),
        403,
        "SignatureDoesNotMatch",
        "'Host'",
    ),
    row(
        "A16 signed, not sent",
        lambda a: a.signed(names=("host", "x-amz-date", "x-missing")),
        403,
        "SignatureDoesNotMatch",
        MISMATCH,
    ),
    row("A16 date not signed", lambda a: a.signed(names=("host",)), 403, "SignatureDoesNotMatch", MISMATCH),
    row("A17 host", lambda a: a.signed().having("Host", "evil.example"), 403, "SignatureDoesNotMatch", MISMATCH),
    row("A17 method", lambda a: replace(a.signed(method="PUT"), method="POST"), 403, "SignatureDoesNotMatch", MISMATCH),
    row("A17 path", lambda a: replace(a.signed(uri="/other"), uri="/"), 403, "SignatureDoesNotMatch", MISMATCH),
    row("A17 query", lambda a: replace(a.signed(), uri="/?More=1"), 403, "SignatureDoesNotMatch", MISMATCH),
    row(
        "A17 body",
        lambda a: replace(a.signed(), body=f"{WHO}&More=1".encode()),
        403,
        "SignatureDoesNotMatch",
        MISMATCH,
    ),
    row(
        "A18 the hash of nothing",
        lambda a: a.signed(headers={"X-Amz-Content-SHA256": sha256(b"").hexdigest()}),
        403,
        "SignatureDoesNotMatch",
        MISMATCH,
    ),
    row(
        "A18 unsigned payload",
        lambda a: a.signed(headers={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}),
        403,
        "SignatureDoesNotMatch",
        MISMATCH,
    ),
    row("A19 twice", lambda a: a.signed().authorized(lambda t: f"{t},{t}"), 400, "IncompleteSignature", "part"),
    row(
        "A19 a good one last",
        lambda a: a.signed().authorized(lambda t: f"{a.signer(wrong(a.root)).signed().headers['Authorization']},{t}"),
        400,
        "IncompleteSignature",
        "part",
    ),
    row(
        "A19 Bearer first",
        lambda a: a.signed().authorized(lambda t: f"Bearer x,{t}"),
        403,
        "MissingAuthenticationToken",
        MISSING,
    ),
    row(
        "A19 header and query",
        lambda a: a.presigned().having("Authorization", a.signed().headers["Authorization"]),
        400,
        "IncompleteSignature",
        "Only one auth mechanism allowed",
    ),
    row(
        "A19 header and half a query",
        lambda a: a.signed(uri="/?X-Amz-Signature=abc"),
        400,
        "IncompleteSignature",
        "Only one auth mechanism allowed",
    ),
]

TIME = [
    row("A10 old", lambda a: a.off(-16).signed(), 403, "SignatureDoesNotMatch", "Signature expired: "),
    row("A10 ahead", lambda a: a.off(16).signed(), 403, "SignatureDoesNotMatch", "Signature not yet current: "),
    row(
        "A13 scope of another day",
        lambda a: a.signer(day="20200101").signed(),
        403,
        "SignatureDoesNotMatch",
        "Date in Credential scope does not match",
    ),
    row("A21 old", lambda a: a.off(-20).presigned(), 403, "SignatureDoesNotMatch", "Signature expired: "),
    row(
        "A21 old, a week allowed",
        lambda a: a.off(-20).presigned(expires="604800"),
        403,
        "SignatureDoesNotMatch",
        "Signature expired: ",
    ),
    row("A21 ahead", lambda a: a.off(60).presigned(), 403, "SignatureDoesNotMatch", "Signature not yet current: "),
    row("A21 its own term", lambda a: a.off(-2).presigned(expires="60"), 403, "SignatureDoesNotMatch", "expired: "),
]

SCOPE = [
    row(
        "A14 region",
        lambda a: a.signer(region="US_EAST_1").signed(),
        403,
        "SignatureDoesNotMatch",
        "Credential should be scoped to a valid region.",
    ),
    row(
        "A14 service",
        lambda a: a.signer(service="s3").signed(),
        403,
        "SignatureDoesNotMatch",
        "Credential should be scoped to correct service: 'sts'.",
    ),
    row(
        "A14 terminator",
        lambda a: a.signer(terminator="aws5_request").signed(),
        403,
        "SignatureDoesNotMatch",
        "Credential should be scoped with a valid terminator: 'aws4_request'.",
    ),
    row(
        "A14 both are told",
        lambda a: a.signer(region="-", service="iam").signed(),
        403,
        "SignatureDoesNotMatch",
        "valid region. Credential should be scoped to correct service: 'sts'.",
    ),
    *(
        row(
            f"A15 {name}",
            lambda a, pick=pick: a.signer(pick(a), service="s3").signed(),
            403,
            "SignatureDoesNotMatch",
            "Credential should be scoped to correct service",
        )
        for name, pick in (
            ("expired", lambda a: a.expired),
            ("no token", lambda a: Credentials(a.session.access_key, a.session.secret_key)),
            ("bad secret", lambda a: wrong(a.root)),
            ("inactive", lambda a: a.inactive),
        )
    ),
]

PARAMETERS_OF_SIGNATURES = ("X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature")
PRESIGNED = [
    *(
        row(
            f"A20 no {name}",
            lambda a, name=name: a.presigned().without(name),
            400,
            "IncompleteSignature",
            f"must include '{name}'",
        )
        for name in PARAMETERS_OF_SIGNATURES
    ),
    row(
        "A20 no X-Amz-Algorithm",
        lambda a: a.presigned().without("X-Amz-Algorithm"),
        403,
        "MissingAuthenticationToken",
        MISSING,
    ),
    *(
        row(
            f"A22 {text}",
            lambda a, text=text: a.presigned(expires=text),
            400,
            "AuthorizationQueryParametersError",
            "X-Amz-Expires",
        )
        for text in ("604801", "-1", "1e9", "", "1_000", "\u0661\u0662", "9" * 5000)
    ),
    *(
        row(
            f"{name}",
            lambda a, change=change: a.presigned().asking(change),
            403,
            "SignatureDoesNotMatch",
            MISMATCH,
        )
        for name, change in (
            ("A22 changed", lambda q: q.replace("Expires=900", "Expires=800")),
            ("A23 added", lambda q: q + "&Extra=1"),
            ("A23 added in front", lambda q: "Extra=1&" + q),
            ("A23 doubled", lambda q: q + "&Version=2011-06-15"),
            ("A23 signature doubled", lambda q: q + "&" + q[q.index("X-Amz-Signature") :]),
            ("A23 another Action", lambda q: q.replace("GetCallerIdentity", "GetSessionToken")),
        )
    ),
    row("A23 POST", lambda a: replace(a.presigned(), method="POST"), 403, "SignatureDoesNotMatch", MISMATCH),
    row(
        "A23 with a body",
        lambda a: replace(a.presigned(method="POST"), body=b"DurationSeconds=900"),
        403,
        "SignatureDoesNotMatch",
        MISMATCH,
    ),
]

FORMS = [
    row(
        "A24 in the query",
        lambda _: Wire("GET", f"/?{WHO}&Bad=%GG", {"Host": HOST}),
        400,
        "MalformedQueryString",
        "percent sign",
    ),
    row("A24 in the body", lambda a: a.signed(f"{WHO}&Bad=%GG"), 400, "MalformedQueryString", "percent sign"),
    row("A24 cut short", lambda a: a.signed(f"{WHO}&Bad=%"), 400, "MalformedQueryString", "percent sign"),
    row("A24 not UTF-8", lambda a: a.signed(f"{WHO}&Bad=%FF"), 400, "MalformedQueryString", "UTF-8"),
    row(
        "A26 Action",
        lambda a: a.signed("Action=GetCallerIdentity2&Version=2011-06-15"),
        400,
        "InvalidAction",
        "Could not find operation GetCallerIdentity2 for version 2011-06-15",
    ),
    row(
        "A26 Version",
        lambda a: a.signed("Action=GetCallerIdentity&Version=2011-06-16"),
        400,
        "InvalidAction",
        "Could not find operation GetCallerIdentity for version 2011-06-16",
    ),
    row(
        "A26 no Version, which no service of ours can guess",
        lambda a: a.signed("Action=NoSuchThing"),
        400,
        "InvalidAction",
        "for version NO_VERSION_SPECIFIED",
    ),
    row(
        "A26 markup",
        lambda a: a.signed("Action=%3Cb%3E%26&Version=2011-06-15"),
        400,
        "InvalidAction",
        "Could not find operation <b>& for version",
    ),
    row("A26 no Action", lambda a: a.signed("Version=2011-06-15"), 400, "MissingAction", "Action"),
    row("A27 5,001 parameters", lambda a: a.signed(WHO + "&a=" * 5000), 400, "MalformedQueryString", "5000"),
]


@pytest.mark.parametrize(("wire", "status", "code", "says"), NO_SIGNATURE)
def test_a_request_without_a_whole_signature_is_refused_and_told_what_is_missing(account, wire, status, code, says):
    refused(account, wire(account), status, code, says)


@pytest.mark.parametrize(("wire", "status", "code", "says"), KEYS)
def test_a_key_that_is_no_live_key_or_has_another_secret_is_refused(account, wire, status, code, says):
    refused(account, wire(account), status, code, says)


@pytest.mark.parametrize(("wire", "status", "code", "says"), CHANGED)
def test_what_was_changed_doubled_or_left_out_after_signing_is_refused(account, wire, status, code, says):
    refused(account, wire(account), status, code, says)


@pytest.mark.parametrize(("wire", "status", "code", "says"), TIME)
def test_a_signature_lives_fifteen_minutes_in_either_direction(account, wire, status, code, says):
    refused(account, wire(account), status, code, says)


@pytest.mark.parametrize(("wire", "status", "code", "says"), SCOPE)
def test_a_wrong_scope_is_refused_before_anything_else_is_looked_at(account, wire, status, code, says):
    refused(account, wire(account), status, code, says)


@pytest.mark.parametrize(("wire", "status", "code", "says"), PRESIGNED)
def test_a_presigned_request_is_taken_whole_or_not_at_all(account, wire, status, code, says):
    refused(account, wire(account), status, code, says)


@pytest.mark.parametrize(("wire", "status", "code", "says"), FORMS)
def test_a_form_that_names_no_operation_is_refused(account, wire, status, code, says):
    refused(account, wire(account), status, code, says)


# --- what is accepted -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(lambda a: a.signed(), id="signed"),
        pytest.param(lambda a: a.presigned(), id="presigned"),
        pytest.param(lambda a: a.signer(a.session).signed(), id="signed with a session"),
        pytest.param(lambda a: a.signer(a.session).presigned(), id="presigned with a session"),
        pytest.param(lambda a: a.off(-14).signed(), id="A11 14 minutes old"),
        pytest.param(lambda a: a.off(14).signed(), id="A11 14 minutes ahead"),
        pytest.param(lambda a: a.off(-14).presigned(), id="A11 presigned, 14 minutes old"),
        pytest.param(lambda a: a.signer(region="eu-central-1").signed(), id="another well-formed region"),
        pytest.param(
            lambda a: a.signed(headers={"X-Amz-Content-SHA256": sha256(WHO.encode()).hexdigest()}),
            id="the true hash of the body",
        ),
        pytest.param(lambda a: a.signed("", method="GET", uri=f"/?{WHO}"), id="GET, signed in its headers"),
        pytest.param(lambda a: a.signed(f"{WHO}&Version=2010-05-08&Action=ListUsers"), id="A25 Action twice"),
    ],
)
def test_a_request_that_is_signed_well_is_answered(account, wire):
    told = tell(account, wire(account))
    assert told.answer.status == 200
    assert told.answer.text("Arn") == root_arn(account.id)
    assert told.records[0]["userIdentity"]["type"] == "Root"
    assert told.records[0]["recipientAccountId"] == account.id
    assert "errorCode" not in told.records[0]


@pytest.mark.parametrize(("region", "status"), [("eu-central-1", 200), ("us-east-1", 403), ("eu-central", 403)])
def test_only_regions_that_the_settings_name_fit_where_they_name_any(tmp_path, redis_url, region, status):
    installation = Installation(tmp_path, environment(tmp_path, redis_url, FEDGATE_REGIONS="eu-central-1"))
    _, root = installation.account()
    answer = Signer(root, region=region).signed().send(installation)
    installation.close()
    assert answer.status == status
    assert status == 200 or "Credential should be scoped to a valid region." in answer.message


# --- what a refusal gives away ----------------------------------------------------------------------------------------


def test_a_wrong_secret_is_not_told_the_right_signature_nor_the_canonical_request(account):
    at = datetime.now(UTC)
    right = account.signer(at=at).signed().headers["Authorization"].rpartition("=")[2]
    told = refused(account, account.signer(wrong(account.root), at=at).signed(), 403, "SignatureDoesNotMatch", MISMATCH)
    assert right.encode() not in told.answer.body
    assert right not in json.dumps(told.records)
    assert sha256(WHO.encode()).hexdigest().encode() not in told.answer.body


def test_an_unknown_key_takes_as_long_as_a_wrong_secret(account):
    def send(wire: Wire) -> Callable[[], Answer]:
        return lambda: wire.send(account.installation)

    pairs = []
    for number in range(150):
        stranger = Credentials(f"AKIAQAAAAAAAAAAAA{number:03}".translate(str.maketrans("0189", "HIJK")), "x" * 40)
        wires = (account.signer(stranger).signed(), account.signer(wrong(account.root)).signed())
        pairs.append(fastest(*map(send, wires), tries=1))
    unknown, known = (min(times) for times in zip(*pairs, strict=True))
    # An unknown key costs one look into the database, which a network hides.
    assert alike(unknown, known)


@pytest.mark.parametrize(
    "credentials",
    [
        lambda _: Credentials("AKIAQAAAAAAAAAAAAAAA", "x" * 40),
        lambda _: Credentials("ASIAQAAAAAAAAAAAAAAA", "x" * 40),
        lambda a: a.inactive,
        lambda a: wrong(a.root),
    ],
    ids=["unknown", "without a token", "inactive", "wrong secret"],
)
def test_whoever_is_refused_for_a_key_has_paid_for_one_hmac(account, credentials):
    derived = account.installation.services.api.gate.authenticate._derived_keys
    before = len(derived)
    # A region that nobody has named yet, so that the key is derived anew.
    answer = account.signer(credentials(account), region=f"r-{time.monotonic_ns()}").signed().send(account.installation)
    assert answer.status == 403
    assert len(derived) == before + 1


def test_an_expired_session_is_told_so_whatever_its_signature(account):
    for credentials in (account.expired, wrong(account.expired)):
        refused(
            account,
            account.signer(credentials).signed(),
            403,
            "ExpiredToken",
            "The security token included in the request is expired",
        )


@pytest.mark.parametrize("key_id", ["*", "AKIA*", "AKIA\r\nERROR forged", "A" * 4096])
def test_a_key_that_cannot_be_one_never_reaches_redis_and_breaks_no_line_of_the_log(account, redis_url, caplog, key_id):
    caplog.set_level(logging.DEBUG)
    with Redis.from_url(redis_url) as client:
        before = client.info("commandstats")
        refused(
            account,
            account.signer(Credentials(key_id, "x" * 40)).presigned(),
            403,
            "InvalidClientTokenId",
            INVALID,
        )
        after = client.info("commandstats")
    assert {name for name in after if after[name]["calls"] != before.get(name, {"calls": 0})["calls"]} == {
        "cmdstat_info"
    }
    assert not any("\n" in record.getMessage() or "\r" in record.getMessage() for record in caplog.records)


def test_what_a_stranger_wrote_stays_on_one_line_of_the_log(account, caplog):
    caplog.set_level(logging.DEBUG)
    token = "AQAA\n2026-11-23 CRITICAL forged"
    form = f"{WHO}&X-Amz-Security-Token={token}"
    credentials = Credentials(account.session.access_key, "x" * 40, token)
    tell(account, account.signer(credentials).presigned(form.partition("&X-")[0]))
    assert any(record.name == "broker.api.dispatch" for record in caplog.records)
    assert not any("\n" in record.getMessage() for record in caplog.records)


def test_no_secret_reaches_the_log_whatever_is_refused(account, caplog):
    caplog.set_level(logging.DEBUG)
    for wire in (
        account.signer(wrong(account.session)).signed(),
        account.signer(account.expired).signed(),
        account.signer(account.inactive).signed(),
        account.signer(Credentials(account.session.access_key, "x", account.expired.token)).signed(),
    ):
        tell(account, wire)
    for secret in account.secrets:
        assert secret not in caplog.text


@pytest.mark.parametrize(
    "form",
    [
        "Action=" + "A" * 250_000 + "&Version=2011-06-15",
        "Action=GetCallerIdentity&Version=" + "1" * 250_000,
        "Action=AssumeRoleWithLDAPIdentity&Version=2011-06-15&LDAPUsername=u&LDAPPassword=p&RoleArn="
        "arn:aws:iam::" + "1" * 250_000 + ":role/r",
        "Action=AssumeRoleWithLDAPIdentity&Version=2011-06-15&RoleSessionName=" + "n" * 250_000,
    ],
    ids=["action", "version", "account in the role", "session name"],
)
def test_a_stranger_cannot_fill_the_log_or_have_all_of_it_sent_back(account, form):
    told = tell(account, Wire("POST", "/", {"Host": HOST, "Content-Type": FORM}, form.encode()))
    assert told.answer.status == 400
    assert len(told.answer.body) < 5_000
    assert len(json.dumps(told.records)) < 10_000


# --- A25: the first of a repeated parameter ---------------------------------------------------------------------------


def call(installation: Installation, account_id: str, operation, **p):
    arn = root_arn(account_id)
    root = Principal(PrincipalKind.ROOT, account_id, arn, account_id, arn, account_id)
    vault = Vault(installation.settings.master_key)
    with installation.store.write() as tx:
        return operation(Call(tx, root, account_id, wiring.now(), wiring.random, vault, Limits()), p)


@pytest.fixture(scope="module")
def ann(account) -> Credentials:
    """A user who may assume the role ``open``, which lets her in, and not the role ``closed``."""
    called = (account.installation, account.id)
    arn = call(*called, create_user, UserName="ann")["User"]["Arn"]
    document = allow("sts:AssumeRole", f"arn:aws:iam::{account.id}:role/open")
    call(*called, put_user_policy, UserName="ann", PolicyName="p", PolicyDocument=document)
    call(*called, create_role, RoleName="open", AssumeRolePolicyDocument=trust({"AWS": arn}))
    call(*called, create_role, RoleName="closed", AssumeRolePolicyDocument=trust({"AWS": root_arn(account.id)}))
    made = call(*called, create_access_key, UserName="ann")["AccessKey"]
    return Credentials(made["AccessKeyId"], made["SecretAccessKey"])


@pytest.mark.parametrize(
    ("named", "status", "code"),
    [
        (("open", "closed"), 200, None),
        (("closed", "open"), 403, "AccessDenied"),
        (("open", ""), 200, None),
        (("", "open"), 400, "ValidationError"),
    ],
)
@pytest.mark.parametrize("split", [False, True], ids=["both in the body", "first in the query"])
def test_of_a_repeated_parameter_the_first_is_validated_decided_and_done(account, ann, named, status, code, split):
    arns = [f"RoleArn=arn:aws:iam::{account.id}:role/{name}" if name else "RoleArn=x" for name in named]
    form = "Action=AssumeRole&Version=2011-06-15&RoleSessionName=session"
    signer = account.signer(ann)
    wire = signer.signed(f"{form}&{arns[1]}", uri=f"/?{arns[0]}") if split else signer.signed("&".join((form, *arns)))
    told = tell(account, wire)
    assert told.answer.status == status
    assert told.answer.code == code
    assert told.records[0]["requestParameters"]["roleArn"] == arns[0].removeprefix("RoleArn=")
    if status == 200:
        assert told.answer.text("AssumedRoleId").endswith(":session")
        assert "assumed-role/open/session" in told.answer.body.decode()


# --- A27, A28 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b"x" * 10_000_001),
        ({"Content-Length": "10000001"}, b""),
        ({"Content-Length": "9" * 5000}, b""),
        ({"Content-Length": "", "Transfer-Encoding": "chunked"}, b"x" * 10_000_001),
    ],
    ids=["sent", "announced", "announced beyond reason", "chunked"],
)
def test_a_body_over_ten_million_bytes_is_refused_without_a_word(account, headers, body):
    told = tell(account, Wire("POST", "/", {"Host": HOST, "Content-Type": FORM, **headers}, body))
    assert (told.answer.status, told.answer.body) == (413, b"")
    assert told.answer.headers["Content-Length"] == "0"
    assert told.records[0]["errorCode"] == "RequestEntityTooLarge"


def test_a_body_of_ten_million_bytes_is_read(account):
    wire = account.signed(WHO + "&Padding=" + "x" * (10_000_000 - len(WHO) - 9))
    assert len(wire.body) == 10_000_000
    assert wire.send(account.installation).status == 200


@pytest.mark.parametrize(
    "path", ["/a/../", "/a/..", "/./", "/.", "//", "/%2e/", "/%2E%2E/", "/%2F", "//healthz", "/x", "/;", "/%00"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_only_the_root_is_served_and_no_other_spelling_of_it(account, path, method):
    before = len(records(account.installation))
    for uri in (path, f"{path}?{WHO}"):
        answer = replace(account.signed(uri=uri), method=method, uri=uri).send(account.installation)
        assert answer.status == 404
        assert account.id.encode() not in answer.body
    of_pages = records(account.installation)[before:]
    assert {record["eventSource"] for record in of_pages} <= {"signin.fedgate"}
    assert all(record["userIdentity"] == {"type": "Unknown"} for record in of_pages)
