"""OIDC issuers that many organisations share: a trust policy must say whose token it means, or it trusts everybody's.

Pure. Source: IAM User Guide, "Identity-provider controls for shared OIDC providers". Consumer issuers are ours to add.
"""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from iam.policy.conditions import Condition
from iam.policy.principals import PolicyPrincipal

# Issuer -> the claims of which one must be pinned.
SHARED_ISSUERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "token.actions.githubusercontent.com": ("sub",),
        "vstoken.actions.githubusercontent.com": ("sub",),
        "oidc-configuration.audit-log.githubusercontent.com": ("sub",),
        "gitlab.com": ("sub",),
        "app.terraform.io": ("sub",),
        "agent.buildkite.com": ("sub",),
        "oidc.codefresh.io": ("sub",),
        "studio.datachain.ai/api": ("sub",),
        "scalr.io": ("sub",),
        "shisho.dev": ("sub",),
        "proidc.upbound.io": ("sub",),
        "api.pulumi.com/oidc": ("aud",),
        "oidc.vercel.com": ("aud",),
        "accounts.google.com": ("sub", "aud"),
        "graph.facebook.com": ("id", "app_id"),
        "www.amazon.com": ("user_id", "app_id"),
        "cognito-identity.amazonaws.com": ("sub", "aud"),
    }
)

# What pins a claim: a positive comparison that an absent claim fails.
_PINNING = re.compile(r"(ForAnyValue:)?String(Equals|EqualsIgnoreCase|Like)")
_EXACT = re.compile(r"(ForAnyValue:)?StringEquals(IgnoreCase)?")
# Before its first wildcard, a value must name more than a field such as "repo:".
_NAMES_SOMEBODY = re.compile(r"[^*?$]*[:/][^*?$:/]")


def unpinned_claims(principals: Iterable[PolicyPrincipal], conditions: tuple[Condition, ...]) -> str:
    """Return what the conditions fail to pin, as ``issuer:claim or issuer:claim``; empty when nothing is missing."""
    for one in principals:
        issuer = one.value.rpartition(":oidc-provider/")[2].rstrip("/").lower() if one.kind == "Federated" else ""
        keys = [f"{issuer}:{claim}" for claim in SHARED_ISSUERS.get(issuer, ())]
        if keys and not any(condition.key in keys and _pins(condition) for condition in conditions):
            return " or ".join(keys)
    return ""


def _pins(condition: Condition) -> bool:
    if not _PINNING.fullmatch(condition.operator):
        return False
    exact = _EXACT.fullmatch(condition.operator)
    return all(_names_somebody(value, exact=bool(exact)) for value in condition.values)


def _names_somebody(value: str, *, exact: bool) -> bool:
    if "${" in value or not value:  # what a request decides pins nothing
        return False
    has_wildcard = not exact and not {"*", "?"}.isdisjoint(value)
    return not has_wildcard or bool(_NAMES_SOMEBODY.match(value))
