"""Build the context and policies of a hypothetical request, to explain a decision; never to allow a real request.

The request context comes from the same builder as that of real requests, and the trust policy of a role from the same
function as in AssumeRole. What the API refuses before it evaluates policies is a `FixedRule` here.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

from iam.arn import ACCOUNT_ID, Arn, iam_arn, parse_arn, root_arn
from iam.clock import to_milliseconds
from iam.errors import InvalidInput, NoSuchEntity
from iam.operations.credentials.passwords import self_service
from iam.operations.request_context import account_in_arn, build_request, every_request_keys, principal_keys
from iam.operations.required_permission import ContextKeys, RequiredPermission
from iam.operations.resource_tags import tag_keys_by_arn
from iam.policy.decide import DecisionType, Layers, RequestContext, decide
from iam.policy.grammar import TRUST_ACTIONS
from iam.policy.policy_set import PolicySet
from iam.policy.principals import CONSUMER_ISSUERS
from iam.principal import ANY_SESSION_NAME, Principal, PrincipalKind, principal_from_arn
from iam.store.records import RoleRecord, UserRecord
from iam.store.store import Store
from sts import callers
from sts.callers import Caller, PermissionLimits
from sts.identity_kinds import STS_IDENTITY_KINDS
from sts.mint import Grant, Session, SessionKind
from sts.operations import NEED_NO_PERMISSION, OPERATIONS, session_may_call
from sts.operations.roles import role_permissions

_TRUST_ACTIONS = frozenset(action.lower() for action in TRUST_ACTIONS)
# The unsigned operations: an identity provider verifies the caller, who is a principal of that provider.
_UNSIGNED_BY_PROVIDER = {row.provider_type: row.operation for row in STS_IDENTITY_KINDS if row.provider_type}
_UNSIGNED = frozenset(_UNSIGNED_BY_PROVIDER.values())
# Only temporary credentials have these keys.
_TEMPORARY_CREDENTIALS_KEYS = frozenset({"aws:tokenissuetime", "aws:multifactorauthpresent"})
# Condition keys that are known to be absent where they have no value: for every principal, for the resources of this
# API, and for principals whose credentials have no session tags and no claims.
_ABSENT_FOR_ALL = ("aws:username",)
_ABSENT_FOR_OWN_RESOURCES = ("aws:resourcetag/", "iam:resourcetag/")
_ABSENT_WITHOUT_ROLE_SESSION = ("aws:principaltag/", "aws:sourceidentity", "aws:federatedprovider", "ldap:", "saml:")
_OWN_CREDENTIALS = frozenset({PrincipalKind.USER, PrincipalKind.ROOT})
_WITHOUT_ACCOUNT = {"Federated": PrincipalKind.FEDERATED, "Service": PrincipalKind.SERVICE}


class FixedRule(NamedTuple):
    """A rule of the API that decides a request before any policy is evaluated."""

    decision_type: DecisionType
    text: str


@dataclass(frozen=True, slots=True)
class HypotheticalRequest:
    """A request and the policies that apply to it; ``known`` returns whether a condition key's value is known.

    With a ``rule``, policies are not evaluated.
    """

    context: RequestContext
    layers: Layers
    known: Callable[[str], bool]
    rule: FixedRule | None = None

    def decision(self, layers: Layers | None = None) -> DecisionType:
        """Return the decision, or what it would be with other ``layers``."""
        return self.rule.decision_type if self.rule else decide(self.context, layers or self.layers).decision_type


@dataclass(frozen=True, slots=True)
class _Parameters:
    """The parameters of the request; condition keys are in lower case, ``session_policy`` is that of a role session."""

    action: str
    resource: str
    keys: ContextKeys
    session_policy: PolicySet | None = None
    service: str = field(init=False)
    operation: str = field(init=False)  # an operation of the STS as the API spells it, else as it was given

    def __post_init__(self) -> None:
        service, _, name = self.action.partition(":")
        object.__setattr__(self, "service", service.lower())
        operation = _STS_NAMES.get(name.lower(), name) if service.lower() == "sts" else name
        object.__setattr__(self, "operation", operation)

    @property
    def is_sts_operation(self) -> bool:
        """Return whether the STS has such an operation; sts:TagSession, for example, is only a permission."""
        return self.service == "sts" and self.operation in OPERATIONS

    @property
    def asks_trust_policy(self) -> bool:
        """Return whether a role's trust policy decides; sts:TagSession is also asked about federated users."""
        return self.action.lower() in _TRUST_ACTIONS and ":federated-user/" not in self.resource


