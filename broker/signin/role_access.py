"""The gate for people on pages: which roles are theirs, why others are not, and a session of one of them.

It asks the same operations and the same policies as the API; nothing is granted here that the gate would not grant.
"""

from copy import copy
from dataclasses import dataclass, replace
from typing import Any

from broker.api.authorization import authorization_request, is_authorized
from broker.api.dispatch import STS_VERSION, Gate
from broker.api.request_state import RequestState
from iam.clock import to_milliseconds
from iam.errors import AccessDenied, InternalFailure, ValidationError
from iam.operations.required_permission import RequiredPermission
from iam.params import Params, Result
from iam.policy.decide import decide
from iam.policy.explain import Explanation, explain
from iam.policy.partial import most_permissive
from iam.store.records import RoleRecord
from sts.callers import Caller
from sts.identity import Identity
from sts.identity_kinds import StsIdentityKind
from sts.mint import unminted_session
from sts.operations import OPERATIONS as STS
from sts.operations import StsCall
from sts.operations.roles import ROLE_DEFAULT
from sts.trust import asks_for_mfa, demanded_tags

_SESSION_TOKEN = "GetSessionToken"  # noqa: S105 - the name of an operation
_FOR_AN_HOUR: Params = {"DurationSeconds": ROLE_DEFAULT}  # as a role without further wishes; the API gives half a day


@dataclass(frozen=True, slots=True)
class AvailableRoles:
    """The roles that name a person's provider, by what they ask for: nothing more, a second factor, tags; the rest.

    A role of ``after_mfa`` may ask for tags once the second factor was given.
    """

    open: list[RoleRecord]
    after_mfa: list[RoleRecord]
    after_tags: list[RoleRecord]
    closed: list[RoleRecord]

    @property
    def offered_ids(self) -> frozenset[str]:
        """Return the unique ids of the roles that the person could take, perhaps after giving something more."""
        return frozenset(role.id for role in (*self.open, *self.after_mfa, *self.after_tags))

    def all_after_mfa(self) -> "AvailableRoles":
        """Return the same roles for somebody who must give a second factor before taking any."""
        waiting = sorted((*self.open, *self.after_mfa, *self.after_tags), key=lambda role: role.arn)
        return AvailableRoles([], waiting, [], self.closed)


