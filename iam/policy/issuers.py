"""Shared OIDC issuers, and the claims that a trust policy must restrict for them.

Many organizations receive tokens from a shared issuer. A trust policy that names only the issuer would accept the
tokens of all of them (THREATS C24).

Pure. Source: IAM User Guide, "Identity-provider controls for shared OIDC providers". The consumer issuers are added
by this project.
"""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from iam.policy.conditions import Condition
from iam.policy.principals import PolicyPrincipal

# Issuer -> claims; the trust policy must restrict at least one of them.
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

# A claim is restricted only by a positive comparison that is false where the claim is absent: neither IfExists, nor
# ForAllValues, nor a negated operator.
_PINNING = re.compile(r"(ForAnyValue:)?String(Equals|EqualsIgnoreCase|Like)")
_EXACT = re.compile(r"(ForAnyValue:)?StringEquals(IgnoreCase)?")
# Before its first wildcard a value must go beyond a field name: "repo:*" would match every organization.
_NAMES_SOMEBODY = re.compile(r"[^*?$]*[:/][^*?$:/]")


def unpinned_claims(principals: Iterable[PolicyPrincipal], conditions: tuple[Condition, ...]) -> str:
    """Return the keys of which one must be restricted and none is, as ``issuer:claim or issuer:claim``, or ``""``."""
    for principal in principals:
        issuer = (
            principal.value.rpartition(":oidc-provider/")[2].rstrip("/").lower()
            if principal.kind == "Federated"
            else ""
        )
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
    if "${" in value or not value:  # the request supplies the value of a variable, so it restricts nothing
        return False
    has_wildcard = not exact and not {"*", "?"}.isdisjoint(value)
    return not has_wildcard or bool(_NAMES_SOMEBODY.match(value))
