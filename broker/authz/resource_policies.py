"""The resource policy of a request: that of the settings, that of the resource in SQL, and that of the bucket."""

from collections.abc import Callable
from dataclasses import replace

from broker.authz.resource import Resource
from broker.authz.s3.target import EVERY_OBJECT, bucket_of
from iam.operations.required_permission import RequiredPermission
from iam.policy.policy_set import PolicySet
from iam.store.records import EVERY_BUCKET
from iam.store.store import Store

# The policies of a resource and one of its buckets ("" for none, EVERY_BUCKET for all).
FindPolicies = Callable[[Resource, str], PolicySet | None]

# Combined sets that are kept; which buckets exist is the store's affair, so a caller can ask for any.
_MOST_CACHED = 10_000


class ResourcePolicies:
    """Evaluates the policies of the settings and of SQL together, without a round trip when warm."""

    def __init__(self, store: Store) -> None:
        self._store = store
        # The set of SQL that a combined one was made of, by resource and bucket: a change there makes a new one.
        self._combined: dict[tuple[str, str], tuple[PolicySet, PolicySet]] = {}

    def __call__(self, resource: Resource, bucket: str) -> PolicySet | None:
        """Return all policies of a resource and one of its buckets (as ``FindPolicies``), or None without any."""
        stored = self._store.resource_policy(resource.name, bucket)
        if stored is None or resource.policy is None:
            return stored or resource.policy
        key = (resource.name, bucket)
        found = self._combined.get(key)
        if found is None or found[0] is not stored:
            if len(self._combined) >= _MOST_CACHED:
                self._combined.clear()
            found = self._combined[key] = (stored, PolicySet((*resource.policy, *stored)))
        return found[1]


def owned_permission(permission: RequiredPermission, resource: Resource, find: FindPolicies) -> RequiredPermission:
    """Return a permission on something that the resource's account owns, with the policies of that very bucket.

    A copy needs two: its source is decided by the policies of the source's bucket, or a Deny there would not hold. What
    may be in any bucket is decided by the policies of all.
    """
    bucket = EVERY_BUCKET if permission.resource == EVERY_OBJECT else bucket_of(permission.resource)
    return replace(permission, trust=find(resource, bucket), account_id=resource.account)
