"""Who signed this request: from a presented signature to a Caller with everything a decision needs.

The order of the checks is THREATS B04: scope, time, key status, token opens and belongs to the key, expiry,
revocation and the principal still being there, signature. Whoever fails one learns only the AWS code for it.
"""

import hmac
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn, TypeVar

from iam.arn import LONG_TERM_KEY, assumed_role_arn, federated_user_arn, root_arn
from iam.errors import ExpiredToken, InvalidClientTokenId, SignatureDoesNotMatch
from iam.policy.document import Policy, PolicyKind
from iam.policy.policy_set import PolicySet
from iam.principal import Principal, PrincipalKind
from iam.store import RoleRecord, Store, UserRecord
from sts.mint import Grant, Session, SessionKind, Tags, read
from sts.sigv4 import KeyCache, Presented, check_scope, check_signature, check_time
from sts.token import Sealer, TokenUnreadable

ContextKeys = Mapping[str, tuple[str, ...]]

_INVALID = "The security token included in the request is invalid."
_EXPIRED = "The security token included in the request is expired"
_REMEMBERED = 50_000
# Whoever names an unknown key pays for one HMAC like everybody else (THREATS A06).
_NO_SECRET = "0" * 40
_EVERYTHING = PolicySet(
    (
        Policy.parse(
            '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}',
            PolicyKind.IDENTITY,
            label="root",
        ),
    )
)
_NO_POLICIES = PolicySet()

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Caller:
    """A principal that signed, with the policies that bound it and the condition keys that speak of it.

    ``session_policies`` is None where none were passed. ``tags`` are the principal's effective tags: the session's
    over the role's.
    """

    principal: Principal
    access_key_id: str
    identity_policies: PolicySet
    boundary: PolicySet | None
    session_policies: PolicySet | None
    tags: Tags
    keys: ContextKeys
    session: Session | None = None

    @property
    def mfa_at(self) -> int | None:
        """Return when the session's MFA happened, in milliseconds, or None."""
        return self.session.grant.mfa_at if self.session else None


class Authenticator:
    """Turns presented signatures into callers; remembers opened tokens and built callers of this process."""

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

    def __call__(self, presented: Presented, service: str, now: datetime) -> Caller:
        """Return the caller; raise SignatureDoesNotMatch, InvalidClientTokenId, ExpiredToken, IncompleteSignature."""
        check_scope(presented, service=service, regions=self._regions)
        check_time(presented, now)
        if presented.access_key_id.startswith(LONG_TERM_KEY):
            return self._long_term(presented)
        return self._temporary(presented, int(now.timestamp() * 1000))

    def _long_term(self, presented: Presented) -> Caller:
        key = self._store.access_key(presented.access_key_id)
        if key is None or not key.active:
            self._unknown(presented)
        check_signature(presented, key.secret, self._derived_keys)
        if presented.token:
            raise InvalidClientTokenId(_INVALID, log="a long-term key with a session token")
        if key.user_id is None:
            return self._remember(key.id, key, lambda: _root(key.account_id, key.id, None))
        user = self._store.user(key.user_id)
        if user is None:
            raise InvalidClientTokenId(_INVALID, log="the key's user is gone")
        return self._remember(key.id, user, lambda: _user(user, key.id, None))

    def _temporary(self, presented: Presented, now_ms: int) -> Caller:
        session = self._open(presented)
        if session.expires_at <= now_ms:
            raise ExpiredToken(_EXPIRED)
        grant = session.grant
        role = self._store.role_by_id(grant.entity_id) if grant.kind is SessionKind.ROLE else None
        refused = self._store.revocations().refuses(
            session_id=session.id,
            person=grant.person,
            role_id=role.id if role else None,
            account_id=grant.account_id,
            issued_ms=session.issued_at,
        )
        if refused:
            raise InvalidClientTokenId(_INVALID, log=f"session revoked: {session.id}")
        caller = self._role_session(session, role) if grant.kind is SessionKind.ROLE else self._user_session(session)
        check_signature(presented, session.secret, self._derived_keys)
        return caller

    def _open(self, presented: Presented) -> Session:
        sealer = self._sealer()
        if sealer is not self._opened_with:
            # A sealing key was added or removed: what the old set opened counts no longer.
            self._opened.clear()
            self._opened_with = sealer
        if not presented.token:
            self._unknown(presented)
        session = self._opened.get(presented.token)
        if session is None:
            try:
                session = read(presented.token, presented.access_key_id, sealer)
            except TokenUnreadable as error:
                raise InvalidClientTokenId(_INVALID, log=f"session token: {error}") from error
            _put(self._opened, presented.token, session)
        elif not hmac.compare_digest(session.access_key_id, presented.access_key_id):
            raise InvalidClientTokenId(_INVALID, log="the token of another key")
        return session

    def _role_session(self, session: Session, role: RoleRecord | None) -> Caller:
        if role is None:
            raise InvalidClientTokenId(_INVALID, log="the session's role is gone")
        return self._remember(session.id, role, lambda: _role(role, session, self._session_policies(session.grant)))

    def _user_session(self, session: Session) -> Caller:
        grant = session.grant
        if grant.entity_id == grant.account_id:
            account = self._store.account(grant.account_id)
            return self._remember(session.id, account, lambda: self._build_user_session(session, None))
        user = self._store.user(grant.entity_id)
        if user is None:
            raise InvalidClientTokenId(_INVALID, log="the session's user is gone")
        return self._remember(session.id, user, lambda: self._build_user_session(session, user))

    def _build_user_session(self, session: Session, user: UserRecord | None) -> Caller:
        if session.grant.kind is SessionKind.FEDERATED:
            return _federated(user, session, self._session_policies(session.grant) or _NO_POLICIES)
        if user is None:
            return _root(session.grant.account_id, session.access_key_id, session)
        return _user(user, session.access_key_id, session)

    def _session_policies(self, grant: Grant) -> PolicySet | None:
        if grant.policy is None and not grant.policy_arns:
            return None
        inline = (Policy.parse(grant.policy, PolicyKind.SESSION),) if grant.policy else ()
        # A managed policy that was deleted since grants nothing, and so narrows to the rest.
        managed = [self._store.managed_policy(arn) for arn in grant.policy_arns]
        return PolicySet((*inline, *(policy for policy in managed if policy is not None)))

    def _remember(self, key: str, source: object, build: Callable[[], Caller]) -> Caller:
        """Return the caller built before from the same record; the store gives a new one when anything changed."""
        known = self._callers.get(key)
        if known is not None and known[0] is source:
            return known[1]
        caller = build()
        _put(self._callers, key, (source, caller))
        return caller

    def _unknown(self, presented: Presented) -> NoReturn:
        with suppress(SignatureDoesNotMatch):
            check_signature(presented, _NO_SECRET, self._derived_keys)
        raise InvalidClientTokenId(_INVALID)


