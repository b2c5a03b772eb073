"""Requests to resources as clients sign them, and the questions that proxies make of them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from urllib.parse import urlsplit

from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from broker.api.http import HttpResponse
from broker.authz.endpoints import Endpoints
from broker.authz.original import AuthorizationRequest
from broker.authz.resource import Resource, ResourceKind
from iam.policy.document import Policy, PolicyKind
from iam.policy.policy_set import PolicySet

STORE_HOST, API_HOST = "store.corp", "api.corp"
ADDRESS = "192.0.2.7"
Headers = tuple[tuple[str, str], ...]


def resources(account: str, **more: object) -> dict[str, Resource]:
    """Return a store and an HTTP service that an account owns; ``more`` are members of both."""
    store = Resource(name="store", kind=ResourceKind.S3, hosts=(STORE_HOST,), account=account, service="s3")
    api = Resource(name="api", kind=ResourceKind.HTTP, hosts=(API_HOST,), account=account, service="execute-api")
    return {one.hosts[0]: replace(one, **more) for one in (store, api)}


@dataclass(frozen=True)
class Sent:
    """One request as the client sent it; the methods return it with one thing changed."""

    method: str
    uri: str
    headers: Headers

    def having(self, name: str, value: str) -> "Sent":
        return replace(self, headers=(*(pair for pair in self.headers if pair[0] != name), (name, value)))

    def adding(self, name: str, value: str) -> "Sent":
        return replace(self, headers=(*self.headers, (name, value)))

    def lacking(self, name: str) -> "Sent":
        return replace(self, headers=tuple(pair for pair in self.headers if pair[0] != name))

    def at(self, uri: str) -> "Sent":
        return replace(self, uri=uri)


def signed(  # noqa: PLR0913 - what can be signed
    credentials: Credentials,
    uri: str = "/bucket/key",
    *,
    method: str = "GET",
    body: bytes = b"",
    host: str = STORE_HOST,
    region: str = "us-east-1",
    form: str = "",
    **headers: str,
) -> Sent:
    """Return a request to the store, signed as boto3 signs it over http; ``form`` is what it declares of its body."""
    request = AWSRequest(method, f"http://{host}{uri}", data=body, headers=headers)
    request.headers["X-Amz-Content-SHA256"] = declared = form or sha256(body).hexdigest()
    signer = S3SigV4Auth(credentials, "s3", region)
    signer.payload = lambda _request: declared
    signer.add_auth(request)
    return _sent(request, host)


def signed_api(
    credentials: Credentials,
    uri: str = "/items",
    *,
    method: str = "GET",
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
) -> Sent:
    """Return a request to the HTTP service, signed as botocore signs for API Gateway."""
    request = AWSRequest(method, f"http://{API_HOST}{uri}", data=body, headers=dict(headers or {}))
    SigV4Auth(credentials, "execute-api", "us-east-1").add_auth(request)
    return _sent(request, API_HOST)


def presigned(credentials: Credentials, uri: str = "/bucket/key", *, method: str = "GET", expires: int = 3600) -> Sent:
    request = AWSRequest(method, f"http://{STORE_HOST}{uri}")
    S3SigV4QueryAuth(credentials, "s3", "us-east-1", expires=expires).add_auth(request)
    return _sent(request, STORE_HOST)


def unsigned(uri: str = "/bucket/key", *, method: str = "GET", host: str = STORE_HOST) -> Sent:
    return Sent(method, uri, (("host", host),))


def _sent(request: AWSRequest, host: str) -> Sent:
    url = urlsplit(request.url)
    headers = tuple((name.lower(), str(value)) for name, value in request.headers.items())
    return Sent(request.method, f"{url.path}?{url.query}" if url.query else url.path, (("host", host), *headers))


# --- policies ---------------------------------------------------------------------------------------------------------


def document(**statement: object) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statement})


def resource_policy(*statements: Mapping[str, object]) -> PolicySet:
    text = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
    return PolicySet([Policy.parse(text, PolicyKind.RESOURCE)])


# --- questions --------------------------------------------------------------------------------------------------------


def nginx(sent: Sent, endpoint: str = "nginx", *more: tuple[str, str]) -> AuthorizationRequest:
    """Return the question of nginx with the recipe in deploy/."""
    described = (
        ("x-original-method", sent.method),
        ("x-original-uri", sent.uri),
        ("x-fedgate-forwarded-for", ADDRESS),
        ("x-fedgate-forwarded-proto", "https"),
    )
    return AuthorizationRequest("GET", f"/authz/{endpoint}", (*sent.headers, *described, *more))


def forward(sent: Sent) -> AuthorizationRequest:
    """Return the question of Caddy's forward_auth or Traefik's ForwardAuth."""
    host = next(value for name, value in sent.headers if name == "host")
    described = (
        ("host", "127.0.0.1:8090"),
        ("x-forwarded-method", sent.method),
        ("x-forwarded-uri", sent.uri),
        ("x-forwarded-host", host),
        ("x-forwarded-for", ADDRESS),
        ("x-forwarded-proto", "https"),
    )
    return AuthorizationRequest(
        "GET", "/authz/forward", (*(pair for pair in sent.headers if pair[0] != "host"), *described)
    )


def envoy(sent: Sent) -> AuthorizationRequest:
    described = (("x-forwarded-for", ADDRESS), ("x-forwarded-proto", "https"), ("content-length", "0"))
    return AuthorizationRequest(sent.method, f"/authz/envoy{sent.uri}", (*sent.headers, *described))


def haproxy(sent: Sent, *more: tuple[str, str]) -> AuthorizationRequest:
    return nginx(sent, "haproxy", *more)


@dataclass(frozen=True)
class Verdict:
    """An answer of the authorizer, with the headers by their names."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __getitem__(self, name: str) -> str:
        return self.headers[name]


def asked(endpoints: Endpoints, question: AuthorizationRequest) -> Verdict:
    answer: HttpResponse = endpoints.answer(question)
    assert len(dict(answer.headers)) == len(answer.headers)
    return Verdict(int(answer.status), dict(answer.headers), answer.body)
