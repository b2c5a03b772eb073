"""Browser sessions, pending sign-ins and form responses, in Redis; a loss of its data signs everybody out.

A cookie holds 256 random bits and Redis only their hash, so read access to Redis does not give access to a session.
Single use relies on GETDEL: what does not exist is refused, so that a loss of data never admits anybody.
"""

import hashlib
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from redis import Redis
from redis.exceptions import RedisError

from iam.arn import Random
from iam.clock import duration_milliseconds, iso8601_exact, parse_iso8601, to_fractional_seconds
from iam.errors import ServiceUnavailable
from sts.identity import Identity
from sts.identity_kinds import STS_IDENTITY_KINDS
from sts.lineage import load

_SIGN_IN_TIMEOUT = 600  # seconds from the first page to the response of the identity provider
_FORM_RESPONSE_TTL = 30  # seconds in which a form sent twice gets the first response again
_IN_PROGRESS, _COMPLETED = "", "1"  # values of the marker of a form
_CLEAN_UP_ABOVE = 50  # sessions of one person above which expired ones are removed from the index
_TIMES = ("authenticated_at", "issued_at", "usable_until", "session_until")
_MAX_USER_AGENT = 200  # characters: the client chooses it, and it is stored with every session


class Client(NamedTuple):
    """The browser at the start of the session."""

    source_ip: str = ""
    user_agent: str = ""


_NO_CLIENT = Client()
IdentityTypes = tuple[type[Identity], ...]  # those that a session may be of


@dataclass(frozen=True, slots=True)
class BrowserSession:
    """One person in one browser. ``key`` is the Redis key; ``form_token`` protects forms against CSRF.

    ``refresh_state`` is what a refresh of the identity needs: for a web identity the sealed refresh token, for a
    directory the time of the last refresh, or empty. ``mfa_at`` is when the person last gave a second factor.
    """

    key: str
    identity: Identity
    form_token: str
    opened_at: datetime
    ends_at: datetime
    refresh_state: str = field(default="", repr=False)
    mfa_at: datetime | None = None
    client: Client = _NO_CLIENT

    @property
    def handle(self) -> str:
        """Return the id of the session in lists; it does not grant access to the session."""
        return self.key.rpartition(":")[2][:16]


@dataclass(frozen=True, slots=True)
class PendingLogin:
    """A sign-in with a correct password that needs one more step before a session begins.

    ``step`` names it: give a second factor, or enrol one. ``opened_at`` is when the password was verified.
    """

    key: str
    step: str
    identity: Identity
    form_token: str
    opened_at: datetime
    return_to: str
    refresh_state: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class IdpRequest:
    """A sign-in or sign-out that waits for the identity provider's response; ``browser`` is the hash of its cookie.

    ``nonce`` and ``verifier`` are those of OpenID Connect and PKCE (THREATS F01-F03).
    """

    provider: str
    browser: str
    relay_state: str
    return_to: str = ""
    nonce: str = ""
    verifier: str = ""


