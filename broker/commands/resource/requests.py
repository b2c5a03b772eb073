"""``fedgate resource test``: whether a request to a resource would pass, and why; nothing is sent."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from broker.api.http import HttpRequest
from broker.authz.http_api.requests import read_http_request
from broker.authz.request_checks import check_form
from broker.authz.resource import Resource, ResourceKind
from broker.authz.resource_policies import ResourcePolicies, owned_permission
from broker.authz.resource_table import ResourceTable
from broker.authz.s3.requests import read_s3_request
from broker.authz.service_request import ServiceRequest
from broker.commands.options import installation_options, load_settings, read_text_argument
from broker.commands.output import escape_unprintable, json_option, print_json
from broker.commands.policy.explain import context_option, decision_json, format_decision, read_context
from broker.commands.resource.resources import named_resource
from broker.wiring import now, open_store
from iam.arn import iam_arn
from iam.errors import AccessDenied, MissingAuthenticationToken, NoSuchEntity, ServiceError
from iam.operations.required_permission import ContextKeys, RequiredPermission
from iam.policy.decide import DecisionType
from iam.policy.document import Policy, PolicyKind
from iam.policy.every_resource import for_every_resource
from iam.policy.policy_set import PolicySet
from iam.store.store import Store
from sts import callers
from sts.hypothetical_request import HypotheticalRequest, RequestSimulator

_READERS: Final = {ResourceKind.S3: read_s3_request, ResourceKind.HTTP: read_http_request}
_REQUEST_LENGTH: Final = 2  # METHOD and TARGET
_DENIED: Final = 3  # the exit status, as of `fedgate explain`


@dataclass(frozen=True, slots=True)
class _Tested:
    """A request to a resource: what it asks for, and the request to the policies for each permission; or the error."""

    asked: ServiceRequest | None = None
    requests: tuple[HypotheticalRequest, ...] = ()
    error: ServiceError | None = None

    @property
    def passes(self) -> bool:
        """Return whether every permission is allowed."""
        return self.error is None and all(one.decision() is DecisionType.ALLOWED for one in self.requests)


class _Asker(NamedTuple):
    """Who asks: the ARN, the condition keys that are known, and the session policy."""

    principal: str
    keys: ContextKeys
    session: PolicySet | None


@click.command()
@click.argument("name")
@click.argument("request", nargs=-1, required=True, metavar="METHOD TARGET")
@click.option("--as", "principal", required=True, help="Who asks: a role of the owner, any ARN, or anonymous.")
@click.option("--header", "-H", "headers", multiple=True, metavar="NAME:VALUE", help="A header; can be repeated.")
@click.option("--session-tag", "tags", multiple=True, metavar="KEY=VALUE", help="A tag of the session of the role.")
@click.option("--session-policy", type=read_text_argument, metavar="FILE", help="A file with its session policy.")
@context_option
@installation_options
@json_option
def test(  # noqa: PLR0913 - one argument for each option
    *,
    name: str,
    request: tuple[str, ...],
    principal: str,
    headers: tuple[str, ...],
    tags: tuple[str, ...],
    session_policy: str | None,
    pairs: tuple[str, ...],
    config: Path | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Say whether a request to the resource NAME would pass, and why: its actions, ARNs, keys and each statement.

        fedgate resource test store --as readers -- GET /photos/cat.jpg --header 'Range: bytes=0-9'

    TARGET is the path, percent-encoded as it is sent, with the query. No request is sent, and no signature is needed.
    The host is the first of the resource; for a bucket by host name, give a Host header. What only a real request
    fills in, such as aws:SourceIp, is given with --context. Exit status: 0 where the request would pass, 3 where not.
    """
    settings = load_settings(config, data)
    found = named_resource(settings, name)
    sent = _http_request(found, request, headers)
    keys = {**read_context(pairs), **_tag_keys(tags)}
    with closing(open_store(settings)) as store:
        asker = _Asker(_principal_arn(store, found, principal), keys, _session(session_policy))
        tested = _test(store, found, sent, asker)
    if as_json:
        print_json(_in_json(tested))
    else:
        for line in _told(tested, sent, name):
            click.echo(escape_unprintable(line))
    raise SystemExit(0 if tested.passes else _DENIED)


def _session(document: str | None) -> PolicySet | None:
    return None if document is None else PolicySet([Policy.parse(document, PolicyKind.SESSION, label="passed")])


# --- the request ------------------------------------------------------------------------------------------------------


def _tag_keys(tags: Iterable[str]) -> ContextKeys:
    pairs = [tag.partition("=") for tag in tags]
    wrong = next((key for key, equals, _value in pairs if not (key and equals)), None)
    if wrong is not None:
        raise click.UsageError(f"--session-tag {wrong}: write KEY=VALUE, as in department=engineering")
    return {f"aws:principaltag/{key.lower()}": (value,) for key, _equals, value in pairs}


