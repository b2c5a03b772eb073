"""Who asked for a web identity token of our own issuer, sealed into the token: only this installation can read it.

Where an account trusts our own issuer, such a token begins a session here. What revokes the session that asked for the
token, or one that it was made from, must refuse the token and all that was made with it; otherwise a token that was
fetched in time would outlive each revocation (THREATS J01). Other systems verify the token as ever, and ignore the
claim.
"""

from dataclasses import dataclass

from iam.arn import Random
from iam.store.store import Store
from sts.callers import Caller
from sts.lineage import Lineage, begin, load, refusal, scopes_to_read, session_scopes, watched
from sts.token import Sealer, TokenUnreadable, pack, unpack

CLAIM = "urn:fedgate:session"
# Takes the place of the access key id in the associated data, with the token's issuer and id: the claim of one token
# opens in no other, nor as a session token.
_PURPOSE = "web-identity-token"


@dataclass(frozen=True, slots=True)
class TokenOrigin:
    """The caller who asked for a token.

    A session of a role, with its id, its lineage and the role's unique id; or a user, with the id of the access key,
    and the lineage of a session that had begun when the token was signed. Nobody else gets a token.
    """

    lineage: Lineage
    role_id: str = ""
    session_id: str = ""
    access_key_id: str = ""


def origin_of(caller: Caller, store: Store) -> TokenOrigin:
    """Return the origin of a token that this caller asks for."""
    session, principal = caller.session, caller.principal
    if session is not None:
        return TokenOrigin(session.lineage, session.grant.entity_id, session.id)
    scopes = session_scopes(principal.account_id, None, f"iam|{principal.entity_id}")
    lineage = begin(scopes, None, store.current_generations(scopes_to_read(scopes, None)))
    return TokenOrigin(lineage, access_key_id=caller.access_key_id)


def seal_origin(origin: TokenOrigin, issuer: str, token_id: str, sealer: Sealer, random: Random) -> str:
    """Return the value of ``CLAIM`` in the token of this issuer and id (``jti``)."""
    fields = [origin.lineage.dump(), origin.role_id, origin.session_id, origin.access_key_id]
    return sealer.seal(pack({"o": fields}), _associated_data(issuer, token_id), random)


def open_origin(sealed: object, issuer: str, token_id: object, sealer: Sealer) -> TokenOrigin | None:
    """Return the origin that was sealed into the token of this issuer and id; None where we did not seal it."""
    if not isinstance(sealed, str) or not isinstance(token_id, str):
        return None
    try:
        lineage, *ids = unpack(sealer.open(sealed, _associated_data(issuer, token_id)))["o"]
        return TokenOrigin(load(lineage), *ids)
    except (TokenUnreadable, KeyError, TypeError, ValueError):
        return None


def why_origin_ended(origin: TokenOrigin, store: Store) -> str:
    """Return why the caller who asked for a token would be refused today, or an empty text."""
    lineage = origin.lineage
    current = store.generations(watched(lineage, origin.session_id), minted_at=lineage.revision)
    revoked = refusal(lineage, origin.session_id, current)
    if revoked:
        return f"revoked by {revoked}"
    return "" if _principal_exists(origin, store) else "the role or the access key is gone"


def _principal_exists(origin: TokenOrigin, store: Store) -> bool:
    if origin.session_id:
        return store.role_by_id(origin.role_id) is not None
    key = store.access_key(origin.access_key_id)
    return key is not None and key.active


def _associated_data(issuer: str, token_id: str) -> str:
    return f"{_PURPOSE}|{issuer}|{token_id}"
