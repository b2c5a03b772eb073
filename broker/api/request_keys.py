"""The condition keys that only an HTTP request fills: its address, its headers, its region, its MFA code.

Source: IAM User Guide, "AWS global condition context keys". What describes the principal and the
resource comes from `iam.operations.request_context`.
"""

from datetime import datetime

from broker.api.http import HttpRequest
from iam.clock import SECOND, to_seconds
from iam.operations.request_context import every_request_keys


def http_keys(request: HttpRequest, now: datetime, region: str | None) -> dict[str, tuple[str, ...]]:
    """Return every request's keys and those of this one; ``region`` is the one that its signature names."""
    keys = every_request_keys(now)
    keys["aws:securetransport"] = ("true" if request.secure else "false",)
    if request.source_ip:
        keys["aws:sourceip"] = (request.source_ip,)
    if region:
        keys["aws:requestedregion"] = (region,)
    if agent := request.header("user-agent"):
        keys["aws:useragent"] = (agent,)
    if referer := request.header("referer"):
        keys["aws:referer"] = (referer,)
    return keys


def mfa_keys(now: datetime, mfa_at: int) -> dict[str, tuple[str, ...]]:
    """Return the keys of a second factor that was given at ``mfa_at``, in milliseconds; its age is in seconds."""
    age = max(0, to_seconds(now) - mfa_at // SECOND)
    return {"aws:multifactorauthpresent": ("true",), "aws:multifactorauthage": (str(age),)}
