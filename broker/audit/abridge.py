"""How large a record may be: long texts and lists of a record that is larger are abridged, wherever it is kept.

CloudTrail User Guide, "CloudTrail record contents": requestParameters and responseElements have 100 KB at most. The
records of strangers are smaller: they must not fill the disk.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

Record = dict[str, Any]

MAX_RECORD: Final = 100 * 1024  # bytes of JSON
_LONG_TEXT: Final = 1024  # characters of a text that are kept
_LONG_LIST: Final = 50  # elements
_VARIABLE: Final = ("requestParameters", "responseElements", "additionalEventData")
# Of a stranger's record: characters of each text, and bytes of the parameters.
_STRANGERS_TEXT: Final = 256
_STRANGERS_PARAMETERS: Final = 400


def abridge(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a record within the limit of its size: itself where it is, with its texts abridged, or without members."""
    if _size(record) <= MAX_RECORD:
        return record
    shorter = {name: _shorten(value) for name, value in record.items()}
    for name in _VARIABLE:
        if _size(shorter) > MAX_RECORD and name in record:
            shorter[name] = {"omitted": True, "originalSize": _size(record[name])}
    return shorter


def abridge_stranger(record: Mapping[str, Any]) -> Record:
    """Return the small record of a refusal of somebody unknown."""
    small = {name: value[:_STRANGERS_TEXT] if isinstance(value, str) else value for name, value in record.items()}
    parameters = record.get("requestParameters")
    if _size(parameters) > _STRANGERS_PARAMETERS:
        small["requestParameters"] = {"omitted": True, "originalSize": _size(parameters)}
    identity = record.get("userIdentity")
    if isinstance(identity, Mapping):
        small["userIdentity"] = {name: str(value)[:_STRANGERS_TEXT] for name, value in identity.items()}
    more = record.get("additionalEventData")
    if more:
        texts = {name: str(value)[:_STRANGERS_TEXT] for name, value in more.items()}
        small["additionalEventData"] = texts
    return small


def _size(value: object) -> int:
    return len(json.dumps(value, separators=(",", ":"), default=str))


def _shorten(value: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, str) and len(value) > _LONG_TEXT:
        digest = sha256(value.encode(errors="surrogatepass")).hexdigest()
        return f"{value[:_LONG_TEXT]}... ({len(value)} characters, SHA-256 {digest})"
    if isinstance(value, Mapping):
        return {name: _shorten(member) for name, member in value.items()}
    if isinstance(value, list):
        left_out = [f"and {len(value) - _LONG_LIST} more"] if len(value) > _LONG_LIST else []
        return [_shorten(item) for item in value[:_LONG_LIST]] + left_out
    return value
