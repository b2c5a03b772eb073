"""Who is signed in with which browser, and which sign-ins have been begun: in Redis, whose loss signs everybody out.

A cookie holds 256 bits of chance; Redis knows only their hash, so whoever reads Redis cannot be anybody. Single use is
by GETDEL: what is not there is refused, so that no loss of Redis lets anybody in.
"""

import hashlib
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from iam.arn import Random
from iam.errors import ServiceUnavailable
from sts.identity import SamlIdentity, Vouched, WebIdentity

_SIGN_IN_WITHIN = 600  # seconds from the first page to the answer of the identity provider
_TIMES = ("authenticated_at", "usable_until", "session_until")


@dataclass(frozen=True, slots=True)
class BrowserSession:
    """One person in one browser. ``key`` is where Redis has it; ``form_token`` proves that a form is one of ours.

    ``renewal`` is what the provider is asked with, sealed, whether what it said of the person still holds; or nothing.
    """

    key: str
    identity: Vouched
    form_token: str
    opened_at: datetime
    ends_at: datetime
    renewal: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Begun:
    """A sign-in or sign-out that waits for the identity provider's answer; ``browser`` is the hash of its cookie.

    ``nonce`` and ``verifier`` are those of OpenID Connect and PKCE.
    """

    provider: str
    browser: str
    relay_state: str
    return_to: str = ""
    nonce: str = ""
    verifier: str = ""


@dataclass(frozen=True, slots=True)
class BrowserSessions:
    """Opens, finds and ends sessions; every method raises ServiceUnavailable where Redis cannot answer."""

    redis: Redis
    now: Callable[[], datetime]
    random: Random
    idle: timedelta
    lifetime: timedelta
    prefix: str = field(default="fedgate:web:")

    def new_token(self) -> str:
        """Return 256 bits of chance, as a cookie or a form can hold them."""
        return urlsafe_b64encode(self.random(32)).decode().rstrip("=")

    # --- sessions -----------------------------------------------------------------------------------------------------

    def open(self, identity: Vouched, renewal: str = "") -> tuple[str, BrowserSession]:
        """Begin a session; return what the cookie shall hold, and the session."""
        token, now = self.new_token(), self.now()
        ends = now + self.lifetime
        if identity.session_until is not None:
            ends = min(ends, identity.session_until)
        made = BrowserSession(self._session(token), identity, self.new_token(), now, ends, renewal)
        person = self._person(identity.provider, identity.subject)
        with _answering():
            pipe = self.redis.pipeline()
            pipe.set(made.key, _text(made), px=self._left(made, now))
            pipe.hset(person, made.key, json.dumps(identity.session_index))
            pipe.pexpire(person, _milliseconds(self.lifetime))
            pipe.execute()
        return token, made

    def find(self, token: str | None) -> BrowserSession | None:
        """Return the session of a cookie, and put its idle end off."""
        if not token:
            return None
        key, now = self._session(token), self.now()
        with _answering():
            text = self.redis.get(key)
            found = None if text is None else _parse(key, str(text))
            if found is None or found.ends_at <= now:
                self.redis.delete(key)
                return None
            self.redis.pexpire(key, self._left(found, now))
        return found

    def renew(self, session: BrowserSession) -> None:
        """Keep what a provider now says of a person; a session that has ended meanwhile stays ended."""
        with _answering():
            self.redis.set(session.key, _text(session), px=self._left(session, self.now()), xx=True)

    def end(self, session: BrowserSession) -> None:
        """End one session."""
        with _answering():
            self.redis.delete(session.key)
            self.redis.hdel(self._person(session.identity.provider, session.identity.subject), session.key)

    def of(self, provider: str, subject: str, indexes: tuple[str, ...]) -> tuple[str, ...]:
        """Return the keys of a person's sessions: those with these indexes, or all where none are named."""
        with _answering():
            found: dict[str, str] = self.redis.hgetall(self._person(provider, subject))  # type: ignore[assignment]  # decode_responses
        return tuple(key for key, index in found.items() if not indexes or json.loads(index) in (None, *indexes))

    def end_all(self, provider: str, subject: str, keys: tuple[str, ...]) -> int:
        """End these sessions of a person; return how many there still were."""
        if not keys:
            return 0
        with _answering():
            self.redis.hdel(self._person(provider, subject), *keys)
            return int(self.redis.delete(*keys))

    # --- what waits for an answer -------------------------------------------------------------------------------------

    def begin(self, message_id: str, begun: Begun) -> None:
        """Remember what an identity provider was asked."""
        with _answering():
            self.redis.set(self._begun(message_id), json.dumps(asdict(begun)), ex=_SIGN_IN_WITHIN)

    def begun(self, message_id: str) -> Begun | None:
        """Return what was asked under an id, as often as wanted."""
        with _answering():
            text = self.redis.get(self._begun(message_id))
        try:
            return None if text is None else Begun(**json.loads(str(text)))
        except (ValueError, TypeError):  # of another version of this program
            return None

    def finish(self, message_id: str) -> bool:
        """Forget what was asked; return whether it was still there: of many that try, one gets True."""
        with _answering():
            return self.redis.getdel(self._begun(message_id)) is not None

    def browser_of(self, cookie: str | None) -> str:
        """Return the hash by which a browser's own cookie is remembered."""
        return _hash(cookie or "")

    # --- small parts --------------------------------------------------------------------------------------------------

    def _left(self, session: BrowserSession, now: datetime) -> int:
        return max(1, _milliseconds(min(self.idle, session.ends_at - now)))

    def _session(self, token: str) -> str:
        return f"{self.prefix}session:{_hash(token)}"

    def _person(self, provider: str, subject: str) -> str:
        return f"{self.prefix}person:{_hash(f'{provider}|{subject}')}"

    def _begun(self, message_id: str) -> str:
        return f"{self.prefix}begun:{_hash(message_id)}"


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        raise ServiceUnavailable("The service cannot sign anybody in now. Try again later.", log=str(error)) from error


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _milliseconds(span: timedelta) -> int:
    return int(span.total_seconds() * 1000)


