"""Reads what a request to an HTTP API asks of the policies: by the routes of the settings, or as API Gateway does.

Pure. Source: API Gateway Developer Guide, "Control access to a REST API with IAM permissions": action
``execute-api:Invoke`` on ``arn:aws:execute-api:REGION:ACCOUNT:API-ID/STAGE/METHOD/PATH``.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final
from urllib.parse import unquote_plus, unquote_to_bytes

from broker.api.http import HttpRequest
from broker.authz.http_api.paths import in_arn, read_segments
from broker.authz.http_api.routes import ANY_VALUE, Template, by_specificity, filled
from broker.authz.resource import Resource, Route
from broker.authz.service_request import ServiceRequest
from iam.errors import AccessDenied, ValidationError
from iam.operations.required_permission import ContextKeys, RequiredPermission
from iam.percent_encoding import has_bad_escape

_METHOD: Final = re.compile(r"[A-Z]{1,32}", re.ASCII)
_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_INVOKE: Final = "execute-api:Invoke"
# With one of these, frameworks handle another method or another path than the one that was decided.
_OVERRIDES: Final = frozenset(
    {
        *("x-http-method", "x-http-method-override", "x-method-override"),
        *("x-original-url", "x-rewrite-url", "x-script-name"),
        # gunicorn takes SCRIPT_NAME of a peer that it trusts, such as 127.0.0.1, and routes what is left of the path.
        *("path-info", "script-name"),
    }
)
_METHOD_PARAMETER: Final = "_method"  # of Laravel and Symfony, in the query of a POST too
_SIGNED_HEADERS: Final = re.compile(r"SignedHeaders=([^,\s]*)")
_PRESIGNED_HEADERS: Final = "X-Amz-SignedHeaders"
_PHP_UNDERSCORES: Final = str.maketrans(" .", "__")


def read_http_request(resource: Resource, request: HttpRequest) -> ServiceRequest:
    """Return the permission that a request needs.

    Raise ValidationError for one that could be read in two ways, and AccessDenied for one that fits no route.
    """
    _check_method(request)
    segments = read_segments(request.path)
    if not resource.routes:
        return _invocation(resource, request, segments)
    route, parts = _route(resource.routes, request, segments)
    in_resource = {name: in_arn(value) for name, value in parts.items()}
    keys = {key: (filled(value, parts),) for key, value in route.keys.items()}
    return _service_request(request, filled(route.resource, in_resource), route.action, keys, route.path)


def _check_method(request: HttpRequest) -> None:
    if not _METHOD.fullmatch(request.method):
        raise ValidationError("The method of the request must be written in capitals.")
    override = next((name for name, _value in request.headers if name.replace("_", "-") in _OVERRIDES), "")
    if override:
        raise ValidationError(f"The header {override} could make this another request: leave it out.")
    if request.query and _METHOD_PARAMETER in _folded_names(request.query):
        raise ValidationError("The parameter _method could make this another request: leave it out.")


def _folded_names(query: str) -> set[str]:
    return {_folded(unquote_plus(piece.partition("=")[0])) for piece in re.split("[&;]", query)}


def _folded(name: str) -> str:
    """Return the name of a parameter as the most lenient service reads it.

    PHP ends it at a NUL or a bracket, skips spaces before it and takes a space or a dot in it for an underscore: it
    reads ``.method`` as ``_method`` ("Variables From External Sources").
    """
    return re.split("[\\0[]", name, maxsplit=1)[0].lstrip(" ").translate(_PHP_UNDERSCORES).casefold()


def _invocation(resource: Resource, request: HttpRequest, segments: Sequence[str]) -> ServiceRequest:
    owner = f"arn:aws:execute-api:{resource.region}:{resource.account}:{resource.name}"
    arn = f"{owner}/{resource.stage}/{request.method}/{'/'.join(map(in_arn, segments))}"
    return _service_request(request, arn, _INVOKE, {}, "")


def _service_request(request: HttpRequest, arn: str, action: str, keys: ContextKeys, route: str) -> ServiceRequest:
    # Many services answer /admin/ as they answer /admin: what is denied by name is denied in both forms.
    spellings = (arn.removesuffix("/"),) if arn.endswith("/") else ()
    parameters = {"httpMethod": request.method, "path": request.path}
    return ServiceRequest(
        operation=action.partition(":")[2],
        permissions=(RequiredPermission(arn, keys, action, spellings=spellings),),
        writes=request.method not in _READS,
        parameters=parameters | ({"route": route} if route else {}),
    )


# --- routes -----------------------------------------------------------------------------------------------------------


class RouteTable:
    """The routes of one resource, by method and the most specific one first, and what they have conditions on."""

    __slots__ = ("by_method", "folded_parameters", "headers", "parameters")

    def __init__(self, routes: Iterable[Route]) -> None:
        ordered = [(Template.parse(route.path), route) for route in sorted(routes, key=by_specificity)]
        methods = {method for _template, route in ordered for method in route.methods}
        self.by_method = {method: [one for one in ordered if method in one[1].methods] for method in methods}
        self.parameters = frozenset(name for _template, route in ordered for name in route.query)
        self.folded_parameters = frozenset(map(_folded, self.parameters))
        self.headers = frozenset(name for _template, route in ordered for name in route.headers)


# By the identity of the routes, which the table keeps alive; there are as many as resources.
_tables: dict[int, tuple[tuple[Route, ...], RouteTable]] = {}
_MOST_TABLES: Final = 1_000


def _table(routes: tuple[Route, ...]) -> RouteTable:
    found = _tables.get(id(routes))
    if found is None:
        if len(_tables) >= _MOST_TABLES:
            _tables.clear()
        found = _tables[id(routes)] = (routes, RouteTable(routes))
    return found[1]


def _route(routes: tuple[Route, ...], request: HttpRequest, segments: Sequence[str]) -> tuple[Route, Mapping[str, str]]:
    """Return the most specific route that a request fits, and the parts of the path; raise AccessDenied for none."""
    table = _table(routes)
    query = _conditioned_parameters(table, request) if table.parameters and request.query else {}
    headers = _conditioned_headers(table, request) if table.headers else {}
    for template, route in table.by_method.get(request.method, ()):
        parts = template.match(segments)
        if parts is not None and _holds(route.query, query) and _holds(route.headers, headers):
            return route, parts
    raise AccessDenied(f"No route of this resource takes {request.method} {request.path[:1024]}.")


def _holds(conditions: Mapping[str, str], values: Mapping[str, str]) -> bool:
    return all(name in values and wanted in {ANY_VALUE, values[name]} for name, wanted in conditions.items())


def _conditioned_parameters(table: RouteTable, request: HttpRequest) -> Mapping[str, str]:
    """Return the parameters that routes have conditions on; raise ValidationError where one could be read in two ways.

    Services take the first, the last or all of several, and some read ``a[]`` or ``A`` as ``a``.
    """
    found: dict[str, str] = {}
    for name, value in _parameters(request.query):
        if _folded(name) in table.folded_parameters:
            if name not in table.parameters or name in found:
                raise ValidationError(f"The parameter {name[:64]!a} could be read in two ways.")
            found[name] = value
    return found


def _parameters(query: str) -> Iterator[tuple[str, str]]:
    if ";" in query or has_bad_escape(query):
        raise ValidationError("The query of the request has a wrong escape, or a ; that must be percent-encoded.")
    for piece in query.split("&"):
        name, _, value = piece.partition("=")
        try:
            yield _form_text(name), _form_text(value)
        except UnicodeDecodeError:
            raise ValidationError("The query of the request is not UTF-8.") from None


def _form_text(encoded: str) -> str:
    return unquote_to_bytes(encoded.replace("+", " ")).decode()


def _conditioned_headers(table: RouteTable, request: HttpRequest) -> Mapping[str, str]:
    """Return the headers that routes have conditions on; raise ValidationError where one is repeated or not signed.

    An unsigned header could be added to a captured request, which would then mean something else. Services that read
    headers as variables take ``X_Name`` for ``X-Name``.
    """
    found: dict[str, str] = {}
    for name, value in request.headers:
        if name.replace("_", "-") in table.headers:
            if name not in table.headers or name in found:
                raise ValidationError(f"The header {name} could be read in two ways.")
            found[name] = value.strip(" \t")
    _check_dropped(found, request)
    signed = _signed_headers(request) if found else None
    unsigned = sorted(found.keys() - signed) if signed is not None else ()
    if unsigned:
        raise ValidationError(f"The header {unsigned[0]} must be signed.")
    return found


def _check_dropped(found: Mapping[str, str], request: HttpRequest) -> None:
    """Raise where a client asks the next proxy to drop a header (RFC 9110, section 7.6.1) that chose the route."""
    listed = {
        token.strip().lower() for name, value in request.headers if name == "connection" for token in value.split(",")
    }
    dropped = sorted(found.keys() & listed)
    if dropped:
        raise ValidationError(f"The header {dropped[0]} is listed in Connection, and would not arrive.")


def _signed_headers(request: HttpRequest) -> frozenset[str] | None:
    """Return the names of the signed headers, or None where the request has no signature."""
    authorization = request.header("authorization")
    if authorization is not None:
        match = _SIGNED_HEADERS.search(authorization)
        return frozenset(match[1].lower().split(";")) if match else frozenset()
    # Decoded, as it was for the check of the signature: X%2DAmz-SignedHeaders is the same name.
    listed = [value for name, value in _parameters(request.query) if name == _PRESIGNED_HEADERS]
    return frozenset(";".join(listed).lower().split(";")) if listed else None