_STS_NAMES = {name.lower(): name for name in OPERATIONS}


@dataclass(frozen=True, slots=True)
class RequestSimulator:
    """Builds hypothetical requests for the policies of one store; ``now`` is the time of the request."""

    store: Store
    now: datetime

    def build(
        self, principal: str, action: str, resource: str, keys: ContextKeys, session: PolicySet | None = None
    ) -> HypotheticalRequest:
        """Return the request of a principal: an ARN, or a service's name.

        Raise InvalidInput, NoSuchEntity.
        """
        parameters = _parameters(action, resource, keys, session)
        return self._build(self._caller(principal, parameters), parameters)

    def build_permission(
        self, principal: str, permission: RequiredPermission, keys: ContextKeys, session: PolicySet | None = None
    ) -> HypotheticalRequest:
        """Return the request of a principal that needs this permission, to a service other than STS and IAM.

        ``anonymous`` is the sender of a request without a signature. Raise InvalidInput, NoSuchEntity.
        """
        parameters = _parameters(permission.action, permission.resource, keys, session)
        caller = callers.anonymous() if principal == callers.ANONYMOUS else self._caller(principal, parameters)
        return self._build(caller, parameters, permission)

    def for_account(
        self, account_id: str, action: str, resource: str, keys: ContextKeys
    ) -> Iterator[HypotheticalRequest]:
        """Yield the request of each principal of an account that can call such an action: root, users and roles.

        Raise InvalidInput, NoSuchEntity.
        """
        parameters = _parameters(action, resource, keys)
        if self.store.account(account_id) is None:
            raise NoSuchEntity(f"There is no account {account_id}.")
        if parameters.operation in _UNSIGNED:
            return
        if not parameters.asks_trust_policy:  # root cannot assume a role
            yield self._build(self._root(account_id, parameters), parameters)
        for record in self.store.principals(account_id):
            yield self._build(self._recorded(record, parameters), parameters)

    def for_federated(self, action: str, resource: str, keys: ContextKeys) -> Iterator[HypotheticalRequest]:
        """Yield the request of each identity provider and service that a role's trust policy names."""
        parameters = _parameters(action, resource, keys)
        role = self.store.role(resource)
        if role is None or not parameters.asks_trust_policy:
            return
        named = {
            (principal.kind, principal.value)
            for policy in role.trust
            for statement in policy.statements
            for principal in statement.principals
            if principal.kind in _WITHOUT_ACCOUNT
        }
        for kind, text in sorted(named):
            yield self._build(_unsigned_caller(_WITHOUT_ACCOUNT[kind], text, resource), parameters)

    # --- the caller ---------------------------------------------------------------------------------------------------

    def _caller(self, text: str, parameters: _Parameters) -> Caller:
        arn = parse_arn(text)
        if arn is None:
            return _caller_by_name(text, parameters.resource)
        if not ACCOUNT_ID.fullmatch(arn.account):
            raise InvalidInput(f"{text} is not the ARN of a principal: it has no account.")
        if text == root_arn(arn.account):
            return self._root(arn.account, parameters)
        kind, _, rest = arn.resource.partition("/")
        find = _CALLER_BY_ARN.get((arn.service, kind))
        if find is None:
            raise InvalidInput(
                f"{text} is not a principal: give the ARN of a user, role, role session, federated user, identity"
                " provider or root."
            )
        caller = find(self, arn, rest, parameters)
        if caller is None:
            raise NoSuchEntity(f"{text} does not exist.")
        return caller

    def _find_user(self, arn: Arn, _rest: str, parameters: _Parameters) -> Caller | None:
        record = self.store.user_by_arn(str(arn))
        return self._user(record, parameters) if record else None

    def _find_role(self, arn: Arn, _rest: str, parameters: _Parameters) -> Caller | None:
        record = self.store.role(str(arn))
        return self._role(record, ANY_SESSION_NAME, parameters) if record else None

    def _find_role_session(self, arn: Arn, rest: str, parameters: _Parameters) -> Caller | None:
        name, _, session_name = rest.partition("/")
        record = self.store.role_by_name(arn.account, name)
        return self._role(record, session_name, parameters) if record and session_name else None

    def _find_federated_user(self, arn: Arn, rest: str, parameters: _Parameters) -> Caller:
        """Return a federated user, without the user who called GetFederationToken, which its ARN does not show.

        In this API federated users can call only GetCallerIdentity, whatever their policies say. For other services
        the policies of that user would decide, and they are not known here.
        """
        if parameters.service not in _OWN_SERVICES:
            raise InvalidInput(
                f"The permissions of {arn} are those of the user who made it, limited by the session policy: explain"
                " that user instead."
            )
        principal = principal_from_arn(str(arn))
        session = self._session(Grant(SessionKind.FEDERATED, arn.account, "", rest, provider="", subject=""))
        return Caller(principal, "", Layers(), (), principal_keys(principal), session)

    def _find_provider(self, arn: Arn, _rest: str, parameters: _Parameters) -> Caller:
        return _unsigned_caller(PrincipalKind.FEDERATED, str(arn), parameters.resource)

    def _recorded(self, record: UserRecord | RoleRecord, parameters: _Parameters) -> Caller:
        if isinstance(record, UserRecord):
            return self._user(record, parameters)
        return self._role(record, ANY_SESSION_NAME, parameters)

    def _root(self, account_id: str, parameters: _Parameters) -> Caller:
        session = self._own_session(account_id, account_id, parameters)
        return callers.root(account_id, "", session, self._permission_limits(account_id))

    def _user(self, record: UserRecord, parameters: _Parameters) -> Caller:
        session = self._own_session(record.account_id, record.id, parameters)
        return callers.user(record, "", session, self._permission_limits(record.account_id))

    def _role(self, record: RoleRecord, name: str, parameters: _Parameters) -> Caller:
        grant = Grant(SessionKind.ROLE, record.account_id, record.id, name, provider="", subject="")
        limits = PermissionLimits(self._permission_limits(record.account_id).guardrails, parameters.session_policy)
        return callers.role_session(record, self._session(grant), limits)

    def _own_session(self, account_id: str, entity_id: str, parameters: _Parameters) -> Session | None:
        """Return a session of GetSessionToken, where the condition keys imply one.

        ``aws:MultiFactorAuthPresent=false`` alone implies none: people write it for a long-term key as well.
        """
        with_mfa = parameters.keys.get("aws:multifactorauthpresent") == ("true",)
        if not with_mfa and "aws:tokenissuetime" not in parameters.keys:
            return None
        mfa_at = to_milliseconds(self.now) if with_mfa else None
        return self._session(Grant(SessionKind.USER, account_id, entity_id, "", "", "", mfa_at=mfa_at))

    def _session(self, grant: Grant) -> Session:
        at = to_milliseconds(self.now)
        return Session("", "", "", at, at, grant)

    def _permission_limits(self, account_id: str) -> PermissionLimits:
        account = self.store.account(account_id)
        return PermissionLimits(account.guardrails if account else None)

    # --- the request --------------------------------------------------------------------------------------------------

    def _build(
        self, caller: Caller, parameters: _Parameters, needed: RequiredPermission | None = None
    ) -> HypotheticalRequest:
        """Return the request with the known keys of caller, resource and time; the given keys replace them."""
        rule = _fixed_rule(caller, parameters)
        if needed is None:
            needed = self._permission(caller, parameters) if rule is None else RequiredPermission(parameters.resource)
        permission = replace(needed, keys={**needed.keys, **parameters.keys})
        context, layers = build_request(
            _without_unknown_keys(caller), permission, parameters.action, every_request_keys(self.now)
        )
        absent = _absent_prefixes(caller, parameters)
        return HypotheticalRequest(context, layers, lambda key: key in context.keys or key.startswith(absent), rule)

    def _permission(self, caller: Caller, parameters: _Parameters) -> RequiredPermission:
        """Return the permission that the operation requires; raise InvalidInput where it needs a role's ARN."""
        resource = parameters.resource
        if parameters.asks_trust_policy:
            if parse_arn(resource) is None:
                raise InvalidInput(f"{parameters.action} is decided by a role's trust policy: give the role's ARN.")
            return role_permissions(self.store, resource, parameters.action, {}, tags=False, source=None)[0]
        with self.store.read() as tx:
            own_policy = self_service(tx, caller.principal) if _is_self_service(caller.principal, parameters) else None
            tags = tag_keys_by_arn(tx, resource)
        return RequiredPermission(resource, tags, trust=own_policy, account_id=account_in_arn(resource))


