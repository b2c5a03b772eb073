"""Mint sessions and their credentials, and open the session token of a request.

Pure: the clock, the randomness and the sealing keys are arguments. A token seals what was decided when the session
began (identity, session policies, tags, times). Permissions are never part of it: they are read at each request, so
that a changed policy applies to running sessions (THREATS B07).
"""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from iam.arn import TEMPORARY_KEY, Random, access_key_id
from iam.clock import SECOND, from_milliseconds, to_milliseconds
from iam.errors import PackedPolicyTooLarge
from iam.revocation import CHAIN_ID_LENGTH, chain_id
from sts.lineage import Lineage, new_session_id, session_scopes
from sts.token import Sealer, TokenUnreadable, pack, unpack

# Bytes of packed session policies and tags in a token. AWS does not publish its limit; with ours the whole token stays
# under 8 KB, the size that servers and proxies commonly accept for a header (THREATS B25).
PACKED_LIMIT = 4096
_SECRET_BYTES = 30  # 40 characters of base64, as AWS's secrets

Tags = tuple[tuple[str, str], ...]
_UNREVOKED = Lineage()


class SessionKind(StrEnum):
    """The operation that created a session, which decides which operations it may call.

    Source: IAM User Guide, "Compare AWS STS credentials".
    """

    ROLE = "r"
    USER = "u"
    FEDERATED = "f"


@dataclass(frozen=True, slots=True)
class Grant:
    """What was decided about a session, before it has an id, keys and times.

    ``entity_id`` is the unique id of the role (ROLE), of the user, or for root the account id. ``provider`` and
    ``subject`` are the person behind the session, unchanged by role chaining, so that a revocation of the person ends
    chained sessions as well (THREATS J01). ``claims`` are condition keys that stay with the session.
    """

    kind: SessionKind
    account_id: str
    entity_id: str
    name: str
    provider: str
    subject: str
    policy: str | None = None
    policy_arns: tuple[str, ...] = ()
    tags: Tags = ()
    transitive: tuple[str, ...] = ()
    source_identity: str | None = None
    mfa_at: int | None = None
    chained: bool = False
    claims: Tags = ()

    @property
    def person(self) -> str:
        """Return the id by which all sessions of a person are revoked: ``provider|subject``."""
        return f"{self.provider}|{self.subject}"

    @property
    def scopes(self) -> tuple[str, ...]:
        """Return the scopes by which sessions of this grant are revoked."""
        role_id = self.entity_id if self.kind is SessionKind.ROLE else None
        return session_scopes(self.account_id, role_id, self.person)


@dataclass(frozen=True, slots=True)
class Session:
    """A grant with id, access key and times; ``issued_at`` and ``expires_at`` are milliseconds since 1970."""

    id: str
    access_key_id: str
    secret: str = field(repr=False)
    issued_at: int
    expires_at: int
    grant: Grant
    lineage: Lineage = field(default=Lineage(), repr=False)