def _text(session: BrowserSession) -> str:
    names = [name for name in type(session.identity).__dataclass_fields__ if name not in _TIMES]
    identity: dict[str, Any] = {name: getattr(session.identity, name) for name in names}
    identity["attributes"] = dict(session.identity.attributes)
    identity |= {name: _stamp(getattr(session.identity, name)) for name in _TIMES}
    times = {"opened_at": session.opened_at.isoformat(), "ends_at": session.ends_at.isoformat()}
    kind = type(session.identity).__name__
    more = {"form_token": session.form_token, "renewal": session.renewal, **times}
    return json.dumps({"kind": kind, "identity": identity, **more})


_KINDS: dict[str, type[SamlIdentity] | type[WebIdentity]] = {"SamlIdentity": SamlIdentity, "WebIdentity": WebIdentity}


def _parse(key: str, text: str) -> BrowserSession | None:
    """Return a session, or None where another version of this program wrote it: its person signs in again."""
    try:
        found = json.loads(text)
        identity = found["identity"]
        identity |= {name: _moment(identity[name]) for name in _TIMES}
        identity["attributes"] = {name: tuple(values) for name, values in identity["attributes"].items()}
        identity |= {
            name: tuple(identity[name]) for name in ("groups", "group_names", "transitive") if name in identity
        }
        if "tags" in identity:
            identity["tags"] = tuple((key, value) for key, value in identity["tags"])
        opened_at, ends_at = (datetime.fromisoformat(found[name]) for name in ("opened_at", "ends_at"))
        made = _KINDS[found["kind"]](**identity)
        return BrowserSession(key, made, found["form_token"], opened_at, ends_at, found["renewal"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _stamp(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
