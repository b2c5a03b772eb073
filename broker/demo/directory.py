"""The demo directory: an LDAP server on loopback that serves one LDIF file.

ldaptor encodes and decodes the messages. Simple bind, search and a change of one's own password are implemented here;
all other requests are refused.
"""

import argparse
import asyncio
import ctypes
import hmac
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unicodedata import normalize

from ldaptor.protocols import pureber, pureldap

from broker.config.text_file import decode_text
from broker.demo.passwords import CHANGE_AFTER_RESET, PASSWORD_MODIFY, PASSWORD_POLICY, PasswordModify, with_password
from broker.demo.people import LdifEntry, read_ldif
from iam.distinguished_names import normalize_dn, parent_dn

# RFC 4511 appendix A.1.
_SUCCESS, _PROTOCOL_ERROR, _SIZE_LIMIT, _AUTH_METHOD = 0, 2, 4, 7
_UNAVAILABLE_CRITICAL_EXTENSION, _NO_SUCH_OBJECT, _INVALID_DN = 12, 32, 34
_INVALID_CREDENTIALS, _INSUFFICIENT_RIGHTS, _UNWILLING = 49, 50, 53

_SECRET: Final = "userpassword"  # noqa: S105 - an attribute's name
_DN_VALUED: Final = frozenset({"member", "memberof", "uniquemember", "owner", "manager", "seealso"})
_OPERATIONAL: Final = frozenset({"entryuuid", "memberof", "pwdreset"})
_MAX_REQUEST: Final = 256 * 1024  # bytes
_PR_SET_PDEATHSIG: Final = 1  # Linux, prctl(2)
_STANDARD_ERROR: Final = 2

_DECODER: Final = pureldap.LDAPBERDecoderContext_TopLevel(
    inherit=pureldap.LDAPBERDecoderContext_LDAPMessage(
        fallback=pureldap.LDAPBERDecoderContext(fallback=pureber.BERDecoderContext()),
        inherit=pureldap.LDAPBERDecoderContext(fallback=pureber.BERDecoderContext()),
    )
)
# The responses to requests that are not implemented, all refused.
_REFUSED: Final = {
    pureldap.LDAPAddRequest: pureldap.LDAPAddResponse,
    pureldap.LDAPDelRequest: pureldap.LDAPDelResponse,
    pureldap.LDAPModifyRequest: pureldap.LDAPModifyResponse,
    pureldap.LDAPModifyDNRequest: pureldap.LDAPModifyDNResponse,
    pureldap.LDAPCompareRequest: pureldap.LDAPCompareResponse,
}


class Directory:
    """The entries of an LDIF file, read again when the file changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = (0, 0)
        self.entries: dict[str, LdifEntry] = {}
        self._read()

    def refresh(self) -> None:
        """Read the file again if it has changed; if that fails, the entries stay as they were."""
        try:
            self._read()
        except (OSError, ValueError) as error:
            sys.stderr.write(f"demonstration directory: {self._path} is left unread: {error}\n")

    def _read(self) -> None:
        status = self._path.stat()
        stamp = (status.st_mtime_ns, status.st_size)
        if stamp != self._stamp:
            self._stamp = stamp
            entries = read_ldif(decode_text(self._path.read_bytes()))
            self.entries = {entry.dn.casefold(): entry for entry in entries}

    def verify_password(self, dn: str, password: bytes) -> bool:
        """Return whether this is the entry's password; an unknown entry takes as long."""
        entry = self.entries.get(dn.casefold())
        passwords = entry.attributes.get(_SECRET, ()) if entry else ()
        equal = [hmac.compare_digest(password, stored) for stored in passwords or (b"\0",)]
        return any(equal) and bool(passwords)

    def must_change(self, dn: str) -> bool:
        """Return whether ``pwdReset`` requires a new password before any other request."""
        entry = self.entries.get(dn.casefold())
        return entry is not None and entry.texts("pwdReset") == ("TRUE",)

    def change_password(self, dn: str, password: bytes) -> None:
        """Write a new password into the file; raise OSError, ValueError."""
        text = with_password(decode_text(self._path.read_bytes()), dn, password)
        new_file = self._path.with_suffix(".new")
        new_file.touch(mode=0o600)  # before the text: the passwords are in clear text
        new_file.write_text(text, encoding="utf-8")
        new_file.replace(self._path)
        self._read()

    def within(self, base: str, scope: int) -> Iterator[LdifEntry]:
        """Yield the entries in the scope (RFC 4511 4.5.1.2: 0 base, 1 one level, 2 subtree) of a base."""
        folded = base.casefold()
        for dn, entry in self.entries.items():
            below = dn.endswith("," + folded)
            one_level = below and parent_dn(dn) == folded
            if (dn == folded and scope != 1) or (below and scope == 2) or (one_level and scope == 1):  # noqa: PLR2004 - RFC 4511
                yield entry