@dataclass(frozen=True, slots=True)
class BrowserSessions:
    """Starts, finds and ends sessions; every method raises ServiceUnavailable where Redis does not answer."""

    redis: Redis
    now: Callable[[], datetime]
    random: Random
    idle: timedelta
    lifetime: timedelta
    prefix: str = field(default="fedgate:web:")
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
        client: Client = _NO_CLIENT,
    ) -> tuple[str, BrowserSession]:
        """Start a session; return the value of its cookie, and the session."""
        now = self.now()
        ends = now + self.lifetime
        if identity.session_until is not None:
            ends = min(ends, identity.session_until)
        client = Client(client.source_ip, client.user_agent[:_MAX_USER_AGENT])
        return self._store(BrowserSession("", identity, "", now, ends, refresh_state, mfa_at, client))

    def step_up(self, session: BrowserSession, mfa_at: datetime) -> tuple[str, BrowserSession] | None:
        """Replace the session with one under a new id, after a second factor was verified (THREATS H02).

        Return None where it has ended meanwhile: a signed-out session stays signed out (THREATS H03).
        """
        return self._store(replace(session, mfa_at=mfa_at)) if self.end(session) else None

    def _store(self, session: BrowserSession) -> tuple[str, BrowserSession]:
        token, now = self.new_token(), self.now()
        stored = replace(session, key=self._session_key(token), form_token=self.new_token())
        person = self._person_key(stored.identity.person)
        with _redis_errors_as_unavailable():
            pipe = self.redis.pipeline()
            pipe.set(stored.key, _serialize(stored), px=self._ttl(stored, now))
            pipe.hset(person, stored.key, json.dumps(stored.identity.session_index))
            pipe.pexpire(person, duration_milliseconds(self.lifetime))
            pipe.zremrangebyscore(self._all_key, "-inf", to_fractional_seconds(now))
            pipe.zadd(self._all_key, {stored.key: to_fractional_seconds(stored.ends_at)})
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
        if not token:
            return None
        key, now = self._session_key(token), self.now()
        with _redis_errors_as_unavailable():
            text = self.redis.get(key)
            session = None if text is None else _parse(key, str(text), self.identity_types)
            if session is None or session.ends_at <= now:
                self.redis.delete(key)
                return None
            self.redis.pexpire(key, self._ttl(session, now))
        return session

    def update(self, session: BrowserSession) -> None:
        """Store a changed session; one that has ended meanwhile is not created again."""
        with _redis_errors_as_unavailable():
            self.redis.set(session.key, _serialize(session), px=self._ttl(session, self.now()), xx=True)

    def end(self, session: BrowserSession) -> bool:
        """End a session; return whether it still existed: of concurrent callers, one gets True."""
        return bool(self.end_all(session.identity.provider, session.identity.subject, (session.key,)))

    def keys_of(self, provider: str, subject: str, indexes: tuple[str, ...]) -> tuple[str, ...]:
        """Return the keys of a person's sessions: those with these SAML session indexes, or all if none are given."""
        with _redis_errors_as_unavailable():
            index_by_key: dict[str, str] = self.redis.hgetall(self._person_key(f"{provider}|{subject}"))  # type: ignore[assignment]  # decode_responses
        return tuple(key for key, index in index_by_key.items() if not indexes or json.loads(index) in (None, *indexes))

    def of_person(self, person: str) -> tuple[BrowserSession, ...]:
        """Return a person's sessions, the newest first."""
        with _redis_errors_as_unavailable():
            keys: list[str] = self.redis.hkeys(self._person_key(person))  # type: ignore[assignment]  # decode_responses
        return self._load(keys)

    def newest(self, most: int) -> tuple[BrowserSession, ...]:
        """Return up to ``most`` sessions of all people, the newest first."""
        while True:
            with _redis_errors_as_unavailable():
                keys: list[str] = self.redis.zrevrangebyscore(  # type: ignore[assignment]  # decode_responses
                    self._all_key, "+inf", to_fractional_seconds(self.now()), start=0, num=most
                )
            sessions = self._load(keys)
            expired = set(keys) - {session.key for session in sessions}
            if not expired:
                return sessions
            with _redis_errors_as_unavailable():  # otherwise expired sessions would displace others
                self.redis.zrem(self._all_key, *expired)

    def _load(self, keys: list[str]) -> tuple[BrowserSession, ...]:
        if not keys:
            return ()
        with _redis_errors_as_unavailable():
            texts = self.redis.mget(keys)
        stored = [(key, str(text)) for key, text in zip(keys, texts, strict=True) if text is not None]
        parsed = [_parse(key, text, self.identity_types) for key, text in stored]
        live = [session for session in parsed if session is not None and session.ends_at > self.now()]
        return tuple(sorted(live, key=lambda session: session.opened_at, reverse=True))

    def end_all(self, provider: str, subject: str, keys: tuple[str, ...]) -> int:
        """End these sessions of a person; return how many still existed."""
        if not keys:
            return 0
        with _redis_errors_as_unavailable():
            pipe = self.redis.pipeline()
            pipe.delete(*keys)
            pipe.hdel(self._person_key(f"{provider}|{subject}"), *keys)
            pipe.zrem(self._all_key, *keys)
            return int(pipe.execute()[0])

    # --- pending sign-ins -----------------------------------------------------------------------------------------

    def start_pending_login(
        self, step: str, identity: Identity, return_to: str, refresh_state: str = ""
    ) -> tuple[str, PendingLogin]:
        """Store a sign-in with one step left; return the value of its cookie, and the pending sign-in."""
        token, now = self.new_token(), self.now()
        pending = PendingLogin(
            self._pending_key(token), step, identity, self.new_token(), now, return_to, refresh_state
        )
        fields = {"step": step, "form_token": pending.form_token, "return_to": return_to, "memo": refresh_state}
        fields["opened_at"] = iso8601_exact(now)
        index = self._pending_of_key(identity.person)
        with _redis_errors_as_unavailable():
            pipe = self.redis.pipeline()
            pipe.set(pending.key, json.dumps(fields | _identity_fields(identity)), ex=_SIGN_IN_TIMEOUT)
            pipe.sadd(index, pending.key)
            pipe.expire(index, _SIGN_IN_TIMEOUT)
            pipe.execute()
        return token, pending

    def find_pending_login(self, token: str | None) -> PendingLogin | None:
        """Return the pending sign-in of a cookie, or None."""
        if not token:
            return None
        with _redis_errors_as_unavailable():
            text = self.redis.get(self._pending_key(token))
        try:
            fields = json.loads(str(text)) if text is not None else None
            return None if fields is None else _parse_pending(self._pending_key(token), fields, self.identity_types)
        except (ValueError, TypeError, KeyError, AttributeError):  # stored by another version
            return None

    def consume_pending_login(self, pending: PendingLogin) -> bool:
        """Delete a pending sign-in; return whether it still existed: of concurrent callers, one gets True."""
        with _redis_errors_as_unavailable():
            return bool(self.redis.delete(pending.key))

    def end_pending_logins_of(self, person: str) -> None:
        """Delete all pending sign-ins of a person, after a change of the password (THREATS J02)."""
        index = self._pending_of_key(person)
        with _redis_errors_as_unavailable():
            keys: set[str] = self.redis.smembers(index)  # type: ignore[assignment]  # decode_responses
            if keys:
                self.redis.delete(*keys, index)

    # --- requests to identity providers -------------------------------------------------------------------------------

    def save_idp_request(self, message_id: str, request: IdpRequest) -> None:
        """Store a request that was sent to an identity provider."""
        with _redis_errors_as_unavailable():
            self.redis.set(self._idp_request_key(message_id), json.dumps(asdict(request)), ex=_SIGN_IN_TIMEOUT)

    def find_idp_request(self, message_id: str) -> IdpRequest | None:
        """Return the request with an id, without consuming it."""
        with _redis_errors_as_unavailable():
            text = self.redis.get(self._idp_request_key(message_id))
        try:
            return None if text is None else IdpRequest(**json.loads(str(text)))
        except (ValueError, TypeError):  # stored by another version
            return None

    def consume_idp_request(self, message_id: str) -> bool:
        """Delete a request; return whether it still existed: of concurrent callers, one gets True."""
        with _redis_errors_as_unavailable():
            return self.redis.getdel(self._idp_request_key(message_id)) is not None

    def hash_browser_cookie(self, cookie: str | None) -> str:
        """Return the hash of a browser cookie, which is stored instead of the cookie."""
        return _hash(cookie or "")

    # --- forms that are sent twice ------------------------------------------------------------------------------------

    def claim_form(self, form: str, seconds: int) -> bool:
        """Return whether a form was not sent in the last ``seconds``: of concurrent callers, one gets True."""
        with _redis_errors_as_unavailable():
            return bool(self.redis.set(self._form_key(form), _IN_PROGRESS, nx=True, ex=seconds))

    def store_form_response(self, form: str, text: str, *, anew: bool) -> None:
        """Store the response to a form, sealed by the caller, for a form that is sent twice.

        ``anew`` allows the form to be sent again when the stored response expires.
        """
        with _redis_errors_as_unavailable():
            pipe = self.redis.pipeline()
            pipe.set(self._form_response_key(form), text, ex=_FORM_RESPONSE_TTL)
            if anew:
                pipe.expire(self._form_key(form), _FORM_RESPONSE_TTL)
            else:
                pipe.set(self._form_key(form), _COMPLETED, xx=True, keepttl=True)
            pipe.execute()

    def find_form_response(self, form: str) -> str | None:
        """Return the response to a form that was sent before: empty while it is processed, None after it expired."""
        with _redis_errors_as_unavailable():
            marker, text = self.redis.mget(self._form_key(form), self._form_response_key(form))
        if text is not None:
            return str(text)
        return "" if marker == _IN_PROGRESS else None

    def release_form(self, form: str) -> None:
        """Allow a form to be sent again, after its processing failed."""
        with _redis_errors_as_unavailable():
            self.redis.delete(self._form_key(form))

    # --- Redis keys ---------------------------------------------------------------------------------------------------

    @property
    def _all_key(self) -> str:
        return f"{self.prefix}all"

    def _ttl(self, session: BrowserSession, now: datetime) -> int:
        return max(1, duration_milliseconds(min(self.idle, session.ends_at - now)))

    def _session_key(self, token: str) -> str:
        return f"{self.prefix}session:{_hash(token)}"

    def _pending_key(self, token: str) -> str:
        return f"{self.prefix}waiting:{_hash(token)}"

    def _pending_of_key(self, person: str) -> str:
        return f"{self.prefix}waiting-of:{_hash(person)}"

    def _person_key(self, person: str) -> str:
        return f"{self.prefix}person:{_hash(person)}"

    def _idp_request_key(self, message_id: str) -> str:
        return f"{self.prefix}begun:{_hash(message_id)}"

    def _form_key(self, form: str) -> str:
        return f"{self.prefix}sent:{_hash(form)}"

    def _form_response_key(self, form: str) -> str:
        return f"{self.prefix}answer:{_hash(form)}"


