"""ARNs, account ids, unique ids and access key ids.

Source: IAM User Guide, "IAM identifiers" and "Identify Amazon Resource Names (ARNs)".
"""

import base64
import re
from collections.abc import Callable
from typing import NamedTuple

ACCOUNT_ID = re.compile(r"[0-9]{12}")
_KEY_ID = re.compile(r"(AKIA|ASIA)[A-Z2-7]{16}")

# IAM User Guide, "Unique identifiers": the first four letters are the resource type.
USER, GROUP, ROLE, POLICY, INSTANCE_PROFILE = "AIDA", "AGPA", "AROA", "ANPA", "AIPA"
SAML_PROVIDER, SAML_KEY = "ASAMLP", "ASAMLK"
OIDC_PROVIDER = "AOIDCP"
LONG_TERM_KEY, TEMPORARY_KEY = "AKIA", "ASIA"

Random = Callable[[int], bytes]


class Arn(NamedTuple):
    """The five parts of an ARN after ``arn``, as written."""

    partition: str
    service: str
    region: str
    account: str
    resource: str

    def __str__(self) -> str:
        return ":".join(("arn", *self))


def parse_arn(text: str) -> Arn | None:
    """Return the parts of an ARN, or None if the text is not an ARN."""
    parts = text.split(":", 5)
    if len(parts) != 6 or parts[0] != "arn" or not parts[1] or not parts[2] or not parts[5]:  # noqa: PLR2004 - the six parts of an ARN
        return None
    return Arn(*parts[1:])


def iam_arn(account_id: str, kind: str, name: str, path: str = "/") -> str:
    """Return the ARN of an IAM resource, such as ``iam_arn("1…2", "user", "ann", "/eng/")``."""
    return f"arn:aws:iam::{account_id}:{kind}{path}{name}"


def root_arn(account_id: str) -> str:
    """Return the ARN of an account's root, which as a principal means the whole account."""
    return f"arn:aws:iam::{account_id}:root"


def assumed_role_arn(account_id: str, role_name: str, session_name: str) -> str:
    """Return the ARN of a role session, which does not contain the role's path."""
    return f"arn:aws:sts::{account_id}:assumed-role/{role_name}/{session_name}"


def federated_user_arn(account_id: str, name: str) -> str:
    """Return the ARN of a federated user session (GetFederationToken)."""
    return f"arn:aws:sts::{account_id}:federated-user/{name}"


def unique_id(kind: str, random: Random) -> str:
    """Return a new unique id: a prefix such as ``AIDA``, a fixed ``Q`` and 16 characters of base32 (80 random bits)."""
    return kind + "Q" + base64.b32encode(random(10)).decode("ascii")


def access_key_id(kind: str, account_id: str, random: Random) -> str:
    """Return a new access key id of 20 characters that contains its account id, as in AWS.

    The 16 characters after the prefix are 80 bits: one set bit, the account id (40 bits), and 39 random bits.
    """
    random_bits = int.from_bytes(random(5), "big") >> 1
    bits = (1 << 79) | (int(account_id) << 39) | random_bits
    return kind + base64.b32encode(bits.to_bytes(10, "big")).decode("ascii")


def account_of_access_key(key_id: str) -> str | None:
    """Return the account id in an access key id, or None if it is malformed."""
    if not _KEY_ID.fullmatch(key_id):
        return None
    bits = int.from_bytes(base64.b32decode(key_id[4:]), "big")
    account = (bits >> 39) & ((1 << 40) - 1)
    return f"{account:012d}" if bits >> 79 and account < 10**12 else None


def name_from_arn(text: str, account_id: str, kind: str) -> str | None:
    """Return what follows ``kind`` ("saml-provider/") in an IAM ARN of this account; None for any other text."""
    arn = parse_arn(text)
    if arn is None or not arn.resource.startswith(kind) or arn != Arn("aws", "iam", "", account_id, arn.resource):
        return None
    return arn.resource.removeprefix(kind)
