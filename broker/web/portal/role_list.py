"""The list of roles: what is in a row, which rows stand first, and which one is chosen beforehand."""

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

from broker.web.portal.scope_down import DURATIONS
from iam.inventory.pagination import PageRequest, paginate
from iam.store.pinned_roles import RoleUsage
from iam.store.records import RoleRecord
from iam.store.store import Store

_RECENT: Final = 5
UNMARKED: Final = RoleUsage(pinned=False, taken=None)


@dataclass(frozen=True, slots=True)
class RoleRow:
    """One role in the list; ``running`` is when its valid credentials expire, in milliseconds."""

    arn: str
    name: str
    account: str
    account_id: str
    description: str
    max_session: int
    mark: RoleUsage
    running: int | None
    mfa: bool = False
    reason: bool = False

    @property
    def text(self) -> str:
        """Return the text that a search matches."""
        return f"{self.name} {self.account} {self.description} {self.arn}".lower()

    @property
    def is_role(self) -> bool:
        """Return whether this is a role, and not a user's own permissions."""
        return ":role/" in self.arn


@dataclass(frozen=True, slots=True)
class RoleListing:
    """The roles to show, each once: the requested one, those pinned and recent, and one page of all others.

    ``found`` counts all of them. ``preselected`` is the row that is chosen beforehand.
    """

    requested: RoleRow | None
    marked: Sequence[RoleRow]
    rows: Sequence[RoleRow]
    preselected: RoleRow | None
    found: int
    page: int
    pages: int
    query: str
    stale: bool

    @property
    def accounts(self) -> list[tuple[str, list[RoleRow]]]:
        """Return the rows of this page by account."""
        return [(account, list(rows)) for account, rows in groupby(self.rows, lambda row: row.account)]

    @property
    def all_rows(self) -> tuple[RoleRow, ...]:
        """Return every row that is shown."""
        return (*([self.requested] if self.requested else []), *self.marked, *self.rows)


def make_row(
    role: RoleRecord,
    account: str,
    mark: RoleUsage = UNMARKED,
    running: int | None = None,
    *,
    mfa: bool = False,
    reason: bool = False,
) -> RoleRow:
    """Return the row of a role."""
    description, longest = role.description, role.max_session
    return RoleRow(role.arn, role.name, account, role.account_id, description, longest, mark, running, mfa, reason)


def list_roles(rows: Sequence[RoleRow], scope: PageRequest, wish: str, *, stale: bool) -> RoleListing:
    """Return the listing; ``wish`` is the ARN of the requested role, or empty."""
    requested = next((row for row in rows if row.arn == wish), None)
    marked = [] if scope.words else [row for row in _pinned_and_recent(rows) if row is not requested]
    shown_first = {row.arn for row in (requested, *marked) if row is not None}
    page = paginate([row for row in rows if row.arn not in shown_first], scope, lambda row: row.text)
    listing = RoleListing(
        requested,
        marked if page.page == 1 else [],
        page.rows,
        None,
        page.found + len(shown_first),
        page.page,
        page.pages,
        page.query,
        stale,
    )
    return replace(listing, preselected=requested or (None if wish else _last_taken(listing.all_rows)))


def lengths(listing: RoleListing) -> list[int]:
    """Return the session durations in seconds that at least one role in the list allows."""
    longest = max((row.max_session for row in listing.all_rows), default=0)
    return [seconds for seconds in DURATIONS if seconds <= longest]


def longest_offered(listing: RoleListing) -> int:
    """Return the longest session duration that the preselected role allows, or else that all roles do."""
    rows = [listing.preselected] if listing.preselected else listing.all_rows
    return min((row.max_session for row in rows), default=0)


def machine_readable(rows: Sequence[RoleRow]) -> str:
    """Return the roles by account in the format that command-line SAML clients expect."""
    accounts: dict[str, list[str]] = {}
    for row in rows:
        accounts.setdefault(row.account, []).append(row.arn)
    return b64encode(json.dumps({"roles_accounts": accounts}).encode()).decode()


def _pinned_and_recent(rows: Sequence[RoleRow]) -> list[RoleRow]:
    """Return the pinned roles, then the most recently used ones."""
    pinned = [row for row in rows if row.mark.pinned]
    taken = [row for row in rows if row.mark.taken and not row.mark.pinned]
    recent = sorted(taken, key=lambda row: row.mark.taken or 0, reverse=True)
    return pinned + recent[:_RECENT]


def _last_taken(rows: Sequence[RoleRow]) -> RoleRow | None:
    """Return the role that was used last, which is the only one that is chosen without a request: Enter takes it."""
    return max((row for row in rows if row.mark.taken), key=lambda row: row.mark.taken or 0, default=None)


def account_label(store: Store, account_id: str) -> str:
    """Return an account's alias and ID for display."""
    account = store.account(account_id)
    return f"{account.alias} ({account_id})" if account and account.alias else account_id
