"""The bucket and the key that a request to S3 names: by its path, or by its host and path.

Pure. Source: Amazon S3 User Guide, "Virtual hosting of general purpose buckets", "General purpose bucket naming rules"
and "Naming Amazon S3 objects". A key is any text: ``..``, ``//`` and a slash at its end are parts of it, and a raw path
is decoded exactly once.
"""

import re
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from broker.authz.resource import Resource, plain_host
from broker.authz.s3.operations import Level
from iam.errors import AccessDenied, InvalidBucketName, InvalidURI
from iam.percent_encoding import has_bad_escape

# Also keeps out what stores read as more than a name: TENANT:BUCKET of Ceph RGW, and the folder .minio.sys.
_BUCKET = re.compile(r"[a-z0-9](?!.*\.\.)[a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)
# First parts of paths at which Ceph RGW and MinIO serve other APIs: administration, Swift and its sign-in.
RESERVED = frozenset({"admin", "auth", "minio", "swift"})
# RFC 3986, section 3.3, and what clients leave unencoded although they should not; no "#", no space, no control
# character: a proxy and a store could see the end of the path at different places.
_RAW_PATH = re.compile(r"/[!\"$-&'-;=@-\[\]-~<>\x80-\xff]*")


class Target(NamedTuple):
    """What a request is about; ``bucket`` and ``key`` are decoded, and empty where the request names none."""

    bucket: str = ""
    key: str = ""

    @property
    def level(self) -> Level:
        """Return whether it is the service, a bucket or an object."""
        if self.key:
            return Level.OBJECT
        return Level.BUCKET if self.bucket else Level.SERVICE

    @property
    def arn(self) -> str:
        """Return the ARN of the bucket or object; characters of the key stand for themselves."""
        return object_arn(self.bucket, self.key) if self.key else f"{_ARN}{self.bucket}"

    @property
    def path(self) -> str:
        """Return the path that names the target in path style, encoded as in a canonical request."""
        name = f"{self.bucket}/{self.key}" if self.key else self.bucket
        return "/" + quote(name, safe="/-_.~")


_ARN = "arn:aws:s3:::"
EVERY_OBJECT = _ARN  # how the ARN of every object of every bucket begins


def object_arn(bucket: str, key: str) -> str:
    """Return the ARN of an object."""
    return f"{_ARN}{bucket}/{key}"


def bucket_of(arn: str) -> str:
    """Return the bucket in the ARN of a bucket or an object, or an empty string: whose policy counts."""
    return arn.removeprefix(_ARN).partition("/")[0] if arn.startswith(_ARN) else ""


def read_target(resource: Resource, host: str, path: str) -> Target:
    """Return the target of a request; ``host`` and ``path`` are as received.

    Raise InvalidURI, InvalidBucketName, or AccessDenied for a path of the store's own APIs.
    """
    bucket_host = _bucket_of_host(resource, plain_host(host))
    _check_path(path)
    # Divided before it is decoded: an encoded slash is part of the name in which it stands.
    bucket, _, key = (bucket_host, "", path[1:]) if bucket_host else path[1:].partition("/")
    target = Target(decode_once(bucket), decode_once(key))
    if target.bucket or target.key:
        check_bucket(target.bucket)
        check_key(target.key)
    return target


def check_bucket(bucket: str) -> None:
    """Raise InvalidBucketName for what is no name of a bucket, AccessDenied for a name that a store reserves."""
    if bucket in RESERVED:
        raise AccessDenied(
            f"The path /{bucket} is one of the store's own and cannot be reached with these credentials."
        )
    if not _BUCKET.fullmatch(bucket):
        raise InvalidBucketName("The specified bucket is not valid.")


def check_key(key: str) -> None:
    """Raise InvalidURI for a key whose ``..`` segments climb above its bucket.

    A store or a proxy that resolves them would take ``bucket/../other/key`` for a key of another bucket. Source: Amazon
    S3 User Guide, "Naming Amazon S3 objects": read from left to right, there are never more of them than of others.
    """
    if ".." not in key:
        return
    depth = 0
    for segment in key.split("/"):
        depth += -1 if segment == ".." else segment not in ("", ".")
        if depth < 0:
            raise InvalidURI("The key climbs above its bucket.")


def _check_path(path: str) -> None:
    if not _RAW_PATH.fullmatch(path) or has_bad_escape(path):
        raise InvalidURI("Couldn't parse the specified URI.")


def decode_once(text: str) -> str:
    """Return percent-encoded text (latin-1, as in WSGI) decoded; raise InvalidURI for what is no UTF-8 or has a NUL."""
    if text.isascii() and "%" not in text:
        return text
    return decode_utf8(unquote_to_bytes(text.encode("latin-1")))


def decode_utf8(octets: bytes) -> str:
    """Return bytes as text; raise InvalidURI for what is not UTF-8 or has a NUL, at which a store could cut."""
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        raise InvalidURI("Couldn't parse the specified URI.") from None
    if "\0" in text:
        raise InvalidURI("Couldn't parse the specified URI.")
    return text


def _bucket_of_host(resource: Resource, host: str) -> str:
    """Return the bucket in a host name, or an empty string where the path names it."""
    if host in resource.hosts:
        return ""
    label, dot, rest = host.partition(".")
    if dot and f"*.{rest}" in resource.hosts:
        return label
    raise InvalidURI("The host of the request is not one of this resource.")
