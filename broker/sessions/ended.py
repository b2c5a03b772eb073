"""Whose an ended browser session was, so that whoever goes on using it is recorded as that person.

Kept in Redis for as long as a session lasts at most, sealed as sessions are (`broker.sessions.browser`). It admits
nobody: where it is lost, the use of the session is recorded as a stranger's.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta

from redis.client import Pipeline

from broker.sessions.records import BrowserSession, IdentityTypes, parse_session, serialize_session
from iam.clock import duration_milliseconds
from sts.store.sealed_values import SealedValues


@dataclass(frozen=True, slots=True)
class EndedSessions:
    """Writes and reads them; ``identity_types`` are those that a session may be of."""

    values: SealedValues
    identity_types: IdentityTypes

    def note(self, pipe: Pipeline, sessions: Iterable[BrowserSession], lifetime: timedelta) -> None:
        """Store whose these sessions were, without what asks their providers again."""
        for session in sessions:
            key, text = ended_key(session.key), serialize_session(replace(session, refresh_state=""))
            pipe.set(key, self.values.seal(key, text), px=duration_milliseconds(lifetime))

    def open(self, session_key: str, stored: object) -> BrowserSession | None:
        """Return what the session of this Redis key was, or None."""
        text = self.values.open(ended_key(session_key), stored)
        return None if text is None else parse_session(session_key, text, self.identity_types)


def ended_key(session_key: str) -> str:
    """Return the Redis key under which an ended session is remembered."""
    return f"{session_key}:ended"
