"""The AWS query protocol: a form in, XML or JSON out, both as the service model says.

Pure. Sources: "AWS Query protocol" (Smithy), and the Common Errors page of the STS and IAM API References.
"""

import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from broker.aws.shape import OperationModel, Shape
from iam.call import Params, Result
from iam.errors import MalformedInput, MalformedQueryString, ValidationError

Parameters = tuple[tuple[str, str], ...]
# The parameters of a request as a tree along the dots of their names; a node's own text stands under None.
Node = dict[str | None, Any]

FORM = "application/x-www-form-urlencoded"
MAX_PARAMETERS = 5000
MAX_DOTS = 12  # the deepest member of either model has 7; without a limit 10 MB of dots make gigabytes of nodes
_FAULTS_SHOWN = 16
_VALUE_SHOWN = 200
_INT32 = 2**31

_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
_INTEGER = re.compile("-?[0-9]{1,10}")
_INDEX = re.compile("[1-9][0-9]{0,3}")
_BOOLEANS = {"true": True, "false": False}
# XML 1.0, section 2.2: no escape makes these characters legal. Section 2.11: a bare carriage return would arrive as a line feed.
_NOT_PLAIN = re.compile("[&<>\r\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"}
# In answers AWS percent-encodes policies (RFC 3986), as each operation's page says; every SDK decodes just this shape.
_POLICY = "policyDocumentType"


# --- from the wire to parameters -------------------------------------------------------------------------------------


def parameters(query: str, body: bytes, content_type: str) -> Parameters:
    """Return name and value of each parameter, those of the query first; raise MalformedQueryString or MalformedInput."""
    if body and content_type.partition(";")[0].strip().lower() not in ("", FORM):
        raise MalformedInput(f"The body of a request must be of type {FORM}.")
    try:
        # A WSGI server hands over the bytes of the request line as Latin-1 (PEP 3333).
        pieces = _pieces(query.encode("latin-1").decode()) + _pieces(body.decode())
    except UnicodeError:
        raise MalformedQueryString("The request is not in UTF-8.") from None
    if len(pieces) > MAX_PARAMETERS:
        raise MalformedQueryString(f"The request has more than {MAX_PARAMETERS} parameters.")
    return tuple((_decoded(name), _decoded(value)) for name, _, value in (piece.partition("=") for piece in pieces))


def _pieces(text: str) -> list[str]:
    return [piece for piece in text.split("&", MAX_PARAMETERS + 1) if piece]


def _decoded(text: str) -> str:
    text = text.replace("+", " ")
    if "%" not in text:
        return text
    if _BAD_ESCAPE.search(text):
        raise MalformedQueryString(
            "The query string is malformed: a percent sign is not followed by two hexadecimal digits."
        )
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise MalformedQueryString("The query string is malformed: it is not in UTF-8.") from None


def parse(model: OperationModel, given: Parameters) -> Params:
    """Return the parameters of an operation, typed; unknown ones are ignored. Raises MalformedInput."""
    return _structure(model.input, _tree(given), "") if model.input else {}


def _tree(given: Parameters) -> Node:
    """Return the tree; of a repeated parameter the first counts (THREATS A25)."""
    root: Node = {}
    for name, value in given:
        node = root
        for part in name.split(".") if name.count(".") <= MAX_DOTS else ():
            node = node.setdefault(part, {})
        node.setdefault(None, value)
    return root


def _read(shape: Shape, node: Node, path: str) -> Any:  # noqa: ANN401 - whatever type the shape says
    if shape.kind in _COMPOSITES:
        return _COMPOSITES[shape.kind](shape, node, path)
    # A member that is there in a form we do not know must not be taken for absent: a session policy would vanish.
    if node.keys() != {None}:
        raise MalformedInput(f"{path} is not a list or a structure.")
    try:
        return _SCALARS[shape.kind](node[None])
    except (KeyError, ValueError):
        raise MalformedInput(f"The value of {path} is not of type {shape.kind}.") from None


def _structure(shape: Shape, node: Node, path: str) -> dict[str, Any]:
    if node.get(None):
        raise MalformedInput(f"{path.removesuffix('.')} is a structure.")
    return {name: _read(to, node[name], path + name) for name, to in shape.members.items() if name in node}


def _member(shape: Shape, node: Node, path: str) -> dict[str, Any]:
    return _structure(shape, node, path + ".")


def _list(shape: Shape, node: Node, path: str) -> list[Any]:
    return [_read(_of(shape.item), item, at) for at, item in _numbered(node, "member", path)]


def _map(shape: Shape, node: Node, path: str) -> dict[str, Any]:
    pairs: dict[str, Any] = {}
    for at, entry in _numbered(node, "entry", path):
        if entry.keys() != {"key", "value"}:
            raise MalformedInput(f"{at} must have a key and a value.")
        key = _read(_of(shape.key), entry["key"], at + ".key")
        pairs.setdefault(key, _read(_of(shape.item), entry["value"], at + ".value"))
    return pairs


