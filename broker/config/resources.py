"""The [authz] and [resource.NAME] sections: which keys they have, and how each resource is read and checked."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from broker.authz.http_api.routes import ambiguous, route_problems
from broker.authz.resource import Audited, Backend, Resource, ResourceKind, Route
from broker.config.checks import host_and_port
from broker.config.loopback import is_loopback
from broker.config.source import SettingPath, SettingsReader
from broker.config.text_file import NotText, decode_text, read_secret_file
from iam.arn import ACCOUNT_ID, parse_arn
from iam.errors import MalformedPolicyDocument
from iam.policy.document import Policy, PolicyKind
from iam.policy.policy_set import PolicySet

# The type, the default and the description of each key.
DeclaredKeys = Mapping[str, tuple[object, object, str]]

RESOURCE_SETTINGS: Final[DeclaredKeys] = {
    "kind": (str, "", '"s3" for a store with the API of Amazon S3, "http" for an HTTP API.'),
    "hosts": (
        tuple[str, ...],
        (),
        "Host names that clients use, with the port where it is not 80 or 443; *.HOST is for buckets by host name.",
    ),
    "account": (str, "", "The account that owns the resource."),
    "service": (str, "", 'Service in the scope of signatures; empty takes "s3", or "execute-api" for kind http.'),
    "regions": (tuple[str, ...], (), "Regions that the scope of a signature may name; empty: any."),
    "region": (str, "us-east-1", "Region in the ARNs of kind http without routes."),
    "stage": (str, "default", "Stage in the ARNs of kind http without routes."),
    "policy_file": (Path, "", "File with the resource policy, a JSON document."),
    "anonymous": (bool, False, 'Admit unsigned requests where a resource policy allows Principal "*".'),
    "browser": (str, "", "ARN of the role in which people use the resource with a browser, signed in on the pages."),
    "audit": (
        str,
        "all",
        'Decisions that are recorded: "all", "writes" or "denials"; denials of known principals always are.',
    ),
    "policy_writes": (bool, False, "Let clients change bucket policies and ACLs at the store itself; kind s3."),
}
BACKEND_SETTINGS: Final[DeclaredKeys] = {
    "endpoint": (str, "", "URL of the store behind the proxy, without a path."),
    "region": (str, "us-east-1", "Region with which requests to the store are signed."),
    "access_key_id": (str, "", "Key id of the store's own key."),
    "secret_file": (Path, "", "File with its secret (mode 600); a line break at its end is ignored."),
    "unsigned_trailers": (
        bool,
        False,
        "The store reads STREAMING-UNSIGNED-PAYLOAD-TRAILER (Ceph RGW 16 does not); else such uploads are refused.",
    ),
    "subresources": (
        tuple[str, ...],
        (),
        "Subresources that the store knows, such as inventory; with others, the plain request must be allowed, too.",
    ),
}
ROUTE_SETTINGS: Final[DeclaredKeys] = {
    "methods": (tuple[str, ...], (), 'Methods, such as ["GET", "HEAD"].'),
    "path": (str, "", "Path template: {name} takes one segment, {name+} the rest of the path."),
    "action": (str, "", "The action that policies allow, such as reports:GetReport."),
    "resource": (str, "", "Template of the ARN, with names of the path in its last part."),
    "query": (dict[str, str], {}, 'Parameters that the query must have, by value; "*" is any value.'),
    "headers": (dict[str, str], {}, 'Headers that the request must have, by value; "*" is any value.'),
    "keys": (dict[str, str], {}, "Condition keys of the service, with templates as values."),
}
AUTHZ_SETTINGS: Final[DeclaredKeys] = {  # bind is declared in Settings
    "secret_file": (
        Path,
        "",
        "File with a secret (mode 600) that proxies send as X-Fedgate-Authz-Secret; needed if bind is no loopback.",
    ),
}

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
_LABEL: Final = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST: Final = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*(:[0-9]{{1,5}})?|\[[0-9a-f:.]+\](:[0-9]{{1,5}})?", re.ASCII)
_WORD: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)
_STAGE: Final = re.compile(r"[A-Za-z0-9_-]{1,128}|\$default", re.ASCII)
_KEY_ID: Final = re.compile(r"[!-~]{1,128}", re.ASCII)
_SUBRESOURCE: Final = re.compile(r"[A-Za-z-]{1,64}", re.ASCII)
_SECRET: Final = re.compile(r"[!-~]{16,256}", re.ASCII)
_DEFAULT_PORTS: Final = (":80", ":443")
_MAX_SOCKET_PATH: Final = 107  # bytes: sockaddr_un has 108 with the final zero
_SERVICES: Final = {ResourceKind.S3: "s3", ResourceKind.HTTP: "execute-api"}
_ONLY_HTTP: Final = ("region", "stage", "route")
_ONLY_S3: Final = ("policy_writes", "backend")


# --- [authz] ----------------------------------------------------------------------------------------------------------


def authz_bind(bind: str) -> str:
    """Refuse what is neither empty, HOST:PORT nor unix:/PATH."""
    if bind.startswith("unix:"):
        is_valid = bind.startswith("unix:/") and len(bind.removeprefix("unix:").encode()) <= _MAX_SOCKET_PATH
        return "" if is_valid else f"must be unix:/PATH with an absolute path of at most {_MAX_SOCKET_PATH} bytes"
    problem = host_and_port(bind) if bind else ""
    return f"{problem}, or unix:/PATH" if problem else ""


def read_authz_secret(source: SettingsReader, bind: str) -> str:
    """Return the secret of the authorizer's endpoints, or "" where none is set; note problems in the source."""
    path = ("authz", "secret_file")
    file = source.get(path, Path)
    if file is None:
        is_reachable = bind and not bind.startswith("unix:") and not is_loopback(f"http://{bind}")
        if is_reachable and not authz_bind(bind):
            source.refuse(path, "is missing: others could ask with forged requests. `openssl rand -hex 32` makes one")
        return ""
    secret = _read_secret(source, path, file)
    if secret and not _SECRET.fullmatch(secret):
        source.refuse(path, f"{file} must have 16 to 256 printable characters: `openssl rand -hex 32` makes them")
    return secret


