"""A whole installation in this process: real SQLite and Redis, the real application; only the socket is missing."""

import base64
import functools
import io
import os
import tempfile
import time
import urllib.parse
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from jinja2 import BytecodeCache
from jinja2.bccache import Bucket

from broker import wiring
from broker.config.settings import Settings
from broker.wsgi import Application
from iam.accounts import create_account
from iam.credentials.password_version import stored_version
from iam.store.store import Store
from iam.store.vault import Vault
from sts.identity import IamIdentity
from sts.store import sealing_keys

VERSIONS = {"sts": "2011-06-15", "iam": "2010-05-08"}
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Answer:
    """One HTTP answer; ``code`` and ``message`` are those of an error."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    all_headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def text(self, name: str) -> str | None:
        """Return the text of the first XML element of that name."""
        for element in ET.fromstring(self.body).iter():
            if element.tag.rpartition("}")[2] == name:
                return element.text or ""
        return None

    @property
    def code(self) -> str | None:
        return self.text("Code") if self.status >= 400 else None

    @property
    def message(self) -> str | None:
        return self.text("Message") if self.status >= 400 else None

    @property
    def credentials(self) -> Credentials:
        return Credentials(self.text("AccessKeyId"), self.text("SecretAccessKey"), self.text("SessionToken"))


@dataclass
class Clock:
    """The real time, moved by as much as a test says."""

    offset: timedelta = timedelta(0)

    def __call__(self) -> datetime:
        return wiring.now() + self.offset

    def advance(self, **amount: float) -> None:
        self.offset += timedelta(**amount)


class SignedAt(SigV4Auth):
    """botocore's own signer, with the time as an argument."""

    def __init__(self, at: datetime, *arguments: object) -> None:
        super().__init__(*arguments)
        self._at = at

    def _modify_request_before_signing(self, request: AWSRequest) -> None:
        request.context["timestamp"] = self._at.strftime("%Y%m%dT%H%M%SZ")
        super()._modify_request_before_signing(request)


