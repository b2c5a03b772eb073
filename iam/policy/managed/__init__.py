"""The AWS managed policies that are included, one JSON file each.

Source: AWS Managed Policy Reference Guide. Each document is complete, in the version that its file names.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, cached_property
from importlib.resources import files
from typing import Any

from iam.arn import POLICY, iam_arn, unique_id
from iam.clock import parse_iso8601
from iam.policy.document import Policy, PolicyKind


@dataclass(frozen=True)
class ManagedPolicy:
    """An AWS managed policy: it can be attached and read, but not changed; ``created`` is an aware datetime in UTC."""

    arn: str
    name: str
    path: str
    description: str
    version: str
    policy_id: str
    created: datetime
    document: dict[str, Any] = field(repr=False)

    @cached_property
    def policy(self) -> Policy:
        """Return the parsed policy; it is parsed on first use, because most are never used."""
        return Policy.parse(json.dumps(self.document, indent=2), PolicyKind.IDENTITY, label=self.arn)


@cache
def load() -> dict[str, ManagedPolicy]:
    """Return the managed policies by ARN, read from the package's files once."""
    return {policy.arn: policy for policy in sorted(_read(), key=lambda policy: policy.name)}


def _read() -> Iterator[ManagedPolicy]:
    for file in files(__name__).iterdir():
        if file.name.endswith(".json"):
            yield _managed(file.read_text(encoding="utf-8"))


def _managed(text: str) -> ManagedPolicy:
    content = json.loads(text)
    arn = iam_arn("aws", "policy", content["name"], content["path"])
    digest = hashlib.sha256(arn.encode()).digest()
    return ManagedPolicy(
        arn=arn,
        name=content["name"],
        path=content["path"],
        description=content["description"],
        version=content["version"],
        policy_id=unique_id(POLICY, lambda length: digest[:length]),
        created=parse_iso8601(content["created"]),
        document=content["document"],
    )