def _read_secret(source: SettingsReader, path: SettingPath, file: Path) -> str:
    try:
        secret = read_secret_file(file).rstrip("\r\n")
    except OSError as error:
        source.refuse(path, f"{file} cannot be read: {error.strerror}")
    except ValueError as error:
        source.refuse(path, str(error))
    else:
        if not secret:
            source.refuse(path, f"{file} is empty")
        return secret
    return ""


# --- [resource.NAME] --------------------------------------------------------------------------------------------------


def read_resources(source: SettingsReader, names: Iterable[str]) -> dict[str, Resource]:
    """Return the resources by name; one with problems is left out, and they are noted in the source."""
    found = {name: _read_resource(source, name) for name in names}
    resources = {name: resource for name, resource in found.items() if resource is not None}
    _refuse_shared_hosts(source, resources)
    return resources


def _refuse_shared_hosts(source: SettingsReader, resources: Mapping[str, Resource]) -> None:
    owners: dict[str, str] = {}
    for name, resource in resources.items():
        for host in resource.hosts:
            if host in owners:
                source.refuse(("resource", name, "hosts"), f"{host} is named by resource.{owners[host]} already")
            owners[host] = name


def _read_resource(source: SettingsReader, name: str) -> Resource | None:
    section, before = ("resource", name), len(source.problems)
    if not _NAME.fullmatch(name):
        source.refuse(section, "a name has up to 64 letters, digits, - and _")
    values = _read_values(source, section, RESOURCE_SETTINGS)
    routes, backend = _read_routes(source, name, values["account"]), _read_backend(source, name)
    _check_resource(source, section, values)
    policy = _read_policy(source, section, values["policy_file"])
    if len(source.problems) != before:
        return None
    kind = ResourceKind(values["kind"])
    _check_kind(source, section, kind, values["hosts"])
    return _resource(name, kind, values, routes=routes, backend=backend, policy=policy)


