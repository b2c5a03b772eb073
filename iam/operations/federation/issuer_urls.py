"""The URL of an OpenID Connect issuer: how it may be written, and which other spellings mean the same issuer.

As in AWS, an ARN and condition keys have the URL exactly as the ``iss`` claim has it, without ``https://``: a slash at
its end stays. Unlike AWS a port is allowed, which on-premises issuers need.
"""

import re

from iam.errors import ValidationError
from iam.service_data import ServiceData

_ISSUER = re.compile(
    r"https://(?P<host>[A-Za-z0-9.-]+)(?::(?P<port>[0-9]{1,5}))?(?P<path>(?:/[A-Za-z0-9._~-]*)*)", re.ASCII
)
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", re.ASCII)
_BY_ACCESS_TOKEN = ("www.amazon.com", "graph.facebook.com")
# The claims of an issuer are condition keys that begin with its host: these prefixes belong to others.
_KEY_PREFIXES = frozenset({"aws", "saml", "ldap", "sts", "iam", "fedgate"})
_HTTPS = 443
_SERVICES = ServiceData()


def parse_issuer_url(text: str) -> str:
    """Return an issuer's URL as ARNs have it, without ``https://``; raise ValidationError."""
    invalid = ValidationError("Invalid Open ID Connect Provider URL")
    match = _ISSUER.fullmatch(text)
    if match is None or not all(map(_LABEL.fullmatch, match["host"].split("."))):
        raise invalid
    segments = match["path"].split("/")
    if "." in segments or ".." in segments or "" in segments[1:-1] or int(match["port"] or 1) not in range(1, 65_536):
        raise invalid
    if match["host"].lower() in _BY_ACCESS_TOKEN:
        raise ValidationError("Login with Amazon and Facebook need no provider: trust policies name them directly.")
    url = text.removeprefix("https://")
    if is_reserved_issuer(url):
        raise invalid
    return url


def is_reserved_issuer(url: str) -> bool:
    """Return whether claims of an issuer would pass for condition keys of AWS or of this project, as in ``aws:sub``."""
    host = re.split("[:/]", url.lower(), maxsplit=1)[0]
    return host in _KEY_PREFIXES or (url.lower().rstrip("/") == host and _SERVICES.has_service(host))


def canonical_issuer(url: str) -> str:
    """Return the one spelling of an issuer that all its spellings have in common.

    The host in lower case, without the default port (RFC 3986, section 6.2.3), and no slash at the end.
    """
    return _spell(url, default_port="")


def other_spellings(url: str) -> tuple[str, ...]:
    """Return the usual other spellings of an issuer: a policy that denies one of them denies the issuer."""
    bare = {canonical_issuer(url), _spell(url, default_port=f":{_HTTPS}"), url.rstrip("/")}
    return tuple(sorted({*bare, *(f"{spelling}/" for spelling in bare)} - {url}))


def _spell(url: str, *, default_port: str) -> str:
    match = _ISSUER.fullmatch(f"https://{url}")
    if match is None:
        return url
    port = int(match["port"] or _HTTPS)
    return match["host"].lower() + (f":{port}" if port != _HTTPS else default_port) + match["path"].rstrip("/")
