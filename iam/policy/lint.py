"""Policy checks: findings about a valid policy that may not do what its author intends.

Pure; the known actions and condition keys are an argument. The codes are those of IAM Access Analyzer where it has one
("Policy check reference"). A finding is advice; the grammar has already rejected what AWS rejects.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import NamedTuple, Protocol

from iam.errors import excerpt
from iam.policy.conditions import Condition
from iam.policy.document import Policy
from iam.policy.grammar import VERSION_WITH_VARIABLES
from iam.policy.lint_providers import KnowsProvider, groups_that_never_match, groups_without_dn, unknown_providers
from iam.policy.lint_store_keys import conditions_of_the_store, resources_of_the_store
from iam.policy.patterns import Dialect, matcher
from iam.policy.principals import PolicyPrincipal, PrincipalType
from iam.policy.statement import Effect, PolicyKind, Statement


class KnownServices(Protocol):
    """The known services, actions and condition keys."""

    def has_service(self, name: str) -> bool:
        """Return whether AWS has a service of this name."""

    def actions(self, service: str) -> Mapping[str, str]:
        """Return the actions of a service: names in lower case, mapped to the names as AWS writes them."""

    def key_type(self, key: str) -> str | None:
        """Return the type of a condition key, or None for a key that no service has."""

    def is_multivalued(self, key: str) -> bool | None:
        """Return whether a condition key is multivalued; None where it is not known."""


class Level(StrEnum):
    """The type of a finding; the values are those of IAM Access Analyzer."""

    ERROR = "ERROR"  # the element has no effect, or not the intended one
    SECURITY_WARNING = "SECURITY_WARNING"  # the policy may allow more than intended
    WARNING = "WARNING"
    SUGGESTION = "SUGGESTION"


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding; ``statement`` counts from 0, and is None where the finding is about the whole policy."""

    code: str
    level: Level
    statement: int | None
    place: str
    text: str

    @property
    def location(self) -> str:
        """Return the path in the policy, on one line.

        Unprintable characters are replaced: a key of the policy must not write lines or escape sequences to a terminal
        or a log.
        """
        place = self.place if self.statement is None else f"Statement[{self.statement}].{self.place}"
        return "".join(char if char.isprintable() else "?" for char in _shorten(place))

    def __str__(self) -> str:
        return f"{self.level} {self.code} {self.location}"


class _Note(NamedTuple):
    """The finding of a check at one place in a statement."""

    place: str
    text: str


# The checks stop after this number of findings, so that a large policy cannot produce an unbounded response.
_MOST_FINDINGS = 100
# Patterns of one statement that are compared with all of its actions: the work grows with the product of both.
_MOST_COMPARED_PATTERNS = 20
_LONGEST = 160  # characters of the policy that a finding quotes


def _shorten(written: str) -> str:
    return excerpt(written, _LONGEST)


Check = Callable[[Statement, KnownServices], Iterator[_Note]]


def lint(policy: Policy, services: KnownServices, exists: KnowsProvider = lambda _: None) -> tuple[Finding, ...]:
    """Return the findings about a policy, the most severe first; at most 100."""
    order = list(Level)
    findings = islice(_all(policy, services, exists), _MOST_FINDINGS)
    return tuple(sorted(findings, key=lambda finding: (order.index(finding.level), finding.statement or 0)))


def _all(policy: Policy, services: KnownServices, exists: KnowsProvider) -> Iterator[Finding]:
    yield from _of_the_policy(policy)
    yield from _group_findings(policy)
    yield from unknown_provider_findings(policy, exists)
    for statement in policy.statements:
        for code, (level, check, _, kinds) in CHECKS.items():
            if policy.kind in kinds:
                for note in check(statement, services):
                    yield Finding(code, level, statement.index, *note)


def _group_findings(policy: Policy) -> Iterator[Finding]:
    for statement in policy.statements:
        for place, text in groups_that_never_match(statement):
            yield Finding(GROUP_NEVER_MATCHES, Level.ERROR, statement.index, place, text)
        for place, text in groups_without_dn(statement):
            yield Finding(GROUP_WITHOUT_DN, Level.WARNING, statement.index, place, text)