_OWN_SERVICES = frozenset({"iam", "sts"})
_CALLER_BY_ARN: Mapping[tuple[str, str], Callable[[RequestSimulator, Arn, str, _Parameters], Caller | None]] = {
    ("iam", "user"): RequestSimulator._find_user,  # noqa: SLF001 - a table of its own methods
    ("iam", "role"): RequestSimulator._find_role,  # noqa: SLF001 - as above
    ("sts", "assumed-role"): RequestSimulator._find_role_session,  # noqa: SLF001 - as above
    ("sts", "federated-user"): RequestSimulator._find_federated_user,  # noqa: SLF001 - as above
    ("iam", "ldap-provider"): RequestSimulator._find_provider,  # noqa: SLF001 - as above
    ("iam", "saml-provider"): RequestSimulator._find_provider,  # noqa: SLF001 - as above
    ("iam", "oidc-provider"): RequestSimulator._find_provider,  # noqa: SLF001 - as above
}


def _parameters(action: str, resource: str, keys: ContextKeys, session: PolicySet | None = None) -> _Parameters:
    if ":" not in action:
        raise InvalidInput(f"{action} is not an action: it must begin with a service, as in iam:CreateUser.")
    return _Parameters(action, resource, {name.lower(): values for name, values in keys.items()}, session)


