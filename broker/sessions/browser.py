"""Browser sessions, pending sign-ins and form responses, in Redis; a loss of its data signs everybody out.

A cookie holds 256 random bits and Redis only their hash, so read access to Redis does not give access to a session.
What is stored is sealed for its Redis key, so write access does not either (THREATS J07); that a session has ended is
kept in SQL, so that restoring what Redis held does not bring it back. Single use relies on GETDEL: what does not exist
is refused, so that a loss of data never admits anybody.
"""

from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import RedisError

from broker.sessions.browser_keys import BrowserKeys, last_use
from broker.sessions.ended import EndedSessions, ended_key
from broker.sessions.records import (
    NO_CLIENT,
    BrowserSession,
    Client,
    PendingLogin,
    parse_pending_login,
    parse_session,
    parse_timed_text,
    serialize_pending_login,
    serialize_session,
    serialize_timed_text,
)
from iam.arn import Random
from iam.clock import duration_milliseconds, iso8601_exact, parse_iso8601, to_fractional_seconds
from iam.errors import ServiceUnavailable
from sts.identity import Identity
from sts.identity_kinds import STS_IDENTITY_KINDS
from sts.store.sealed_values import SealedValues
from sts.store.single_use import SingleUse

__all__ = ["BrowserSession", "BrowserSessions", "Client", "PendingLogin"]

_SIGN_IN_TIMEOUT: Final = timedelta(minutes=10)  # from the first page to the response of the identity provider
_FORM_RESPONSE_TTL: Final = timedelta(seconds=30)  # in which a form sent twice gets the first response again
_IN_PROGRESS, _COMPLETED = "", "1"  # values of the marker of a form
_CLEAN_UP_ABOVE = 50  # sessions of one person above which expired ones are removed from the index
_BATCH = 500  # sessions that are read together where all are asked for
_MAX_USER_AGENT = 200  # characters: the client chooses it, and it is stored with every session
_ENDED: Final = "ended-session"  # the kind of used marker


