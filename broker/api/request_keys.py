"""The condition keys that a request fills in whoever the caller is.

Source: IAM User Guide, "AWS global condition context keys". Keys about the principal come with the Caller, keys about
the resource with the operation's Ask.
"""

from collections.abc import Mapping
from datetime import datetime

from broker.api.http import HttpRequest
from iam.clock import SECOND, iso8601, to_seconds

ContextKeys = Mapping[str, tuple[str, ...]]


def request_keys(
    request: HttpRequest, now: datetime, region: str | None, mfa_at: int | None
) -> dict[str, tuple[str, ...]]:
    """Return the keys of one request; ``mfa_at`` is in milliseconds and comes back as an age in seconds."""
    keys: dict[str, tuple[str, ...]] = {
        "aws:currenttime": (iso8601(now),),
        "aws:epochtime": (str(to_seconds(now)),),
        "aws:securetransport": ("true" if request.secure else "false",),
        "aws:viaawsservice": ("false",),
        "aws:principalisawsservice": ("false",),
    }
    if request.source_ip:
        keys["aws:sourceip"] = (request.source_ip,)
    if region:
        keys["aws:requestedregion"] = (region,)
    if agent := request.header("user-agent"):
        keys["aws:useragent"] = (agent,)
    if referer := request.header("referer"):
        keys["aws:referer"] = (referer,)
    if mfa_at is not None:
        keys["aws:multifactorauthage"] = (str(max(0, to_seconds(now) - mfa_at // SECOND)),)
    return keys
