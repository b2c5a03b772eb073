"""The AWS-managed policies that we ship, one JSON file each, with the meaning that AWS publishes for them.

Source: AWS Managed Policy Reference Guide. Each document is whole, as in the version of AWS's that its file names.
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
    """A policy which AWS owns: it can be attached and read, never changed; ``created`` is aware and in UTC."""

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
        """Return what the policy means; most are never asked, and so never parsed."""
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
    found = json.loads(text)
    arn = iam_arn("aws", "policy", found["name"], found["path"])
    digest = hashlib.sha256(arn.encode()).digest()
    return ManagedPolicy(
        arn=arn,
        name=found["name"],
        path=found["path"],
        description=found["description"],
        version=found["version"],
        policy_id=unique_id(POLICY, lambda length: digest[:length]),
        created=parse_iso8601(found["created"]),
        document=found["document"],
    )