def unknown_provider_findings(policy: Policy, exists: KnowsProvider) -> Iterator[Finding]:
    """Yield a finding for each identity provider of a policy that does not exist."""
    for statement in policy.statements:
        for place, text in unknown_providers(statement, exists):
            yield Finding(UNKNOWN_PROVIDER, Level.ERROR, statement.index, place, text)


def _of_the_policy(policy: Policy) -> Iterator[Finding]:
    if policy.version != VERSION_WITH_VARIABLES:
        text = f'Write "Version": "{VERSION_WITH_VARIABLES}": in the older language ${{...}} is no variable.'
        variables = "${" in policy.text
        yield Finding(MISSING_VERSION, Level.ERROR if variables else Level.WARNING, None, "Version", text)


# --- who -------------------------------------------------------------------------------------------------------------


def _allow_with_not_principal(statement: Statement, _services: KnownServices) -> Iterator[_Note]:
    if statement.effect is Effect.ALLOW and statement.not_principals:
        yield _Note("NotPrincipal", "An Allow with NotPrincipal lets in everybody else, strangers among them.")


def _trust_to_everyone(statement: Statement, _services: KnownServices) -> Iterator[_Note]:
    everyone = any(principal.principal_type is PrincipalType.EVERYONE for principal in statement.principals)
    if statement.effect is Effect.ALLOW and everyone and not any(map(_names_somebody, statement.conditions)):
        yield _Note("Principal", "The principal * is everybody, of every account; no condition says who is meant.")


# Keys that restrict the caller or its network; an Allow for "*" with one of them is not open to everybody.
_CALLER_KEYS = frozenset(
    {
        "aws:principalaccount",
        "aws:principalarn",
        "aws:principalorgid",
        "aws:principalorgpaths",
        "aws:sourceaccount",
        "aws:sourcearn",
        "aws:sourceip",
        "aws:userid",
        "aws:username",
        "sts:externalid",
    }
)


def _names_somebody(condition: Condition) -> bool:
    return _positive(condition) and (condition.key in _CALLER_KEYS or condition.key.startswith("aws:principaltag/"))


def _session_chooses_tags(statement: Statement, _services: KnownServices) -> Iterator[_Note]:
    """Report grants with which people of a directory, or everybody, choose their own tags and source identity.

    A provider of SAML or OpenID Connect signs both; a person of a directory makes them up.
    """
    if any(map(_chooses_freely, statement.principals)):
        yield from _free_choices(statement)


def _caller_chooses_tags(statement: Statement, _services: KnownServices) -> Iterator[_Note]:
    """Report the same of AssumeRole, whose callers have an identity of their own and may take another's name with it.

    What everybody or a directory's people are granted is reported as the graver finding already.
    """
    callers = any(principal.principal_type in _CALLERS for principal in statement.principals)
    if callers and not any(map(_chooses_freely, statement.principals)):
        yield from _free_choices(statement)


_CALLERS = frozenset({PrincipalType.ACCOUNT, PrincipalType.ENTITY, PrincipalType.SESSION})


def _free_choices(statement: Statement) -> Iterator[_Note]:
    """Yield a note for each value that an Allow lets callers choose, and that no condition limits.

    A condition on one aws:RequestTag leaves the other tags free, and so limits nothing.
    """
    if statement.effect is not Effect.ALLOW:
        return
    limited = {condition.key for condition in statement.conditions if _limits_all_values(condition)}
    for action, key in _CHOSEN_BY_CALLERS.items():
        if key.lower() not in limited and statement.covers(action.lower()):
            yield _Note("Action", f"{action} lets callers choose a value that others trust: limit it by {key}.")


# What callers choose with an action, and the condition key that limits it.
_CHOSEN_BY_CALLERS = {"sts:TagSession": "aws:TagKeys", "sts:SetSourceIdentity": "sts:SourceIdentity"}


def _chooses_freely(principal: PolicyPrincipal) -> bool:
    """Return whether a principal is everybody, or the people of a directory."""
    return principal.principal_type is PrincipalType.EVERYONE or ":ldap-provider/" in principal.value


