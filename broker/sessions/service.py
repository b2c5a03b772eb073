"""Who is signed in to a service behind Fedgate, and the codes with which browsers come there, in Redis.

A cookie or a code holds 256 random bits and Redis only their hash, together with that of the resource: what was given
for one resource finds nothing at another. What is stored is sealed for its Redis key, as browser sessions are (THREATS
J07). None of it is a session of its own: the browser session and the session of the role behind it are asked at each
use whether they go on.
"""

import hashlib
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Final

from redis import Redis
from redis.exceptions import RedisError

from broker.sessions.records import parse_timed_text, serialize_timed_text
from iam.arn import Random
from iam.clock import duration_milliseconds, iso8601_exact, parse_iso8601
from iam.errors import ServiceUnavailable
from sts.mint import Credentials
from sts.store.sealed_values import SealedValues

# A browser follows the redirect at once (RFC 6749, section 4.1.2, allows ten minutes and advises a short time).
CODE_LIFETIME: Final = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class ServiceSession:
    """Somebody in one browser at one resource, acting in a role; nobody is shown the credentials.

    ``browser_session`` is the Redis key of the session of the pages that it came from, and ends with it.
    """

    browser_session: str
    credentials: Credentials = field(repr=False)


@dataclass(frozen=True, slots=True)
class ServiceSessions:
    """Issues and redeems codes, and starts, finds and ends sessions; each method raises ServiceUnavailable."""

    redis: Redis
    values: SealedValues
    now: Callable[[], datetime]
    random: Random
    prefix: str = "fedgate:service:"

    def new_token(self) -> str:
        """Return 256 random bits as text for a cookie or an address."""
        return urlsafe_b64encode(self.random(32)).decode().rstrip("=")

    def issue_code(self, resource: str, state: str, session: ServiceSession) -> str:
        """Return a code that is redeemed once, soon, at this resource and for the sign-in of this state."""
        code = self.new_token()
        self._store(self._key("code", resource, state, code), session, self.now() + CODE_LIFETIME)
        return code

    def redeem(self, resource: str, state: str, code: str) -> ServiceSession | None:
        """Return what a code was issued for: of concurrent callers, one gets it."""
        key = self._key("code", resource, state, code)
        with _redis_errors_as_unavailable():
            stored = self.redis.getdel(key)
        return self._open(key, stored)

    def start(self, resource: str, session: ServiceSession) -> str:
        """Return the value of the cookie of a session that begins."""
        token = self.new_token()
        self._store(self._key("session", resource, token), session, session.credentials.expiration)
        return token

    def find(self, resource: str, token: str) -> ServiceSession | None:
        """Return the session of a cookie at this resource."""
        key = self._key("session", resource, token)
        with _redis_errors_as_unavailable():
            stored = self.redis.get(key)
        return self._open(key, stored)

    def end(self, resource: str, token: str) -> None:
        """End a session."""
        with _redis_errors_as_unavailable():
            self.redis.delete(self._key("session", resource, token))

    def _store(self, key: str, session: ServiceSession, until: datetime) -> None:
        text = serialize_timed_text(_serialize(session), until)
        left = max(1, duration_milliseconds(until - self.now()))
        with _redis_errors_as_unavailable():
            self.redis.set(key, self.values.seal(key, text), px=left)

    def _open(self, key: str, stored: object) -> ServiceSession | None:
        text = None if stored is None else self.values.open(key, stored)
        # Redis forgets it by then, unless somebody writes there who wants to keep it.
        text = None if text is None else parse_timed_text(text, self.now())
        return None if text is None else _parse(text)

    def _key(self, kind: str, *parts: str) -> str:
        return f"{self.prefix}{kind}:{hashlib.sha256('|'.join(parts).encode()).hexdigest()}"


def _serialize(session: ServiceSession) -> str:
    credentials = asdict(session.credentials)
    credentials["expiration"] = iso8601_exact(session.credentials.expiration)
    return json.dumps({"browser_session": session.browser_session, "credentials": credentials})


def _parse(text: str) -> ServiceSession | None:
    """Return a session, or None where another version stored it: the person signs in again."""
    try:
        fields = json.loads(text)
        credentials = fields["credentials"]
        credentials["expiration"] = parse_iso8601(credentials["expiration"])
        return ServiceSession(fields["browser_session"], Credentials(**credentials))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


@contextmanager
def _redis_errors_as_unavailable() -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        raise ServiceUnavailable("Sign-in is not available now. Try again later.", log=str(error)) from error