def _caller_by_name(text: str, resource: str) -> Caller:
    if text in CONSUMER_ISSUERS:
        return _unsigned_caller(PrincipalKind.FEDERATED, text, resource)
    if "." in text:
        return _unsigned_caller(PrincipalKind.SERVICE, text, resource)
    raise InvalidInput(f"{text} is not a principal: give an ARN, or the name of a service.")


def _unsigned_caller(kind: PrincipalKind, text: str, resource: str) -> Caller:
    """Return a service, or a person verified by an identity provider; consumer issuers are providers by name."""
    arn = iam_arn(account_in_arn(resource), "oidc-provider/", text, "") if text in CONSUMER_ISSUERS else text
    return callers.unsigned(Principal(kind, account_in_arn(arn), arn, arn))


def _is_self_service(principal: Principal, parameters: _Parameters) -> bool:
    """Return whether the account's password policy may allow this: a user's own password, and that policy itself."""
    own = {"changepassword": principal.arn, "getaccountpasswordpolicy": "*"}
    return parameters.service == "iam" and own.get(parameters.operation.lower()) == parameters.resource


# --- known condition keys ---------------------------------------------------------------------------------------------


def _without_unknown_keys(caller: Caller) -> Caller:
    """Return a caller without the keys of its placeholder session, whose values are unknown."""
    if caller.session is None:
        return caller
    any_name = caller.principal.arn.endswith(f"/{ANY_SESSION_NAME}")
    unknown = _TEMPORARY_CREDENTIALS_KEYS | ({"aws:userid"} if any_name else set())
    return replace(caller, keys={name: values for name, values in caller.keys.items() if name not in unknown})