def _http_request(found: Resource, words: Sequence[str], headers: Sequence[str]) -> HttpRequest:
    """Return the request of the words behind ``--``; headers can be among them."""
    request, more = words[:_REQUEST_LENGTH], words[_REQUEST_LENGTH:]
    if len(request) != _REQUEST_LENGTH or len(more) % 2 or any(word not in {"--header", "-H"} for word in more[::2]):
        raise click.UsageError("Write the request as in: -- GET /bucket/key --header 'Range: bytes=0-9'")
    path, _, query = request[1].partition("?")
    given = tuple(_header(text) for text in (*headers, *more[1::2]))
    host = () if any(name == "host" for name, _value in given) else (("host", found.hosts[0].removeprefix("*.")),)
    return HttpRequest(request[0], path, query, (*host, *given), b"", "", secure=True)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not (name.strip() and colon):
        raise click.UsageError(f"--header {text}: write NAME: VALUE, as in 'Range: bytes=0-9'")
    return name.strip().lower(), value.strip()


def _principal_arn(store: Store, found: Resource, text: str) -> str:
    """Return the ARN of who asks; a name without a colon is that of a role in the owner's account, or anonymous."""
    if ":" in text or text == callers.ANONYMOUS:
        return text
    record = store.role_by_name(found.account, text.rpartition("/")[2])
    if record is None:
        raise NoSuchEntity(f"{iam_arn(found.account, 'role', text)} does not exist.")
    return record.arn


# --- the decision -----------------------------------------------------------------------------------------------------


def _test(store: Store, found: Resource, sent: HttpRequest, asker: _Asker) -> _Tested:
    try:
        if asker.principal == callers.ANONYMOUS and not found.anonymous:
            raise MissingAuthenticationToken("Missing Authentication Token")
        asked = _read(found, sent)
    except ServiceError as error:
        return _Tested(error=error)
    policies = ResourcePolicies(store)
    simulator, keys = RequestSimulator(store, now()), {**_header_keys(sent), **asker.keys}

    def build(permission: RequiredPermission) -> HypotheticalRequest:
        owned = owned_permission(permission, found, policies)
        return simulator.build_permission(asker.principal, owned, keys, asker.session)

    return _Tested(asked, tuple(_requests(asked, build)))


def _read(found: Resource, sent: HttpRequest) -> ServiceRequest:
    """Return what a request asks for, read as the authorizer reads it; raise ServiceError."""
    if ResourceTable({found.name: found}).find(sent.header("host") or "") is None:
        raise AccessDenied(f"The resource has no host {(sent.header('host') or '')[:255]!a}.")
    check_form(found.kind, sent)
    return _READERS[found.kind](found, sent)


def _header_keys(sent: HttpRequest) -> ContextKeys:
    named = {"aws:useragent": sent.header("user-agent"), "aws:referer": sent.header("referer")}
    return {key: (value,) for key, value in named.items() if value}


def _requests(
    asked: ServiceRequest, build: Callable[[RequiredPermission], HypotheticalRequest]
) -> Iterator[HypotheticalRequest]:
    """Yield what the policies are asked: each permission, and each other spelling of it that is denied explicitly.

    Of a permission on every resource with a prefix, an Allow must cover all, and no Deny may overlap any.
    """
    for permission in asked.permissions:
        yield build(permission)
        for spelling in permission.spellings:
            other = build(replace(permission, resource=spelling, spellings=()))
            if other.decision() is DecisionType.EXPLICIT_DENY:
                yield other
    for permission in asked.every_resource:
        request = build(permission)
        yield replace(request, layers=for_every_resource(request.layers))


# --- the answer -------------------------------------------------------------------------------------------------------


def _in_json(tested: _Tested) -> dict[str, Any]:
    answer: dict[str, Any] = {"passes": tested.passes}
    if tested.error is not None or tested.asked is None:
        error = tested.error
        return answer | {"error": {"code": error.code, "message": error.message} if error else None}
    asked = tested.asked
    decisions = [decision_json(request) | {"keys": _own_keys(asked, request)} for request in tested.requests]
    return answer | {"operation": asked.operation, "writes": asked.writes, "decisions": decisions}


def _own_keys(asked: ServiceRequest, request: HypotheticalRequest) -> dict[str, list[str]]:
    """Return the condition keys that this request brings, apart from what describes its caller and its time."""
    names = {name for permission in (*asked.permissions, *asked.every_resource) for name in permission.keys}
    return {name: list(request.context.keys[name]) for name in sorted(names) if name in request.context.keys}


def _told(tested: _Tested, sent: HttpRequest, name: str) -> Iterator[str]:
    target = f"{sent.path}?{sent.query}" if sent.query else sent.path
    operation = f": {tested.asked.operation}" if tested.asked else ""
    yield f"{'PASSES' if tested.passes else 'REFUSED'}  {sent.method} {target} at {name}{operation}"
    if tested.error is not None:
        yield f"  before any policy, {tested.error.code}: {tested.error.message}"
    if tested.asked is None:
        return
    for request in tested.requests:
        yield ""
        yield from format_decision(request)
        keys = _own_keys(tested.asked, request)
        if keys:
            yield ""
            yield "Condition keys of the request:"
            yield from (f"  {key} = {value}" for key, values in keys.items() for value in values)
