"""A request that somebody might make, put to the policies as the gate would: who, what, on what, knowing what.

It is for explaining decisions; nothing here grants anything.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from iam.arn import ACCOUNT_ID, Arn, iam_arn, parse_arn, root_arn
from iam.clock import iso8601, to_milliseconds, to_seconds
from iam.errors import InvalidInput, NoSuchEntity
from iam.operations.credentials.password_policy import policy_of
from iam.operations.credentials.passwords import self_service_policy
from iam.policy.decide import DecisionType, Layers, RequestContext, decide
from iam.policy.grammar import TRUST_ACTIONS
from iam.policy.policy_set import PolicySet
from iam.principal import ANY_SESSION_NAME, Principal, PrincipalKind
from iam.store.records import RoleRecord, UserRecord
from iam.store.store import Store
from sts import callers
from sts.callers import Caller, ContextKeys, PermissionLimits
from sts.mint import Grant, Session, SessionKind
from sts.operations import NEED_NO_PERMISSION, OPERATIONS, session_may_call

_TRUST = frozenset(action.lower() for action in TRUST_ACTIONS)
# What nobody calls who signs: an identity provider vouches for the caller.
_FEDERATED_ACTIONS = frozenset(action for action in _TRUST if "assumerolewith" in action)
# Facts that a session brings: of a role it is known only that nobody has begun one.
_OF_A_SESSION = ("aws:tokenissuetime", "aws:multifactorauthpresent", "aws:userid")
# Where these are absent, they are known to be absent: of anybody, and of those who have no session to bring them.
_KNOWN_OF_ALL = ("aws:resourcetag/", "iam:resourcetag/", "aws:username", "aws:viaawsservice")
_KNOWN_OF_LONG_TERM = ("aws:principaltag/", "aws:sourceidentity", "aws:federatedprovider", "ldap:", "saml:")
_LONG_TERM = frozenset({PrincipalKind.USER, PrincipalKind.ROOT})


class FixedRule(NamedTuple):
    """A rule of the API that settles a request before any policy is asked."""

    decision_type: DecisionType
    text: str


@dataclass(frozen=True, slots=True)
class HypotheticalRequest:
    """A request and the policies that have a say; ``known`` tells whether a condition key's value is known.

    Where there is a ``rule``, the policies have none.
    """

    context: RequestContext
    layers: Layers
    known: Callable[[str], bool]
    rule: FixedRule | None = None

    def decision(self, layers: Layers | None = None) -> DecisionType:
        """Return the answer that the gate would give, or would if other ``layers`` had the say."""
        return self.rule.decision_type if self.rule else decide(self.context, layers or self.layers).decision_type


@dataclass(frozen=True, slots=True)
class RequestSimulator:
    """Puts questions to the policies of one store; ``now`` is the time of the request."""

    store: Store
    now: datetime

    def build(
        self, principal: str, action: str, resource: str, keys: ContextKeys, session: PolicySet | None = None
    ) -> HypotheticalRequest:
        """Return what is asked of whom; ``principal`` is an ARN, or a service's name.

        Raise InvalidInput, NoSuchEntity.
        """
        _check_action(action)
        return self._build(self._caller(principal, session), action, resource, keys)

    def for_account(
        self, account_id: str, action: str, resource: str, keys: ContextKeys
    ) -> Iterator[HypotheticalRequest]:
        """Yield the question for each principal of an account that may call such an action: root, users and roles.

        Raise InvalidInput, NoSuchEntity.
        """
        _check_action(action)
        if self.store.account(account_id) is None:
            raise NoSuchEntity(f"There is no account {account_id}.")
        if action.lower() in _FEDERATED_ACTIONS:
            return
        if action.lower() not in _TRUST:  # root assumes no role
            yield self._build(
                callers.root(account_id, "", None, self._permission_limits(account_id)), action, resource, keys
            )
        for record in self.store.principals(account_id):
            caller = (
                self._user(record) if isinstance(record, UserRecord) else self._role(record, ANY_SESSION_NAME, None)
            )
            yield self._build(caller, action, resource, keys)

    def for_federated(self, action: str, resource: str, keys: ContextKeys) -> Iterator[HypotheticalRequest]:
        """Yield the question for each identity provider and service that a role's trust policy names."""
        role = self.store.role(resource)
        if role is None or action.lower() not in _TRUST:
            return
        named = {
            (one.kind, one.value)
            for policy in role.trust
            for statement in policy.statements
            for one in statement.principals
            if one.kind in _WITHOUT_ACCOUNT
        }
        for kind, text in sorted(named):
            yield self._build(
                _principal_without_policies(_WITHOUT_ACCOUNT[kind], text, role.account_id), action, resource, keys
            )

    # --- who ----------------------------------------------------------------------------------------------------------

    def _caller(self, text: str, session: PolicySet | None) -> Caller:
        arn = parse_arn(text)
        if arn is None:
            if "." in text:
                return _principal_without_policies(PrincipalKind.SERVICE, text, "")
            raise InvalidInput(f"{text} is no principal: give an ARN, or the name of a service.")
        if not ACCOUNT_ID.fullmatch(arn.account):
            raise InvalidInput(f"{text} names no account.")
        if text == root_arn(arn.account):
            return callers.root(arn.account, "", None, self._permission_limits(arn.account))
        kind, _, rest = arn.resource.partition("/")
        find = _CALLER_BY_ARN.get((arn.service, kind))
        if find is None:
            raise InvalidInput(f"{text} is no user, role, session of a role, identity provider or root.")
        caller = find(self, arn, rest, session)
        if caller is None:
            raise NoSuchEntity(f"There is no {text}.")
        return caller

    def _user_by(self, arn: Arn, _rest: str, _session: PolicySet | None) -> Caller | None:
        record = self.store.user_by_arn(str(arn))
        return self._user(record) if record else None

    def _role_by(self, arn: Arn, _rest: str, session: PolicySet | None) -> Caller | None:
        record = self.store.role(str(arn))
        return self._role(record, ANY_SESSION_NAME, session) if record else None

    def _session_by(self, arn: Arn, rest: str, session: PolicySet | None) -> Caller | None:
        name, _, session_name = rest.partition("/")
        record = self.store.role_by_name(arn.account, name)
        return self._role(record, session_name, session) if record and session_name else None

    def _provider_by(self, arn: Arn, _rest: str, _session: PolicySet | None) -> Caller:
        return _principal_without_policies(PrincipalKind.FEDERATED, str(arn), arn.account)

    def _user(self, record: UserRecord) -> Caller:
        return callers.user(record, "", None, self._permission_limits(record.account_id))

    def _role(self, record: RoleRecord, name: str, session: PolicySet | None) -> Caller:
        grant = Grant(SessionKind.ROLE, record.account_id, record.id, name, provider="", subject="")
        at = to_milliseconds(self.now)
        limits = PermissionLimits(self._permission_limits(record.account_id).guardrails, session)
        return callers.role_session(record, Session("", "", "", at, at, grant), limits)

    def _permission_limits(self, account_id: str) -> PermissionLimits:
        account = self.store.account(account_id)
        return PermissionLimits(account.guardrails if account else None)

    # --- what ---------------------------------------------------------------------------------------------------------

    def _build(self, caller: Caller, action: str, resource: str, keys: ContextKeys) -> HypotheticalRequest:
        """Return the question with what is known of caller, resource and time; ``keys`` are what else is known."""
        role = self.store.role(resource)
        arn = parse_arn(resource)
        owner = arn.account if arn and ACCOUNT_ID.fullmatch(arn.account) else caller.principal.account_id
        layers = caller.layers._replace(resource_account=owner)
        if role is not None and action.lower() in _TRUST:
            layers = layers._replace(resource=role.trust)
        given = {name.lower(): values for name, values in keys.items()}
        lasting = caller.principal.kind in _LONG_TERM
        own = {name: values for name, values in caller.keys.items() if lasting or name not in _OF_A_SESSION}
        found = {
            **self._time_keys(),
            **own,
            "aws:resourceaccount": (owner,),
            **_tags(role or self._tagged_user(resource)),
        }
        context = RequestContext(action, resource, caller.principal, {**found, **given})
        absent = _KNOWN_OF_ALL + (_KNOWN_OF_LONG_TERM if lasting else ())
        layers = layers._replace(resource=self._self_service(context) or layers.resource)
        return HypotheticalRequest(
            context, layers, lambda key: key in context.keys or key.startswith(absent), _rule(caller, action)
        )

    def _self_service(self, context: RequestContext) -> PolicySet | None:
        """Return what lets a user change its own password, where the account's password policy says so."""
        who, asked = context.principal, (context.action.lower(), context.resource)
        required_permissions = (("iam:ChangePassword".lower(), who.arn), ("iam:GetAccountPasswordPolicy".lower(), "*"))
        if who.kind is not PrincipalKind.USER or asked not in required_permissions:
            return None
        with self.store.read() as tx:
            by_policy = policy_of(tx, who.account_id).AllowUsersToChangePassword
        return self_service_policy(who.entity_id) if by_policy else None

    def _tagged_user(self, resource: str) -> UserRecord | None:
        return self.store.user_by_arn(resource) if ":user/" in resource else None

    def _time_keys(self) -> Mapping[str, tuple[str, ...]]:
        return {
            "aws:currenttime": (iso8601(self.now),),
            "aws:epochtime": (str(to_seconds(self.now)),),
        }


