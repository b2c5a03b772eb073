"""The names of this machine in URLs."""

from ipaddress import ip_address
from urllib.parse import urlsplit


def is_loopback(url: str) -> bool:
    """Return whether a URL leads to the machine it is used on: ``localhost``, 127.0.0.0/8 or ::1."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def with_host(url: str, host: str) -> str:
    """Return a URL with another host and the same port."""
    parts = urlsplit(url)
    return parts._replace(netloc=host if parts.port is None else f"{host}:{parts.port}").geturl()


def is_same_machine(url: str, other: str) -> bool:
    """Return whether two URLs lead to the same port of the machine they are used on, by whichever name."""
    try:
        ports = urlsplit(url).port, urlsplit(other).port
    except ValueError:
        return False
    return ports[0] == ports[1] and is_loopback(url) and is_loopback(other)
