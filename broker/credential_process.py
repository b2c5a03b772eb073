"""Credentials as programs take them from a ``credential_process``."""

from collections.abc import Mapping
from typing import Any


def process_form(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the Credentials of an STS answer, Expiration as a time in UTC, as a ``credential_process`` prints them.

    Source: AWS SDKs and Tools Reference Guide, "Process credential provider".
    """
    return {
        "Version": 1,
        "AccessKeyId": found["AccessKeyId"],
        "SecretAccessKey": found["SecretAccessKey"],
        "SessionToken": found["SessionToken"],
        "Expiration": found["Expiration"].strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
