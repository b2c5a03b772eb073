"""Ending sessions from a page: refused from the commit on, on every worker within a second, whatever becomes of Redis.

What is refused stands in SQL; Redis, which only lists, is told afterwards.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from redis.exceptions import RedisError

from broker.audit import record as audit_record
from broker.audit.transaction import store_record
from broker.sessions.browser import BrowserSession
from broker.web.core.site import Site
from iam.accounts import list_accounts
from iam.clock import to_milliseconds
from iam.errors import ServiceUnavailable
from iam.store.records import Revocations
from iam.store.store import revoke
from sts.store.sessions import LiveSession

log = logging.getLogger(__name__)

SESSION, PERSON, ROLE, ACCOUNT = "session", "person", "role", "account"


class Revocation(NamedTuple):
    """What to refuse: kind and subject as the revocation table has them."""

    kind: str
    subject: str

    def covers(self, one: LiveSession) -> bool:
        """Return whether a session of the list is meant."""
        return self in {(SESSION, one.id), (PERSON, one.person), (ROLE, one.entity_id), (ACCOUNT, one.account_id)}


@dataclass(frozen=True, slots=True)
class LiveSessions:
    """The sessions that Redis lists; ``away`` says that it could not be asked."""

    sessions: tuple[LiveSession, ...]
    last_used: dict[str, int]
    unavailable: bool = False


@dataclass(frozen=True, slots=True)
class SessionRevocation:
    """Lists live credentials and ends them."""

    site: Site

    @property
    def _now_ms(self) -> int:
        return to_milliseconds(self.site.request_state.now)

    def all_accounts(self) -> tuple[str, ...]:
        """Return the ids of all accounts."""
        with self.site.store.read() as tx:
            return tuple(one.id for one in list_accounts(tx))

    def open_live_sessions(self, accounts: Sequence[str], person: str | None = None) -> LiveSessions:
        """Return the live credentials of these accounts, or of one person in them, those that end first first.

        What is refused is not live, whether or not Redis was told.
        """
        listing, found, used = self.site.gate.sessions, list[LiveSession](), dict[str, int]()
        refused = self.site.store.revocations()
        try:
            for account_id in accounts:
                mine = (
                    listing.list_live(account_id, self._now_ms)
                    if person is None
                    else listing.of_person(account_id, person, self._now_ms)
                )
                here = [one for one in mine if not _is_refused(one, refused)]
                found += here
                used |= listing.last_used(account_id, [one.id for one in here])
        except RedisError:
            return LiveSessions(tuple(found), used, unavailable=True)
        return LiveSessions(tuple(sorted(found, key=lambda one: one.expires_at)), used)

    def valid_browsers(self, sessions: Sequence[BrowserSession]) -> tuple[BrowserSession, ...]:
        """Return those of these sessions of browsers that still stand."""
        site = self.site
        return tuple(one for one in sessions if site.session_validity.is_valid(one, site.request_state.now))

    def revoke(self, revocation: Revocation, account_id: str, live: Sequence[LiveSession] = ()) -> None:
        """Refuse what was minted up to now, and take it off the list; raise ServiceError where it cannot be kept."""
        site = self.site
        site.gate.audit.check()  # a change that could not be audited is not made
        entry = audit_record.console_event_record(
            site.request_state, "RevokeSessions", account_id or None, {"revoked": [revocation._asdict()]}
        )
        with site.store.write() as tx:
            revoke(tx, revocation.kind, revocation.subject, self._now_ms, self._now_ms)
            store_record(tx, entry)
        site.gate.audit.append(entry)
        self._forget([one for one in live if revocation.covers(one)])

    def _forget(self, gone: Sequence[LiveSession]) -> None:
        try:
            self.site.gate.sessions.remove(gone)
        except RedisError as error:
            log.warning("%d sessions are refused, but still listed: %s", len(gone), error)

    def end_browsers_of(self, person: str) -> None:
        """Take the sessions of a person's browsers away, who is refused already: Redis is only told."""
        sessions = self.site.sessions
        try:
            for one in sessions.of_person(person):
                sessions.end(one)
        except ServiceUnavailable as error:
            log.warning("sessions of browsers are refused, but still there: %s", error.log)


def _is_refused(one: LiveSession, refused: Revocations) -> bool:
    return refused.refuses(
        session_id=one.id,
        person=one.person,
        role_id=one.entity_id,
        account_id=one.account_id,
        issued_ms=one.issued_at,
    )