def _rule(caller: Caller, action: str) -> FixedRule | None:
    """Return the rule that the gate follows before it asks policies."""
    service, _, lower = action.lower().partition(":")
    name = _STS.get(lower) if service == "sts" else None
    if name is None:
        return None
    if name == "AssumeRole" and caller.principal.kind is PrincipalKind.ROOT:
        return FixedRule(DecisionType.IMPLICIT_DENY, "Roles may not be assumed by root accounts.")
    if caller.session is not None and not session_may_call(caller.session, service, name):
        return FixedRule(DecisionType.IMPLICIT_DENY, f"The sessions of roles may not call {name}.")
    if name in NEED_NO_PERMISSION and caller.principal.kind not in _WITHOUT_ACCOUNT.values():
        return FixedRule(DecisionType.ALLOWED, f"{name} needs no permission.")
    return None


_STS = {name.lower(): name for name in OPERATIONS}
_CALLER_BY_ARN: Mapping[tuple[str, str], Callable[[RequestSimulator, Arn, str, PolicySet | None], Caller | None]] = {
    ("iam", "user"): RequestSimulator._user_by,  # noqa: SLF001 - a table of its own methods
    ("iam", "role"): RequestSimulator._role_by,  # noqa: SLF001 - as above
    ("sts", "assumed-role"): RequestSimulator._session_by,  # noqa: SLF001 - as above
    ("iam", "ldap-provider"): RequestSimulator._provider_by,  # noqa: SLF001 - as above
    ("iam", "saml-provider"): RequestSimulator._provider_by,  # noqa: SLF001 - as above
    ("iam", "oidc-provider"): RequestSimulator._provider_by,  # noqa: SLF001 - as above
}
_WITHOUT_ACCOUNT = {"Federated": PrincipalKind.FEDERATED, "Service": PrincipalKind.SERVICE}


def _check_action(action: str) -> None:
    if ":" not in action:
        raise InvalidInput(f"{action} is no action: it must begin with a service, as in iam:CreateUser.")


def _principal_without_policies(kind: PrincipalKind, text: str, account_id: str) -> Caller:
    """Return somebody without policies: of an identity provider, or a service."""
    by_name = kind is PrincipalKind.FEDERATED and ":" not in text  # a consumer issuer
    arn = iam_arn(account_id, "oidc-provider/", text, "") if by_name else text
    return Caller(Principal(kind, account_id, arn, arn), "", Layers(), (), {})


def _tags(record: UserRecord | RoleRecord | None) -> Mapping[str, tuple[str, ...]]:
    tags = record.tags if record else ()
    return {f"{service}:resourcetag/{key.lower()}": (value,) for key, value in tags for service in ("aws", "iam")}
