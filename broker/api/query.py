"""The AWS query protocol: parses form parameters and renders XML or JSON, as the service model defines.

Pure. Sources: "AWS Query protocol" (Smithy), and the Common Errors page of the STS and IAM API References.
"""

import json
import re
from base64 import b64encode
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from broker.api.constraints import validate
from broker.api.shape import OperationModel, Shape
from iam.clock import iso8601, to_seconds
from iam.errors import AccessDenied, MalformedInput, MalformedQueryString, ServiceError
from iam.params import Params, Result
from iam.percent_encoding import has_bad_escape

__all__ = ["Parameters", "first", "parameters", "parse", "render", "render_error", "validate"]

# Of the type that its shape defines: str, int, bool, bytes, datetime, list, dict.
Value = Any
Parameters = tuple[tuple[str, str], ...]
# The parameters of a request as a tree, split at the dots of their names; the value of a node is under None.
Node = dict[str | None, Value]

FORM = "application/x-www-form-urlencoded"
MAX_PARAMETERS = 5000
# Decoding escapes is what costs time; a SAML response of 100,000 characters has some thousands of them.
MAX_ESCAPES = 200_000
MAX_DOTS = 12  # the deepest member of the models has 7; without a limit, 10 MB of dots would create gigabytes of nodes
_INT32 = 2**31

_INTEGER = re.compile("-?[0-9]{1,10}")
_INDEX = re.compile("[1-9][0-9]{0,3}")
_BOOLEANS = {"true": True, "false": False}
# XML 1.0, section 2.2: control characters are illegal even when escaped; 2.11: parsers turn a carriage return into LF.
_NOT_PLAIN = re.compile("[&<>\r\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"}
# AWS percent-encodes policies in responses (RFC 3986), as the API reference says; SDKs decode exactly this shape.
_POLICY = "policyDocumentType"


# --- parsing requests -------------------------------------------------------------------------------------


def parameters(query: str, body: bytes, content_type: str) -> Parameters:
    """Return name and value of each parameter, the query string first; raise MalformedQueryString, MalformedInput."""
    if body and content_type.partition(";")[0].strip().lower() not in ("", FORM):
        raise MalformedInput(f"The body of a request must be of type {FORM}.")
    if query.count("&") + body.count(b"&") >= MAX_PARAMETERS:
        raise MalformedQueryString(f"The request has more than {MAX_PARAMETERS} parameters.")
    if query.count("%") + body.count(b"%") > MAX_ESCAPES:
        raise MalformedQueryString(f"The request has more than {MAX_ESCAPES} escaped characters.")
    try:
        # WSGI passes the bytes of the request line as Latin-1 text (PEP 3333).
        texts = query.encode("latin-1").decode(), body.decode()
    except UnicodeError:
        raise MalformedQueryString("The request is not in UTF-8.") from None
    pairs = (piece.partition("=") for text in texts for piece in text.split("&") if piece)
    return tuple((_decode(name), _decode(value)) for name, _, value in pairs)


def first(given: Parameters, name: str) -> str | None:
    """Return the first value of a parameter, or None; every reader takes the first (THREATS A25)."""
    return next((value for key, value in given if key == name), None)


def _decode(text: str) -> str:
    text = text.replace("+", " ")
    if "%" not in text:
        return text
    if has_bad_escape(text):
        raise MalformedQueryString(
            "The query string is malformed: a percent sign is not followed by two hexadecimal digits."
        )
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise MalformedQueryString("The query string is malformed: it is not in UTF-8.") from None


def parse(model: OperationModel, given: Parameters) -> Params:
    """Return the typed parameters of an operation; unknown ones are ignored. Raise MalformedInput."""
    return _structure(model.input, _tree(given), "") if model.input else {}


def _tree(given: Parameters) -> Node:
    """Return the parameters as a tree; of a repeated parameter the first is used (THREATS A25)."""
    root: Node = {}
    for name, value in given:
        if name.count(".") <= MAX_DOTS:
            node = root
            for part in name.split("."):
                node = node.setdefault(part, {})
            node.setdefault(None, value)
    return root


def _parse_node(shape: Shape, node: Node, path: str) -> Value:
    if shape.kind in _COMPOSITES:
        return _COMPOSITES[shape.kind](shape, node, path)
    # A malformed member must not be treated as absent: a session policy would be ignored.
    if node.keys() != {None}:
        raise MalformedInput(f"{path} is not a list or a structure.")
    try:
        return _SCALARS[shape.kind](node[None])
    except (KeyError, ValueError):
        raise MalformedInput(f"The value of {path} is not of type {shape.kind}.") from None


def _structure(shape: Shape, node: Node, path: str) -> dict[str, Value]:
    if node.get(None):
        raise MalformedInput(f"{path.removesuffix('.')} is a structure.")
    return {name: _parse_node(to, node[name], path + name) for name, to in shape.members.items() if name in node}


def _member(shape: Shape, node: Node, path: str) -> dict[str, Value]:
    return _structure(shape, node, path + ".")


def _list(shape: Shape, node: Node, path: str) -> list[Value]:
    return [_parse_node(shape.members["member"], item, at) for at, item in _numbered_nodes(node, "member", path)]


def _map(shape: Shape, node: Node, path: str) -> dict[str, Value]:
    pairs: dict[str, Value] = {}
    for at, entry in _numbered_nodes(node, "entry", path):
        if entry.keys() != {"key", "value"}:
            raise MalformedInput(f"{at} must have a key and a value.")
        key = _parse_node(shape.members["key"], entry["key"], at + ".key")
        pairs.setdefault(key, _parse_node(shape.members["value"], entry["value"], at + ".value"))
    return pairs


