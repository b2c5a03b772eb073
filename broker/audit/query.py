"""Filters of an audit search, and which records a person may see.

A filter is evaluated on the parsed record. ``needles`` are bytes that every matching line contains: they save parsing
most lines, and never decide on their own.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any, Final, NamedTuple

from broker.audit.envelope import SIGN_IN_SOURCE
from iam.arn import parse_arn

Record = Mapping[str, Any]
Network = IPv4Network | IPv6Network

ANY_ERROR: Final = "*"
_Path = tuple[str, ...]
_IDENTITY: Final = ("userIdentity",)
_SESSION: Final = ("userIdentity", "sessionContext")

# The members that each text filter searches; a record matches where one contains the text, ignoring case.
FIELD_PATHS: Final[Mapping[str, tuple[_Path, ...]]] = {
    "who": (
        (*_IDENTITY, "userName"),
        (*_IDENTITY, "arn"),
        (*_IDENTITY, "principalId"),
        (*_SESSION, "person"),
        (*_SESSION, "sourceIdentity"),
        ("requestParameters", "userName"),
    ),
    "event": (("eventName",),),
    "error": (("errorCode",),),
    "role": (
        ("requestParameters", "roleArn"),
        ("requestParameters", "roleName"),
        ("responseElements", "assumedRoleUser", "Arn"),
        (*_SESSION, "sessionIssuer", "arn"),
        (*_IDENTITY, "arn"),
    ),
}
# What the pages of administrators record when somebody looks at an account, or at its records: with the permission that
# it requires, and the accounts.
VIEW: Final = "GetAccountAuthorizationDetails"
SEARCH: Final = "SearchAudit"
ALL_ACCOUNTS: Final = "all"
_DECISION_MEMBERS: Final = frozenset({"decisions", "missing", "reason"})  # of additionalEventData
_NEVER: Final = 10**13  # milliseconds, in the year 2286
# Characters that JSON does not escape: the longest run of them in a text is a needle.
_UNESCAPED_RUN: Final = re.compile(r"[ !#-\[\]-~]+")


class LogCursor(NamedTuple):
    """A position in the log; pages list records from newest to oldest."""

    at: int
    event_id: str

    def __str__(self) -> str:
        """Return the cursor as a URL has it."""
        return f"{self.at}.{self.event_id}"

    @classmethod
    def parse(cls, text: str) -> "LogCursor | None":
        """Return the cursor of a URL parameter, or None where it is malformed."""
        at, dot, event_id = text.partition(".")
        return cls(int(at), event_id) if dot and re.fullmatch(r"\d{1,15}", at, re.ASCII) else None


@dataclass(frozen=True, slots=True)
class AuditAccess:
    """The accounts whose records a person may see; ``all_accounts`` includes records of no account."""

    accounts: frozenset[str]
    all_accounts: bool = False

    def may_see(self, record: Record) -> bool:
        """Return whether a record may be shown."""
        account = record.get("recipientAccountId")
        if self.all_accounts or (isinstance(account, str) and account in self.accounts):
            return True
        return not self.accounts.isdisjoint(_accounts_viewed(record))

    def redact(self, record: dict[str, Any]) -> dict[str, Any]:
        """Return a record without what it says about other accounts.

        docs/decisions/0007: a caller who tries the roles of other accounts must not learn their trust policies from
        the log of their own account. Of a view of several accounts, what was searched for is left out too.
        """
        if self.all_accounts:
            return record
        if viewed := self.accounts & set(_accounts_viewed(record)):
            page = {name: value for name, value in record["requestParameters"].items() if name == "page"}
            return {**record, "requestParameters": {"accounts": sorted(viewed)} | page}
        if not self._is_about_another(record):
            return record
        additional = record.get("additionalEventData")
        kept = (
            {name: value for name, value in additional.items() if name not in _DECISION_MEMBERS}
            if isinstance(additional, dict)
            else {}
        )
        return {**record, "additionalEventData": kept}

    def _is_about_another(self, record: Record) -> bool:
        parameters = record.get("requestParameters")
        if not isinstance(parameters, Mapping):
            return False
        arn = parse_arn(str(parameters.get("roleArn", "")))
        return "omitted" in parameters or (arn is not None and arn.account not in self.accounts)


def _accounts_viewed(record: Record) -> Sequence[str]:
    """Return the accounts at which an administrator of several looked on the pages; empty for other records."""
    if record.get("eventSource") != SIGN_IN_SOURCE or record.get("eventName") not in (VIEW, SEARCH):
        return ()
    parameters = record.get("requestParameters")
    viewed = parameters.get("accounts") if isinstance(parameters, Mapping) and not record["recipientAccountId"] else ()
    return viewed if isinstance(viewed, list | tuple) else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """The filters of a search; empty ones match every record. ``after`` (inclusive) and ``until`` are in milliseconds.

    ``reference`` is the start of a request id or event id; an ``error`` of ``*`` matches any error.
    """

    reference: str = ""
    who: str = ""
    event: str = ""
    error: str = ""
    account: str = ""
    role: str = ""
    source: Network | None = None
    after: int | None = None
    until: int | None = None

    def matches(self, record: Record) -> bool:
        """Return whether a record matches all filters."""
        return all(check(self, record) for check in _CHECKS)

    def needles(self) -> tuple[bytes, ...]:
        """Return the bytes that every matching line contains, in lower case, the longest first."""
        needles = [f'"{self.reference}'] if self.reference else []
        needles += [f'"recipientaccountid":"{self.account}"'] if self.account.isascii() and self.account else []
        needles += ['"errorcode":"'] if self.error else []
        needles += [max(_UNESCAPED_RUN.findall(text), key=len, default="").lower() for text in self._texts().values()]
        needles += [_address_prefix(self.source)] if isinstance(self.source, IPv4Network) else []
        return tuple(sorted({needle.encode("ascii") for needle in needles if needle}, key=len, reverse=True))

    def _texts(self) -> dict[str, str]:
        error = "" if self.error == ANY_ERROR else self.error
        texts = {"who": self.who, "event": self.event, "error": error, "role": self.role}
        return {name: text for name, text in texts.items() if text}

    def active_filters(self) -> dict[str, str]:
        """Return the filters that are set, for the record of the search."""
        names = ("reference", "who", "event", "error", "account", "role", "source", "after", "until")
        return {name: str(getattr(self, name)) for name in names if getattr(self, name) not in ("", None)}


def _address_prefix(network: IPv4Network) -> str:
    """Return the common prefix of all addresses of a network, in JSON: its complete octets."""
    whole = network.prefixlen // 8
    parts = str(network.network_address).split(".")[:whole]
    return f'"{".".join(parts)}{_AFTER[whole]}' if whole else ""


_AFTER: Final = ("", ".", ".", ".", '"')


# --- the checks -------------------------------------------------------------------------------------------------------


def _field_contains(name: str, text: str, record: Record) -> bool:
    wanted = text.lower()
    return any(wanted in value.lower() for value in _field_values(record, FIELD_PATHS[name]))


def _field_values(record: Record, places: tuple[_Path, ...]) -> Iterator[str]:
    for path in places:
        value: object = record
        for step in path:
            value = value.get(step) if isinstance(value, Mapping) else None
        if isinstance(value, str):
            yield value


def _texts_match(search: AuditFilter, record: Record) -> bool:
    return all(_field_contains(name, text, record) for name, text in search._texts().items())  # noqa: SLF001 - of this file


def _reference_matches(search: AuditFilter, record: Record) -> bool:
    ids = (str(record.get(name, "")) for name in ("requestID", "eventID"))
    return not search.reference or any(identifier.startswith(search.reference) for identifier in ids)


def _account_matches(search: AuditFilter, record: Record) -> bool:
    return not search.account or record.get("recipientAccountId") == search.account


def _error_matches(search: AuditFilter, record: Record) -> bool:
    return search.error != ANY_ERROR or bool(record.get("errorCode"))


def _source_matches(search: AuditFilter, record: Record) -> bool:
    if search.source is None:
        return True
    try:
        return ip_address(str(record.get("sourceIPAddress"))) in search.source
    except ValueError:  # an operator or background work, which have no address
        return False


def _time_matches(search: AuditFilter, record: Record) -> bool:
    at = timestamp_ms_of(record)
    return (search.after is None or at >= search.after) and (search.until is None or at < search.until)


def timestamp_ms_of(record: Record) -> int:
    """Return the time of a record in milliseconds, or 0 where it is missing or implausible."""
    at = record.get("at")
    return at if isinstance(at, int) and 0 < at < _NEVER else 0


_CHECKS: Final[tuple[Callable[[AuditFilter, Record], bool], ...]] = (
    _account_matches,
    _reference_matches,
    _time_matches,
    _error_matches,
    _texts_match,
    _source_matches,
)
