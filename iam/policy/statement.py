"""A parsed statement of a policy, and the tests whether it applies to a request.

Pure. Source: IAM User Guide, "IAM JSON policy element reference".
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from iam.policy.conditions import Condition, Holds
from iam.policy.patterns import ContextKeys, Match, is_everything
from iam.policy.principals import PolicyPrincipal, PrincipalType

# Do the resource and the conditions match a request? None cannot be evaluated, and counts as no.
Applies = Callable[[str, ContextKeys], bool | None]
_NO_KEYS: ContextKeys = MappingProxyType({})


class PolicyKind(StrEnum):
    """The type of a policy; each type has its own required and prohibited elements."""

    IDENTITY = "identity"
    TRUST = "trust"
    SESSION = "session"
    BOUNDARY = "boundary"
    RESOURCE = "resource"
    GUARDRAIL = "guardrail"


class Effect(StrEnum):
    """The effect of a statement that applies."""

    ALLOW = "Allow"
    DENY = "Deny"


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement; ``index`` counts from 0, and ``policy`` is the label of its policy, for explanations.

    ``applies`` is compiled when the policy is parsed. A condition that cannot be evaluated matches in a Deny and does
    not match in an Allow (THREATS G02).
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
    # The principal is "*", and a condition on aws:PrincipalArn restricts it: the same as naming these principals
    # ("IAM role principals").
    limited_by_arn: bool = field(default=False, compare=False, repr=False)
    denies: bool = field(default=False, compare=False, repr=False)  # the effect as a bool, for a faster decision
    matches_action: Match = field(kw_only=True, compare=False, repr=False)  # the patterns of Action or NotAction
    matches_resource: Applies = field(kw_only=True, compare=False, repr=False)
    applies: Applies = field(kw_only=True, compare=False, repr=False)

    @property
    def name(self) -> str | int:
        """Return how people and programs are told which statement this is: its Sid, else its number, from 1.

        The second statement of a policy is 2 wherever statements are numbered: pages, commands, the audit log, JSON.
        """
        return self.sid or self.index + 1

    def covers(self, action: str) -> bool:
        """Return whether the statement matches an action, given in lower case."""
        return bool(self.matches_action(action, _NO_KEYS)) != bool(self.not_actions)

    def all_principals(self) -> Iterator[PolicyPrincipal]:
        """Yield the principals of Principal and NotPrincipal."""
        yield from self.principals
        yield from self.not_principals


def resource_test(match: Match | None, *, negated: bool, denies: bool) -> Applies:
    """Return the test whether a statement matches a resource.

    ``match`` is None where the policy has no Resource; ``negated`` is whether the patterns are those of NotResource.
    """
    if match is None or (is_everything(match) and not negated):
        return _always
    if not negated:
        return match
    # A pattern of NotResource whose variable has no value cannot be evaluated: a Deny then excludes no resource, and an
    # Allow matches none.
    if denies:
        return lambda resource, keys: match(resource, keys) is not True
    return lambda resource, keys: match(resource, keys) is False


def statement_test(matches_resource: Applies, conditions: tuple[Condition, ...], *, denies: bool) -> Applies:
    """Return the test whether a statement matches a resource and all of its conditions are true."""
    if not conditions:
        return matches_resource
    hold = _none_fails(conditions) if denies else _all_hold(conditions)
    if matches_resource is _always:
        return lambda _resource, keys: hold(keys)
    return lambda resource, keys: matches_resource(resource, keys) and hold(keys)


_ARN_COMPARISONS = frozenset({"StringEquals", "StringEqualsIgnoreCase", "StringLike", "ArnEquals", "ArnLike"})


def limits_everyone_by_arn(principals: tuple[PolicyPrincipal, ...], conditions: tuple[Condition, ...]) -> bool:
    """Return whether a statement names "*" and restricts it by aws:PrincipalArn.

    Only operators that are false for an absent key count: no IfExists, no ForAllValues and no negated operator.
    """
    return any(principal.principal_type is PrincipalType.EVERYONE for principal in principals) and any(
        condition.key == "aws:principalarn" and condition.operator.removeprefix("ForAnyValue:") in _ARN_COMPARISONS
        for condition in conditions
    )


def _always(_resource: str, _keys: ContextKeys) -> bool:
    return True


def _all_hold(conditions: tuple[Condition, ...]) -> Holds:
    first, *rest = [condition.holds for condition in conditions]
    if not rest:
        return first
    tests = (first, *rest)

    def hold(keys: ContextKeys) -> bool:
        for holds in tests:  # noqa: SIM110 - a generator costs twice as much
            if not holds(keys):
                return False
        return True

    return hold


def _none_fails(conditions: tuple[Condition, ...]) -> Holds:
    tests = [condition.holds for condition in conditions]
    return lambda keys: all(holds(keys) is not False for holds in tests)