def matches(filter_: Any, entry: LdifEntry) -> bool:  # noqa: ANN401 - ldaptor publishes no types
    """Return whether an entry matches a search filter; Undefined (RFC 4511 4.5.1.7) does not match."""
    matcher = _MATCHERS.get(type(filter_))
    return matcher is not None and matcher(filter_, entry)


def _values(entry: LdifEntry, attribute: bytes) -> tuple[str, ...]:
    name = attribute.decode(errors="replace").lower()
    if name == _SECRET:
        return ()  # otherwise passwords could be guessed by filters, without a bind
    if name in {"dn", "distinguishedname", "entrydn"}:
        return (_folded("member", entry.dn),)
    return tuple(_folded(name, value) for value in entry.texts(name))


def _folded(attribute: str, value: str) -> str:
    """Return a value in the form that is compared, for caseIgnoreMatch or distinguishedNameMatch (RFC 4517 4.2)."""
    if attribute in _DN_VALUED:
        with suppress(ValueError):
            value = normalize_dn(value)
    return " ".join(part for part in normalize("NFKC", value).casefold().split(" ") if part)  # RFC 4518 2.3


def _equal(filter_: Any, entry: LdifEntry) -> bool:  # noqa: ANN401 - ldaptor publishes no types
    attribute = filter_.attributeDesc.value
    # Octets that are no text, such as an objectGUID, equal no value of the file and end no connection.
    value = filter_.assertionValue.value.decode(errors="surrogateescape")
    return _folded(attribute.decode(errors="replace").lower(), value) in _values(entry, attribute)


def _like(filter_: Any, entry: LdifEntry) -> bool:  # noqa: ANN401 - ldaptor publishes no types
    return any(_contains(value, filter_.substrings) for value in _values(entry, filter_.type))


def _contains(value: str, parts: list[Any]) -> bool:
    position = 0
    for part in parts:
        text = part.value.decode(errors="surrogateescape").casefold()
        if isinstance(part, pureldap.LDAPFilter_substrings_final):
            return value.endswith(text) and len(value) - len(text) >= position
        start = value.find(text, position)
        if start < 0 or (isinstance(part, pureldap.LDAPFilter_substrings_initial) and start):
            return False
        position = start + len(text)
    return True


_MATCHERS: Final[Mapping[type, Callable[[Any, LdifEntry], bool]]] = {
    pureldap.LDAPFilter_and: lambda filter_, entry: all(matches(part, entry) for part in filter_),
    pureldap.LDAPFilter_or: lambda filter_, entry: any(matches(part, entry) for part in filter_),
    pureldap.LDAPFilter_not: lambda filter_, entry: not matches(filter_.value, entry),
    pureldap.LDAPFilter_present: lambda filter_, entry: (
        filter_.value.lower() == b"objectclass" or bool(_values(entry, filter_.value))
    ),
    pureldap.LDAPFilter_equalityMatch: _equal,
    pureldap.LDAPFilter_approxMatch: _equal,
    pureldap.LDAPFilter_substrings: _like,
}


@dataclass(frozen=True, slots=True)
class _BindOutcome:
    """The responses to a bind, and the DN that is bound afterwards, or None."""

    responses: tuple[Any, ...]
    bound: str | None = None


