"""The path of a request to an HTTP API, read in the one way in which every server behind the proxy must read it.

Pure. Where servers differ, a path that policies allow could be another path to the service behind: those that begin
with ``//``, that have ``..`` or an encoded slash, that are encoded twice. Such paths are refused, and not cleaned up,
since the service receives them as they were sent. Source: RFC 3986, sections 3.3 and 6.2.2.
"""

import re
from typing import Final, NoReturn
from urllib.parse import unquote_to_bytes

from iam.errors import ValidationError

# Section 3.3, pchar, but for ";": some servers end a segment there, others do not (CVE-2020-1957 and its kin).
_PATH: Final = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,=:@/-]|%[0-9A-Fa-f]{2})*", re.ASCII)
_SEPARATORS: Final = frozenset("/\\")
_ENCODED: Final = re.compile(r"%[0-9A-Fa-f]{2}")
# What a policy could take for a wildcard, a variable or the end of a part: "*" in the account of a pattern matches
# colons too. "%" is among them, so that no two paths have one ARN.
_IN_ARNS: Final = {ord(char): f"%{ord(char):02X}" for char in "%:*?${}"}
_FIRST_PRINTABLE: Final = 0x20
_DELETE_TO_C1_END: Final = range(0x7F, 0xA0)


def read_segments(path: str) -> tuple[str, ...]:
    """Return the decoded segments of a raw path; the last one is empty after a slash at the end.

    Raise ValidationError for a path that servers could read in different ways.
    """
    if not _PATH.fullmatch(path):
        _refuse("has characters that must be percent-encoded, or a wrong escape")
    written = path[1:].split("/")
    segments = tuple(map(_decode, written)) if "%" in path else tuple(written)
    if "" in segments[:-1]:
        _refuse("has an empty segment")
    if "." in segments or ".." in segments:
        _refuse("has a . or .. segment")
    return segments


def _decode(segment: str) -> str:
    try:
        text = unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        _refuse("is not UTF-8")
    if not _SEPARATORS.isdisjoint(text):
        _refuse("has an encoded slash or backslash")
    if any(ord(char) < _FIRST_PRINTABLE or ord(char) in _DELETE_TO_C1_END for char in text):
        _refuse("has an encoded control character")
    if _ENCODED.search(text):
        _refuse("is percent-encoded twice")
    return text


def _refuse(what: str) -> NoReturn:
    raise ValidationError(f"The path of the request {what}: services could read it in different ways.")


def in_arn(text: str) -> str:
    """Return a part of a path as it stands in ARNs: ``% : * ? $ { }`` are percent-encoded."""
    return text.translate(_IN_ARNS)