def _put(cache: "OrderedDict[str, V]", key: str, value: V) -> None:
    cache[key] = value
    if len(cache) > _REMEMBERED:
        cache.popitem(last=False)


def _root(account_id: str, key_id: str, session: Session | None) -> Caller:
    arn = root_arn(account_id)
    principal = Principal(PrincipalKind.ROOT, account_id, arn, account_id, arn, account_id, "root")
    return Caller(
        principal=principal,
        access_key_id=key_id,
        identity_policies=_NO_POLICIES,
        boundary=None,
        session_policies=None,
        tags=(),
        keys=_keys(principal, arn, (), session),
        session=session,
    )


def _user(user: UserRecord, key_id: str, session: Session | None) -> Caller:
    principal = Principal(PrincipalKind.USER, user.account_id, user.arn, user.id, user.arn, user.id, user.name)
    return Caller(
        principal=principal,
        access_key_id=key_id,
        identity_policies=user.policies,
        boundary=user.boundary,
        session_policies=None,
        tags=user.tags,
        keys=_keys(principal, user.arn, user.tags, session) | {"aws:username": (user.name,)},
        session=session,
    )


def _role(role: RoleRecord, session: Session, policies: PolicySet | None) -> Caller:
    grant = session.grant
    arn = assumed_role_arn(role.account_id, role.name, grant.name)
    tags = _merged(role.tags, grant.tags)
    user_id = f"{role.id}:{grant.name}"
    principal = Principal(PrincipalKind.ROLE_SESSION, role.account_id, arn, user_id, role.arn, role.id, role.name)
    return Caller(
        principal=principal,
        access_key_id=session.access_key_id,
        identity_policies=role.policies,
        boundary=role.boundary,
        session_policies=policies,
        tags=tags,
        keys=_keys(principal, role.arn, tags, session),
        session=session,
    )


def _federated(user: UserRecord | None, session: Session, policies: PolicySet) -> Caller:
    """Build the caller of GetFederationToken's credentials.

    The user's policies, or everything where root made it, narrowed by the passed ones.
    """
    account_id, name = session.grant.account_id, session.grant.name
    arn = federated_user_arn(account_id, name)
    entity_arn, entity_id = (user.arn, user.id) if user else (root_arn(account_id), account_id)
    user_id = f"{account_id}:{name}"
    principal = Principal(PrincipalKind.FEDERATED_USER, account_id, arn, user_id, entity_arn, entity_id, name)
    return Caller(
        principal=principal,
        access_key_id=session.access_key_id,
        identity_policies=user.policies if user else _EVERYTHING,
        boundary=user.boundary if user else None,
        session_policies=policies,
        tags=session.grant.tags,
        keys=_keys(principal, arn, session.grant.tags, session),
        session=session,
    )


def _merged(below: Tags, above: Tags) -> Tags:
    """Return both sets of tags, ``above`` winning; tag keys are compared without regard to case."""
    tags = {key.lower(): (key, value) for key, value in below}
    tags.update({key.lower(): (key, value) for key, value in above})
    return tuple(tags.values())


# IAM User Guide, "AWS global condition context keys", aws:PrincipalType.
_TYPES = {
    PrincipalKind.ROOT: "Account",
    PrincipalKind.USER: "User",
    PrincipalKind.ROLE_SESSION: "AssumedRole",
    PrincipalKind.FEDERATED_USER: "FederatedUser",
}


def _keys(principal: Principal, principal_arn: str, tags: Tags, session: Session | None) -> dict[str, tuple[str, ...]]:
    keys: dict[str, tuple[str, ...]] = {
        "aws:principalarn": (principal_arn,),
        "aws:principalaccount": (principal.account_id,),
        "aws:principaltype": (_TYPES[principal.kind],),
        "aws:userid": (principal.user_id,),
    }
    keys.update({f"aws:principaltag/{key.lower()}": (value,) for key, value in tags})
    if session is not None:
        grant = session.grant
        keys["aws:tokenissuetime"] = (_iso(session.issued_at),)
        # Long-term keys lack this key altogether; sessions always have it (IAM User Guide, aws:MultiFactorAuthPresent).
        keys["aws:multifactorauthpresent"] = ("true" if grant.mfa_at is not None else "false",)
        if grant.source_identity is not None:
            keys["aws:sourceidentity"] = (grant.source_identity,)
        keys.update({name: (value,) for name, value in grant.claims})
    return keys


def _iso(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