class _Compiled(BytecodeCache):
    """Templates that were compiled once in this process: each installation has an application of its own."""

    def __init__(self) -> None:
        self.known: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if bucket.key in self.known:
            bucket.bytecode_from_string(self.known[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        self.known[bucket.key] = bucket.bytecode_to_string()


@functools.cache
def _compiled_for(_colours: tuple[str, ...]) -> _Compiled:
    """Return the templates of applications of one look: its fingerprint is compiled into them."""
    return _Compiled()


@functools.cache
def _empty_database() -> bytes:
    """Return the file of a database at the head of its schema: to copy it takes a tenth of the time to make it."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{folder}/empty.db", Vault(bytes(32)), monotonic=time.monotonic)
        store.migrate()
        store.close()
        return Path(folder, "empty.db").read_bytes()


def _furnish(database_url: str) -> None:
    """Begin a database that is not there yet with a copy of an empty one."""
    file = Path(database_url.removeprefix("sqlite:///"))
    if database_url.startswith("sqlite:///") and not file.exists():
        file.write_bytes(_empty_database())


@dataclass
class Installation:
    """Settings and application over one data folder; ``restart`` gives a second worker over the same data."""

    folder: Path
    environ: dict[str, str]
    now: Callable[[], datetime] = wiring.now
    additions: Mapping[str, object] = field(default_factory=dict)  # kinds of identity, and models of their operations
    application: Application = field(init=False)

    def __post_init__(self) -> None:
        self.settings = Settings.read(environ=self.environ)
        _furnish(self.settings.database_url)
        store = wiring.open_store(self.settings)
        with store.write() as tx:
            if not sealing_keys.load(tx, Vault(self.settings.master_key)):
                sealing_keys.rotate(tx, Vault(self.settings.master_key), now=self.now(), random=wiring.random)
        store.close()
        self.services = wiring.build_services(self.settings, now=self.now, **self.additions)
        self.application = Application(self.services)
        self.application._pages.jinja_env.bytecode_cache = _compiled_for(self.settings.pages_colours)

    @property
    def store(self):
        return self.services.storage.store

    def user_identity(self, account_id: str, user_id: str, name: str) -> IamIdentity:
        """Return a user who has just given the password."""
        with self.store.read() as tx:
            version = stored_version(tx, user_id, is_root=False) or ""
        at = self.now()
        return IamIdentity("iam", user_id, name, at, account_id=account_id, password_version=version)

    def close(self) -> None:
        for provider in self.services.sign_ins.ldap.providers.values():
            provider.close()
        self.services.storage.live_sessions.flush()
        self.services.storage.store.close()
        self.services.storage.audit.close()

    def another_worker(self) -> "Installation":
        return Installation(self.folder, self.environ, self.now)

    def account(self, account_id: str | None = None, alias: str | None = None):
        """Create an account; return its id and its root's credentials."""
        vault = Vault(self.settings.master_key)
        with self.store.write() as tx:
            made = create_account(
                tx, account_id=account_id, alias=alias, now=wiring.now(), random=wiring.random, vault=vault
            )
        return made.account_id, Credentials(made.root_access_key_id, made.root_secret)

    def request(
        self, method: str, raw_uri: str, headers: Mapping[str, str], body: bytes = b"", peer: str = "127.0.0.1"
    ):
        """Send raw parts to the application, as gunicorn would."""
        path, _, query = raw_uri.partition("?")
        environ = {
            "REQUEST_METHOD": method,
            "RAW_URI": raw_uri,
            "PATH_INFO": urllib.parse.unquote(path, "latin-1"),
            "QUERY_STRING": query,
            "SCRIPT_NAME": "",
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "8080",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": peer,
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(),
            "CONTENT_LENGTH": str(len(body)),
        }
        for name, value in headers.items():
            key = name.upper().replace("-", "_")
            environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = value
        told = {}

        def start_response(status, answered, _exc_info=None):
            told["status"], told["headers"] = int(status.split()[0]), dict(answered)
            told["all"] = {name: tuple(one for key, one in answered if key == name) for name, _ in answered}
            return lambda _data: None

        parts = self.application(environ, start_response)
        answered = b"".join(parts)
        if hasattr(parts, "close"):
            parts.close()
        return Answer(told["status"], told["headers"], answered, told["all"])

    def call(
        self,
        action: str,
        credentials: Credentials | None,
        headers=MappingProxyType({}),
        peer: str = "127.0.0.1",
        **parameters,
    ):
        """Sign and send one call; nested parameters are given flat: ``**{"Tags.member.1.Key": "a"}``."""
        service = "sts" if action in STS else "iam"
        form = {
            "Action": action,
            "Version": VERSIONS[service],
            **{key: str(value) for key, value in parameters.items()},
        }
        body = urllib.parse.urlencode(form)
        request = AWSRequest("POST", "http://127.0.0.1:8080/", data=body, headers={"Content-Type": FORM})
        request.headers["Host"] = "127.0.0.1:8080"
        if credentials is not None:
            SignedAt(self.now(), credentials, service, "us-east-1").add_auth(request)
        return self.request("POST", "/", {**dict(request.headers.items()), **headers}, body.encode(), peer)


STS = {
    "AssumeRole",
    "AssumeRoleWithLDAPIdentity",
    "AssumeRoleWithSAML",
    "AssumeRoleWithWebIdentity",
    "AssumeRoot",
    "DecodeAuthorizationMessage",
    "GetAccessKeyInfo",
    "GetCallerIdentity",
    "GetDelegatedAccessToken",
    "GetFederationToken",
    "GetSessionToken",
    "GetWebIdentityToken",
}


def environment(folder: Path, redis_url: str, **more: str) -> dict[str, str]:
    """Return the settings of an installation in ``folder`` as environment variables."""
    return {
        "FEDGATE_MASTER_KEY": base64.b64encode(os.urandom(32)).decode(),
        "FEDGATE_DATA_DIR": str(folder),
        "FEDGATE_REDIS_URL": redis_url,
        # Tests refuse thousands of strangers in a minute, and look at each record.
        "FEDGATE_AUDIT_STRANGERS_PER_MINUTE": "1000000",
        **more,
    }


def wrong_secret(credentials: Credentials) -> Credentials:
    """Return the same key with another secret."""
    return Credentials(credentials.access_key, "x" * 40, credentials.token)


__all__ = ["Answer", "Clock", "Installation", "environment", "wrong_secret"]