def _limits_all_values(condition: Condition) -> bool:
    """Return whether a condition bounds every value of its key; with ForAnyValue the others are free."""
    qualifier, operator = _operator(condition)
    return qualifier != "ForAnyValue" and "Not" not in operator and operator != "Null"


# --- what ------------------------------------------------------------------------------------------------------------


def _invalid_action(statement: Statement, services: KnownServices) -> Iterator[_Note]:
    for action in (*statement.actions, *statement.not_actions):
        service, _, action_name = action.partition(":")
        if action == "*" or "*" in service:
            continue
        if services.has_service(service) and not _has_action(services.actions(service), action_name):
            yield _Note(_action_element(statement), f"{_shorten(action)}: the service {service} has no such action.")


def _has_action(known: Mapping[str, str], name: str) -> bool:
    if "*" not in name and "?" not in name:
        return name.lower() in known
    covers = matcher([name], Dialect(fold=True))
    return any(covers(action, {}) for action in known)


def _invalid_service(statement: Statement, services: KnownServices) -> Iterator[_Note]:
    for action in (*statement.actions, *statement.not_actions):
        service = action.partition(":")[0]
        if "*" not in service and not services.has_service(service):
            text = f"{_shorten(action)}: AWS has no service {_shorten(service)}; it had better be one of your own."
            yield _Note(_action_element(statement), text)


def _action_element(statement: Statement) -> str:
    return "Action" if statement.actions else "NotAction"


def _allow_with_not_action(statement: Statement, _services: KnownServices) -> Iterator[_Note]:
    if statement.effect is Effect.ALLOW and statement.not_actions and "*" in statement.resources:
        yield _Note("NotAction", "An Allow with NotAction also allows every action that will ever be invented.")


def _pass_role_with_star_in_resource(statement: Statement, _services: KnownServices) -> Iterator[_Note]:
    every_role = "*" in statement.resources or statement.not_resources
    passes_role = any(action.lower() in ("iam:passrole", "iam:pass*", "iam:*") for action in statement.actions)
    limited = any(condition.key == "iam:passedtoservice" for condition in statement.conditions)
    if statement.effect is Effect.ALLOW and passes_role and every_role and not limited:
        yield _Note("Resource", "iam:PassRole on every role lets its holder act through the strongest role there is.")


def _redundant_action(statement: Statement, _services: KnownServices) -> Iterator[_Note]:
    wild = [action for action in statement.actions if "*" in action or "?" in action][:_MOST_COMPARED_PATTERNS]
    covering = [(pattern, matcher([pattern], Dialect(fold=True))) for pattern in wild]
    for action in statement.actions:
        if any(covers(action, {}) for pattern, covers in covering if pattern != action):
            yield _Note("Action", f"{_shorten(action)} is covered by another action of the statement.")


# --- when ------------------------------------------------------------------------------------------------------------


def _place(condition: Condition) -> str:
    return f"Condition.{condition.operator}.{condition.name}"


def _operator(condition: Condition) -> tuple[str, str]:
    """Return the set qualifier and the operator without it and without IfExists."""
    qualifier, _, rest = condition.operator.rpartition(":")
    return qualifier, rest.removesuffix("IfExists")


def _positive(condition: Condition) -> bool:
    """Return whether the operator is not negated and is false for an absent key."""
    qualifier, operator = _operator(condition)
    negated = "Not" in operator or operator == "Null"
    return not negated and qualifier != "ForAllValues" and not condition.operator.endswith("IfExists")


def _negated_with_allow(statement: Statement, _services: KnownServices) -> Iterator[_Note]:
    if statement.effect is Effect.DENY:
        return
    for condition in statement.conditions:
        if "Not" in _operator(condition)[1] and not _must_be_there(condition.key, statement):
            text = f"An Allow with {condition.operator} also allows requests without any {_shorten(condition.name)}."
            yield _Note(_place(condition), text)


