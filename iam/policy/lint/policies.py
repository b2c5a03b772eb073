"""Policy checks: findings about a valid policy that may not do what its author intends.

Pure; the known actions and condition keys are an argument. The codes are those of IAM Access Analyzer where it has one
("Policy check reference"). A finding is advice; the grammar has already rejected what AWS rejects.
"""

from collections.abc import Iterator, Mapping
from itertools import islice

from iam.policy.document import Policy
from iam.policy.grammar import VERSION_WITH_VARIABLES
from iam.policy.lint.actions import ACTION_CHECKS
from iam.policy.lint.conditions import CONDITION_CHECKS
from iam.policy.lint.findings import CheckEntry, Finding, KnownServices, Level
from iam.policy.lint.principals import PRINCIPAL_CHECKS
from iam.policy.lint.providers import KnowsProvider, groups_that_never_match, groups_without_dn, unknown_providers

# The checks stop after this number of findings, so that a large policy cannot produce an unbounded response.
_MOST_FINDINGS = 100


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


CHECKS: Mapping[str, CheckEntry] = {**PRINCIPAL_CHECKS, **ACTION_CHECKS, **CONDITION_CHECKS}
# The finding about a policy as a whole.
MISSING_VERSION = "MISSING_VERSION"
# The findings about identity providers, of which AWS's policy checks have none.
GROUP_NEVER_MATCHES, GROUP_WITHOUT_DN, UNKNOWN_PROVIDER = "GROUP_NEVER_MATCHES", "GROUP_WITHOUT_DN", "UNKNOWN_PROVIDER"
PROVIDER_FINDINGS: Mapping[str, tuple[Level, str]] = {
    GROUP_NEVER_MATCHES: (Level.ERROR, "A group is not written as it is compared, so that nobody is in it."),
    UNKNOWN_PROVIDER: (Level.ERROR, "An identity provider does not exist, such as a misspelled `ldap-provider/NAME`."),
    GROUP_WITHOUT_DN: (Level.WARNING, "`ldap:groups` is compared with a word; most directories give DNs."),
}
