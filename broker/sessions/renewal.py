"""Renews what is known of somebody who is signed in: the provider is asked again, and may refuse them (THREATS E12).

The pages do it, and the authorizer for those who signed in to a service.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from broker.sessions.browser import BrowserSession
from broker.signin.kinds import IdentityKinds, SessionRefresh
from sts.identity import ProviderUnavailable, Refusal

log = logging.getLogger(__name__)

# Records that a provider refuses somebody.
RecordRefusal = Callable[[str, Refusal], None]


@dataclass(frozen=True, slots=True)
class SessionRenewal:
    """Asks the kind of the identity."""

    kinds: IdentityKinds

    def renew_if_due(self, session: BrowserSession, now: datetime, record: RecordRefusal) -> BrowserSession | None:
        """Return the session, renewed where that is due; None where the provider refuses the person.

        An outage of the directory signs nobody out (THREATS E12, E14).
        """
        refresh = self._refresh_of(session)
        if refresh is None or not refresh.is_due(session, now):
            return session
        try:
            return self.renew(session, now, record)
        except ProviderUnavailable as error:
            log.warning("session %s keeps the identity read earlier: %s", session.handle, error.log)
            return refresh.postpone(session, now)

    def renew(self, session: BrowserSession, now: datetime, record: RecordRefusal) -> BrowserSession | None:
        """Return the session with the identity that its provider gives now; None where it refuses the person.

        A session whose provider cannot be asked stays as it is. Raise ProviderUnavailable.
        """
        refresh = self._refresh_of(session)
        if refresh is None:
            return session
        renewed = refresh.refresh(session, now)
        if isinstance(renewed, Refusal):
            record(refresh.failure_event, renewed)
            return None
        return renewed

    def _refresh_of(self, session: BrowserSession) -> SessionRefresh | None:
        return self.kinds.of(session.identity).broker.refresh
