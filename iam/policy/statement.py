"""A statement of a policy, read: whom it names, what it is about, and whether it applies to a request.

Pure. Source: IAM User Guide, "IAM JSON policy element reference".
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from iam.policy.conditions import Condition, Holds
from iam.policy.patterns import ContextKeys, Match, is_everything
from iam.policy.principals import PolicyPrincipal, PrincipalType

# Do resource and conditions fit a request? None is doubt that counts as no.
Applies = Callable[[str, ContextKeys], bool | None]
_NO_KEYS: ContextKeys = MappingProxyType({})


class PolicyKind(StrEnum):
    """Where a policy hangs; each kind has its own elements."""

    IDENTITY = "identity"
    TRUST = "trust"
    SESSION = "session"
    BOUNDARY = "boundary"
    RESOURCE = "resource"
    GUARDRAIL = "guardrail"


class Effect(StrEnum):
    """What a statement does when it applies."""

    ALLOW = "Allow"
    DENY = "Deny"


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement; ``index`` counts from 0 and ``policy`` is its policy's label, so that a reason can name it.

    ``applies`` is prepared when the statement is read: doubt about a condition counts for a Deny and against an Allow.
    """

    policy: str
    index: int
    sid: str
    effect: Effect
    principals: tuple[PolicyPrincipal, ...] = ()
    not_principals: tuple[PolicyPrincipal, ...] = ()
    actions: tuple[str, ...] = ()
    not_actions: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    not_resources: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()
    # Everyone, of whom a condition picks some by aws:PrincipalArn: as firm as naming them ("IAM role principals").
    limited_by_arn: bool = field(default=False, compare=False, repr=False)
    denies: bool = field(default=False, compare=False, repr=False)  # the effect, as the decision reads it most quickly
    matches_action: Match = field(kw_only=True, compare=False, repr=False)  # the patterns of Action or NotAction
    matches_resource: Applies = field(kw_only=True, compare=False, repr=False)
    applies: Applies = field(kw_only=True, compare=False, repr=False)

    def covers(self, action: str) -> bool:
        """Return whether the statement is about an action, given in lower case."""
        return bool(self.matches_action(action, _NO_KEYS)) != bool(self.not_actions)

    def all_principals(self) -> Iterator[PolicyPrincipal]:
        """Return the principals that the statement names, in either element."""
        yield from self.principals
        yield from self.not_principals


def resource_test(on: Match | None, *, negated: bool, denies: bool) -> Applies:
    """Return what tells whether a statement is about a resource.

    ``on`` is None where the kind of policy has no Resource; ``negated``: the patterns are those of NotResource.
    """
    if on is None or (is_everything(on) and not negated):
        return _always
    if not negated:
        return on
    if denies:  # which resource is spared is unknown: none is
        return lambda resource, keys: on(resource, keys) is not True
    return lambda resource, keys: on(resource, keys) is False


def statement_test(matches_resource: Applies, conditions: tuple[Condition, ...], *, denies: bool) -> Applies:
    """Return what tells whether a statement is about a resource and all its conditions hold."""
    if not conditions:
        return matches_resource
    hold = _none_fails(conditions) if denies else _all_hold(conditions)
    if matches_resource is _always:
        return lambda _resource, keys: hold(keys)
    return lambda resource, keys: matches_resource(resource, keys) and hold(keys)


_ARN_COMPARISONS = frozenset({"StringEquals", "StringEqualsIgnoreCase", "StringLike", "ArnEquals", "ArnLike"})


def limits_everyone_by_arn(principals: tuple[PolicyPrincipal, ...], conditions: tuple[Condition, ...]) -> bool:
    """Return whether a statement names everyone and asks for some of their ARNs; an absent ARN must not do."""
    return any(one.principal_type is PrincipalType.EVERYONE for one in principals) and any(
        one.key == "aws:principalarn" and one.operator.removeprefix("ForAnyValue:") in _ARN_COMPARISONS
        for one in conditions
    )


def _always(_resource: str, _keys: ContextKeys) -> bool:
    return True


def _all_hold(conditions: tuple[Condition, ...]) -> Holds:
    first, *rest = [condition.holds for condition in conditions]
    if not rest:
        return first
    together = (first, *rest)

    def hold(keys: ContextKeys) -> bool:
        for holds in together:  # noqa: SIM110 - a generator costs twice as much
            if not holds(keys):
                return False
        return True

    return hold


def _none_fails(conditions: tuple[Condition, ...]) -> Holds:
    together = [condition.holds for condition in conditions]
    return lambda keys: all(holds(keys) is not False for holds in together)
