"""Whether a directory still knows somebody who is signed in, and in which groups they are by now (THREATS E12).

It is asked before credentials are given, and now and then while somebody looks at pages. What it says then holds in the
session; whoever it knows no more is signed out everywhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from broker.providers.ldap.provider import LdapProvider
from broker.sessions.browser import BrowserSession, BrowserSessions
from iam.clock import iso8601_exact, parse_iso8601
from sts.identity import Identity, Refusal


@dataclass(frozen=True, slots=True)
class DirectoryRefresh:
    """Asks the directories by their names, while somebody looks at pages at most once in ``every``."""

    sessions: BrowserSessions
    directories: Mapping[str, LdapProvider]
    interval: timedelta

    def is_directory_identity(self, identity: Identity) -> bool:
        """Return whether somebody is a person of a directory: what other providers said is renewed elsewhere."""
        return type(identity) is Identity

    def is_due(self, session: BrowserSession, now: datetime) -> bool:
        """Return whether the directory was last asked, or somebody signed in, long ago enough."""
        if not self.is_directory_identity(
            session.identity
        ):  # of others, ``renewal`` is what their provider is asked with
            return False
        last = parse_iso8601(session.refresh_state) if session.refresh_state else session.opened_at
        return now - last >= self.interval

    def refresh_identity(self, session: BrowserSession, now: datetime) -> BrowserSession | Refusal:
        """Ask the directory, and keep what it says; raise ProviderUnavailable."""
        identity = session.identity
        provider = self.directories.get(identity.provider.removeprefix("ldap-provider/"))
        found = provider.refresh_identity(identity) if provider else Refusal("no such directory")
        if isinstance(found, Refusal):
            self.sessions.end_all(identity.provider, identity.subject, self._session_keys(identity))
            return found
        return self._save(replace(session, identity=found), now)

    def postpone(self, session: BrowserSession, now: datetime) -> BrowserSession:
        """Return the session of somebody whose directory does not answer: it is asked again, but not at every page."""
        return self._save(session, now)

    def _save(self, session: BrowserSession, now: datetime) -> BrowserSession:
        made = replace(session, refresh_state=iso8601_exact(now))
        self.sessions.update(made)
        return made

    def _session_keys(self, identity: Identity) -> tuple[str, ...]:
        return self.sessions.keys_of(identity.provider, identity.subject, ())