def _numbered_nodes(node: Node, word: str, path: str) -> list[tuple[str, Node]]:
    """Return (path, node) of each numbered element, ordered by number; gaps are allowed."""
    if node == {None: ""}:
        return []
    if node.keys() != {word} or not all(index and _INDEX.fullmatch(index) for index in node[word]):
        raise MalformedInput(f"{path} is a list: {path}.{word}.N is missing or N is not from 1 to 9999.")
    return [(f"{path}.{word}.{index}", node[word][index]) for index in sorted(node[word], key=int)]


def _integer(text: str) -> int:
    # int() would also accept "1_000", " 1" and full-width digits (THREATS B12).
    if not _INTEGER.fullmatch(text) or not -_INT32 <= int(text) < _INT32:
        raise ValueError(text)
    return int(text)


_COMPOSITES: dict[str, Callable[[Shape, Node, str], Value]] = {"structure": _member, "list": _list, "map": _map}
_SCALARS: dict[str, Callable[[str], Value]] = {"string": str, "integer": _integer, "boolean": _BOOLEANS.__getitem__}


# --- rendering responses ---------------------------------------------------------------------------------------


def render(model: OperationModel, result: Result, request_id: str, *, as_json: bool = False) -> bytes:
    """Return the response body of an operation; raise KeyError for a member that is not in the model."""
    return (_render_json if as_json else _render_xml)(model, result, request_id)


def render_error(
    error: ServiceError,
    sender_fault: bool,  # noqa: FBT001 - belongs to the error before it
    request_id: str,
    namespace: str,
    *,
    as_json: bool = False,
) -> bytes:
    """Return the response body of an error: code and message, never its ``log``."""
    kind = "Sender" if sender_fault else "Receiver"
    if as_json:
        error_json = {"Code": error.code, "Message": error.message, "Type": kind} | _encoded_message(error)
        return _json({"Error": error_json, "RequestId": request_id})
    members = {"Type": kind, "Code": error.code, "Message": _escape(error.message)} | _encoded_message(error)
    error_xml = "".join(f"<{name}>{text}</{name}>" for name, text in members.items())
    request = f"<RequestId>{_escape(request_id)}</RequestId>"
    return f'<ErrorResponse xmlns="{namespace}"><Error>{error_xml}</Error>{request}</ErrorResponse>'.encode()


def _encoded_message(error: ServiceError) -> dict[str, str]:
    """Return the encrypted reasons of a denial as an additional member; SDKs pass unknown members on."""
    encoded = error.encoded if isinstance(error, AccessDenied) else ""
    return {"EncodedAuthorizationMessage": encoded} if encoded else {}


def _render_xml(model: OperationModel, result: Result, request_id: str) -> bytes:
    name, wrapper = model.name, model.result_wrapper
    inner = f"<{wrapper}>{_xml(model.output, result)}</{wrapper}>" if model.output else ""
    metadata = f"<ResponseMetadata><RequestId>{_escape(request_id)}</RequestId></ResponseMetadata>"
    return f'<{name}Response xmlns="{model.namespace}">{inner}{metadata}</{name}Response>'.encode()


def _xml(shape: Shape, value: Value) -> str:
    return _XML[shape.kind](shape, value)


def _xml_structure(shape: Shape, value: dict[str, Value]) -> str:
    members = shape.members
    return "".join([f"<{name}>{_xml(members[name], member)}</{name}>" for name, member in value.items()])


def _xml_list(shape: Shape, value: list[Value]) -> str:
    item = shape.members["member"]
    return "".join([f"<member>{_xml(item, element)}</member>" for element in value])


def _xml_map(shape: Shape, value: dict[str, Value]) -> str:
    key, to = shape.members["key"], shape.members["value"]
    pairs = [f"<key>{_xml(key, name)}</key><value>{_xml(to, element)}</value>" for name, element in value.items()]
    return "".join([f"<entry>{pair}</entry>" for pair in pairs])


def _escape(text: str) -> str:
    # Most values, also the long session tokens, need no escapes: these tests are faster than the substitution.
    if text.isascii() and text.isprintable() and "&" not in text and "<" not in text and ">" not in text:
        return text
    return _NOT_PLAIN.sub(lambda match: _ENTITIES.get(match[0], "\ufffd"), text)


def _string(shape: Shape, value: str) -> str:
    return quote(value, safe="") if shape.name == _POLICY else value


_XML: dict[str, Callable[[Shape, Value], str]] = {
    "structure": _xml_structure,
    "list": _xml_list,
    "map": _xml_map,
    "string": lambda shape, value: _escape(_string(shape, value)),
    "integer": lambda _, value: str(value),
    "boolean": lambda _, value: "true" if value else "false",
    "timestamp": lambda _, value: iso8601(value),
    "blob": lambda _, value: b64encode(value).decode(),
}


def _render_json(model: OperationModel, result: Result, request_id: str) -> bytes:
    inner = {model.result_wrapper: _json_value(model.output, result)} if model.output else {}
    return _json({f"{model.name}Response": {**inner, "ResponseMetadata": {"RequestId": request_id}}})


def _json(value: Value) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _json_value(shape: Shape, value: Value) -> Value:
    return _JSON_VALUE[shape.kind](shape, value)


_JSON_VALUE: dict[str, Callable[[Shape, Value], Value]] = {
    "structure": lambda shape, value: {
        name: _json_value(shape.members[name], member) for name, member in value.items()
    },
    "list": lambda shape, value: [_json_value(shape.members["member"], element) for element in value],
    "map": lambda shape, value: {name: _json_value(shape.members["value"], element) for name, element in value.items()},
    "string": _string,
    "integer": lambda _, value: value,
    "boolean": lambda _, value: value,
    "timestamp": lambda _, value: to_seconds(value),  # seconds since the epoch
    "blob": lambda _, value: b64encode(value).decode(),
}