def _for_all_values_on_absent_key(statement: Statement, services: KnownServices) -> Iterator[_Note]:
    for condition in statement.conditions:
        if _operator(condition)[0] != "ForAllValues":
            continue
        if statement.effect is Effect.ALLOW and not _must_be_there(condition.key, statement):
            name = _shorten(condition.name)
            text = f"ForAllValues also holds for a request that has no {name}; add Null: false for that key."
            yield _Note(_place(condition), text)
        elif services.is_multivalued(condition.key) is False:
            yield _Note(_place(condition), f"{_shorten(condition.name)} has one value: leave the qualifier out.")


def _must_be_there(key: str, statement: Statement) -> bool:
    return any(
        condition.key == key
        and ((condition.operator == "Null" and set(condition.values) == {"false"}) or _positive(condition))
        for condition in statement.conditions
    )


def _any_value_expected(statement: Statement, services: KnownServices) -> Iterator[_Note]:
    for condition in statement.conditions:
        qualifier, operator = _operator(condition)
        if not qualifier and operator != "Null" and services.is_multivalued(condition.key):
            text = f"{_shorten(condition.name)} has several values: say ForAnyValue: or ForAllValues:."
            yield _Note(_place(condition), text)


def _unknown_key(statement: Statement, services: KnownServices) -> Iterator[_Note]:
    for condition in statement.conditions:
        if services.key_type(condition.key) is None:
            text = f"No request has a condition key {_shorten(condition.name)}, as far as is known."
            yield _Note(_place(condition), text)


# The types of condition keys that each family of operators can compare; values of other types never match.
_COMPARABLE_TYPES = {
    "String": ("String", "ARN", "Date", "Numeric", "Bool", "IPAddress"),
    "Arn": ("ARN", "String"),
    "Numeric": ("Numeric", "String", "Date"),
    "Date": ("Date", "String", "Numeric"),
    "Bool": ("Bool", "String"),
    "Binary": ("String",),
    "IpAddress": ("IPAddress", "String"),
    "NotIpAddress": ("IPAddress", "String"),
}


def _mismatched_type(statement: Statement, services: KnownServices) -> Iterator[_Note]:
    for condition in statement.conditions:
        kind = (services.key_type(condition.key) or "Any").removeprefix("ArrayOf")
        operator = _operator(condition)[1]
        reads = next((types for name, types in _COMPARABLE_TYPES.items() if operator.startswith(name)), ())
        if kind != "Any" and reads and kind not in reads:
            text = f"{condition.operator} cannot read {_shorten(condition.name)}, which is of the type {kind}."
            yield _Note(_place(condition), text)


def _wildcard_without_like(statement: Statement, _services: KnownServices) -> Iterator[_Note]:
    for condition in statement.conditions:
        exact = _operator(condition)[1] in ("StringEquals", "StringNotEquals", "StringEqualsIgnoreCase")
        wild = next(filter(_has_wildcard, condition.values), None)
        if exact and wild is not None:
            text = f"{condition.operator} compares {_shorten(wild)} letter by letter; wildcards need StringLike."
            yield _Note(_place(condition), text)


def _has_wildcard(value: str) -> bool:
    return "*" in value.replace("${*}", "") or "?" in value.replace("${?}", "")


def _decided_closed(statement: Statement, _services: KnownServices) -> Iterator[_Note]:
    for condition, text in conditions_of_the_store(statement):
        yield _Note(_place(condition), text)
    for place, text in resources_of_the_store(statement):
        yield _Note(place, text)


def _empty_condition(statement: Statement, _services: KnownServices) -> Iterator[_Note]:
    for condition in statement.conditions:
        if "" in condition.values:
            yield _Note(_place(condition), "An empty text equals no value that a request has.")


class _Check(NamedTuple):
    """One row of the table of checks."""

    level: Level
    check: Check
    what: str
    kinds: frozenset[PolicyKind] = frozenset(PolicyKind)


_WITH_PRINCIPAL = frozenset({PolicyKind.TRUST, PolicyKind.RESOURCE})
_GRANTING = frozenset({PolicyKind.IDENTITY, PolicyKind.RESOURCE})