def _bind(directory: Directory, request: Any) -> _BindOutcome:  # noqa: ANN401 - ldaptor publishes no types
    wrong = {
        _PROTOCOL_ERROR: request.version != 3,  # noqa: PLR2004 - LDAP's version
        _AUTH_METHOD: bool(request.sasl),
        # RFC 4513 5.1.2: servers SHOULD by default fail a bind with a name and no password.
        _UNWILLING: bool(request.dn) and not request.auth,
    }
    code = next((code for code, applies in wrong.items() if applies), _SUCCESS)
    bound = None
    if code == _SUCCESS and request.dn:
        with suppress(ValueError):
            bound = normalize_dn(request.dn.decode())
        if bound is None or not directory.verify_password(bound, request.auth):
            code, bound = _INVALID_CREDENTIALS, None
    return _BindOutcome((pureldap.LDAPBindResponse(resultCode=code),), bound)


def _modify_password(directory: Directory, request: PasswordModify, bound: str | None) -> int:
    """Change the password of the bound entry, and return the result code."""
    if bound is None or request.identity.decode(errors="replace") not in {"", bound}:
        return _INSUFFICIENT_RIGHTS
    if not directory.verify_password(bound, request.old):
        return _INVALID_CREDENTIALS
    if not request.new:
        return _UNWILLING  # RFC 3062 section 2: the server would have to generate one
    try:
        directory.change_password(bound, request.new)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"demonstration directory: a password is left as it was: {error}\n")
        return _UNWILLING
    return _SUCCESS


def _search(directory: Directory, request: Any, bound: str | None) -> Iterator[Any]:  # noqa: ANN401 - ldaptor publishes no types
    if not request.baseObject and request.scope == 0:
        yield pureldap.LDAPSearchResultEntry(objectName="", attributes=[("supportedLDAPVersion", ["3"])])
        yield pureldap.LDAPSearchResultDone(resultCode=_SUCCESS)
        return
    code = _INSUFFICIENT_RIGHTS
    if bound:
        try:
            base = normalize_dn(request.baseObject.decode())
            code = _SUCCESS if base.casefold() in directory.entries else _NO_SUCH_OBJECT
        except ValueError:
            code = _INVALID_DN
    if code == _SUCCESS:
        entries = [entry for entry in directory.within(base, request.scope) if matches(request.filter, entry)]
        limit = request.sizeLimit or len(entries)
        for entry in entries[:limit]:
            attributes = _selected_attributes(entry, request.attributes, types_only=bool(request.typesOnly))
            yield pureldap.LDAPSearchResultEntry(objectName=entry.dn, attributes=attributes)
        code = _SUCCESS if len(entries) <= limit else _SIZE_LIMIT
    yield pureldap.LDAPSearchResultDone(resultCode=code)


def _selected_attributes(
    entry: LdifEntry, requested: list[bytes], *, types_only: bool
) -> list[tuple[str, list[bytes]]]:
    """Return the requested attributes: ``*`` selects all user attributes, ``+`` all operational ones (RFC 3673)."""
    selectors = {name.decode(errors="replace").lower() for name in requested} or {"*"}
    selected: list[tuple[str, list[bytes]]] = []
    for name, values in entry.attributes.items():
        group = "+" if name in _OPERATIONAL else "*"
        if name != _SECRET and (name in selectors or group in selectors):
            selected.append((entry.names[name], [] if types_only else list(values)))
    return selected


