"""The permission that an operation requires: the resource, and the condition keys that only the operation knows."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeVar

from iam.call import Call, Params, Result
from iam.policy.policy_set import PolicySet

ContextKeys = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class RequiredPermission:
    """The resource of an operation and condition keys about it (names in lower case).

    ``spellings`` are other names of the same resource: an explicit deny of one of them holds as well, while only
    ``resource`` can be allowed. ``action`` is empty for the operation's own action. ``trust`` is the resource-based
    policy, if there is one, such as a role's trust policy; ``account_id`` is then the account that owns the resource.
    ``unknown`` are condition keys whose value nobody but the service knows: a Deny with one of them applies, an Allow
    does not. A name with a slash at its end stands for all that begin with it.
    """

    resource: str
    keys: ContextKeys = field(default_factory=dict)
    action: str = ""
    trust: PolicySet | None = None
    account_id: str = ""
    spellings: tuple[str, ...] = ()
    unknown: frozenset[str] = frozenset()


T = TypeVar("T")


class RunInThreadPool(Protocol):
    """Runs a function where it keeps no other request waiting, and returns or raises its outcome."""

    def __call__(self, work: Callable[[], T], /) -> T:
        """Return the outcome of the function."""
        ...


@dataclass(frozen=True, slots=True)
class Preparation:
    """What an operation has before its transaction: the time, and a place for work that takes long.

    ``read`` and ``write`` open short transactions of their own for the same caller, and are never held during that
    work. What is written there stays, whatever becomes of the operation: so attempts are counted. ``contact_issuer``
    raises ServiceError where an issuer of tokens cannot be reached; None: nobody is contacted.
    """

    now: datetime
    run_in_thread_pool: RunInThreadPool
    read: Callable[[], AbstractContextManager[Call]]
    write: Callable[[], AbstractContextManager[Call]]
    contact_issuer: Callable[[str], object] | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """A row of the operations table: the function, the required permissions, and whether it writes.

    ``prepare`` does what takes long, such as parsing a large document: after the caller is known to be allowed, before
    the write transaction, which then holds no lock meanwhile. ``run`` finds the outcome in ``call.prepared``.
    """

    run: Callable[[Call, Params], Result]
    required_permissions: Callable[[Call, Params], RequiredPermission | tuple[RequiredPermission, ...]]
    writes: bool
    prepare: Callable[[Preparation, Params], object] | None = None


def on_any_resource(_call: Call, _p: Params) -> RequiredPermission:
    """Require permission on ``*``, as AWS does for account-wide lists and settings."""
    return RequiredPermission("*")


def request_tag_keys(p: Params) -> dict[str, tuple[str, ...]]:
    """Return the condition keys of the tags that a request adds or removes: aws:RequestTag and aws:TagKeys."""
    added: Sequence[Mapping[str, str]] = p.get("Tags", ())
    names = (*(tag["Key"] for tag in added), *p.get("TagKeys", ()))
    keys: dict[str, tuple[str, ...]] = {f"aws:requesttag/{tag['Key'].lower()}": (tag["Value"],) for tag in added}
    return keys | {"aws:tagkeys": names} if names else keys
