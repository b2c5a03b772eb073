"""What a request to a resource asks of the policies, however its kind of resource reads it.

Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from iam.operations.required_permission import RequiredPermission


@dataclass(frozen=True, slots=True)
class ServiceRequest:
    """An operation of a service and the permissions that it needs, all of them.

    Each permission names its own action, resource and condition keys; the owner's account and the resource policy are
    added later. ``every_resource`` are permissions on all resources whose ARN begins with ``resource``, for operations
    whose body names the resources: an Allow must cover all of them, and no Deny may overlap any. ``parameters`` go into
    the audit record.
    """

    operation: str
    permissions: tuple[RequiredPermission, ...]
    every_resource: tuple[RequiredPermission, ...] = ()
    writes: bool = True
    parameters: Mapping[str, str] = field(default_factory=dict)
