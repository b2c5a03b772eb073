"""The search form of the audit log: its fields and their validation."""

import re
from collections.abc import Mapping
from datetime import UTC, timedelta
from ipaddress import ip_network
from typing import Final

from broker.audit.query import AuditFilter, Network
from broker.web.i18n.languages import gettext_noop
from iam.clock import parse_iso8601, to_milliseconds
from iam.errors import ValidationError

FIELDS: Final = ("reference", "who", "event", "error", "account", "role", "source", "from", "to")
_UNPARSED_FIELDS: Final = ("who", "event", "error", "account", "role")
_LONGEST: Final = 256  # characters of one field
_DAY: Final = 10  # characters of a date without a time of day
_ID: Final = re.compile(r"[0-9A-Fa-f-]{1,36}")
_EARLIEST, _LATEST = 1970, 9000  # years

_NO_REFERENCE: Final = gettext_noop("A reference consists of the letters a to f, digits and hyphens.")
_NO_ADDRESS: Final = gettext_noop("The source must be an IP address or a network such as 10.0.0.0/8.")
_NO_DATE: Final = gettext_noop("Enter the date as 2026-01-31 or 2026-01-31T15:30, in UTC.")


def form_values(fields: Mapping[str, str]) -> dict[str, str]:
    """Return the value of each field."""
    return {name: fields.get(name, "").strip()[:_LONGEST] for name in FIELDS}


def parse_query(given: Mapping[str, str]) -> AuditFilter:
    """Return the filter for the form's values; raise ValidationError for an invalid reference, address or date."""
    return AuditFilter(
        **{name: given[name] for name in _UNPARSED_FIELDS},
        reference=_reference(given["reference"]),
        source=_network(given["source"]),
        after=_moment(given["from"], whole=False),
        until=_moment(given["to"], whole=True),
    )


def _reference(text: str) -> str:
    if text and not _ID.fullmatch(text):
        raise ValidationError(_NO_REFERENCE)
    return text.lower()


def _network(text: str) -> Network | None:
    try:
        return ip_network(text, strict=False) if text else None
    except ValueError as error:
        raise ValidationError(_NO_ADDRESS) from error


def _moment(text: str, *, whole: bool) -> int | None:
    """Return the beginning of a day or a minute in UTC, or with ``whole`` its end, in milliseconds."""
    if not text:
        return None
    try:
        found = parse_iso8601(f"{text}T00:00" if len(text) == _DAY else text)
    except ValueError as error:
        raise ValidationError(_NO_DATE) from error
    if found.tzinfo is not None or not _EARLIEST < found.year < _LATEST:
        raise ValidationError(_NO_DATE)
    span = timedelta(days=1) if len(text) == _DAY else timedelta(minutes=1)
    return to_milliseconds(found.replace(tzinfo=UTC) + (span if whole else timedelta()))
