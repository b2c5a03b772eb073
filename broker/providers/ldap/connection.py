"""One connection to one directory server: the only module that uses ldap3, and that replaces its unsafe defaults.

By default ldap3 validates no certificate (THREATS E05), follows a referral to any host with the person's password
(THREATS E04), waits without limit (THREATS E13) and sends each request in two packets. So this module opens, encrypts
and limits the socket, and ldap3 only encodes and decodes.
"""

import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import ldap3
from ldap3.operation.bind import bind_operation
from ldap3.operation.extended import extended_operation
from ldap3.operation.modify import modify_operation
from ldap3.protocol.controls import build_control
from ldap3.protocol.rfc3062 import PasswdModifyRequestValue

from broker.providers.ldap.bind_errors import policy_error

_START_TLS: Final = "1.3.6.1.4.1.1466.20037"  # RFC 4511 4.14.1
_PASSWORD_MODIFY: Final = "1.3.6.1.4.1.4203.1.11.1"  # noqa: S105 - RFC 3062
_PASSWORD_POLICY: Final = "1.3.6.1.4.1.42.2.27.8.5.1"  # noqa: S105 - an object identifier
# Bytes of one whole response. Thousands of groups with long names fit; a hostile or broken server must not fill our
# memory (THREATS E13).
_MAX_RESPONSE: Final = 4 * 1024 * 1024
_RECEIVE: Final = 64 * 1024
_PORTS: Final = {"ldap": 389, "ldaps": 636, "ldapi": 0}
_SIZE_LIMIT_EXCEEDED: Final = 4
_NO_SUCH_OBJECT: Final = 32
_INSUFFICIENT_ACCESS: Final = 50
# draft-behera-ldap-password-policy-10, section 6.1: asks for the reason of a refusal. Not critical, so that a server
# without the control still binds.
_PASSWORD_POLICY_CONTROL: Final = [build_control(_PASSWORD_POLICY, False, None)]  # noqa: FBT003 - ldap3's own order: criticality

BASE: Final = ldap3.BASE
SUBTREE: Final = ldap3.SUBTREE


class LdapConnectionError(Exception):
    """The server did not answer as a directory must; ``security`` marks a possible attack on the connection."""

    def __init__(self, reason: str, *, security: bool = False) -> None:
        super().__init__(reason)
        self.security = security


class ChangeUnconfirmed(Exception):
    """The connection failed after a change was sent: it may have been made, so it must not be sent again."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where one server listens: ``scheme`` is ldap, ldaps or ldapi; ``host`` is the socket's path for ldapi."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Return the address in an LDAP URL without a path; raise ValueError."""
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.netloc or parts.path.strip("/") or parts.query or parts.username:
            raise ValueError(f"not an LDAP URL of scheme and host alone: {url!r}")
        if parts.scheme == "ldapi":
            return cls("ldapi", unquote(parts.netloc), 0)
        return cls(parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme])

    @property
    def local(self) -> bool:
        """Return whether the connection stays on this machine, where no one can listen (THREATS E07)."""
        if self.scheme == "ldapi" or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return self.host if self.scheme == "ldapi" else f"{self.scheme}://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Transport:
    """How to connect to every server of one directory; timeouts are in seconds."""

    tls: ssl.SSLContext
    start_tls: bool
    connect_timeout: float
    receive_timeout: float
    monotonic: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class LdapResult:
    """The result of a request: RFC 4511's resultCode, its diagnosticMessage, and the password policy's error."""

    result: int
    message: str
    policy_error: int | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a directory; the names of attributes are in lower case."""

    dn: str
    attributes: Mapping[str, tuple[bytes, ...]]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The entries that a search returned; ``complete`` is False where the server stopped at the size limit.

    ``references`` are the URLs of other servers that may hold more (RFC 4511 4.5.3); they are never followed.
    """

    entries: tuple[Entry, ...]
    complete: bool
    references: tuple[str, ...] = ()


def tls_context(ca_file: str, *, insecure_skip_tls_verify: bool) -> ssl.SSLContext:
    """Return a context that checks chain and host name and refuses TLS below 1.2 (THREATS E05).

    It reads the CA file, so callers create it once for each directory; raise OSError.
    """
    if ca_file:
        return _new_context(ca_file, insecure_skip_tls_verify=insecure_skip_tls_verify)
    return _context_of_system(insecure_skip_tls_verify=insecure_skip_tls_verify)


@cache
def _context_of_system(*, insecure_skip_tls_verify: bool) -> ssl.SSLContext:
    """Return a context that trusts the system's authorities, cached: to read all of them takes 50 ms."""
    return _new_context(None, insecure_skip_tls_verify=insecure_skip_tls_verify)