def _numbered(node: Node, word: str, path: str) -> list[tuple[str, Node]]:
    """Return (path, node) of each numbered element, in the order of the numbers; gaps are allowed."""
    if node == {None: ""}:
        return []
    if node.keys() != {word} or not all(index and _INDEX.fullmatch(index) for index in node[word]):
        raise MalformedInput(f"{path} is a list: {path}.{word}.N is missing or N is not from 1 to 9999.")
    return [(f"{path}.{word}.{index}", node[word][index]) for index in sorted(node[word], key=int)]


def _integer(text: str) -> int:
    # int() would also take "1_000", " 1" and full-width digits (THREATS B12).
    if not _INTEGER.fullmatch(text) or not -_INT32 <= int(text) < _INT32:
        raise ValueError(text)
    return int(text)


def _of(shape: Shape | None) -> Shape:
    assert shape is not None  # noqa: S101 - the model states the element of each list and map
    return shape


_COMPOSITES: dict[str, Callable[[Shape, Node, str], Any]] = {"structure": _member, "list": _list, "map": _map}
_SCALARS: dict[str, Callable[[str], Any]] = {"string": str, "integer": _integer, "boolean": _BOOLEANS.__getitem__}


# --- the model's constraints -----------------------------------------------------------------------------------------


def validate(model: OperationModel, params: Params) -> None:
    """Check every constraint that the model states; raise one ValidationError in AWS's words about all that are broken."""
    faults = list(islice(_faults(model.input, params, ""), MAX_PARAMETERS)) if model.input else []
    if faults:
        errors = "error" if len(faults) == 1 else "errors"
        raise ValidationError(f"{len(faults)} validation {errors} detected: {'; '.join(faults[:_FAULTS_SHOWN])}")


def _faults(shape: Shape, value: Any, path: str) -> Iterator[str]:  # noqa: ANN401 - whatever type the shape says
    for holds, constraint in _constraints(shape):
        if not holds(value):
            yield _fault(shape, value, path, constraint)
    if shape.kind in _INSIDE:
        yield from _INSIDE[shape.kind](shape, value, path)


def _inside_structure(shape: Shape, value: dict[str, Any], path: str) -> Iterator[str]:
    prefix = path + "." if path else ""
    for name, to in shape.members.items():
        at = prefix + name[0].lower() + name[1:]
        if name in value:
            yield from _faults(to, value[name], at)
        elif name in shape.required:
            yield f"Value null at '{at}' failed to satisfy constraint: Member must not be null"


def _inside_list(shape: Shape, value: list[Any], path: str) -> Iterator[str]:
    item = _of(shape.item)
    if item.kind in _INSIDE:
        for number, element in enumerate(value, 1):
            yield from _faults(item, element, f"{path}.{number}.member")
    elif not all(_holds(item, element) for element in value):
        yield _fault(shape, value, path, f"Member must satisfy constraint: [{_stated(item)}]")


def _inside_map(shape: Shape, value: dict[str, Any], path: str) -> Iterator[str]:
    key, item = _of(shape.key), _of(shape.item)
    if not all(_holds(key, each) for each in value):
        yield _fault(shape, value, path, f"Map keys must satisfy constraint: [{_stated(key)}]")
    if item.kind in _INSIDE:
        for name, element in value.items():
            yield from _faults(item, element, f"{path}.{name[:_VALUE_SHOWN]}.member")
    elif not all(_holds(item, each) for each in value.values()):
        yield _fault(shape, value, path, f"Map value must satisfy constraint: [{_stated(item)}]")


def _holds(shape: Shape, value: Any) -> bool:  # noqa: ANN401 - whatever type the shape says
    return all(holds(value) for holds, _ in _constraints(shape))


def _stated(shape: Shape) -> str:
    return ", ".join(constraint for _, constraint in _constraints(shape))


@cache
def _constraints(shape: Shape) -> tuple[tuple[Callable[[Any], bool], str], ...]:
    """Return what a value of this shape must satisfy by itself, with AWS's words for it."""
    measure, noun = (int, "value") if shape.kind == "integer" else (len, "length")
    low, high, regex, enum = shape.minimum, shape.maximum, shape.regex, frozenset(shape.enum)
    rows: tuple[tuple[bool, Callable[[Any], bool], str], ...] = (
        (high is not None, lambda v: measure(v) <= high, f"Member must have {noun} less than or equal to {high}"),
        (low is not None, lambda v: measure(v) >= low, f"Member must have {noun} greater than or equal to {low}"),
        (
            regex is not None,
            lambda v: regex is not None and regex.fullmatch(v) is not None,
            f"Member must satisfy regular expression pattern: {shape.pattern}",
        ),
        (bool(enum), enum.__contains__, f"Member must satisfy enum value set: [{', '.join(shape.enum)}]"),
    )
    return tuple((holds, constraint) for stated, holds, constraint in rows if stated)


def _fault(shape: Shape, value: Any, path: str, constraint: str) -> str:  # noqa: ANN401 - whatever type the shape says
    shown = "" if shape.sensitive else f" '{_shown(shape, value)}'"
    return f"Value{shown} at '{path}' failed to satisfy constraint: {constraint}"


