"""The parts of the public URL: it comes from the settings, never from a request."""

from typing import Final
from urllib.parse import urlsplit

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def origin_of(url: str) -> str:
    """Return the origin of a URL (scheme, host and port), as browsers send it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def path_below(public_url: str, path: str) -> str:
    """Return the path that browsers ask for: the public URL may have a path of its own in front."""
    return f"{urlsplit(public_url).path}{path}"


def is_https(url: str) -> bool:
    """Return whether browsers come over TLS."""
    return url.startswith("https://")


def is_public_host(public_url: str, host: str | None) -> bool:
    """Return whether a Host header names the public URL's host; a request without the header passes."""
    parts = urlsplit(public_url)
    names = (parts.netloc, f"{parts.netloc}:{_DEFAULT_PORTS[parts.scheme]}")
    return host is None or host.lower() in names