@dataclass(frozen=True, slots=True)
class RoleAccess:
    """Lists, explains and assumes roles for a person signed in to the pages; the request state has the MFA time."""

    gate: Gate

    def available_roles(
        self, state: RequestState, identity: Identity, among: frozenset[str] | None = None
    ) -> AvailableRoles:
        """Return the roles that could be a person's, by ARN, as they stand; raise InvalidIdentityToken.

        ``among`` are ARNs that were candidates before: only these are judged.
        """
        kind, store = self._kind(identity), self.gate.store
        kind.check_requested_session(identity)  # it must be valid whatever the role
        call = self._call(state, identity)
        with_mfa = replace(call, mfa_at=to_milliseconds(state.now))
        roles = AvailableRoles([], [], [], [])
        accounts = call.provider_accounts.accounts_of(identity)  # so that nothing of other accounts is read
        candidates = kind.candidate_roles(identity, store, accounts) if among is None else among
        served = (arn for arn in candidates if call.provider_accounts.serves(identity, arn))
        for role in filter(None, map(store.role, sorted(served))):
            if _can_assume(state, kind, call, role):
                roles.open.append(role)
            elif _can_assume_with_tags(state, kind, call, role):
                roles.after_tags.append(role)
            elif asks_for_mfa(role.trust) and (
                _can_assume(state, kind, with_mfa, role) or _can_assume_with_tags(state, kind, with_mfa, role)
            ):
                roles.after_mfa.append(role)
            else:
                roles.closed.append(role)
        return roles.all_after_mfa() if self.gate.second_factor.is_missing(identity, call.mfa_at) else roles

    def explain_access(self, state: RequestState, identity: Identity, role_arn: str) -> tuple[Explanation, ...]:
        """Return why a role is or is not open to a person: an explanation of each thing that is asked."""
        call, kind = self._call(state, identity), self._kind(identity)
        return tuple(
            explain(*authorization_request(state, ask, ask.action or f"sts:{kind.operation}", call.mfa_at))
            for ask in kind.run.required_permissions(call, kind.parameters(identity, role_arn))
        )

    def assume_role(
        self,
        state: RequestState,
        identity: Identity,
        role_arn: str,
        *,
        proof: bool,
        session_limits: Params | None = None,
    ) -> Result:
        """Mint a session of a role for a person; raise ServiceError, which `Gate.record_refusal` records.

        ``session_limits`` are DurationSeconds, Policy, PolicyArns and Tags, as the operation takes them. ``proof``:
        what proved the person counts once, and is not consumed yet. Users and owners who name themselves get their own
        session.
        """
        call, kind = self._call(state, identity), self._kind(identity)
        own = call.caller is not None and role_arn == call.caller.principal.arn
        name = _SESSION_TOKEN if own else kind.operation
        model = state.model = self.gate.api.find(name, STS_VERSION)
        if model is None:
            raise InternalFailure("An internal error occurred.", log=f"the model has no {name}")
        state.params = (_FOR_AN_HOUR if own else kind.parameters(identity, role_arn)) | (session_limits or {})
        if own:
            _check_not_narrowed(state.params)
        return self.gate.authorize_and_run(state, model, STS[name] if own else kind.run, call, proof=proof)

    def is_allowed(
        self,
        state: RequestState,
        identity: Identity,
        ask: RequiredPermission,
        action: str,
        role: RoleRecord | None = None,
    ) -> bool:
        """Return whether the gate would let somebody do something, as they are or with a role that is open to them.

        Only users and owners can do anything as they are; raise ServiceError where somebody cannot have the role.
        """
        asking = copy(state)
        asking.caller = self._caller(state, identity, role)
        return decide(*authorization_request(asking, ask, action, None)).allowed

    def _caller(self, state: RequestState, identity: Identity, role: RoleRecord | None) -> Caller:
        """Return as whom somebody would ask the API: with a session of the role, or of their own."""
        call, kind = self._call(state, identity), self._kind(identity)
        if role is None:
            return call.signer
        if kind.run.plan is None:
            raise InternalFailure("An internal error occurred.", log=f"{kind.operation} plans no session of a role")
        planned = kind.run.plan(call, kind.parameters(identity, role.arn))
        # Without a token: nobody can sign with what is only asked about.
        session = unminted_session(planned.grant, planned.seconds, now=state.now)
        return self.gate.authenticate.role_caller(session, planned.role)

    def _call(self, state: RequestState, identity: Identity) -> StsCall:
        state.identity = identity
        state.is_interactive = True
        as_caller = self._kind(identity).as_caller
        if as_caller is not None:
            state.caller = as_caller(self.gate.authenticate, identity, state.mfa_at)
        return self.gate.sts_call(state, state.mfa_at, keeps_mfa=True)

    def _kind(self, identity: Identity) -> StsIdentityKind[Any]:
        return self.gate.kinds.of(identity).sts


def _can_assume(state: RequestState, kind: StsIdentityKind[Any], call: StsCall, role: RoleRecord) -> bool:
    p = kind.parameters(state.proven_identity, role.arn)
    try:
        return is_authorized(state, kind.run, kind.operation, call, p)
    except AccessDenied:  # by a rule that no policy changes: an assertion that names a role of another account
        return False


def _can_assume_with_tags(state: RequestState, kind: StsIdentityKind[Any], call: StsCall, role: RoleRecord) -> bool:
    """Return whether somebody could take a role by entering the session tags that its trust policy asks for.

    Where tags come with the proof, nobody can enter any.
    """
    tags = demanded_tags(role.trust)
    if not tags or kind.brings_session_tags:
        return False
    p = kind.parameters(state.proven_identity, role.arn) | {"Tags": [{"Key": tag, "Value": "-"} for tag in tags]}
    questions = (
        authorization_request(state, ask, ask.action or f"sts:{kind.operation}", call.mfa_at)
        for ask in kind.run.required_permissions(call, p)
    )
    return all(decide(context, most_permissive(layers, _is_known_key)).allowed for context, layers in questions)


def _is_known_key(key: str) -> bool:
    return not key.startswith(("aws:requesttag/", "aws:tagkeys"))


def _check_not_narrowed(p: Params) -> None:
    """Raise ValidationError where less is wished for than GetSessionToken can give."""
    if p.keys() - {"DurationSeconds"}:
        raise ValidationError("Your own session cannot be narrowed. Take a role, or all that you may do.")