class _LdapProtocol(asyncio.Protocol):
    """The connection of one client."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._buffer = b""
        self._bound: str | None = None
        self._restricted = False  # after a bind of an entry with pwdReset: only the password may be changed
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker: create_server makes no other
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            self._read()
        except Exception:  # noqa: BLE001 - ldaptor's decoder raises anything at all for octets that are no BER
            self._close()
        if len(self._buffer) > _MAX_REQUEST:
            self._close()

    def _read(self) -> None:
        while self._buffer:
            try:
                message, length = pureber.berDecodeObject(_DECODER, self._buffer)
            except pureber.BERExceptionInsufficientData:
                return
            if message is None:
                return
            self._buffer = self._buffer[length:]
            self._handle(message)

    def _handle(self, message: Any) -> None:  # noqa: ANN401 - ldaptor publishes no types
        request = message.value
        self._directory.refresh()
        if isinstance(request, pureldap.LDAPUnbindRequest):
            self._close()
        elif isinstance(request, pureldap.LDAPAbandonRequest):
            return  # every response is sent before the next request is read
        else:
            octets = b"".join(
                pureldap.LDAPMessage(
                    response, controls=self._response_controls(response, message.controls), id=message.id
                ).toWire()
                for response in self._responses(request, message.controls)
            )
            if self._transport is not None:
                self._transport.write(octets)

    def _response_controls(self, response: Any, controls: Any) -> list[Any] | None:  # noqa: ANN401 - ldaptor publishes no types
        """Return the password policy control where the password must be changed and the request has the control."""
        must_change = self._restricted and isinstance(response, pureldap.LDAPBindResponse)
        requested = any(control_type == PASSWORD_POLICY for control_type, *_ in controls or ())
        return [CHANGE_AFTER_RESET] if must_change and requested else None

    def _responses(self, request: Any, controls: Any) -> Iterator[Any]:  # noqa: ANN401 - ldaptor publishes no types
        critical = any(criticality for _, criticality, _ in controls or ())
        if isinstance(request, pureldap.LDAPBindRequest):
            self._bound = None  # RFC 4511 4.2.1: a bind ends earlier rights, even if it fails
            outcome = _bind(self._directory, request)
            self._bound = outcome.bound
            self._restricted = self._bound is not None and self._directory.must_change(self._bound)
            yield from outcome.responses
        elif isinstance(request, pureldap.LDAPSearchRequest):
            if critical:
                yield pureldap.LDAPSearchResultDone(resultCode=_UNAVAILABLE_CRITICAL_EXTENSION)
            else:
                yield from _search(self._directory, request, None if self._restricted else self._bound)
        elif type(request) in _REFUSED:
            yield _REFUSED[type(request)](resultCode=_UNWILLING, errorMessage="change the LDIF file instead")
        elif isinstance(request, pureldap.LDAPExtendedRequest) and request.requestName == PASSWORD_MODIFY:
            change = PasswordModify.decode(request.requestValue)
            code = _modify_password(self._directory, change, self._bound)
            self._restricted = self._restricted and code != _SUCCESS
            yield pureldap.LDAPExtendedResponse(resultCode=code)
        else:
            yield pureldap.LDAPExtendedResponse(resultCode=_PROTOCOL_ERROR, errorMessage="bind and search only")

    def _close(self) -> None:
        self._buffer = b""
        if self._transport is not None:
            self._transport.close()


def die_with_parent(parent: int) -> None:
    """Have the kernel end this process when the thread that started it ends; does nothing outside Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # the parent ended before prctl
        sys.exit(0)


async def serve(directory: Directory, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; call ``ready`` with the URL when connections are accepted; raise OSError."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for signal_ in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_, stop.set)
    server = await loop.create_server(lambda: _LdapProtocol(directory), host, port)
    ready(f"ldap://{host}:{server.sockets[0].getsockname()[1]}")
    await stop.wait()
    server.close()


def announce(fd: int) -> Callable[[str], None]:
    """Return a function that writes the URL as one line, and closes the descriptor unless it is a standard stream."""

    def ready(url: str) -> None:
        os.write(fd, f"{url}\n".encode())
        if fd > _STANDARD_ERROR:
            os.close(fd)

    return ready


def main(arguments: list[str] | None = None) -> None:
    """Run the directory from the command line."""
    parent = os.getppid()
    parser = argparse.ArgumentParser(prog="python -m broker.demo.directory", description=__doc__)
    parser.add_argument("--ldif", type=Path, required=True, help="the file to serve")
    parser.add_argument("--bind", default="127.0.0.1:0", help="address and port; port 0 takes a free one")
    parser.add_argument(
        "--ready-fd", type=int, default=1, help="file descriptor for the URL, by default standard output"
    )
    options = parser.parse_args(arguments)
    host, _, port = options.bind.rpartition(":")
    if not host.startswith("127."):
        parser.error("--bind: the passwords are in clear text, so this serves loopback alone")
    die_with_parent(parent)
    try:
        directory = Directory(options.ldif)
    except (OSError, ValueError) as error:
        parser.error(f"--ldif: {error}")
    asyncio.run(serve(directory, host, int(port), announce(options.ready_fd)))


if __name__ == "__main__":
    main()