@contextmanager
def _redis_errors_as_unavailable() -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        raise ServiceUnavailable("Sign-in is not available now. Try again later.", log=str(error)) from error


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# --- serialization ----------------------------------------------------------------------------------------------------


def _serialize(session: BrowserSession) -> str:
    times = {name: _format_time(getattr(session, name)) for name in ("opened_at", "ends_at", "mfa_at")}
    fields = {"form_token": session.form_token, "renewal": session.refresh_state, "client": session.client, **times}
    return json.dumps(_identity_fields(session.identity) | fields)


def _identity_fields(identity: Identity) -> dict[str, Any]:
    fields: dict[str, Any] = {name: getattr(identity, name) for name in type(identity).__dataclass_fields__}
    fields["attributes"] = dict(identity.attributes)
    fields["lineage"] = identity.lineage.dump()
    fields |= {name: _format_time(fields[name]) for name in _TIMES if name in fields}
    return {"kind": type(identity).__name__, "identity": fields}


_TUPLES = ("groups", "group_names", "transitive", "audiences")


def _parse(key: str, text: str, types: IdentityTypes) -> BrowserSession | None:
    """Return a session, or None where another version stored it: the person signs in again."""
    try:
        fields = json.loads(text)
        opened_at, ends_at = (parse_iso8601(fields[name]) for name in ("opened_at", "ends_at"))
        return BrowserSession(
            key,
            _parse_identity(fields, types),
            fields["form_token"],
            opened_at,
            ends_at,
            fields["renewal"],
            _parse_time(fields["mfa_at"]),
            Client(*fields["client"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _parse_pending(key: str, fields: dict[str, Any], types: IdentityTypes) -> PendingLogin:
    opened_at, identity = parse_iso8601(fields["opened_at"]), _parse_identity(fields, types)
    return PendingLogin(
        key, fields["step"], identity, fields["form_token"], opened_at, fields["return_to"], fields["memo"]
    )


def _parse_identity(session_fields: dict[str, Any], types: IdentityTypes) -> Identity:
    fields = session_fields["identity"]
    fields |= {name: _parse_time(fields[name]) for name in _TIMES if name in fields}
    fields["attributes"] = {name: tuple(values) for name, values in fields["attributes"].items()}
    fields["lineage"] = load(fields["lineage"])
    fields |= {name: tuple(fields[name]) for name in _TUPLES if name in fields}
    if "tags" in fields:
        fields["tags"] = tuple((key, value) for key, value in fields["tags"])
    identity_type = {known.__name__: known for known in types}[session_fields["kind"]]
    return identity_type(**fields)


def _format_time(time: datetime | None) -> str | None:
    return None if time is None else iso8601_exact(time)


def _parse_time(text: str | None) -> datetime | None:
    return None if text is None else parse_iso8601(text)
