"""The source of a copy: the header ``x-amz-copy-source``.

Pure. Source: Amazon S3 API Reference, CopyObject: ``BUCKET/KEY``, encoded, with an optional ``?versionId=VERSION``.
"""

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from broker.authz.s3.target import check_bucket, check_key, decode_utf8, object_arn
from iam.errors import InvalidRequest
from iam.percent_encoding import has_bad_escape

# Encoded text without what programs read differently: "+" (a space to Amazon S3), "#" (the end for MinIO), "\\".
_SOURCE = re.compile(r"([!-\"$-*,->@-\[\]-~]+)(?:\?versionId=([A-Za-z0-9._~-]+))?")


class CopySource(NamedTuple):
    """The object that is copied; ``version`` is empty for the current one."""

    bucket: str
    key: str
    version: str

    @property
    def arn(self) -> str:
        """Return the ARN of the object."""
        return object_arn(self.bucket, self.key)


def read_copy_source(value: str) -> CopySource:
    """Return the source that a header names; raise InvalidRequest for another form, such as an access point's ARN."""
    match = _SOURCE.fullmatch(value)
    if match is None or has_bad_escape(value):
        raise InvalidRequest(
            "x-amz-copy-source has to be BUCKET/KEY or BUCKET/KEY?versionId=VERSION, encoded, with %2B for a plus sign."
        )
    # Decoded before it is divided, as Amazon S3 does: clients encode the slash as well.
    bucket, _, key = decode_utf8(unquote_to_bytes(match[1])).removeprefix("/").partition("/")
    check_bucket(bucket)
    if not key:
        raise InvalidRequest("x-amz-copy-source names no object.")
    check_key(key)
    return CopySource(bucket, key, match[2] or "")
