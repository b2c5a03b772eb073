"""Lint findings about policies in requests, and the parameters that contain them."""

from collections.abc import Mapping
from types import MappingProxyType

from iam.call import Params
from iam.errors import MalformedPolicyDocument
from iam.policy.document import Policy, PolicyKind, size
from iam.policy.lint.findings import Finding
from iam.policy.lint.policies import lint
from iam.policy.lint.providers import KnowsProvider
from iam.service_data import ServiceData

_SERVICES = ServiceData()

POLICY_PARAMETERS: Mapping[str, tuple[str, PolicyKind]] = MappingProxyType(
    {
        "CreatePolicy": ("PolicyDocument", PolicyKind.IDENTITY),
        "CreatePolicyVersion": ("PolicyDocument", PolicyKind.IDENTITY),
        "PutUserPolicy": ("PolicyDocument", PolicyKind.IDENTITY),
        "PutGroupPolicy": ("PolicyDocument", PolicyKind.IDENTITY),
        "PutRolePolicy": ("PolicyDocument", PolicyKind.IDENTITY),
        "CreateRole": ("AssumeRolePolicyDocument", PolicyKind.TRUST),
        "UpdateAssumeRolePolicy": ("PolicyDocument", PolicyKind.TRUST),
    }
)


_LARGEST = 10_240  # characters without white space: the largest quota, that of a role's inline policies


def findings(operation: str, p: Params, exists: KnowsProvider = lambda _: None) -> tuple[Finding, ...]:
    """Return the findings about the policy in a request; none if it is malformed, which the operation refuses.

    ``exists`` tells which identity providers exist. One that does not is a finding and no refusal: roles are often
    written before the provider is added or the directory is set up.
    """
    if operation not in POLICY_PARAMETERS:
        return ()
    parameter, kind = POLICY_PARAMETERS[operation]
    if size(p[parameter]) > _LARGEST:  # above every quota: the operation refuses it
        return ()
    try:
        return lint(Policy.parse(p[parameter], kind), _SERVICES, exists)
    except MalformedPolicyDocument:
        return ()


def lint_policy(text: str, kind: PolicyKind) -> tuple[Finding, ...]:
    """Return the findings about a policy; raise MalformedPolicyDocument."""
    return lint(Policy.parse(text, kind), _SERVICES)
