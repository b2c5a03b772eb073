"""The gate for people on pages: which roles are theirs, why others are not, and a session of one of them.

It asks the same operations and the same policies as the API; nothing is granted here that the gate would not grant.
"""

from copy import copy
from dataclasses import dataclass, replace

from broker.api.authorization import admits, question
from broker.api.dispatch import STS_VERSION, Gate
from broker.api.request_state import Exchange
from iam.errors import AccessDenied, InternalFailure, ValidationError
from iam.operations.required_permission import Ask
from iam.operations.times_and_tags import milliseconds
from iam.params import Params, Result
from iam.policy.decide import decide
from iam.policy.explain import Explanation, explain
from iam.policy.partial import at_best
from iam.store.records import RoleRecord
from sts.callers import Caller
from sts.federation.saml import wanted
from sts.identity import IamIdentity, Identity, SamlIdentity, WebIdentity
from sts.operations import OPERATIONS as STS
from sts.operations import StsCall
from sts.operations.federated import candidates
from sts.operations.roles import ROLE_DEFAULT
from sts.trust import asks_for_mfa, demanded_tags, session_name

_DIRECTORY, _OWN = "AssumeRoleWithLDAPIdentity", "GetSessionToken"
_FOR_AN_HOUR: Params = {"DurationSeconds": ROLE_DEFAULT}  # as a role without further wishes; the API gives half a day
_BY_KIND = {
    SamlIdentity: "AssumeRoleWithSAML",
    WebIdentity: "AssumeRoleWithWebIdentity",
    IamIdentity: "AssumeRole",
}


@dataclass(frozen=True, slots=True)
class Choices:
    """The roles that name a person's provider, by what they ask for: nothing more, a second factor, tags; the rest.

    A role of ``after_mfa`` may ask for tags once the second factor was given.
    """

    open: list[RoleRecord]
    after_mfa: list[RoleRecord]
    after_tags: list[RoleRecord]
    closed: list[RoleRecord]


@dataclass(frozen=True, slots=True)
class RoleDesk:
    """Answers for somebody whom a page has proved; the exchange says when they gave a second factor."""

    gate: Gate

    def choices(self, exchange: Exchange, identity: Identity) -> Choices:
        """Return the roles that could be a person's, by ARN, as they stand; raise InvalidIdentityToken."""
        if isinstance(identity, SamlIdentity):
            wanted(identity)  # what the assertion asks of a session must make sense, whatever the role
        call, name, store = self._call(exchange, identity), _operation_for(identity), self.gate.store
        proving = replace(call, mfa_at=milliseconds(exchange.now))
        found = Choices([], [], [], [])
        for role in filter(None, map(store.role, sorted(candidates(identity, store)))):
            if _opens(exchange, call, name, role):
                found.open.append(role)
            elif _could_open(exchange, call, name, role):
                found.after_tags.append(role)
            elif asks_for_mfa(role.trust) and (
                _opens(exchange, proving, name, role) or _could_open(exchange, proving, name, role)
            ):
                found.after_mfa.append(role)
            else:
                found.closed.append(role)
        return found

    def reasons(self, exchange: Exchange, identity: Identity, role_arn: str) -> tuple[Explanation, ...]:
        """Return why a role is or is not open to a person: an explanation of each thing that is asked."""
        call, name = self._call(exchange, identity), _operation_for(identity)
        return tuple(
            explain(*question(exchange, ask, ask.action or f"sts:{name}", call.mfa_at))
            for ask in STS[name].asks(call, _parameters(identity, role_arn))
        )

    def take(
        self, exchange: Exchange, identity: Identity, role_arn: str, *, proof: bool, narrowed: Params | None = None
    ) -> Result:
        """Mint a session of a role for a person; raise ServiceError, which `Gate.record` records.

        ``narrowed`` are DurationSeconds, Policy and PolicyArns, as the operation takes them. ``proof``: what proved the
        person counts once, and has not been used up yet. Users and owners who name themselves get their own session.
        """
        call, name = self._call(exchange, identity), _operation_for(identity)
        own = call.caller is not None and role_arn == call.caller.principal.arn
        name = _OWN if own else name
        model = exchange.model = self.gate.api.find(name, STS_VERSION)
        if model is None:
            raise InternalFailure("An internal error occurred.", log=f"the model has no {name}")
        exchange.params = (_FOR_AN_HOUR if own else _parameters(identity, role_arn)) | (narrowed or {})
        if own:
            _check_whole(exchange.params)
        return self.gate.decided(exchange, model, STS[name], call, proof=proof)

    def may(
        self, exchange: Exchange, identity: Identity, ask: Ask, action: str, role: RoleRecord | None = None
    ) -> bool:
        """Return whether the gate would let somebody do something, as they are or with a role that is open to them.

        Only users and owners can do anything as they are; raise ServiceError where somebody cannot have the role.
        """
        asking = copy(exchange)
        asking.caller = self._caller(exchange, identity, role)
        return decide(*question(asking, ask, action, None)).allowed

    def _caller(self, exchange: Exchange, identity: Identity, role: RoleRecord | None) -> Caller:
        """Return as whom somebody would ask the API: with a session of the role, or of their own."""
        call, authenticate = self._call(exchange, identity), self.gate.authenticate
        if role is None:
            return call.signer
        session = STS[_operation_for(identity)].run(call, _parameters(identity, role.arn)).session
        if session is None:
            raise InternalFailure("An internal error occurred.", log="a role without a session")
        return authenticate.with_role(session, role)

    def _call(self, exchange: Exchange, identity: Identity) -> StsCall:
        gate = self.gate
        exchange.identity = identity
        exchange.on_page = True
        if isinstance(identity, IamIdentity):
            exchange.caller = gate.authenticate.on_page(identity, exchange.mfa_at)
        return StsCall(
            gate.store,
            exchange.sealer,
            gate.random,
            exchange.now,
            exchange.caller,
            identity=None if exchange.caller else identity,
            mfa_at=exchange.mfa_at,
            keeps_mfa=True,
        )


