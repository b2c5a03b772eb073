"""The rules that values of settings must follow; each returns what is wrong and how to mend it, or ""."""

import hashlib
import re
import ssl
from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

from iam.distinguished_names import normalize_dn

# --- numbers and words ------------------------------------------------------------------------------------------------


def between(least: int, most: int) -> Callable[[int], str]:
    """Return a check that a number lies within two bounds, both allowed."""
    return lambda value: "" if least <= value <= most else f"must be {least} to {most}"


def at_least(least: int) -> Callable[[int], str]:
    """Return a check that a number has no less than this."""
    return lambda value: "" if value >= least else f"must be at least {least}"


def positive(value: int) -> str:
    """Refuse zero and negative numbers."""
    return "" if value > 0 else "must be above zero"


def not_negative(value: int) -> str:
    """Refuse negative numbers."""
    return "" if value >= 0 else "must not be below zero"


def one_of(*words: str) -> Callable[[str], str]:
    """Return a check that a text is one of these."""
    remedy = "must be " + " or ".join(f'"{word}"' for word in words)
    return lambda value: "" if value in words else remedy


def not_blank(value: str) -> str:
    """Refuse a name of nothing but white space."""
    return "" if value.strip() else "must be a name, or left out"


# --- addresses and networks -------------------------------------------------------------------------------------------


def host_and_port(bind: str) -> str:
    """Refuse what is not HOST:PORT."""
    host, colon, port = bind.rpartition(":")
    is_valid = colon and host and port.isascii() and port.isdigit() and int(port) < 2**16
    return "" if is_valid else 'must be "HOST:PORT", such as "127.0.0.1:8080"'


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def public_url(values: Mapping[str, Any]) -> str:
    """Refuse a public URL with more than host, port and path, and plain HTTP beyond this machine."""
    url = urlsplit(values["public_url"])
    hosts = [values["bind"].rpartition(":")[0]]
    if values["public_url"]:
        if url.scheme not in {"http", "https"} or not url.hostname or url.query or url.fragment or url.username:
            return "must be http://HOST or https://HOST, with a port or a path at most"
        hosts.append(url.hostname)
    if values["development"] or url.scheme == "https" or all(not host or _is_loopback(host) for host in hosts):
        return ""
    return "passwords and keys would cross the network in clear: set the https:// address of the proxy in front of bind"


def networks(values: tuple[str, ...]) -> str:
    """Refuse what is not a network in CIDR notation."""
    for text in values:
        try:
            ip_network(text)
        except ValueError:
            return f"{text} is not a network such as 10.0.0.0/8"
    return ""


def not_everybody(values: Mapping[str, Any]) -> str:
    """Refuse to trust all addresses as proxies, except in development."""
    proxies: tuple[str, ...] = values["trusted_proxies"]
    if values["development"] or networks(proxies):
        return ""
    everybody = next((text for text in proxies if ip_network(text).prefixlen == 0), "")
    return f"{everybody} lets anybody claim any address: name the networks of your proxies" if everybody else ""


def ca_file(file: str) -> str:
    """Refuse a file that is not a bundle of certificates."""
    if not file:
        return ""
    try:
        ssl.create_default_context(cafile=file)
    except OSError as error:  # ssl.SSLError is one
        return f"{file} cannot be read: {error.strerror or error}"
    return ""


# --- databases --------------------------------------------------------------------------------------------------------

_DATABASES: Final = ("sqlite", "postgresql+psycopg")


def database_url(url: str) -> str:
    """Refuse databases that are not supported, and TLS options, which are not built."""
    scheme, colon, rest = url.partition("://")
    if not colon or scheme not in _DATABASES:
        return "must be sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
    if scheme == "sqlite" and not rest.lstrip("/"):
        return "must name a file: sqlite:////var/lib/fedgate/fedgate.db"
    if any(option.startswith("ssl") for option in parse_qs(urlsplit(url).query)):
        return "TLS options for PostgreSQL are not built yet: use a unix socket or a private network"
    return ""


class _UnsupportedScheme(NamedTuple):
    schemes: tuple[str, ...]
    remedy: str


_UNSUPPORTED: Final = (
    _UnsupportedScheme(("rediss",), "TLS to Redis is not built yet: use unix://, or redis:// on a private network"),
    _UnsupportedScheme(
        ("sentinel", "redis+sentinel", "redis-sentinel"),
        "Redis Sentinel is not built yet: name one server with redis://",
    ),
    _UnsupportedScheme(
        ("cluster", "redis+cluster", "redis-cluster"), "Redis Cluster is not built yet: name one server with redis://"
    ),
)


_OPEN_REDIS: Final = (
    "a Redis on another machine needs a password, or everybody on the network can sign people out and read whose"
    " sessions live: set requirepass there and write redis://:PASSWORD@HOST:PORT/DB"
)


def redis_url(url: str) -> str:
    """Refuse Redis addresses that are not supported, and a server on another machine that asks for no password."""
    if not url:
        return ""
    parts = urlsplit(url)
    for unsupported in _UNSUPPORTED:
        if parts.scheme in unsupported.schemes:
            return unsupported.remedy
    is_valid = (parts.scheme == "redis" and parts.hostname) or (parts.scheme == "unix" and parts.path)
    if not is_valid:
        return "must be redis://HOST:PORT/DB, unix://PATH, or empty for the embedded server"
    has_password = parts.password or parse_qs(parts.query).get("password")
    return "" if parts.scheme == "unix" or _is_loopback(parts.hostname or "") or has_password else _OPEN_REDIS


# --- token exchange ---------------------------------------------------------------------------------------------------