def _new_context(ca_file: str | None, *, insecure_skip_tls_verify: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if insecure_skip_tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class _DeadlineSocket:
    """A socket for ldap3, with a deadline and a maximum size for each whole response.

    A plain socket timeout starts again with every packet: a server that sends one byte at a time would never reach it
    (THREATS E13).
    """

    def __init__(self, sock: socket.socket, monotonic: Callable[[], float]) -> None:
        self._sock = sock
        self._monotonic = monotonic
        self._deadline = 0.0
        self._remaining_bytes = 0

    def expect(self, seconds: float) -> None:
        self._deadline = self._monotonic() + seconds
        self._remaining_bytes = _MAX_RESPONSE

    def _set_timeout(self) -> None:
        remaining = self._deadline - self._monotonic()
        if remaining <= 0:
            raise TimeoutError("the answer took too long")
        self._sock.settimeout(remaining)

    def sendall(self, octets: bytes) -> None:
        self._set_timeout()
        self._sock.sendall(octets)

    def recv(self, size: int) -> bytes:
        self._set_timeout()
        # ldap3 asks for 4 KiB at a time, and would copy a large response a thousand times.
        octets = self._sock.recv(max(size, _RECEIVE))
        self._remaining_bytes -= len(octets)
        if self._remaining_bytes < 0:
            raise OSError("the answer is too large")
        return octets

    def encrypt(self, context: ssl.SSLContext, host: str) -> None:
        self._set_timeout()
        self._sock = _encrypt(self._sock, context, host)

    def shutdown(self, how: int) -> None:
        self._sock.shutdown(how)

    def close(self) -> None:
        self._sock.close()


class LdapConnection:
    """An open connection, for one caller at a time; every method may raise LdapConnectionError."""

    def __init__(self, address: Address, transport: Transport) -> None:
        self.address = address
        self._transport = transport
        self._socket = _connect(address, transport)
        try:
            self._ldap = _attach(address, self._socket)
            if transport.start_tls and address.scheme == "ldap":
                self._start_tls()
        except BaseException:
            self._socket.close()
            raise

    def bind(self, dn: str, password: str) -> LdapResult:
        """Bind with a DN and its password; afterwards the connection has that DN's rights, or none after a refusal."""
        if not dn or not password:
            # RFC 4513 5.1.2: a bind with an empty name or password succeeds as anonymous, whoever it is (THREATS E01).
            raise LdapConnectionError("a bind needs a name and a password")
        # Bytes, not text: ldap3 would apply SASLprep, which the directory may not have done when the password was set.
        return self._request("bindRequest", bind_operation(3, ldap3.SIMPLE, dn, password.encode()))

    def modify_own_password(self, old: str, new: str) -> LdapResult:
        """Change the password of the bound entry (RFC 3062), as bytes as in ``bind``; raise ChangeUnconfirmed."""
        value = PasswdModifyRequestValue()
        value["oldPasswd"], value["newPasswd"] = old.encode(), new.encode()
        return self._change("extendedReq", extended_operation(_PASSWORD_MODIFY, value))

    def replace_unicode_password(self, dn: str, old: str, new: str) -> LdapResult:
        """Change a password in Active Directory, which compares the old one; raise ChangeUnconfirmed.

        Source: MS-ADTS 3.1.1.3.1.5: deleting one unicodePwd and adding another is a change, for which the server
        checks the old password. Replacing the value would be a reset: with the rights of a service account it could
        succeed whatever the old password is.
        """
        changes = [(ldap3.MODIFY_DELETE, [_unicode_password(old)]), (ldap3.MODIFY_ADD, [_unicode_password(new)])]
        return self._change("modifyRequest", modify_operation(dn, {"unicodePwd": changes}, auto_encode=False))

    def search(
        self, base: str, filter_: str, attributes: Sequence[str], *, limit: int, scope: str = SUBTREE
    ) -> SearchResult:
        """Return the matching entries, at most ``limit``; no reference to another server is followed (THREATS E04)."""
        self._send(
            self._ldap.search,
            base,
            filter_,
            search_scope=scope,
            dereference_aliases=ldap3.DEREF_NEVER,
            attributes=list(attributes) or [ldap3.NO_ATTRIBUTES],
            size_limit=limit,
            time_limit=max(1, int(self._transport.receive_timeout)),
        )
        result = int(self._ldap.result["result"])
        # An unreadable root DSE is treated as an empty one; any other entry that may not be read could be one that a
        # decision needs, and is an error.
        if scope == BASE and (result == _NO_SUCH_OBJECT or (not base and result == _INSUFFICIENT_ACCESS)):
            return SearchResult((), complete=True)
        if result not in {0, _SIZE_LIMIT_EXCEEDED}:
            raise LdapConnectionError(f"search under {base!r} ended with {self._ldap.result['description']}")
        entries = tuple(_entry(raw) for raw in self._ldap.response if raw["type"] == "searchResEntry")
        references = tuple(
            str(uri) for raw in self._ldap.response if raw["type"] == "searchResRef" for uri in raw["uri"]
        )
        return SearchResult(entries, complete=result == 0, references=references)

    def close(self) -> None:
        """Close the socket without an unbind request, which could block."""
        self._socket.close()

    def _change(self, kind: str, request: Any) -> LdapResult:  # noqa: ANN401 - ldap3 publishes no types
        # Checked here too, not only in the settings: no new password crosses the network in clear text (THREATS E06).
        if not (self.address.local or self.address.scheme == "ldaps" or self._transport.start_tls):
            raise LdapConnectionError("a new password is sent over an encrypted connection alone", security=True)
        self._ldap.fast_decoder = False  # it cannot read the referral in an extended response
        try:
            return self._request(kind, request)
        except LdapConnectionError as error:
            raise ChangeUnconfirmed(str(error)) from error
        finally:
            self._ldap.fast_decoder = True

    def _request(self, kind: str, request: Any) -> LdapResult:  # noqa: ANN401 - ldap3 publishes no types
        self._send(
            lambda: self._ldap.post_send_single_response(self._ldap.send(kind, request, _PASSWORD_POLICY_CONTROL))
        )
        self._ldap.request = None  # ldap3 keeps the last request, with the password in it
        result: dict[str, Any] = self._ldap.result
        control = result.get("controls", {}).get(_PASSWORD_POLICY, {})
        return LdapResult(int(result["result"]), result["message"], policy_error(control.get("value")))

    def _start_tls(self) -> None:
        """Encrypt the connection, or raise; it never continues in clear text (THREATS E06).

        Whoever can change packets can remove or refuse StartTLS, to read the password that follows.
        """
        try:
            self._send(self._ldap.extended, _START_TLS)
            refused = self._ldap.result["result"] != 0
        except LdapConnectionError as error:
            raise LdapConnectionError(f"StartTLS: {error}", security=True) from error
        if refused:
            raise LdapConnectionError("the server refuses StartTLS", security=True)
        self._socket.expect(self._transport.connect_timeout)
        self._socket.encrypt(self._transport.tls, self.address.host)

    def _send(self, request: Callable[..., object], *arguments: object, **options: object) -> None:
        self._socket.expect(self._transport.receive_timeout)
        try:
            request(*arguments, **options)
        except Exception as error:  # noqa: BLE001 - ldap3's decoder raises anything at all for octets that are no BER
            # "from None": a traceback into ldap3 has the request, password included, in its frames.
            raise LdapConnectionError(f"{type(error).__name__}: {error}"[:300]) from None


def _connect(address: Address, transport: Transport) -> _DeadlineSocket:
    try:
        sock = _dial(address, transport.connect_timeout)
    except OSError as error:
        raise LdapConnectionError(f"connect: {error}") from error
    limited = _DeadlineSocket(sock, transport.monotonic)
    if address.scheme == "ldaps":
        limited.expect(transport.connect_timeout)
        try:
            limited.encrypt(transport.tls, address.host)
        except BaseException:
            sock.close()
            raise
    return limited


def _dial(address: Address, timeout: float) -> socket.socket:
    if address.scheme == "ldapi":
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(timeout)
        try:
            sock.connect(address.host)
        except OSError:
            sock.close()
            raise
        return sock
    sock = socket.create_connection((address.host, address.port), timeout)
    # Without it the second packet of a request waits 40 ms for the server's delayed acknowledgement.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _encrypt(sock: socket.socket, context: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    try:
        return context.wrap_socket(sock, server_hostname=host)
    except ssl.SSLError as error:
        raise LdapConnectionError(f"TLS: {error}", security=True) from error
    except OSError as error:
        raise LdapConnectionError(f"TLS: {error}") from error


def _attach(address: Address, sock: _DeadlineSocket) -> Any:  # noqa: ANN401 - ldap3 publishes no types
    server = ldap3.Server(address.host or "localhost", port=address.port or 389, get_info=ldap3.NONE)
    connection = ldap3.Connection(
        server,
        client_strategy=ldap3.SYNC,
        auto_referrals=False,  # THREATS E04
        check_names=False,
        auto_escape=False,  # dn.escape_filter_value escapes; twice would change the value
        return_empty_attributes=False,
        read_only=True,
    )
    # What the strategy's own open() sets after it has opened a socket.
    connection.strategy._outstanding = {}  # noqa: SLF001 - see above
    connection.socket = sock
    connection.closed = False
    connection.listening = True
    return connection


def _unicode_password(password: str) -> bytes:
    return f'"{password}"'.encode("utf-16-le")


def _entry(raw: Mapping[str, Any]) -> Entry:
    attributes = {
        name.lower(): tuple(bytes(value) for value in values) for name, values in raw["raw_attributes"].items()
    }
    return Entry(str(raw["dn"]), attributes)
