"""Audit records for people and other programs: a summary, indented JSON, JSON lines and CSV."""

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
# OWASP, "CSV Injection": a spreadsheet evaluates a cell that begins with one of these.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class RecordSummary:
    """The main members of a record; ``at`` is in milliseconds."""

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
        """Return the start of the request id, which error pages show."""
        return self.request_id[:8]


def summarize(record: Record) -> RecordSummary:
    """Return the main members of a record; missing ones are empty."""
    identity = _object(record, "userIdentity")
    session = _object(identity, "sessionContext")
    parameters, response = _object(record, "requestParameters"), _object(record, "responseElements")
    role = (
        _text(parameters, "roleArn") or _text(parameters, "roleName") or _text(_object(session, "sessionIssuer"), "arn")
    )
    names = (_text(identity, member) for member in ("userName", "arn", "accessKeyId", "type"))
    name = next(filter(None, names), "")
    return RecordSummary(
        timestamp_ms_of(record),
        _text(record, "eventTime"),
        _text(record, "eventName"),
        _text(record, "errorCode"),
        _text(record, "recipientAccountId"),
        _text(identity, "arn") if _text(identity, "type") == "AssumedRole" else name,
        _text(session, "person"),
        _text(record, "sourceIPAddress"),
        role or _text(_object(response, "assumedRoleUser"), "Arn"),
        _text(record, "requestID"),
        _text(record, "eventID"),
        _text(record, "errorMessage"),
    )


def to_pretty_json(record: Record) -> str:
    """Return a record as indented JSON, with invisible characters escaped; a very long one is truncated."""
    text = json.dumps(record, indent=2, ensure_ascii=False)
    shown = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}\n..."
    return escape_unprintable(shown)


def escape_unprintable(text: str) -> str:
    """Return a text with control, invisible and bidirectional characters escaped, so that none can disguise it."""
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def as_json_lines(records: Iterable[Record]) -> str:
    """Return records as JSON, one per line, as in the log."""
    return "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in records)


def as_csv(records: Iterable[Record]) -> str:
    """Return summaries of records as CSV (RFC 4180), safe to open in a spreadsheet."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\r\n")
    table.writerow(field.name for field in fields(RecordSummary))
    for record in records:
        table.writerow(_cell(value) for value in astuple(summarize(record)))
    return text.getvalue()


def _cell(value: object) -> str:
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _object(record: Record, name: str) -> Record:
    value = record.get(name)
    return value if isinstance(value, Mapping) else {}


def _text(record: Record, name: str) -> str:
    value = record.get(name)
    return escape_unprintable(value) if isinstance(value, str) else ""
