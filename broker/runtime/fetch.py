"""Fetches documents from other servers, such as an identity provider's metadata, protected against request forgery.

Only https, no redirects, a limited size and time, and a connection to the very address that was checked, so that a
second DNS answer cannot replace it (THREATS F09; OWASP, "Server-Side Request Forgery Prevention"). Addresses of private
networks are refused unless the settings allow them.
"""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from http.client import HTTPConnection, HTTPException, HTTPResponse
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any
from urllib.parse import SplitResult, urlencode, urlsplit

_MAX_RESPONSE = 1_000_000  # bytes: a server must not fill our memory (THREATS F09)
_CHUNK = 65_536
# The public range of IPv6 ("IANA IPv6 Global Unicast Address Assignments"), and ranges that are not public or embed an
# IPv4 address to which a gateway would forward.
_PUBLIC_IPV6 = ip_network("2000::/3")
_NOT_PUBLIC = tuple(
    ip_network(text)
    for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "192.0.0.0/24", "192.88.99.0/24")
)

Networks = tuple[IPv4Network | IPv6Network, ...]
Address = IPv4Address | IPv6Address


class FetchError(Exception):
    """A document could not be fetched, or its address is not allowed; the message says why.

    ``status`` is the HTTP status of a response other than 200, or None where there was no response.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class FetchBusy(FetchError):
    """Nothing was asked for, because too much is being asked for on behalf of this account: try again later."""


# Returns what ``socket.getaddrinfo`` does for a host and port, on behalf of an account, within so many seconds.
Resolver = Callable[[str, int, str, float], Sequence[Any]]


def resolve_here(host: str, port: int, _account_id: str, _within: float) -> Sequence[Any]:
    """Resolve a name in this very thread; the resolver has its own timeouts and cannot be interrupted."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches documents; ``allowed`` are private networks that may be reached, ``plain`` allows http (development).

    ``account_id`` is the account whose URLs are fetched, empty for those of the operator.
    """

    tls: ssl.SSLContext
    allowed: Networks = ()
    plain: bool = False
    within: float = 5.0  # seconds, for the whole request
    resolve: Resolver = resolve_here
    account_id: str = ""

    def on_behalf_of(self, account_id: str) -> "Fetcher":
        """Return the fetcher for the URLs of an account."""
        return replace(self, account_id=account_id)

    def get(self, url: str, **headers: str) -> bytes:
        """Return the document at a URL; raise FetchError."""
        return self._request("GET", url, None, headers)

    def post(self, url: str, form: Mapping[str, str], **headers: str) -> bytes:
        """Post a form and return the response; raise FetchError."""
        merged = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json", **headers}
        return self._request("POST", url, urlencode(form).encode(), merged)

    def _request(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> bytes:
        parts = self._parts(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        tls = self.tls if parts.scheme == "https" else None
        start = time.monotonic()
        address = self._resolve_allowed_address(host, port)
        if time.monotonic() - start > self.within:
            raise FetchError(f"{host} cannot be asked: its name is not resolved in time")
        connection = _Pinned(host, port, address, tls, self.within)
        # The timeout of a socket is for each read: a server that sends one byte at a time would never reach it.
        alarm = threading.Timer(self.within, connection.hang_up)
        alarm.daemon = True
        alarm.start()
        try:
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            merged = {"Accept-Encoding": "identity", "User-Agent": "fedgate", **headers}
            connection.request(method, target, body, merged)
            with connection.getresponse() as response:
                content = _body(response)
        except (OSError, HTTPException, ValueError) as error:
            reason = f"it takes longer than {self.within:.0f} s" if connection.hung_up else _reason(error)
            raise FetchError(f"{host} cannot be asked: {reason}") from error
        finally:
            alarm.cancel()
            connection.end()
        if connection.hung_up:  # the end of the response may be the shutdown of our timer
            raise FetchError(f"{host} cannot be asked: it takes longer than {self.within:.0f} s")
        return content

    def _parts(self, url: str) -> SplitResult:
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError as error:
            raise FetchError("the address cannot be read") from error
        if parts.scheme != "https" and not (self.plain and parts.scheme == "http"):
            raise FetchError("the address must begin with https://")
        if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
            raise FetchError("the address has characters that no address has")
        if not parts.hostname or "@" in parts.netloc or parts.fragment:
            raise FetchError("the address must have a host, and neither a user nor a fragment")
        return parts

    def _resolve_allowed_address(self, host: str, port: int) -> Address:
        """Return the first address of a host; all its addresses must be allowed.

        Otherwise a name with a public and a private address would reach the private one by chance.
        """
        try:
            entries = self.resolve(host, port, self.account_id, self.within)
        except (OSError, UnicodeError) as error:
            raise FetchError(f"{host} has no address") from error
        addresses = [ip_address(str(entry[4][0]).partition("%")[0]) for entry in entries]
        for address in addresses:
            if not self._is_allowed_address(address):
                raise FetchError(f"{host} is at the private address {address}, which outbound.allowed_networks lacks")
        if not addresses:
            raise FetchError(f"{host} has no address")
        return addresses[0]

    def _is_allowed_address(self, address: Address) -> bool:
        inner = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        if inner is not None:
            address = inner
        if any(address in network for network in self.allowed):
            return True
        if isinstance(address, IPv6Address) and address not in _PUBLIC_IPV6:
            return False
        return address.is_global and not address.is_multicast and not any(address in network for network in _NOT_PUBLIC)


def _body(response: HTTPResponse) -> bytes:
    if response.status != 200:  # noqa: PLR2004 - redirects are not followed
        raise FetchError(f"the answer has status {response.status}", response.status)
    # Compressed data could inflate beyond the limit (THREATS D24).
    if response.getheader("Content-Encoding", "identity").lower() not in ("identity", ""):
        raise FetchError("the answer is compressed, which was not asked for")
    data = b""
    while chunk := response.read(_CHUNK):
        data += chunk
        if len(data) > _MAX_RESPONSE:
            raise FetchError(f"the answer is larger than {_MAX_RESPONSE} bytes")
    return data


class _Pinned(HTTPConnection):
    """A connection to an address that was checked; the host name is used for TLS and the Host header only."""

    def __init__(self, host: str, port: int, address: Address, tls: ssl.SSLContext | None, within: float) -> None:
        super().__init__(host, port, timeout=within)
        self.hung_up = False
        self._live: socket.socket | None = None
        self._address = str(address)
        self._tls = tls

    def hang_up(self) -> None:
        """Shut the connection down from another thread, whatever it waits for."""
        self.hung_up = True
        if self._live is not None:
            with suppress(OSError):
                # Not SSLSocket.shutdown, after which the reader would go on with the encrypted bytes.
                socket.socket.shutdown(self._live, socket.SHUT_RDWR)

    def end(self) -> None:
        """Close the socket, too: HTTPConnection drops it when a response begins that ends with the connection."""
        self.close()
        if self._live is not None:
            self._live.close()

    def connect(self) -> None:
        """Connect, and check the certificate against the name."""
        plain = socket.create_connection((self._address, self.port), self.timeout)
        self.sock = self._live = plain
        if self._tls:
            # The handshake is a separate step, so that the timer can shut down a slow one.
            self.sock = self._live = encrypted = self._tls.wrap_socket(
                plain, server_hostname=self.host, do_handshake_on_connect=False
            )
            self._check()
            encrypted.do_handshake()
        self._check()

    def _check(self) -> None:
        if self.hung_up:
            raise TimeoutError


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    return getattr(error, "strerror", None) or type(error).__name__