@dataclass(frozen=True, slots=True)
class BrowserSessions:
    """Starts, finds and ends sessions; every method raises ServiceUnavailable where Redis does not answer."""

    redis: Redis
    values: SealedValues
    single_use: SingleUse
    now: Callable[[], datetime]
    random: Random
    idle: timedelta
    lifetime: timedelta
    keys: BrowserKeys = field(default_factory=BrowserKeys)
    identity_types: tuple[type[Identity], ...] = tuple(half.identity_type for half in STS_IDENTITY_KINDS)

    def new_token(self) -> str:
        """Return 256 random bits as text for a cookie or a form."""
        return urlsafe_b64encode(self.random(32)).decode().rstrip("=")

    # --- sessions -----------------------------------------------------------------------------------------------------

    def open(
        self,
        identity: Identity,
        refresh_state: str = "",
        *,
        mfa_at: datetime | None = None,
        mfa_factors: tuple[str, ...] = (),
        client: Client = NO_CLIENT,
    ) -> tuple[str, BrowserSession]:
        """Start a session; return the value of its cookie, and the session."""
        now = self.now()
        ends = now + self.lifetime
        if identity.session_until is not None:
            ends = min(ends, identity.session_until)
        client = Client(client.source_ip, client.user_agent[:_MAX_USER_AGENT])
        return self._store(BrowserSession("", identity, "", now, ends, refresh_state, mfa_at, client, mfa_factors))

    def step_up(
        self, session: BrowserSession, mfa_at: datetime, mfa_factors: tuple[str, ...] = ()
    ) -> tuple[str, BrowserSession] | None:
        """Replace the session with one under a new id, after a second factor was verified (THREATS H02).

        Return None where it has ended meanwhile: a signed-out session stays signed out (THREATS H03).
        """
        token, stepped = self._store(replace(session, mfa_at=mfa_at, mfa_factors=mfa_factors))
        # In this order: whoever ends a person's sessions at this moment finds one of the two.
        if self.end(session):
            return token, stepped
        self.end(stepped)
        return None

    def _store(self, session: BrowserSession) -> tuple[str, BrowserSession]:
        token, now = self.new_token(), self.now()
        stored = replace(session, key=self.keys.session(token), form_token=self.new_token())
        person = self.keys.person(stored.identity.person)
        with _redis_errors_as_unavailable():
            pipe = self.redis.pipeline()
            pipe.set(stored.key, self._seal(stored), px=self._ttl(stored, now))
            self._note_use(pipe, stored, now)
            pipe.hset(person, stored.key, "")
            pipe.pexpire(person, duration_milliseconds(self.lifetime))
            for index in {self.keys.index(""), self.keys.index(stored.identity.account_id)}:
                pipe.zremrangebyscore(index, "-inf", to_fractional_seconds(now))
                pipe.zadd(index, {stored.key: to_fractional_seconds(stored.ends_at)})
                pipe.pexpire(index, duration_milliseconds(self.lifetime))
            pipe.hlen(person)
            if pipe.execute()[-1] > _CLEAN_UP_ABOVE:
                self._remove_expired(person)
        return token, stored

    def _remove_expired(self, person: str) -> None:
        """Remove expired sessions from a person's index: programs sign in many times."""
        keys: list[str] = self.redis.hkeys(person)  # type: ignore[assignment]  # decode_responses
        expired = [key for key, text in zip(keys, self.redis.mget(keys), strict=True) if text is None]
        if expired:
            self.redis.hdel(person, *expired)

    def find(self, token: str | None) -> BrowserSession | None:
        """Return the session of a cookie, and extend its idle timeout."""
        return self.find_stored(self.keys.session(token)) if token else None

    def find_stored(self, key: str) -> BrowserSession | None:
        """Return the session that is stored under a Redis key, and extend its idle timeout.

        Keys are no secrets: the caller must have the key from something that was sealed here.
        """
        now = self.now()
        with _redis_errors_as_unavailable():
            text, used = self.redis.mget(key, last_use(key))
            session = self._open(key, text)
            if session is None or session.ends_at <= now or self._is_idle(key, used, now):
                self.redis.delete(key, last_use(key))
                return None
        if self.single_use.is_used(_ENDED, key):
            return None
        with _redis_errors_as_unavailable():
            pipe = self.redis.pipeline()
            pipe.pexpire(key, self._ttl(session, now))
            self._note_use(pipe, session, now)
            pipe.execute()
        return session

    def has_ended(self, session: BrowserSession | PendingLogin) -> bool:
        """Return whether a session was ended: signed out, or begun anew under another id. Raise ServiceUnavailable."""
        return self.single_use.is_used(_ENDED, session.key)

    def was_ended(self, token: str | None) -> bool:
        """Return whether the session of a cookie was ended, and did not merely expire."""
        return token is not None and self.single_use.is_used(_ENDED, self.keys.session(token))

    def identify(self, token: str | None) -> BrowserSession | None:
        """Return the session that a cookie names, also an ended or invalid one: who sent it, for the record alone."""
        if not token:
            return None
        key = self.keys.session(token)
        with _redis_errors_as_unavailable():
            text, ended = self.redis.mget(key, ended_key(key))
        return self._open(key, text) or self._ended.open(key, ended)

    @property
    def _ended(self) -> EndedSessions:
        return EndedSessions(self.values, self.identity_types)

    def _seal(self, session: BrowserSession) -> str:
        return self.values.seal(session.key, serialize_session(session))

    def _open(self, key: str, stored: object) -> BrowserSession | None:
        text = self.values.open(key, stored)
        return None if text is None else parse_session(key, text, self.identity_types)

    def _note_use(self, pipe: Pipeline, session: BrowserSession, now: datetime) -> None:
        """Store when a session was used: sealed, because whoever can write to Redis also sets when a key expires."""
        key = last_use(session.key)
        pipe.set(key, self.values.seal(key, iso8601_exact(now)), px=self._ttl(session, now))

    def _is_idle(self, key: str, used: object, now: datetime) -> bool:
        text = self.values.open(last_use(key), used)
        return text is None or now - parse_iso8601(text) >= self.idle

    def update(self, session: BrowserSession) -> None:
        """Store a changed session; one that has ended meanwhile is not created again."""
        with _redis_errors_as_unavailable():
            self.redis.set(session.key, self._seal(session), px=self._ttl(session, self.now()), xx=True)

    def end(self, session: BrowserSession) -> bool:
        """End a session; return whether it still existed: of concurrent callers, one gets True."""
        return bool(self.end_all(session.identity.provider, session.identity.subject, (session.key,)))

    def keys_of(self, provider: str, subject: str, indexes: tuple[str, ...]) -> tuple[str, ...]:
        """Return the keys of a person's sessions and pending sign-ins.

        Those with these session indexes of the provider, or all if none are given.
        """
        person = f"{provider}|{subject}"
        pending, completed = self._pending_of(person)
        found: tuple[BrowserSession | PendingLogin, ...] = (*self.of_person(person), *pending)
        # One that is being completed at this moment does not say its index any more.
        matching = [one.key for one in found if not indexes or one.identity.session_index in (None, *indexes)]
        return (*matching, *completed)

    def of_person(self, person: str) -> tuple[BrowserSession, ...]:
        """Return a person's sessions, the newest first."""
        with _redis_errors_as_unavailable():
            keys: list[str] = self.redis.hkeys(self.keys.person(person))  # type: ignore[assignment]  # decode_responses
        return tuple(session for session in self._load(keys) if session.identity.person == person)

    def newest(self, most: int, account_id: str = "") -> tuple[BrowserSession, ...]:
        """Return up to ``most`` sessions of all people, or of an account's own, the newest first."""
        index = self.keys.index(account_id)
        while True:
            with _redis_errors_as_unavailable():
                keys: list[str] = self.redis.zrevrangebyscore(  # type: ignore[assignment]  # decode_responses
                    index, "+inf", to_fractional_seconds(self.now()), start=0, num=most
                )
            # Redis alone says what an index holds.
            sessions = tuple(one for one in self._load(keys) if account_id in {"", one.identity.account_id})
            expired = set(keys) - {session.key for session in sessions}
            if not expired:
                return sessions
            with _redis_errors_as_unavailable():  # otherwise expired sessions would displace others
                self.redis.zrem(index, *expired)

    def batches(self, account_id: str = "") -> Iterator[tuple[BrowserSession, ...]]:
        """Yield the sessions of all people, or of an account's own, some at a time; one may come twice."""
        cursor = 0
        while True:
            with _redis_errors_as_unavailable():
                cursor, found = self.redis.zscan(self.keys.index(account_id), cursor, count=_BATCH)
            listed = self._load([str(key) for key, _ in found])
            yield tuple(one for one in listed if account_id in {"", one.identity.account_id})
            if not cursor:
                return

    def _load(self, keys: list[str]) -> tuple[BrowserSession, ...]:
        if not keys:
            return ()
        with _redis_errors_as_unavailable():
            texts = self.redis.mget(keys)
        opened = self.values.open_all(keys, texts)
        parsed = [parse_session(key, text, self.identity_types) for key, text in opened]
        live = [session for session in parsed if session is not None and session.ends_at > self.now()]
        return tuple(sorted(live, key=lambda session: session.opened_at, reverse=True))

    def end_of_person(self, provider: str, subject: str, indexes: tuple[str, ...] = ()) -> int:
        """End a person's sessions and pending sign-ins, as ``keys_of``; return how many there were."""
        # Twice: a pending sign-in that was completed before it was marked as ended has left a session; one that is
        # completed afterwards finds the mark.
        return sum(self.end_all(provider, subject, self.keys_of(provider, subject, indexes)) for _ in range(2))

    def end_all(self, provider: str, subject: str, keys: tuple[str, ...]) -> int:
        """End these sessions and pending sign-ins of a person; return how many still existed."""
        return self._end([(f"{provider}|{subject}", key) for key in keys])

    def end_several(self, sessions: Iterable[BrowserSession]) -> int:
        """End sessions of several people, in one commit; return how many still existed."""
        return self._end([(session.identity.person, session.key) for session in sessions])

    def _end(self, owned: Sequence[tuple[str, str]]) -> int:
        """End the sessions of these people and keys; return how many still existed."""
        if not owned:
            return 0
        now, keys = self.now(), [key for _, key in owned]
        self.single_use.mark_used(_ENDED, keys, now + self.lifetime, now)
        ending = self._load(keys)
        with _redis_errors_as_unavailable():
            pipe = self.redis.pipeline()
            pipe.delete(*keys)
            pipe.delete(*map(last_use, keys))
            for person, key in owned:
                pipe.hdel(self.keys.person(person), key)
                pipe.srem(self.keys.pending_of(person), key)
            self._ended.note(pipe, ending, self.lifetime)
            pipe.zrem(self.keys.index(""), *keys)  # `newest` removes them from the indexes of accounts
            return int(pipe.execute()[0])

    # --- pending sign-ins -----------------------------------------------------------------------------------------

    def start_pending_login(
        self, step: str, identity: Identity, return_to: str, refresh_state: str = ""
    ) -> tuple[str, PendingLogin]:
        """Store a sign-in with one step left; return the value of its cookie, and the pending sign-in."""
        token, now = self.new_token(), self.now()
        pending = PendingLogin(
            self.keys.pending(token), step, identity, self.new_token(), now, return_to, refresh_state
        )
        index = self.keys.pending_of(identity.person)
        with _redis_errors_as_unavailable():
            pipe = self.redis.pipeline()
            pipe.set(pending.key, self.values.seal(pending.key, serialize_pending_login(pending)), ex=_SIGN_IN_TIMEOUT)
            pipe.sadd(index, pending.key)
            pipe.expire(index, _SIGN_IN_TIMEOUT)
            pipe.execute()
        return token, pending

    def find_pending_login(self, token: str | None) -> PendingLogin | None:
        """Return the pending sign-in of a cookie, or None."""
        if not token:
            return None
        key = self.keys.pending(token)
        with _redis_errors_as_unavailable():
            text = self.values.open(key, self.redis.get(key))
        pending = None if text is None else parse_pending_login(key, text, self.identity_types)
        # Redis forgets it by then, unless somebody writes there who wants to keep it.
        if pending is None or self.now() >= pending.opened_at + _SIGN_IN_TIMEOUT or self.has_ended(pending):
            return None
        return pending

    def consume_pending_login(self, pending: PendingLogin) -> bool:
        """Delete a pending sign-in; return whether it still existed: of concurrent callers, one gets True."""
        with _redis_errors_as_unavailable():
            return bool(self.redis.delete(pending.key))

    def _pending_of(self, person: str) -> tuple[list[PendingLogin], list[str]]:
        """Return a person's pending sign-ins, and the keys of those that were completed or have expired."""
        with _redis_errors_as_unavailable():
            keys = sorted(str(key) for key in self.redis.smembers(self.keys.pending_of(person)))
            texts = self.redis.mget(keys) if keys else []
        opened = self.values.open_all(keys, texts)
        parsed = [parse_pending_login(key, text, self.identity_types) for key, text in opened]
        pending = [one for one in parsed if one is not None and one.identity.person == person]
        return pending, sorted({*keys} - {one.key for one in pending})

    # --- logout requests to identity providers ------------------------------------------------------------------------

    def save_logout_request(self, message_id: str, provider: str) -> None:
        """Store that a logout request was sent to an identity provider."""
        key = self.keys.logout_request(message_id)
        with _redis_errors_as_unavailable():
            self.redis.set(key, self._seal_until(key, provider, _SIGN_IN_TIMEOUT), ex=_SIGN_IN_TIMEOUT)

    def consume_logout_request(self, message_id: str, provider: str) -> bool:
        """Delete a request; return whether the provider had yet to answer it: of concurrent callers, one gets True."""
        key = self.keys.logout_request(message_id)
        with _redis_errors_as_unavailable():
            return self._open_until(key, self.redis.getdel(key)) == provider

    # --- forms that are sent twice ------------------------------------------------------------------------------------

    def claim_form(self, form: str, seconds: int) -> bool:
        """Return whether a form was not sent in the last ``seconds``: of concurrent callers, one gets True."""
        with _redis_errors_as_unavailable():
            return bool(self.redis.set(self.keys.form(form), _IN_PROGRESS, nx=True, ex=seconds))

    def store_form_response(self, form: str, text: str, *, anew: bool) -> None:
        """Store the response to a form, which may set a session cookie, for a form that is sent twice.

        ``anew`` allows the form to be sent again when the stored response expires.
        """
        key = self.keys.form_response(form)
        with _redis_errors_as_unavailable():
            pipe = self.redis.pipeline()
            pipe.set(key, self._seal_until(key, text, _FORM_RESPONSE_TTL), ex=_FORM_RESPONSE_TTL)
            if anew:
                pipe.expire(self.keys.form(form), _FORM_RESPONSE_TTL)
            else:
                pipe.set(self.keys.form(form), _COMPLETED, xx=True, keepttl=True)
            pipe.execute()

    def find_form_response(self, form: str) -> str | None:
        """Return the response to a form that was sent before: empty while it is processed, None after it expired."""
        with _redis_errors_as_unavailable():
            marker, stored = self.redis.mget(self.keys.form(form), self.keys.form_response(form))
        text = self._open_until(self.keys.form_response(form), stored)
        if text is not None:
            return text
        return "" if marker == _IN_PROGRESS else None

    def release_form(self, form: str) -> None:
        """Allow a form to be sent again, after its processing failed."""
        with _redis_errors_as_unavailable():
            self.redis.delete(self.keys.form(form))

    # --- values that expire -------------------------------------------------------------------------------------------

    def _seal_until(self, key: str, text: str, lifetime: timedelta) -> str:
        return self.values.seal(key, serialize_timed_text(text, self.now() + lifetime))

    def _open_until(self, key: str, stored: object) -> str | None:
        text = self.values.open(key, stored)
        return None if text is None else parse_timed_text(text, self.now())

    def _ttl(self, session: BrowserSession, now: datetime) -> int:
        return max(1, duration_milliseconds(min(self.idle, session.ends_at - now)))


@contextmanager
def _redis_errors_as_unavailable() -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        raise ServiceUnavailable("Sign-in is not available now. Try again later.", log=str(error)) from error
