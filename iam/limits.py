"""Quotas of an account; the defaults are those of AWS (IAM User Guide, "IAM and AWS STS quotas")."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """The number of entities of each kind, and the size of documents in characters without white space."""

    roles_per_account: int = 1000
    users_per_account: int = 5000
    groups_per_account: int = 300
    policies_per_account: int = 1500
    instance_profiles_per_account: int = 1000
    saml_providers_per_account: int = 100
    # Characters of metadata of all SAML providers together, a quota of this project: AWS allows 10 million for each.
    saml_metadata_per_account: int = 10_000_000
    oidc_providers_per_account: int = 100
    groups_per_user: int = 10
    access_keys_per_user: int = 2
    mfa_devices_per_user: int = 8
    versions_per_policy: int = 5
    attached_policies_per_user: int = 10
    attached_policies_per_group: int = 10
    attached_policies_per_role: int = 10
    tags_per_entity: int = 50
    managed_policy_size: int = 6144
    trust_policy_size: int = 2048
    inline_policies_size_user: int = 2048
    inline_policies_size_group: int = 5120
    inline_policies_size_role: int = 10240
    # Organizations User Guide, "Quotas": service control policies attached to one account, and the size of one.
    guardrails_per_account: int = 10
    guardrail_size: int = 10240
    # Amazon S3 User Guide, "Bucket restrictions and limitations": bucket policies have up to 20 KB.
    resource_policy_size: int = 20_480