CHECKS: Mapping[str, _Check] = {
    "ALLOW_WITH_NOT_PRINCIPAL": _Check(
        Level.SECURITY_WARNING,
        _allow_with_not_principal,
        "An Allow names whom it leaves out, and so lets in everybody else.",
        _WITH_PRINCIPAL,
    ),
    "TRUST_TO_EVERYONE": _Check(
        Level.SECURITY_WARNING,
        _trust_to_everyone,
        "An Allow names everybody as principal, and no condition says who is meant.",
        _WITH_PRINCIPAL,
    ),
    "SESSION_CHOOSES_TAGS": _Check(
        Level.SECURITY_WARNING,
        _session_chooses_tags,
        "People of a directory, or everybody, may choose their own session tags or source identity.",
        frozenset({PolicyKind.TRUST}),
    ),
    "CALLER_CHOOSES_TAGS": _Check(
        Level.WARNING,
        _caller_chooses_tags,
        "Users and roles that call AssumeRole may choose any session tags or source identity, also somebody else's.",
        frozenset({PolicyKind.TRUST}),
    ),
    "INVALID_ACTION": _Check(Level.ERROR, _invalid_action, "A service of AWS has no such action."),
    "INVALID_SERVICE_IN_ACTION": _Check(
        Level.WARNING, _invalid_service, "AWS has no such service; for services of your own this is as it should be."
    ),
    "ALLOW_WITH_NOT_ACTION": _Check(
        Level.WARNING,
        _allow_with_not_action,
        "An Allow on every resource names the actions that it leaves out.",
        _GRANTING,
    ),
    "PASS_ROLE_WITH_STAR_IN_RESOURCE": _Check(
        Level.SECURITY_WARNING,
        _pass_role_with_star_in_resource,
        "`iam:PassRole` is allowed on every role, to any service.",
        _GRANTING,
    ),
    "REDUNDANT_ACTION": _Check(Level.SUGGESTION, _redundant_action, "Another action of the statement covers this one."),
    "NEGATED_OPERATOR_WITH_ALLOW": _Check(
        Level.SECURITY_WARNING,
        _negated_with_allow,
        "An Allow has a negated condition, which also holds where the request lacks the key.",
    ),
    "FORALLVALUES_WITH_ABSENT_KEY": _Check(
        Level.SECURITY_WARNING,
        _for_all_values_on_absent_key,
        "`ForAllValues:` also holds where the request lacks the key, or is asked of a key with one value.",
    ),
    "MULTIVALUED_KEY_WITHOUT_QUALIFIER": _Check(
        Level.WARNING,
        _any_value_expected,
        "A key with several values is compared without `ForAnyValue:` or `ForAllValues:`.",
    ),
    "INVALID_CONDITION_KEY": _Check(Level.WARNING, _unknown_key, "No request is known to have the key."),
    "MISMATCHED_CONDITION_TYPE": _Check(
        Level.ERROR, _mismatched_type, "The operator cannot read values of the key's type."
    ),
    "WILDCARD_WITHOUT_LIKE_OPERATOR": _Check(
        Level.WARNING, _wildcard_without_like, "A value has a wildcard, and the operator compares letter by letter."
    ),
    "KEY_KNOWN_TO_THE_STORE_ONLY": _Check(
        Level.WARNING,
        _decided_closed,
        "Tags of objects and buckets are known to the store alone: at the authoriser a Deny with them always applies,"
        " and an Allow never does.",
    ),
    "EMPTY_CONDITION_VALUE": _Check(Level.WARNING, _empty_condition, "A value is empty."),
}
# The finding about a policy as a whole.
MISSING_VERSION = "MISSING_VERSION"
# The findings about identity providers, of which AWS's policy checks have none.
GROUP_NEVER_MATCHES, GROUP_WITHOUT_DN, UNKNOWN_PROVIDER = "GROUP_NEVER_MATCHES", "GROUP_WITHOUT_DN", "UNKNOWN_PROVIDER"
PROVIDER_FINDINGS: Mapping[str, tuple[Level, str]] = {
    GROUP_NEVER_MATCHES: (Level.ERROR, "A group is not written as it is compared, so that nobody is in it."),
    UNKNOWN_PROVIDER: (Level.ERROR, "An identity provider does not exist, such as a misspelled `ldap-provider/NAME`."),
    GROUP_WITHOUT_DN: (Level.WARNING, "`ldap:groups` is compared with a word; most directories give DNs."),
}
