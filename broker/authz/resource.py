"""A resource: a service of the company's own that opens to Fedgate's credentials, and how requests to it are read.

Pure. The settings (``[resource.NAME]``) make these objects; requests find theirs by the host that clients use.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from iam.policy.policy_set import PolicySet


class ResourceKind(StrEnum):
    """How requests become actions: by the operations of Amazon S3, or by routes of an HTTP API."""

    S3 = "s3"
    HTTP = "http"


class Audited(StrEnum):
    """Which decisions are recorded; denials of known principals always are."""

    ALL = "all"
    WRITES = "writes"
    DENIALS = "denials"


@dataclass(frozen=True, slots=True)
class Route:
    """A route of an HTTP API: the requests that it takes, and the permission that these need.

    ``path`` is a template such as ``/teams/{team}/reports/{report}``; a name takes one segment, ``{name+}`` the rest
    of the path. ``query`` and ``headers`` are conditions: a value that must be there, or ``*`` for any. ``resource`` is
    the template of an ARN with the same names, and ``keys`` has condition keys (lower case) with templates as values.
    """

    methods: frozenset[str]
    path: str
    action: str
    resource: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """The store behind a resource, and the one static key with which requests are signed for it.

    ``endpoint`` is an http or https URL without a path. ``unsigned_trailers`` says that the store reads
    STREAMING-UNSIGNED-PAYLOAD-TRAILER. ``subresources`` are those that it knows besides the usual ones.
    """

    endpoint: str
    region: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    unsigned_trailers: bool = False
    subresources: frozenset[str] = frozenset()


def plain_host(host: str) -> str:
    """Return the value of a Host header as ``Resource.hosts`` has it: in lower case, without the port of a scheme."""
    host = host.lower()
    return host.removesuffix(":443") if host.endswith(":443") else host.removesuffix(":80")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A service behind Fedgate.

    ``hosts`` are as ``plain_host`` returns them; ``*.`` in front stands for one label, the bucket. ``service`` and
    ``regions`` are those that the credential scope of a signature may name; ``regions`` None admits every region.
    ``policy`` is the resource policy of the settings; ``browser`` the ARN of the role in which people who signed in on
    the pages act.
    """

    name: str
    kind: ResourceKind
    hosts: tuple[str, ...]
    account: str
    service: str
    regions: frozenset[str] | None = None
    region: str = "us-east-1"  # in the ARNs of requests that name none
    stage: str = "default"  # of execute-api
    routes: tuple[Route, ...] = ()
    policy: PolicySet | None = None
    anonymous: bool = False
    browser: str = ""
    audit: Audited = Audited.ALL
    policy_writes: bool = False  # of buckets and ACLs, at the store itself
    backend: Backend | None = None
