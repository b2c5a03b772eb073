"""Audit records as people read them: one line each, whole as JSON, and as files for other programs."""

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, fields
from typing import Final

from broker.audit.query import Record, timestamp_ms_of

_LONGEST: Final = 20_000  # characters of a record that a page shows
_UNPRINTABLE: Final = re.compile(
    r"[^\n -~\xa1-\U0010ffff]|[\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff]"
)
# OWASP, "CSV Injection": a cell that begins so is a formula to a spreadsheet.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class RecordSummary:
    """The main facts of a record; ``at`` is in milliseconds, the reference is what error pages show."""

    at: int
    time: str
    event: str
    error: str
    account: str
    who: str
    person: str
    source: str
    role: str
    request_id: str
    event_id: str
    message: str

    @property
    def reference(self) -> str:
        """Return the beginning of the request's id."""
        return self.request_id[:8]


def summarize(record: Record) -> RecordSummary:
    """Return the main facts of a record; whatever is missing is empty."""
    who = _object(record, "userIdentity")
    session = _object(who, "sessionContext")
    told, made = _object(record, "requestParameters"), _object(record, "responseElements")
    role = _text(told, "roleArn") or _text(told, "roleName") or _text(_object(session, "sessionIssuer"), "arn")
    name = _text(who, "userName") or _text(who, "arn") or _text(who, "accessKeyId") or _text(who, "type")
    return RecordSummary(
        timestamp_ms_of(record),
        _text(record, "eventTime"),
        _text(record, "eventName"),
        _text(record, "errorCode"),
        _text(record, "recipientAccountId"),
        _text(who, "arn") if _text(who, "type") == "AssumedRole" else name,
        _text(session, "person"),
        _text(record, "sourceIPAddress"),
        role or _text(_object(made, "assumedRoleUser"), "Arn"),
        _text(record, "requestID"),
        _text(record, "eventID"),
        _text(record, "errorMessage"),
    )


def to_pretty_json(record: Record) -> str:
    """Return a record as indented JSON; what could disguise it is written as escapes, and a very long one is cut."""
    text = json.dumps(record, indent=2, ensure_ascii=False)
    shown = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}\n..."
    return escape_unprintable(shown)


def escape_unprintable(text: str) -> str:
    """Return a text whose invisible signs, and those that turn the direction, are seen."""
    return _UNPRINTABLE.sub(lambda sign: f"\\u{ord(sign[0]):04x}", text)


def as_json_lines(records: Iterable[Record]) -> str:
    """Return records as the log has them, one a line."""
    return "".join(json.dumps(one, separators=(",", ":")) + "\n" for one in records)


def as_csv(records: Iterable[Record]) -> str:
    """Return the main facts of records as a table, safe to open in a spreadsheet (RFC 4180)."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\r\n")
    table.writerow(field.name for field in fields(RecordSummary))
    for one in records:
        table.writerow(_cell(value) for value in astuple(summarize(one)))
    return text.getvalue()


def _cell(value: object) -> str:
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _object(record: Record, name: str) -> Record:
    found = record.get(name)
    return found if isinstance(found, Mapping) else {}


def _text(record: Record, name: str) -> str:
    found = record.get(name)
    return escape_unprintable(found) if isinstance(found, str) else ""
