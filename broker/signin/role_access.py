"""The gate for people on pages: which roles are theirs, why others are not, and a session of one of them.

It asks the same operations and the same policies as the API; nothing is granted here that the gate would not grant.
"""

from copy import copy
from dataclasses import dataclass, replace

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
from sts.federation.saml import requested_session
from sts.identity import IamIdentity, Identity, SamlIdentity, WebIdentity
from sts.operations import OPERATIONS as STS
from sts.operations import StsCall
from sts.operations.federated import candidate_roles
from sts.operations.roles import ROLE_DEFAULT
from sts.trust import asks_for_mfa, demanded_tags, session_name

_WITH_LDAP, _SESSION_TOKEN = "AssumeRoleWithLDAPIdentity", "GetSessionToken"
_FOR_AN_HOUR: Params = {"DurationSeconds": ROLE_DEFAULT}  # as a role without further wishes; the API gives half a day
_OPERATION_BY_IDENTITY = {
    SamlIdentity: "AssumeRoleWithSAML",
    WebIdentity: "AssumeRoleWithWebIdentity",
    IamIdentity: "AssumeRole",
}


@dataclass(frozen=True, slots=True)
class AvailableRoles:
    """The roles that name a person's provider, by what they ask for: nothing more, a second factor, tags; the rest.

    A role of ``after_mfa`` may ask for tags once the second factor was given.
    """

    open: list[RoleRecord]
    after_mfa: list[RoleRecord]
    after_tags: list[RoleRecord]
    closed: list[RoleRecord]


@dataclass(frozen=True, slots=True)
class RoleAccess:
    """Answers for somebody whom a page has proved; the exchange says when they gave a second factor."""

    gate: Gate

    def available_roles(self, state: RequestState, identity: Identity) -> AvailableRoles:
        """Return the roles that could be a person's, by ARN, as they stand; raise InvalidIdentityToken."""
        if isinstance(identity, SamlIdentity):
            requested_session(identity)  # what the assertion asks of a session must make sense, whatever the role
        call, name, store = self._call(state, identity), _operation_for(identity), self.gate.store
        proving = replace(call, mfa_at=to_milliseconds(state.now))
        found = AvailableRoles([], [], [], [])
        for role in filter(None, map(store.role, sorted(candidate_roles(identity, store)))):
            if _can_assume(state, call, name, role):
                found.open.append(role)
            elif _can_assume_with_tags(state, call, name, role):
                found.after_tags.append(role)
            elif asks_for_mfa(role.trust) and (
                _can_assume(state, proving, name, role) or _can_assume_with_tags(state, proving, name, role)
            ):
                found.after_mfa.append(role)
            else:
                found.closed.append(role)
        return found

    def explain_access(self, state: RequestState, identity: Identity, role_arn: str) -> tuple[Explanation, ...]:
        """Return why a role is or is not open to a person: an explanation of each thing that is asked."""
        call, name = self._call(state, identity), _operation_for(identity)
        return tuple(
            explain(*authorization_request(state, ask, ask.action or f"sts:{name}", call.mfa_at))
            for ask in STS[name].required_permissions(call, _parameters(identity, role_arn))
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
        """Mint a session of a role for a person; raise ServiceError, which `Gate.record` records.

        ``narrowed`` are DurationSeconds, Policy and PolicyArns, as the operation takes them. ``proof``: what proved the
        person counts once, and has not been used up yet. Users and owners who name themselves get their own session.
        """
        call, name = self._call(state, identity), _operation_for(identity)
        own = call.caller is not None and role_arn == call.caller.principal.arn
        name = _SESSION_TOKEN if own else name
        model = state.model = self.gate.api.find(name, STS_VERSION)
        if model is None:
            raise InternalFailure("An internal error occurred.", log=f"the model has no {name}")
        state.params = (_FOR_AN_HOUR if own else _parameters(identity, role_arn)) | (session_limits or {})
        if own:
            _check_not_narrowed(state.params)
        return self.gate.authorize_and_run(state, model, STS[name], call, proof=proof)

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
        call, authenticate = self._call(state, identity), self.gate.authenticate
        if role is None:
            return call.signer
        session = STS[_operation_for(identity)].run(call, _parameters(identity, role.arn)).session
        if session is None:
            raise InternalFailure("An internal error occurred.", log="a role without a session")
        return authenticate.role_caller(session, role)

    def _call(self, state: RequestState, identity: Identity) -> StsCall:
        gate = self.gate
        state.identity = identity
        state.is_interactive = True
        if isinstance(identity, IamIdentity):
            state.caller = gate.authenticate.signed_in_caller(identity, state.mfa_at)
        return StsCall(
            gate.store,
            state.sealer,
            gate.random,
            state.now,
            state.caller,
            identity=None if state.caller else identity,
            mfa_at=state.mfa_at,
            role_session_keeps_mfa=True,
        )


def _can_assume(state: RequestState, call: StsCall, name: str, role: RoleRecord) -> bool:
    try:
        return is_authorized(state, STS[name], name, call, _parameters(state.proven_identity, role.arn))
    except AccessDenied:  # by a rule that no policy changes: an assertion that names a role of another account
        return False


def _can_assume_with_tags(state: RequestState, call: StsCall, name: str, role: RoleRecord) -> bool:
    """Return whether a role could open to somebody who tells what its trust policy asks for in session tags.

    Whom another provider vouches for brings the tags that it gave, and can tell none.
    """
    tags = demanded_tags(role.trust)
    if not tags or isinstance(state.identity, SamlIdentity | WebIdentity):
        return False
    p = _parameters(state.proven_identity, role.arn) | {"Tags": [{"Key": tag, "Value": "-"} for tag in tags]}
    questions = (
        authorization_request(state, ask, ask.action or f"sts:{name}", call.mfa_at)
        for ask in STS[name].required_permissions(call, p)
    )
    return all(decide(context, most_permissive(layers, _is_known_key)).allowed for context, layers in questions)


def _is_known_key(key: str) -> bool:
    return not key.startswith(("aws:requesttag/", "aws:tagkeys"))


def _operation_for(identity: Identity) -> str:
    return next((name for kind, name in _OPERATION_BY_IDENTITY.items() if isinstance(identity, kind)), _WITH_LDAP)


def _parameters(identity: Identity, role_arn: str) -> Params:
    """Return the parameters with which somebody takes a role from a page."""
    if isinstance(identity, SamlIdentity):
        return {"RoleArn": role_arn, "PrincipalArn": identity.provider}
    if isinstance(identity, WebIdentity | IamIdentity):
        return {"RoleArn": role_arn, "RoleSessionName": session_name(identity.name)}
    return {"RoleArn": role_arn}


def _check_not_narrowed(p: Params) -> None:
    """Raise ValidationError where less is wished for than GetSessionToken can give."""
    if p.keys() - {"DurationSeconds"}:
        raise ValidationError("Your own session cannot be narrowed. Take a role, or all that you may do.")