def _opens(exchange: Exchange, call: StsCall, name: str, role: RoleRecord) -> bool:
    try:
        return admits(exchange, STS[name], name, call, _parameters(exchange.proved, role.arn))
    except AccessDenied:  # by a rule that no policy changes: an assertion that names a role of another account
        return False


def _could_open(exchange: Exchange, call: StsCall, name: str, role: RoleRecord) -> bool:
    """Return whether a role could open to somebody who tells what its trust policy asks for in session tags.

    Whom another provider vouches for brings the tags that it gave, and can tell none.
    """
    tags = demanded_tags(role.trust)
    if not tags or isinstance(exchange.identity, SamlIdentity | WebIdentity):
        return False
    p = _parameters(exchange.proved, role.arn) | {"Tags": [{"Key": tag, "Value": "-"} for tag in tags]}
    questions = (question(exchange, ask, ask.action or f"sts:{name}", call.mfa_at) for ask in STS[name].asks(call, p))
    return all(decide(context, at_best(layers, _is_told)).allowed for context, layers in questions)


def _is_told(key: str) -> bool:
    return not key.startswith(("aws:requesttag/", "aws:tagkeys"))


def _operation_for(identity: Identity) -> str:
    return next((name for kind, name in _BY_KIND.items() if isinstance(identity, kind)), _DIRECTORY)


def _parameters(identity: Identity, role_arn: str) -> Params:
    """Return the parameters with which somebody takes a role from a page."""
    if isinstance(identity, SamlIdentity):
        return {"RoleArn": role_arn, "PrincipalArn": identity.provider}
    if isinstance(identity, WebIdentity | IamIdentity):
        return {"RoleArn": role_arn, "RoleSessionName": session_name(identity.name)}
    return {"RoleArn": role_arn}


def _check_whole(p: Params) -> None:
    """Raise ValidationError where less is wished for than GetSessionToken can give."""
    if p.keys() - {"DurationSeconds"}:
        raise ValidationError("Your own session cannot be narrowed. Take a role, or all that you may do.")