def _shown(shape: Shape, value: Any) -> str:  # noqa: ANN401 - whatever type the shape says
    """Return a value for a message: short, and nothing of what is inside a structure, which may be secret."""
    elements = shape.kind in ("list", "map") and _of(shape.item)
    hidden = elements and (elements.sensitive or elements.kind in _INSIDE)
    text = f"[{len(value)} members]" if hidden else f"[{', '.join(value)}]" if elements else str(value)
    return text if len(text) <= _VALUE_SHOWN else text[:_VALUE_SHOWN] + "..."


_INSIDE: dict[str, Callable[[Shape, Any, str], Iterator[str]]] = {
    "structure": _inside_structure,
    "list": _inside_list,
    "map": _inside_map,
}


# --- from a result to the wire ---------------------------------------------------------------------------------------


def render(model: OperationModel, result: Result, request_id: str, *, as_json: bool = False) -> bytes:
    """Return the answer of an operation; a result with a member that the model lacks raises KeyError."""
    return (_render_json if as_json else _render_xml)(model, result, request_id)


def render_error(  # noqa: PLR0913 - the parts of the answer
    code: str, message: str, *, sender_fault: bool, request_id: str, namespace: str, as_json: bool = False
) -> bytes:
    """Return the answer that tells an error."""
    kind = "Sender" if sender_fault else "Receiver"
    if as_json:
        return _json({"Error": {"Code": code, "Message": message, "Type": kind}, "RequestId": request_id})
    error = f"<Type>{kind}</Type><Code>{_escaped(code)}</Code><Message>{_escaped(message)}</Message>"
    request = f"<RequestId>{_escaped(request_id)}</RequestId>"
    return f'<ErrorResponse xmlns="{namespace}"><Error>{error}</Error>{request}</ErrorResponse>'.encode()


def _render_xml(model: OperationModel, result: Result, request_id: str) -> bytes:
    name, wrapper = model.name, model.result_wrapper
    inner = f"<{wrapper}>{_xml(model.output, result)}</{wrapper}>" if model.output else ""
    metadata = f"<ResponseMetadata><RequestId>{_escaped(request_id)}</RequestId></ResponseMetadata>"
    return f'<{name}Response xmlns="{model.namespace}">{inner}{metadata}</{name}Response>'.encode()


def _xml(shape: Shape, value: Any) -> str:  # noqa: ANN401 - whatever type the shape says
    return _XML[shape.kind](shape, value)


def _xml_structure(shape: Shape, value: dict[str, Any]) -> str:
    return "".join([f"<{name}>{_xml(shape.members[name], member)}</{name}>" for name, member in value.items()])


def _xml_list(shape: Shape, value: list[Any]) -> str:
    item = _of(shape.item)
    return "".join([f"<member>{_xml(item, element)}</member>" for element in value])


def _xml_map(shape: Shape, value: dict[str, Any]) -> str:
    key, item = _of(shape.key), _of(shape.item)
    pairs = [f"<key>{_xml(key, name)}</key><value>{_xml(item, element)}</value>" for name, element in value.items()]
    return "".join([f"<entry>{pair}</entry>" for pair in pairs])


def _escaped(text: str) -> str:
    return _NOT_PLAIN.sub(lambda found: _ENTITIES.get(found[0], "\ufffd"), text)


def _string(shape: Shape, value: str) -> str:
    return quote(value, safe="") if shape.name == _POLICY else value


def _timestamp(value: datetime) -> str:
    return value.astimezone(UTC).isoformat()[:19] + "Z"


_XML: dict[str, Callable[[Shape, Any], str]] = {
    "structure": _xml_structure,
    "list": _xml_list,
    "map": _xml_map,
    "string": lambda shape, value: _escaped(_string(shape, value)),
    "integer": lambda _, value: str(value),
    "boolean": lambda _, value: "true" if value else "false",
    "timestamp": lambda _, value: _timestamp(value),
    "blob": lambda _, value: b64encode(value).decode(),
}


def _render_json(model: OperationModel, result: Result, request_id: str) -> bytes:
    inner = {model.result_wrapper: _plain(model.output, result)} if model.output else {}
    return _json({f"{model.name}Response": {**inner, "ResponseMetadata": {"RequestId": request_id}}})


def _json(value: Any) -> bytes:  # noqa: ANN401 - any tree of plain values
    return json.dumps(value, separators=(",", ":")).encode()


def _plain(shape: Shape, value: Any) -> Any:  # noqa: ANN401 - whatever type the shape says
    return _PLAIN[shape.kind](shape, value)


_PLAIN: dict[str, Callable[[Shape, Any], Any]] = {
    "structure": lambda shape, value: {name: _plain(shape.members[name], member) for name, member in value.items()},
    "list": lambda shape, value: [_plain(_of(shape.item), element) for element in value],
    "map": lambda shape, value: {name: _plain(_of(shape.item), element) for name, element in value.items()},
    "string": _string,
    "integer": lambda _, value: value,
    "boolean": lambda _, value: value,
    "timestamp": lambda _, value: int(value.timestamp()),  # seconds since the epoch
    "blob": lambda _, value: b64encode(value).decode(),
}