def _resource(
    name: str,
    kind: ResourceKind,
    values: Mapping[str, Any],
    *,
    routes: tuple[Route, ...],
    backend: Backend | None,
    policy: PolicySet | None,
) -> Resource:
    return Resource(
        name=name,
        kind=kind,
        hosts=values["hosts"],
        account=values["account"],
        service=values["service"] or _SERVICES[kind],
        regions=frozenset(values["regions"]) or None,
        region=values["region"],
        stage=values["stage"],
        routes=routes,
        policy=policy,
        anonymous=values["anonymous"],
        browser=values["browser"],
        audit=Audited(values["audit"]),
        policy_writes=values["policy_writes"],
        backend=backend,
    )


def _read_values(source: SettingsReader, section: SettingPath, declared: DeclaredKeys) -> dict[str, Any]:
    """Return the value, or the default, of each key of a section."""
    values = {key: source.get((*section, key), kind) for key, (kind, _default, _text) in declared.items()}
    return {key: declared[key][1] if value is None else value for key, value in values.items()}


def _check_resource(source: SettingsReader, section: SettingPath, values: Mapping[str, Any]) -> None:
    """Note a problem for each value that does not follow its rule, one for each key."""
    for key, (valid, remedy) in _resource_rules(values).items():
        if not valid and not source.is_refused((*section, key)):
            source.refuse((*section, key), remedy)
    for host in values["hosts"]:
        remedy = _host_problem(host)
        if remedy:
            source.refuse((*section, "hosts"), remedy)


def _resource_rules(values: Mapping[str, Any]) -> Mapping[str, tuple[bool, str]]:
    """Return for each key whether its value is right, and the remedy."""
    return {
        "kind": (values["kind"] in list(ResourceKind), 'must be "s3" or "http"'),
        "hosts": (bool(values["hosts"]), 'is missing: the names that clients use, such as ["s3.example.com"]'),
        "account": (bool(ACCOUNT_ID.fullmatch(values["account"])), "must be the twelve digits of an account"),
        "service": (_is_word(values["service"] or "s3"), "must be small letters, digits and hyphens, as clients sign"),
        "regions": (all(map(_is_word, values["regions"])), 'must be names such as "us-east-1"'),
        "region": (_is_word(values["region"]), 'must be a name such as "us-east-1"'),
        "stage": (bool(_STAGE.fullmatch(values["stage"])), 'must be letters, digits, - and _, such as "prod"'),
        "browser": (_is_role(values["browser"]), "must be the ARN of a role: arn:aws:iam::ACCOUNT:role/NAME"),
        "audit": (values["audit"] in list(Audited), 'must be "all", "writes" or "denials"'),
    }


def _is_word(text: str) -> bool:
    return bool(_WORD.fullmatch(text))


def _is_role(text: str) -> bool:
    arn = parse_arn(text)
    is_role = arn and arn[:3] == ("aws", "iam", "") and ACCOUNT_ID.fullmatch(arn.account)
    return not text or bool(is_role and arn and re.fullmatch(r"role(/[\w+=,.@-]+)+", arn.resource, re.ASCII))


def _host_problem(host: str) -> str:
    if host.endswith(_DEFAULT_PORTS):
        return f"{host}: leave out the port, since 80 and 443 are the schemes' own"
    if host != host.lower():
        return f"{host}: write it in small letters"
    return "" if _HOST.fullmatch(host) else f"{host} is no host name such as s3.example.com, host:9000 or *.example.com"


