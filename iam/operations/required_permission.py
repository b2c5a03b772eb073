"""The permission that an operation requires: the resource, and the condition keys that only the operation knows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from iam.call import Call, Params, Result
from iam.policy.policy_set import PolicySet

ContextKeys = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class RequiredPermission:
    """The resource of an operation and condition keys about it (names in lower case).

    ``action`` is empty for the operation's own action. ``trust`` is the resource-based policy, if there is one, such
    as a role's trust policy; ``account_id`` is then the account that owns the resource.
    """

    resource: str
    keys: ContextKeys = field(default_factory=dict)
    action: str = ""
    trust: PolicySet | None = None
    account_id: str = ""


@dataclass(frozen=True, slots=True)
class Operation:
    """A row of the operations table: the function, the required permissions, and whether it writes."""

    run: Callable[[Call, Params], Result]
    required_permissions: Callable[[Call, Params], RequiredPermission | tuple[RequiredPermission, ...]]
    writes: bool


def on_any_resource(_call: Call, _p: Params) -> RequiredPermission:
    """Require permission on ``*``, as AWS does for account-wide lists and settings."""
    return RequiredPermission("*")


def request_tag_keys(p: Params) -> dict[str, tuple[str, ...]]:
    """Return the condition keys of the tags that a request adds or removes: aws:RequestTag and aws:TagKeys."""
    added: Sequence[Mapping[str, str]] = p.get("Tags", ())
    names = (*(tag["Key"] for tag in added), *p.get("TagKeys", ()))
    keys: dict[str, tuple[str, ...]] = {f"aws:requesttag/{tag['Key'].lower()}": (tag["Value"],) for tag in added}
    return keys | {"aws:tagkeys": names} if names else keys
