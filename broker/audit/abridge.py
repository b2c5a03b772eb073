"""How large a record may be: long texts and lists of one that is larger are abridged, wherever it is kept.

CloudTrail User Guide, "CloudTrail record contents": requestParameters and responseElements have 100 KB at most. A
record of a change or of credentials may have that much. What changed nothing, anybody with one key can repeat without
end: a refusal, or a read, has a few KB, and the refusal of somebody unknown has less. They must not fill the disk.
"""

import json
from bisect import bisect_right
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final, NamedTuple

from broker.audit.envelope import API_CALL
from broker.audit.strangers import AGGREGATED, is_refusal_of_stranger

Record = dict[str, Any]

# Bytes of JSON.
MAX_RECORD: Final = 100 * 1024
MAX_UNCHANGED: Final = 4 * 1024
MAX_STRANGERS: Final = 2 * 1024
_MAX_ESCAPE: Final = 12  # bytes of a character as JSON: two surrogates of \\uXXXX
LINK: Final = 128  # of each line, for its number and the hash of the line before
_VARIABLE: Final = ("requestParameters", "responseElements", "additionalEventData")
_SEARCHED: Final = ("roleArn", "roleName", "userName")  # of requestParameters: broker.audit.query


class _Bounds(NamedTuple):
    """How long texts, in bytes of JSON, and lists may be; ``others``: texts outside the variable members."""

    text: int
    items: int
    others: int


# The first that makes a record small enough is taken.
_BOUNDS: Final = (_Bounds(1024, 50, 1024), _Bounds(256, 10, 1024), _Bounds(64, 3, 256))
_OMITTED: Final = (256, 64)  # the texts of other members, where the variable members are left out


def max_size(record: Mapping[str, Any]) -> int:
    """Return how many bytes of JSON a record may have."""
    if record.get("eventName") == AGGREGATED:  # one in a minute, for many
        return MAX_RECORD
    if is_refusal_of_stranger(record):
        return MAX_STRANGERS
    is_read = record.get("readOnly") and record.get("eventType") == API_CALL
    return MAX_UNCHANGED if "errorCode" in record or is_read else MAX_RECORD


def abridge(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a record within the limit of its size: itself where it is, with its texts abridged, or without members."""
    most = max_size(record) - LINK
    if len(_json(record)) <= most:
        return record
    outline, shorter = _outline(record), {}
    for bounds in _BOUNDS:
        shorter = {name: _shorten(value, _bounds_of(name, bounds)) for name, value in outline.items()}
        if len(_json(shorter)) <= most:
            return shorter
    return _omit(record, outline, shorter, most)


def _bounds_of(name: str, bounds: _Bounds) -> _Bounds:
    return bounds if name in _VARIABLE else bounds._replace(text=bounds.others)


def _omit(record: Mapping[str, Any], outline: Record, shorter: Record, most: int) -> Record:
    """Return a record without its variable members, as far as they have to go."""
    for text in _OMITTED:
        bounds = _Bounds(text, _BOUNDS[-1].items, text)
        shorter |= {name: _shorten(value, bounds) for name, value in outline.items() if name not in _VARIABLE}
        for name in _VARIABLE:
            if len(_json(shorter)) > most and record.get(name) is not None:
                whole = _json(record[name])
                omitted = {"omitted": True, "originalSize": len(whole), "sha256": _digest(whole)}
                shorter[name] = omitted | _shorten(_searched(outline[name]), bounds)
    return shorter


def _searched(outline: Any) -> Record:  # noqa: ANN401 - any JSON
    """Return the members of what is left out by which a search finds it: nobody hides a refusal by making it long."""
    members = outline if isinstance(outline, Mapping) else {}
    return {name: members[name] for name in _SEARCHED if isinstance(members.get(name), str | _Long)}


_json = json.JSONEncoder(separators=(",", ":"), default=str).encode


def _digest(text: str) -> str:
    return sha256(text.encode(errors="surrogatepass")).hexdigest()


class _Long(NamedTuple):
    """A text that may be too long: as much of it as is ever kept, and what is told of all of it."""

    beginning: str
    characters: int
    digest: str


class _Many(NamedTuple):
    """A list: as many of its elements as are ever kept, and how many there are."""

    items: tuple[Any, ...]
    total: int


def _outline(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return a value with its texts and lists read once: a request may have megabytes of them."""
    if isinstance(value, str) and len(value) * _MAX_ESCAPE > _BOUNDS[-1].text:
        return _Long(value[: _BOUNDS[0].text], len(value), _digest(value))
    if isinstance(value, Mapping):
        return {name: _outline(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return _Many(tuple(map(_outline, value[: _BOUNDS[0].items])), len(value))
    return value


def _shorten(value: Any, bounds: _Bounds) -> Any:  # noqa: ANN401 - any JSON
    """Return the JSON of an outline, within these bounds."""
    if isinstance(value, _Long):
        kept = _cut(value.beginning, bounds.text)
        whole = len(kept) == value.characters
        return kept if whole else f"{kept}... ({value.characters} characters, SHA-256 {value.digest})"
    if isinstance(value, _Many):
        left_out = value.total - bounds.items
        more = [f"and {left_out} more"] if left_out > 0 else []
        return [_shorten(item, bounds) for item in value.items[: bounds.items]] + more
    if isinstance(value, Mapping):
        return {name: _shorten(member, bounds) for name, member in value.items()}
    return value


def _cut(text: str, most: int) -> str:
    """Return the beginning of a text that has at most so many bytes as JSON."""
    if len(text) * _MAX_ESCAPE <= most:
        return text
    # The size grows with the length; two are the quotation marks.
    longest = bisect_right(range(min(len(text), most) + 1), most + 2, key=lambda length: len(_json(text[:length])))
    return text[: longest - 1]
