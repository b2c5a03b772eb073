"""Authenticate a request: from a presented signature to a Caller with everything that authorization needs.

The checks have a fixed order (THREATS B04): scope, time, status of the key, the token opens and belongs to the key,
expiry, revocation, the principal still exists, signature. A client learns only the AWS error code of the first check
that fails; the reason is in the log.
"""

import hmac
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import NoReturn, TypeVar

from iam.arn import LONG_TERM_KEY
from iam.clock import CLOCK_SKEW, to_milliseconds
from iam.errors import ExpiredToken, InvalidClientTokenId, SignatureDoesNotMatch
from iam.policy.document import Policy, PolicyKind
from iam.policy.policy_set import PolicySet
from iam.store.store import AccessKey, RoleRecord, Store, UserRecord
from sts import callers
from sts.callers import Caller, PermissionLimits
from sts.identity import IamIdentity
from sts.lineage import refusal, watched
from sts.mint import Credentials, Grant, Session, SessionKind, open_token
from sts.sigv4 import (
    KeyCache,
    PresentedSignature,
    Rules,
    SignedService,
    check_scope,
    check_signature,
    check_time,
)
from sts.token import Sealer, TokenUnreadable

_INVALID = "The security token included in the request is invalid."
_EXPIRED = "The security token included in the request is expired"
# Entries of each cache. Only tokens that our own keys sealed are cached, so strangers cannot displace them.
_MAX_CACHED = 50_000
# An unknown key costs one signature check as well, or the response time would tell which keys exist (THREATS A06). As
# long as a real secret: 40 characters.
_NO_SECRET = "0" * 40
V = TypeVar("V")