@dataclass(frozen=True, slots=True)
class Credentials:
    """The temporary credentials of a session, as the API returns them."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    expiration: datetime


@dataclass(frozen=True, slots=True)
class MintedSession:
    """A new session, its credentials, and the percentage of the limit that its policies and tags take, or None."""

    session: Session
    credentials: Credentials
    packed_policy_size: int | None


def unminted_session(grant: Grant, seconds: int, *, now: datetime) -> Session:
    """Return what a session would be, without keys: nobody can sign with it; raise PackedPolicyTooLarge.

    It is for asking what somebody could do with a role.
    """
    packed_policy_size(grant)
    issued = to_milliseconds(now)
    return Session("", "", "", issued, _expires_at(issued, seconds), grant)


def mint(
    grant: Grant, seconds: int, *, now: datetime, random: Random, sealer: Sealer, lineage: Lineage = _UNREVOKED
) -> MintedSession:
    """Return a session of that many seconds and the credentials for it; raise PackedPolicyTooLarge.

    Without a lineage the session belongs to its own scopes, as if none had been revoked yet.
    """
    packed = packed_policy_size(grant)
    issued = to_milliseconds(now)
    session = Session(
        id=new_session_id(lineage, random),
        access_key_id=access_key_id(TEMPORARY_KEY, grant.account_id, random),
        secret=base64.b64encode(random(_SECRET_BYTES)).decode("ascii"),
        issued_at=issued,
        expires_at=_expires_at(issued, seconds),
        grant=grant,
        lineage=lineage.with_scopes(grant.scopes),
    )
    credentials = Credentials(
        access_key_id=session.access_key_id,
        secret_access_key=session.secret,
        session_token=sealer.seal(pack(_fields(session)), session.access_key_id, random),
        expiration=from_milliseconds(session.expires_at),
    )
    return MintedSession(session, credentials, packed)


def _expires_at(issued: int, seconds: int) -> int:
    return (issued // SECOND + seconds) * SECOND  # whole seconds: the answer cannot say more


def packed_policy_size(grant: Grant) -> int | None:
    """Return the percentage of the limit that policies and tags take, or None; raise PackedPolicyTooLarge."""
    if not (grant.policy or grant.policy_arns or grant.tags):
        return None
    size = len(pack({"p": grant.policy, "a": grant.policy_arns, "t": grant.tags, "y": grant.transitive}))
    percent = -(-size * 100 // PACKED_LIMIT)
    if percent > 100:  # noqa: PLR2004 - percent
        raise PackedPolicyTooLarge(
            f"Packed size of session tags and policies consumes {percent}% of allotted space.",
        )
    return percent


def open_token(sealed: str, key_id: str, sealer: Sealer) -> Session:
    """Return the session behind a token that belongs to this access key; raise TokenUnreadable for anything else."""
    fields = unpack(sealer.open(sealed, key_id))
    try:
        return _session(fields, key_id)
    except (KeyError, TypeError, ValueError) as error:
        # Our own key sealed this, so another version of Fedgate wrote it.
        raise TokenUnreadable("fields") from error


def _fields(session: Session) -> dict[str, Any]:
    grant = session.grant
    fields: dict[str, Any] = {
        "i": session.id,
        "s": session.secret,
        "b": session.issued_at,
        "e": session.expires_at,
        "k": grant.kind.value,
        "c": grant.account_id,
        "n": grant.entity_id,
        "m": grant.name,
        "v": grant.provider,
        "j": grant.subject,
        "p": grant.policy,
        "a": grant.policy_arns,
        "t": grant.tags,
        "y": grant.transitive,
        "o": grant.source_identity,
        "f": grant.mfa_at,
        "h": grant.chained,
        "l": grant.claims,
        **_lineage_fields(session),
    }
    # Defaults are left out, to keep the token short. "is not False", because mfa_at may be 0, which equals False.
    return {name: value for name, value in fields.items() if value is not None and value is not False and value != ()}


def _session(fields: Mapping[str, Any], key_id: str) -> Session:
    grant = Grant(
        kind=SessionKind(fields["k"]),
        account_id=fields["c"],
        entity_id=fields["n"],
        name=fields["m"],
        provider=fields["v"],
        subject=fields["j"],
        policy=fields.get("p"),
        policy_arns=tuple(fields.get("a", ())),
        tags=_pairs(fields.get("t", ())),
        transitive=tuple(fields.get("y", ())),
        source_identity=fields.get("o"),
        mfa_at=fields.get("f"),
        chained=fields.get("h", False),
        claims=_pairs(fields.get("l", ())),
    )
    return Session(
        id=fields["i"],
        access_key_id=key_id,
        secret=fields["s"],
        issued_at=fields["b"],
        expires_at=fields["e"],
        grant=grant,
        lineage=_lineage(fields, grant),
    )


def _lineage_fields(session: Session) -> dict[str, Any]:
    """Return the lineage without what the session says already: its own scopes, and the chain in its ancestors' ids."""
    lineage, own = session.lineage, session.grant.scopes
    generations = {name: number for name, number in lineage.generations if number or name not in own}
    ancestors = "".join(one.removeprefix(chain_id(session.id)) for one in lineage.ancestors)
    return {"r": lineage.revision, "g": generations or None, "d": ancestors or None}


def _lineage(fields: Mapping[str, Any], grant: Grant) -> Lineage:
    chain, text = chain_id(fields["i"]), fields.get("d", "")
    ancestors = (chain + text[at : at + CHAIN_ID_LENGTH] for at in range(0, len(text), CHAIN_ID_LENGTH))
    generations = tuple(fields.get("g", {}).items())
    return Lineage(fields["r"], generations, tuple(ancestors)).with_scopes(grant.scopes)


def _pairs(value: Iterable[tuple[str, str]]) -> Tags:
    return tuple((key, text) for key, text in value)
