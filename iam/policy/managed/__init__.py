"""The AWS-managed policies that we ship, one JSON file each, with the meaning that AWS publishes for them.

Source: AWS Managed Policy Reference Guide. Where AWS lists every service, ours list those that policies commonly name.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files

from iam.arn import POLICY, iam_arn, unique_id
from iam.policy.document import Policy, PolicyKind


@dataclass(frozen=True, slots=True)
class ManagedPolicy:
    """A policy which AWS owns: it can be attached and read, never changed; ``created`` is aware and in UTC."""

    arn: str
    name: str
    path: str
    description: str
    version: str
    policy_id: str
    created: datetime
    policy: Policy


def load() -> dict[str, ManagedPolicy]:
    """Return the managed policies by ARN, read from the package's files; the caller keeps them."""
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
        created=datetime.fromisoformat(found["created"]),
        policy=Policy.parse(json.dumps(found["document"], indent=2), PolicyKind.IDENTITY, label=arn),
    )
