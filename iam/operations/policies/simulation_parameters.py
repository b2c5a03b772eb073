"""The parameters of a simulation: policies, condition keys, and the policies that are left out.

Source: IAM API Reference, SimulateCustomPolicy, SimulatePrincipalPolicy, the types ContextEntry and
PolicyExclusionList.
"""

from collections.abc import Callable, Mapping
from typing import Any

from iam.arn import ACCOUNT_ID, parse_arn, root_arn
from iam.call import Params
from iam.errors import InvalidInput, MalformedPolicyDocument, excerpt
from iam.operations.policies.effective import EffectivePolicy
from iam.policy import conditions
from iam.policy.document import Policy, PolicyKind
from iam.policy.policy_set import PolicySet
from iam.principal import Principal

_LARGEST = 1_000_000  # characters of all policies in the request together
_DOCUMENTS = ("PolicyInputList", "PermissionsBoundaryPolicyInputList")


def input_policies(p: Params, name: str) -> PolicySet:
    """Return the policies of a list parameter; raise InvalidInput."""
    texts = [text for member in _DOCUMENTS for text in p.get(member, ())]
    if sum(map(len, texts)) + len(p.get("ResourcePolicy", "")) > _LARGEST:
        raise InvalidInput(f"The policies of one request have at most {_LARGEST} characters together.")
    return PolicySet(
        parse_input(text, PolicyKind.IDENTITY, f"{name}.{number}") for number, text in enumerate(p.get(name, ()), 1)
    )


def input_boundary(p: Params) -> PolicySet | None:
    """Return the permissions boundary of the request, None without one; raise InvalidInput."""
    name = "PermissionsBoundaryPolicyInputList"
    texts = p.get(name, ())
    if len(texts) > 1:
        raise InvalidInput("An IAM entity can have only one permissions boundary.")
    return PolicySet([parse_input(texts[0], PolicyKind.BOUNDARY, f"{name}.1")]) if texts else None


def parse_input(text: str, kind: PolicyKind, label: str) -> Policy:
    """Return a policy of the request; ``label`` is its SourcePolicyId. Raise InvalidInput."""
    try:
        return Policy.parse(text, kind, label=label)
    except MalformedPolicyDocument as error:
        raise InvalidInput(f"Invalid Content Policy:{label}: {error.message}", log=error.log) from error


# The parsers of context key values, by ContextKeyType without "List"; a type without a parser accepts every value.
_READERS: Mapping[str, Callable[[str], Any]] = {
    "numeric": conditions.number,
    "boolean": conditions.parse_boolean,
    "ip": conditions.parse_network,
    "binary": conditions.parse_binary,
    "date": conditions.parse_date,
}


def given_context_keys(p: Params) -> dict[str, tuple[str, ...]]:
    """Return the ContextEntries by name in lower case; raise InvalidInput for a value that is not of its type."""
    keys: dict[str, tuple[str, ...]] = {}
    for entry in p.get("ContextEntries", ()):
        name, values = entry.get("ContextKeyName", ""), tuple(entry.get("ContextKeyValues", ()))
        kind = entry.get("ContextKeyType", "string")
        read = _READERS.get(kind.removesuffix("List"))
        if len(values) > 1 and not kind.endswith("List"):
            raise InvalidInput(f"The context key {name} of type {kind} has more than one value.")
        for value in values if read else ():
            if read is not None and read(value) is None:
                raise InvalidInput(f"The value {excerpt(value)} of the context key {name} is not of type {kind}.")
        keys[name.lower()] = values
    return keys


_Exclusion = Callable[[EffectivePolicy], bool]


def exclusions(p: Params) -> list[_Exclusion]:
    """Return the tests whether a policy is excluded by PolicyExclusionList; raise InvalidInput."""
    return [_exclusion(exclusion) for exclusion in p.get("PolicyExclusionList", ())]


def _exclusion(exclusion: Params) -> _Exclusion:
    if "PolicyArn" in exclusion:
        arn = parse_arn(exclusion["PolicyArn"])
        if arn is None or arn.service != "iam" or not arn.resource.startswith("policy/") or "*" in str(arn):
            raise InvalidInput(f"Invalid policy identifier: {exclusion['PolicyArn']}")
        return lambda policy: policy.arn == str(arn)
    if "InlinePolicyIdentifier" in exclusion:
        inline = exclusion["InlinePolicyIdentifier"]
        expected = inline["AttachmentType"], inline["AttachmentName"].lower(), inline["PolicyName"]
        return lambda policy: (
            policy.arn is None
            and (policy.holder.entity_type.kind, policy.holder.row.name.lower(), policy.name) == expected
        )
    return _BY_KIND.get(exclusion.get("PolicyType", ""), lambda _policy: False)


_BY_KIND: Mapping[str, _Exclusion] = {
    "inline": lambda policy: policy.arn is None,
    "aws-managed": lambda policy: policy.arn is not None and policy.arn.startswith("arn:aws:iam::aws:"),
    "user-managed": lambda policy: policy.arn is not None and not policy.arn.startswith("arn:aws:iam::aws:"),
}


def is_excluded_kind(p: Params, kind: str) -> bool:
    """Return whether PolicyExclusionList leaves out a kind of policies, by its PolicyType."""
    return any(exclusion.get("PolicyType") == kind for exclusion in p.get("PolicyExclusionList", ()))


def resource_owner(p: Params, caller: Principal) -> str:
    """Return the account of resources whose ARN names none."""
    if "ResourceOwner" not in p:
        return caller.account_id
    text: str = p["ResourceOwner"]
    account_id = text if ACCOUNT_ID.fullmatch(text) else text.removeprefix("arn:aws:iam::").removesuffix(":root")
    if not ACCOUNT_ID.fullmatch(account_id) or text not in (account_id, root_arn(account_id)):
        raise InvalidInput(f"Invalid ResourceOwner: {text}")
    return account_id