def _absent_prefixes(caller: Caller, parameters: _Parameters) -> tuple[str, ...]:
    own_credentials = caller.principal.kind in _OWN_CREDENTIALS
    own_resource = parameters.service in _OWN_SERVICES
    return (
        _ABSENT_FOR_ALL
        + (_ABSENT_WITHOUT_ROLE_SESSION if own_credentials else ())
        + (_ABSENT_FOR_OWN_RESOURCES if own_resource else ())
    )


# --- rules that no policy changes -------------------------------------------------------------------------------------


def _fixed_rule(caller: Caller, parameters: _Parameters) -> FixedRule | None:
    """Return the first rule that decides without policies, in the order of a real request."""
    return next(filter(None, (rule(caller, parameters) for rule in _FIXED_RULES)), None)


def _root_assumes_no_role(caller: Caller, parameters: _Parameters) -> FixedRule | None:
    if parameters.operation == "AssumeRole" and caller.principal.kind is PrincipalKind.ROOT:
        return _deny("Roles may not be assumed by root accounts.")
    return None


def _unsigned_needs_provider(caller: Caller, parameters: _Parameters) -> FixedRule | None:
    # "Principal": "*" in a trust policy must not look as if users could call these: their principal is the provider.
    if parameters.operation in _UNSIGNED and caller.principal.kind is not PrincipalKind.FEDERATED:
        return _deny(f"{parameters.operation} takes no signed requests: an identity provider proves the caller.")
    return None


def _provider_has_one_operation(caller: Caller, parameters: _Parameters) -> FixedRule | None:
    if caller.principal.kind is not PrincipalKind.FEDERATED or not parameters.is_sts_operation:
        return None
    kind = caller.principal.arn.split(":", 5)[-1].partition("/")[0]
    operation = _UNSIGNED_BY_PROVIDER[kind]
    return None if parameters.operation == operation else _deny(f"A person of a {kind} can call only {operation}.")


def _provider_serves_its_account(caller: Caller, parameters: _Parameters) -> FixedRule | None:
    """Refuse a provider of another account: real requests look for a provider only in the role's account."""
    if caller.principal.kind is not PrincipalKind.FEDERATED or not parameters.asks_trust_policy:
        return None
    same = account_in_arn(parameters.resource) in ("", caller.principal.account_id)
    return None if same else _deny("An identity provider can be used only for roles of its own account.")


def _session_is_limited(caller: Caller, parameters: _Parameters) -> FixedRule | None:
    session = caller.session
    if session is None or not (parameters.service == "iam" or parameters.is_sts_operation):
        return None
    if session_may_call(session, parameters.service, parameters.operation):
        return None
    if session.grant.kind is SessionKind.USER and parameters.service == "iam":
        return _deny("Sessions from GetSessionToken can call IAM only with MFA.")
    return _deny(f"Cannot call {parameters.operation} with session credentials.")


def _operation_needs_no_permission(caller: Caller, parameters: _Parameters) -> FixedRule | None:
    signed = caller.principal.kind not in _WITHOUT_ACCOUNT.values()
    if parameters.is_sts_operation and parameters.operation in NEED_NO_PERMISSION and signed:
        return FixedRule(DecisionType.ALLOWED, f"{parameters.operation} needs no permission.")
    return None


def _iam_reaches_own_account(caller: Caller, parameters: _Parameters) -> FixedRule | None:
    """Refuse a resource of another account: every operation of IAM looks for it in the caller's account."""
    if parameters.service != "iam" or account_in_arn(parameters.resource) in ("", caller.principal.account_id):
        return None
    return _deny("The operations of IAM find only resources of the caller's own account.")


def _deny(text: str) -> FixedRule:
    return FixedRule(DecisionType.IMPLICIT_DENY, text)


_FIXED_RULES = (
    _root_assumes_no_role,
    _unsigned_needs_provider,
    _provider_has_one_operation,
    _provider_serves_its_account,
    _session_is_limited,
    _operation_needs_no_permission,
    _iam_reaches_own_account,
)
