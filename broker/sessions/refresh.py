"""Directory refresh: reads a signed-in person's entry and groups from the directory again (THREATS E12).

It happens before credentials are issued, and at intervals while somebody uses pages. The new identity is stored in the
session; a person whom the directory refuses is signed out everywhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from broker.providers.ldap.provider import LdapProvider
from broker.sessions.browser import BrowserSession, BrowserSessions
from iam.clock import iso8601_exact, parse_iso8601
from sts.identity import Refusal


@dataclass(frozen=True, slots=True)
class DirectoryRefresh:
    """Refreshes identities; ``directories`` are by name, and pages cause a refresh at most once in ``interval``."""

    sessions: BrowserSessions
    directories: Mapping[str, LdapProvider]
    interval: timedelta

    @property
    def failure_event(self) -> str:
        """Return the event that records whom a directory refuses."""
        return "DirectoryLookUp"

    def is_due(self, session: BrowserSession, now: datetime) -> bool:
        """Return whether the last refresh, or the sign-in, was at least ``interval`` ago."""
        last = parse_iso8601(session.refresh_state) if session.refresh_state else session.opened_at
        return now - last >= self.interval

    def refresh(self, session: BrowserSession, now: datetime) -> BrowserSession | Refusal:
        """Read the identity again and store it in the session; raise ProviderUnavailable.

        A refusal ends every session and pending sign-in of the person; a password that was changed since the sign-in
        ends this session alone.
        """
        identity = session.identity
        provider = self.directories.get(identity.directory)
        current = provider.refresh_identity(identity) if provider else Refusal("no such directory")
        if isinstance(current, Refusal):
            self.sessions.end_of_person(identity.provider, identity.subject)
            return current
        if current.password_version != identity.password_version:
            self.sessions.end(session)  # no other: those that began with the new password go on
            return Refusal("password changed since the sign-in", counts_as_failure=False)
        kept = replace(current, lineage=identity.lineage, password_mark=identity.password_mark)
        return self._save(replace(session, identity=kept), now)

    def postpone(self, session: BrowserSession, now: datetime) -> BrowserSession:
        """Return the session with its next refresh one interval later: a failing directory delays one page only."""
        return self._save(session, now)

    def _save(self, session: BrowserSession, now: datetime) -> BrowserSession:
        updated = replace(session, refresh_state=iso8601_exact(now))
        self.sessions.update(updated)
        return updated
