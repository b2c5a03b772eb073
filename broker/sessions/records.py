"""What Redis keeps of browsers, and how it is written: sessions, sign-ins with one step left, requests to providers."""

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from iam.clock import iso8601_exact, parse_iso8601
from sts.identity import Identity
from sts.lineage import load

_TIMES = ("authenticated_at", "issued_at", "usable_until", "session_until")


class Client(NamedTuple):
    """The browser at the start of the session."""

    source_ip: str = ""
    user_agent: str = ""


NO_CLIENT = Client()
IdentityTypes = tuple[type[Identity], ...]  # those that a session may be of


class GivenFactor(NamedTuple):
    """When a second factor was given, and the versions of those that the person had then (`factor_versions`)."""

    at: datetime
    factors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BrowserSession:
    """One person in one browser. ``key`` is the Redis key; ``form_token`` protects forms against CSRF.

    ``refresh_state`` is what a refresh of the identity needs: for a web identity the sealed refresh token, for a
    directory the time of the last refresh, or empty. ``mfa_at`` is when the person last gave a second factor, and
    ``mfa_factors`` are the versions of those that the person had then: without one of them the session has ended.
    """

    key: str
    identity: Identity
    form_token: str
    opened_at: datetime
    ends_at: datetime
    refresh_state: str = field(default="", repr=False)
    mfa_at: datetime | None = None
    client: Client = NO_CLIENT
    mfa_factors: tuple[str, ...] = ()

    @property
    def mfa(self) -> GivenFactor | None:
        """Return the second factor that was given, or None."""
        return None if self.mfa_at is None else GivenFactor(self.mfa_at, self.mfa_factors)

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


# --- serialization ----------------------------------------------------------------------------------------------------


def serialize_session(session: BrowserSession) -> str:
    """Return a session as JSON; its key is where it is stored."""
    times = {name: _format_time(getattr(session, name)) for name in ("opened_at", "ends_at", "mfa_at")}
    fields: dict[str, Any] = {"form_token": session.form_token, "renewal": session.refresh_state}
    fields |= {"client": session.client, "mfa_factors": session.mfa_factors}
    return json.dumps(_identity_fields(session.identity) | fields | times)


def _identity_fields(identity: Identity) -> dict[str, Any]:
    fields: dict[str, Any] = {name: getattr(identity, name) for name in type(identity).__dataclass_fields__}
    fields["attributes"] = dict(identity.attributes)
    fields["lineage"] = identity.lineage.dump()
    fields |= {name: _format_time(fields[name]) for name in _TIMES if name in fields}
    return {"kind": type(identity).__name__, "identity": fields}


_TUPLES = ("groups", "group_names", "transitive", "audiences")


def parse_session(key: str, text: str, types: IdentityTypes) -> BrowserSession | None:
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
            tuple(fields["mfa_factors"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def serialize_pending_login(pending: PendingLogin) -> str:
    """Return a pending sign-in as JSON; its key is where it is stored."""
    fields = {"step": pending.step, "form_token": pending.form_token, "return_to": pending.return_to}
    fields |= {"memo": pending.refresh_state, "opened_at": iso8601_exact(pending.opened_at)}
    return json.dumps(fields | _identity_fields(pending.identity))


def parse_pending_login(key: str, text: str, types: IdentityTypes) -> PendingLogin | None:
    """Return a pending sign-in, or None where another version stored it."""
    try:
        fields = json.loads(text)
        opened_at, identity = parse_iso8601(fields["opened_at"]), _parse_identity(fields, types)
        return PendingLogin(
            key, fields["step"], identity, fields["form_token"], opened_at, fields["return_to"], fields["memo"]
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def serialize_timed_text(text: str, until: datetime) -> str:
    """Return a text with the time until which it counts."""
    return f"{iso8601_exact(until)} {text}"


def parse_timed_text(timed: str, now: datetime) -> str | None:
    """Return the text, or None where its time is over."""
    until, _, text = timed.partition(" ")
    return text if now < parse_iso8601(until) else None


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
