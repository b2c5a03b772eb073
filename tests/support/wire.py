"""Requests as they lie on the wire, signed by hand so that each part can be made wrong.

Written after the IAM User Guide, "Create a signed AWS API request", and not after the code under test.
"""

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from types import MappingProxyType
from urllib.parse import parse_qsl, quote, urlencode

from botocore.credentials import Credentials

from support.installation import Answer, Installation

FORM = "application/x-www-form-urlencoded"
HOST = "127.0.0.1:8080"
WHO = "Action=GetCallerIdentity&Version=2011-06-15"


@dataclass(frozen=True)
class Wire:
    """One request; the methods return it with one thing changed."""

    method: str
    uri: str
    headers: Mapping[str, str]
    body: bytes = b""

    def send(self, installation: Installation, peer: str = "127.0.0.1") -> Answer:
        return installation.request(self.method, self.uri, self.headers, self.body, peer)

    def having(self, name: str, value: str) -> "Wire":
        return replace(self, headers={**self.headers, name: value})

    def lacking(self, name: str) -> "Wire":
        return replace(self, headers={key: value for key, value in self.headers.items() if key != name})

    def authorized(self, change: Callable[[str], str]) -> "Wire":
        changed = change(self.headers["Authorization"])
        assert changed != self.headers["Authorization"]
        return self.having("Authorization", changed)

    def asking(self, change: Callable[[str], str]) -> "Wire":
        path, _, query = self.uri.partition("?")
        assert change(query) != query
        return replace(self, uri=f"{path}?{change(query)}")

    def without(self, parameter: str) -> "Wire":
        """Leave out one parameter of the query."""
        return self.asking(lambda query: "&".join(p for p in query.split("&") if not p.startswith(parameter + "=")))


@dataclass(frozen=True)
class Signer:
    """Who signs, when, and for what."""

    credentials: Credentials
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    region: str = "us-east-1"
    service: str = "sts"
    terminator: str = "aws4_request"
    day: str = ""

    @property
    def timestamp(self) -> str:
        return self.at.strftime("%Y%m%dT%H%M%SZ")

    @property
    def scope(self) -> str:
        return f"{self.day or self.timestamp[:8]}/{self.region}/{self.service}/{self.terminator}"

    def signed(
        self,
        form: str = WHO,
        *,
        method: str = "POST",
        uri: str = "/",
        headers: Mapping[str, str] = MappingProxyType({}),
        names: tuple[str, ...] = (),
    ) -> Wire:
        """Sign in the headers; ``headers`` are sent besides the usual, ``names`` are those signed instead of all."""
        sent = {"Host": HOST, "Content-Type": FORM, "X-Amz-Date": self.timestamp, **headers}
        if self.credentials.token:
            sent["X-Amz-Security-Token"] = self.credentials.token
        body = form.encode()
        chosen = names or tuple(sorted(name.lower() for name in sent))
        payload = next((value for name, value in sent.items() if name.lower() == "x-amz-content-sha256"), "")
        path, _, query = uri.partition("?")
        signature = self._signature(
            (method, path, _canonical(query)), sent, chosen, payload or sha256(body).hexdigest()
        )
        sent["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.credentials.access_key}/{self.scope},"
            f" SignedHeaders={';'.join(chosen)}, Signature={signature}"
        )
        return Wire(method, uri, sent, body)

    def presigned(self, query: str = WHO, *, method: str = "GET", expires: str = "900") -> Wire:
        """Sign in the query."""
        stated = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{self.credentials.access_key}/{self.scope}",
            "X-Amz-Date": self.timestamp,
            "X-Amz-Expires": expires,
            "X-Amz-SignedHeaders": "host",
        }
        if self.credentials.token:
            stated["X-Amz-Security-Token"] = self.credentials.token
        query = f"{query}&{urlencode(stated)}"
        head = {"Host": HOST}
        signature = self._signature((method, "/", _canonical(query)), head, ("host",), sha256(b"").hexdigest())
        return Wire(method, f"/?{query}&X-Amz-Signature={signature}", head)

    def _signature(
        self, target: tuple[str, str, str], sent: Mapping[str, str], names: tuple[str, ...], payload: str
    ) -> str:
        values = {name.lower(): value.strip() for name, value in sent.items()}
        lines = "".join(f"{name}:{values.get(name, '')}\n" for name in names)
        canonical = "\n".join((*target, lines, ";".join(names), payload))
        to_sign = f"AWS4-HMAC-SHA256\n{self.timestamp}\n{self.scope}\n{sha256(canonical.encode()).hexdigest()}"
        key = f"AWS4{self.credentials.secret_key}".encode()
        for step in self.scope.split("/"):
            key = hmac.digest(key, step.encode(), "sha256")
        return hmac.digest(key, to_sign.encode(), "sha256").hex()


def _canonical(query: str) -> str:
    pairs = parse_qsl(query, keep_blank_values=True)
    return "&".join(
        f"{name}={value}" for name, value in sorted((quote(n, safe="-_.~"), quote(v, safe="-_.~")) for n, v in pairs)
    )