def _check_kind(source: SettingsReader, section: SettingPath, kind: ResourceKind, hosts: tuple[str, ...]) -> None:
    """Note a problem for each setting that says nothing about a resource of this kind."""
    other, unused = (ResourceKind.HTTP, _ONLY_HTTP) if kind is ResourceKind.S3 else (ResourceKind.S3, _ONLY_S3)
    for key in unused:
        if source.has((*section, key)):
            source.refuse((*section, key), f'is for kind = "{other}" only: remove it')
    if kind is ResourceKind.HTTP and any(host.startswith("*.") for host in hosts):
        # Policies would not tell one host from another.
        source.refuse((*section, "hosts"), '*. is for the buckets of kind = "s3": name each host, or make resources')


def _read_policy(source: SettingsReader, section: SettingPath, file: Path | str) -> PolicySet | None:
    """Return the policy of a file; principals in it are matched by their ARN, since no account is known yet."""
    if not isinstance(file, Path):
        return None
    path = (*section, "policy_file")
    try:
        return PolicySet((Policy.parse(decode_text(file.read_bytes()), PolicyKind.RESOURCE, label=file.name),))
    except OSError as error:
        source.refuse(path, f"{file} cannot be read: {error.strerror}")
    except NotText as error:
        source.refuse(path, f"{file} {error}")
    except MalformedPolicyDocument as error:
        source.refuse(path, f"{file}: {error.log}")
    return None


# --- [resource.NAME.backend] and [[resource.NAME.route]] --------------------------------------------------------------


def _read_backend(source: SettingsReader, name: str) -> Backend | None:
    section, before = ("resource", name, "backend"), len(source.problems)
    if not source.has(section):
        return None
    values = _read_values(source, section, BACKEND_SETTINGS)
    for key, (valid, remedy) in _backend_rules(values).items():
        if not valid and not source.is_refused((*section, key)):
            source.refuse((*section, key), remedy)
    file = values.pop("secret_file")
    secret = _read_secret(source, (*section, "secret_file"), file) if file else ""
    values["subresources"] = frozenset(values["subresources"])
    return Backend(**values, secret_access_key=secret) if len(source.problems) == before else None


def _backend_rules(values: Mapping[str, Any]) -> Mapping[str, tuple[bool, str]]:
    return {
        "endpoint": (_is_endpoint(values["endpoint"]), "must be http://HOST or https://HOST, with a port at most"),
        "region": (_is_word(values["region"]), 'must be a name such as "us-east-1"'),
        "access_key_id": (bool(_KEY_ID.fullmatch(values["access_key_id"])), "must be the key id of the store's key"),
        "secret_file": (bool(values["secret_file"]), "is missing: the file with the secret of this key"),
        "subresources": (all(map(_SUBRESOURCE.fullmatch, values["subresources"])), 'must be names such as "inventory"'),
    }


def _is_endpoint(text: str) -> bool:
    try:
        url = urlsplit(text)
        has_port = url.port is None or url.port > 0
    except ValueError:
        return False
    plain = f"{url.scheme}://{url.netloc}" == text.lower() and "@" not in url.netloc
    return bool(url.scheme in {"http", "https"} and url.hostname and has_port and plain and _HOST.fullmatch(url.netloc))


def _read_routes(source: SettingsReader, name: str, account: str) -> tuple[Route, ...]:
    section, before = ("resource", name, "route"), len(source.problems)
    numbers = [str(number) for number in range(1, source.count(section) + 1)]
    routes = tuple(_read_route(source, (*section, number), account) for number in numbers)
    if len(source.problems) == before:
        for first, second in ambiguous(routes):
            remedy = f"takes requests that route {first + 1} takes too, and neither is more specific: add a condition"
            source.refuse((*section, numbers[second]), remedy)
    return routes


def _read_route(source: SettingsReader, section: SettingPath, account: str) -> Route:
    before = len(source.problems)
    values = _read_values(source, section, ROUTE_SETTINGS)
    lower = {key: {name.lower(): text for name, text in values[key].items()} for key in ("headers", "keys")}
    route = Route(**values | lower | {"methods": frozenset(values["methods"])})
    if len(source.problems) == before:
        for key, remedy in route_problems(route, account):
            source.refuse((*section, key), remedy)
    return route