class Authenticator:
    """Turns presented signatures into callers; caches opened tokens and built callers of this process."""

    def __init__(
        self,
        store: Store,
        sealer: Callable[[], Sealer],
        regions: frozenset[str] | None,
    ) -> None:
        self._store = store
        self._sealer = sealer
        self._regions = regions
        self._derived_keys = KeyCache()
        self._opened: OrderedDict[str, Session] = OrderedDict()
        self._opened_with: Sealer | None = None
        self._callers: OrderedDict[str, tuple[object, Caller]] = OrderedDict()

    def __call__(self, presented: PresentedSignature, service: str, now: datetime) -> Caller:
        """Return the caller of one of our own services, which all read requests in one way; raise as ``verify``."""
        return self.verify(presented, SignedService(service, self._regions), now)

    def verify(self, presented: PresentedSignature, service: SignedService, now: datetime) -> Caller:
        """Return the caller; raise SignatureDoesNotMatch, InvalidClientTokenId, ExpiredToken, IncompleteSignature."""
        check_scope(presented, service=service.name, regions=service.regions)
        check_time(presented, now, service.rules)
        if presented.access_key_id.startswith(LONG_TERM_KEY):
            return self._long_term(presented, service.rules)
        return self._temporary(presented, to_milliseconds(now), service.rules)

    def renewed(self, caller: Caller, now: datetime) -> Caller:
        """Return a caller as the store has it now: the key, its owner, the policies, the guardrails, the revocations.

        For a request that was authenticated before it waited; raise InvalidClientTokenId, ExpiredToken.
        """
        if caller.session is not None:
            return self._session_caller(caller.session, to_milliseconds(now))
        key = self._store.access_key(caller.access_key_id)
        if key is None or not key.active:
            raise InvalidClientTokenId(_INVALID, log="the key was deleted or deactivated while the request waited")
        return self._key_caller(key)

    def _long_term(self, presented: PresentedSignature, rules: Rules) -> Caller:
        key = self._store.access_key(presented.access_key_id)
        # An inactive key is refused as an unknown one is, whatever the signature (THREATS A29).
        if key is None or not key.active:
            self._refuse_unknown_key(presented, rules)
        check_signature(presented, key.secret, self._derived_keys, rules)
        if presented.token:  # after the signature (THREATS A30)
            raise InvalidClientTokenId(_INVALID, log="a long-term key with a session token")
        return self._key_caller(key)

    def _key_caller(self, key: AccessKey) -> Caller:
        if key.user_id is None:
            return self._cached_caller(
                key.id, key, lambda: callers.root(key.account_id, key.id, None, self._permission_limits(key.account_id))
            )
        user = self._store.user(key.user_id)
        if user is None:
            raise InvalidClientTokenId(_INVALID, log="the key's user is gone")
        return self._cached_caller(
            key.id, user, lambda: callers.user(user, key.id, None, self._permission_limits(user.account_id))
        )

    def _temporary(self, presented: PresentedSignature, now_ms: int, rules: Rules) -> Caller:
        if not presented.token:
            self._refuse_unknown_key(presented, rules)
        session = self._open(presented.token, presented.access_key_id)
        caller = self._session_caller(session, now_ms)
        # Last: an expired or revoked session says so even with a wrong secret (THREATS B01, B03). The caller is
        # returned to nobody before this line.
        check_signature(presented, session.secret, self._derived_keys, rules)
        return caller

    def knows(self, access_key_id: str, token: str) -> bool:
        """Return whether an access key exists; nothing is proved.

        Raise InvalidClientTokenId for a token that is not ours.
        """
        if access_key_id.startswith(LONG_TERM_KEY):
            key = self._store.access_key(access_key_id)
            return key is not None and key.active
        return bool(token) and self._open(token, access_key_id).access_key_id == access_key_id

    def identify(self, presented: PresentedSignature, service: str) -> Session | None:
        """Return the session that signed a request, also one that has expired or was revoked; None where none did.

        It says who sent a request that is refused, for the audit record, and admits nobody.
        """
        if not presented.token:
            return None
        with suppress(InvalidClientTokenId, SignatureDoesNotMatch):
            session = self._open(presented.token, presented.access_key_id)
            rules = SignedService(service, self._regions).rules
            check_signature(presented, session.secret, self._derived_keys, rules)
            return session
        return None

    def session(self, credentials: Credentials, now: datetime) -> Caller:
        """Return the caller of a session whose complete credentials are given, secret included.

        The checks and their order are those of a signed request, with the secret compared instead of a signature;
        raise InvalidClientTokenId, ExpiredToken.
        """
        session = self._open(credentials.session_token, credentials.access_key_id)
        caller = self._session_caller(session, to_milliseconds(now))
        if not hmac.compare_digest(session.secret.encode(), credentials.secret_access_key.encode()):
            raise InvalidClientTokenId(_INVALID, log="the secret of another session")
        return caller

    def _session_caller(self, session: Session, now_ms: int) -> Caller:
        """Return the caller of a session that has not expired, is not revoked, and whose principal still exists."""
        if session.expires_at <= now_ms:
            raise ExpiredToken(_EXPIRED)
        if session.issued_at > now_ms + CLOCK_SKEW:  # minted by a machine whose clock was ahead: it would live too long
            raise InvalidClientTokenId(_INVALID, log=f"session {session.id} begins in the future")
        grant = session.grant
        # By unique id: a new role of the same name does not inherit the sessions of a deleted one (THREATS B05).
        role = self._store.role_by_id(grant.entity_id) if grant.kind is SessionKind.ROLE else None
        revoked = self.revoked(session)
        if revoked:
            raise InvalidClientTokenId(_INVALID, log=f"session {session.id} is revoked by {revoked}")
        return self._role_session(session, role) if grant.kind is SessionKind.ROLE else self._user_session(session)

    def revoked(self, session: Session) -> str:
        """Return the scope by which a session is revoked, or an empty text."""
        lineage = session.lineage
        current = self._store.generations(watched(lineage, session.id), minted_at=lineage.revision)
        return refusal(lineage, session.id, current)

    def signed_in_caller(self, identity: IamIdentity, mfa_at: int | None) -> Caller:
        """Return the user or root user who is signed in to the console, as the caller of a session of their own.

        Raise InvalidClientTokenId where the user was deleted.
        """
        account_id, at = identity.account_id, to_milliseconds(identity.authenticated_at)
        grant = Grant(
            SessionKind.USER, account_id, identity.subject, identity.name, "iam", identity.subject, mfa_at=mfa_at
        )
        session = Session("", "", "", at, at, grant, identity.lineage)
        user = None if identity.is_root else self._store.user(identity.subject)
        if user is None and not identity.is_root:
            raise InvalidClientTokenId(_INVALID, log="the user is gone")
        return self._build_user_session(session, user)

    def role_caller(self, session: Session, role: RoleRecord) -> Caller:
        """Return the caller of a role session, also of one for which no credentials were issued."""
        return callers.role_session(role, session, self._permission_limits(role.account_id, session.grant))

    def _open(self, token: str, access_key_id: str) -> Session:
        sealer = self._sealer()
        if sealer is not self._opened_with:
            # A sealing key was added or removed: sessions that a removed key sealed must be refused (THREATS I11).
            self._opened.clear()
            self._opened_with = sealer
        session = self._opened.get(token)
        if session is None:
            try:
                session = open_token(token, access_key_id, sealer)
            except TokenUnreadable as error:
                raise InvalidClientTokenId(_INVALID, log=f"session token: {error}") from error
            _cache(self._opened, token, session)
        # A cached token was not opened again, so that nothing else compares its access key (THREATS B01).
        elif not hmac.compare_digest(session.access_key_id, access_key_id):
            raise InvalidClientTokenId(_INVALID, log="the token of another key")
        return session

    def _role_session(self, session: Session, role: RoleRecord | None) -> Caller:
        if role is None:
            raise InvalidClientTokenId(_INVALID, log="the session's role is gone")
        return self._cached_caller(session.id, role, lambda: self.role_caller(session, role))

    def _user_session(self, session: Session) -> Caller:
        grant = session.grant
        if grant.entity_id == grant.account_id:
            account = self._store.account(grant.account_id)
            return self._cached_caller(session.id, account, lambda: self._build_user_session(session, None))
        user = self._store.user(grant.entity_id)
        if user is None:
            raise InvalidClientTokenId(_INVALID, log="the session's user is gone")
        return self._cached_caller(session.id, user, lambda: self._build_user_session(session, user))

    def _build_user_session(self, session: Session, user: UserRecord | None) -> Caller:
        limits = self._permission_limits(session.grant.account_id, session.grant)
        if session.grant.kind is SessionKind.FEDERATED:
            return callers.federated_user(user, session, limits)
        if user is None:
            return callers.root(session.grant.account_id, session.access_key_id, session, limits)
        return callers.user(user, session.access_key_id, session, limits)

    def _permission_limits(self, account_id: str, grant: Grant | None = None) -> PermissionLimits:
        account = self._store.account(account_id)
        return PermissionLimits(
            account.guardrails if account else None, self._session_policies(grant) if grant else None
        )

    def _session_policies(self, grant: Grant) -> PolicySet | None:
        if grant.policy is None and not grant.policy_arns:
            return None
        inline = (Policy.parse(grant.policy, PolicyKind.SESSION),) if grant.policy else ()
        # A managed policy that was deleted since allows nothing, so the session keeps what the others allow. The set
        # stays, even when it is empty: without session policies the role's permissions would apply in full.
        managed = [self._store.managed_policy(arn) for arn in grant.policy_arns]
        return PolicySet((*inline, *(policy for policy in managed if policy is not None)))

    def _cached_caller(self, key: str, source: object, build: Callable[[], Caller]) -> Caller:
        """Return the caller that was built from this very record object, or build it.

        The store makes a new record object for every change, so a change of permissions applies to the next request
        (THREATS B07).
        """
        cached = self._callers.get(key)
        if cached is not None and cached[0] is source:
            return cached[1]
        caller = build()
        _cache(self._callers, key, (source, caller))
        return caller

    def _refuse_unknown_key(self, presented: PresentedSignature, rules: Rules) -> NoReturn:
        with suppress(SignatureDoesNotMatch):
            check_signature(presented, _NO_SECRET, self._derived_keys, rules)
        raise InvalidClientTokenId(_INVALID)


def _cache(cache: "OrderedDict[str, V]", key: str, value: V) -> None:
    cache[key] = value
    if len(cache) > _MAX_CACHED:
        cache.popitem(last=False)