CLIENT_ENTRY: Final = re.compile(r"(?P<name>[0-9A-Za-z._-]{1,64}):(?P<digest>[0-9a-f]{64})")
_DIGEST_OF_NOTHING: Final = hashlib.sha256().hexdigest()


def exchange_clients(entries: tuple[str, ...]) -> str:
    """Refuse entries that are not NAME:DIGEST; the remedy never repeats an entry, which may be the secret itself."""
    for number, entry in enumerate(entries, 1):
        if not CLIENT_ENTRY.fullmatch(entry) or entry.endswith(_DIGEST_OF_NOTHING):
            return f"client {number} must be NAME:DIGEST, with the SHA-256 of a secret in 64 hexadecimal digits"
    return ""


def registered_clients_exist(values: Mapping[str, Any]) -> str:
    """Refuse to admit only registered clients where none is registered."""
    nobody = values["token_exchange_registered_only"] and not values["token_exchange_clients"]
    return "nobody could exchange: set token_exchange.clients" if nobody else ""


# --- pages ------------------------------------------------------------------------------------------------------------

_DAY: Final = 86_400  # seconds
_PROVIDER: Final = re.compile(r"arn:aws:iam::[0-9]{12}:(?:saml|oidc)-provider/\S+")
_OPERATOR: Final = re.compile(r"arn:aws:iam::[0-9]{12}:(?:root|(?:user|role)/\S+)")
_REALM: Final = re.compile(rf"[^\s=@\\]+={_PROVIDER.pattern}")


def session_lifetime(values: Mapping[str, Any]) -> str:
    """Refuse a lifetime shorter than the idle time, or longer than a day."""
    is_valid = values["pages_idle"] <= values["pages_lifetime"] <= _DAY
    return "" if is_valid else f"must be at least pages.idle, at most {_DAY}"


def realms(values: tuple[str, ...]) -> str:
    """Refuse entries that are not DOMAIN=ARN, and a domain that has two providers."""
    domains = [text.partition("=")[0].casefold() for text in values]
    for text in values:
        if not _REALM.fullmatch(text):
            return f"{text} is not DOMAIN=ARN, such as partner.example=arn:aws:iam::111122223333:saml-provider/Partner"
    twice = next((domain for domain in domains if domains.count(domain) > 1), "")
    return f"{twice} is named twice: the people of a domain have one provider" if twice else ""


def second_factor(values: Mapping[str, Any]) -> str:
    """Refuse names of no provider: after a typing error nobody would be asked for a second factor."""
    for text in values["pages_second_factor"]:
        if text != "iam" and text not in values["directory_names"] and not _PROVIDER.fullmatch(text):
            return f'{text} is no directory of these settings, no ARN of a provider, and not "iam"'
    return ""


def second_factor_exempt(values: Mapping[str, Any]) -> str:
    """Refuse names of no provider, and IAM users: their keys are governed by policies, and root users are never exempt.

    A directory need not be in pages.second_factor: its people who have a second factor must give it in any case.
    """
    for text in values["pages_second_factor_exempt"]:
        if text not in values["directory_names"] and not _PROVIDER.fullmatch(text):
            return f"{text} is no directory of these settings and no ARN of a provider"
    return ""


def operators(values: Mapping[str, Any]) -> str:
    """Refuse what names neither a group of a directory nor an IAM principal: nobody would operate the installation."""
    for text in values["pages_operators"]:
        directory, _bar, group = text.partition("|")
        if not _OPERATOR.fullmatch(text) and not (directory in values["directory_names"] and _is_dn(group)):
            return f"{text} is neither DIRECTORY|DN of a group nor the ARN of an IAM user, a role or a root user"
    return ""


def _is_dn(text: str) -> bool:
    try:
        return bool(normalize_dn(text))
    except ValueError:
        return False


# The custom properties of fedgate.css that an organisation can set.
COLOUR_NAMES: Final = ("accent", "on-accent", "ink", "paper", "surface", "line")
COLOUR: Final = re.compile(
    r"(?P<name>[a-z-]+)=(?P<light>#(?:[0-9a-fA-F]{3}){1,2})(?:/(?P<dark>#(?:[0-9a-fA-F]{3}){1,2}))?"
)
LOGO_TYPES: Final = {".svg": "image/svg+xml", ".png": "image/png", ".webp": "image/webp"}
_MAX_LOGO: Final = 200_000  # bytes
_LINKS: Final = ("https://", "http://", "mailto:", "/")


def logo_file(file: str) -> str:
    """Refuse a logo of another type, one that cannot be read, and one that is too large."""
    if not file:
        return ""
    path = Path(file)
    if path.suffix not in LOGO_TYPES:
        return "must be a file that ends in " + ", ".join(LOGO_TYPES)
    try:
        size = len(path.read_bytes())
    except OSError as error:
        return f"{file} cannot be read: {error.strerror}"
    return f"{file} has {size} bytes: every page shows it, so it may have {_MAX_LOGO}" if size > _MAX_LOGO else ""


def colours(values: tuple[str, ...]) -> str:
    """Refuse colours that are not written in hexadecimal, and names that the style sheet does not have."""
    for text in values:
        match = COLOUR.fullmatch(text)
        if match is None or match["name"] not in COLOUR_NAMES:
            return f"{text} is not NAME=#LIGHT or NAME=#LIGHT/#DARK, NAME being one of {', '.join(COLOUR_NAMES)}"
    return ""


def link(url: str) -> str:
    """Refuse links of other schemes, and links with blanks or control characters."""
    is_valid = not url or (url.startswith(_LINKS) and url.isprintable() and " " not in url)
    return "" if is_valid else "must begin with " + ", ".join(_LINKS)
