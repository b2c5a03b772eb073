"""The demonstration directory as a program: real LDAP on loopback, served from one LDIF file.

ldaptor encodes and decodes the messages; the rest is here, since it is little: simple bind, search, a person's own
password, and no for all else.
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

from ldaptor.protocols import pureber, pureldap

from broker.demo.passwords import CHANGE_AFTER_RESET, PASSWORD_MODIFY, PASSWORD_POLICY, PasswordModify, with_password
from broker.demo.people import LdifEntry, read_ldif
from broker.providers.ldap.dn import normalise_dn, parent_dn

# RFC 4511 appendix A.1.
_SUCCESS, _PROTOCOL_ERROR, _SIZE_LIMIT, _AUTH_METHOD = 0, 2, 4, 7
_UNAVAILABLE_CRITICAL_EXTENSION, _NO_SUCH_OBJECT, _INVALID_DN = 12, 32, 34
_INVALID_CREDENTIALS, _INSUFFICIENT_RIGHTS, _UNWILLING = 49, 50, 53

_SECRET: Final = "userpassword"  # noqa: S105 - an attribute's name
_DN_VALUED: Final = frozenset({"member", "memberof", "uniquemember", "owner", "manager", "seealso"})
_OPERATIONAL: Final = frozenset({"entryuuid", "memberof", "pwdreset"})
_MAX_REQUEST: Final = 256 * 1024
_PR_SET_PDEATHSIG: Final = 1
_STANDARD_ERROR: Final = 2

_DECODER: Final = pureldap.LDAPBERDecoderContext_TopLevel(
    inherit=pureldap.LDAPBERDecoderContext_LDAPMessage(
        fallback=pureldap.LDAPBERDecoderContext(fallback=pureber.BERDecoderContext()),
        inherit=pureldap.LDAPBERDecoderContext(fallback=pureber.BERDecoderContext()),
    )
)
# What a request that changes something is answered with.
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
        """Read the file again if it was saved; a file that cannot be read leaves everything as it was."""
        try:
            self._read()
        except (OSError, ValueError) as error:
            sys.stderr.write(f"demonstration directory: {self._path} is left unread: {error}\n")

    def _read(self) -> None:
        status = self._path.stat()
        stamp = (status.st_mtime_ns, status.st_size)
        if stamp != self._stamp:
            self._stamp = stamp
            entries = read_ldif(self._path.read_text(encoding="utf-8"))
            self.entries = {entry.dn.casefold(): entry for entry in entries}

    def verify_password(self, dn: str, password: bytes) -> bool:
        """Say whether this is the entry's password; an unknown entry takes as long."""
        entry = self.entries.get(dn.casefold())
        passwords = entry.attributes.get(_SECRET, ()) if entry else ()
        equal = [hmac.compare_digest(password, known) for known in passwords or (b"\0",)]
        return any(equal) and bool(passwords)

    def must_change(self, dn: str) -> bool:
        """Say whether this person has to change the password before anything else, as ``pwdReset`` says."""
        entry = self.entries.get(dn.casefold())
        return entry is not None and entry.texts("pwdReset") == ("TRUE",)

    def change_password(self, dn: str, password: bytes) -> None:
        """Write a new password into the file; raises OSError and ValueError."""
        text = with_password(self._path.read_text(encoding="utf-8"), dn, password)
        written = self._path.with_suffix(".new")
        written.touch(mode=0o600)
        written.write_text(text, encoding="utf-8")
        written.replace(self._path)
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
    """Say whether an entry passes a search filter; what is undefined in RFC 4511 4.5.1.7 does not match."""
    matcher = _MATCHERS.get(type(filter_))
    return matcher is not None and matcher(filter_, entry)


def _values(entry: LdifEntry, attribute: bytes) -> tuple[str, ...]:
    name = attribute.decode().lower()
    if name == _SECRET:
        return ()  # a filter would be a way to guess it
    if name in {"dn", "distinguishedname", "entrydn"}:
        return (_folded("member", entry.dn),)
    return tuple(_folded(name, value) for value in entry.texts(name))


def _folded(attribute: str, value: str) -> str:
    """Return what equality compares: caseIgnoreMatch, or distinguishedNameMatch (RFC 4517 4.2.11 and 4.2.15)."""
    if attribute in _DN_VALUED:
        with suppress(ValueError):
            value = normalise_dn(value)
    return " ".join(part for part in value.casefold().split(" ") if part)


def _equal(filter_: Any, entry: LdifEntry) -> bool:  # noqa: ANN401 - ldaptor publishes no types
    attribute = filter_.attributeDesc.value
    wanted = filter_.assertionValue.value.decode()
    return _folded(attribute.decode().lower(), wanted) in _values(entry, attribute)


def _like(filter_: Any, entry: LdifEntry) -> bool:  # noqa: ANN401 - ldaptor publishes no types
    return any(_contains(value, filter_.substrings) for value in _values(entry, filter_.type))


def _contains(value: str, parts: list[Any]) -> bool:
    position = 0
    for part in parts:
        text = part.value.decode().casefold()
        if isinstance(part, pureldap.LDAPFilter_substrings_final):
            return value.endswith(text) and len(value) - len(text) >= position
        found = value.find(text, position)
        if found < 0 or (isinstance(part, pureldap.LDAPFilter_substrings_initial) and found):
            return False
        position = found + len(text)
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
class _Outcome:
    """What one request comes to: the answers to send and, after a bind, who is bound now."""

    answers: tuple[Any, ...]
    bound: str | None = None


def _bind(directory: Directory, request: Any) -> _Outcome:  # noqa: ANN401 - ldaptor publishes no types
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
            bound = normalise_dn(request.dn.decode())
        if bound is None or not directory.verify_password(bound, request.auth):
            code, bound = _INVALID_CREDENTIALS, None
    return _Outcome((pureldap.LDAPBindResponse(resultCode=code),), bound)


def _modify_password(directory: Directory, request: PasswordModify, bound: str | None) -> int:
    """Change a password as its owner, and return the result code."""
    if bound is None or request.identity.decode(errors="replace") not in {"", bound}:
        return _INSUFFICIENT_RIGHTS
    if not directory.verify_password(bound, request.old):
        return _INVALID_CREDENTIALS
    if not request.new:
        return _UNWILLING  # RFC 3062 section 2: it would have to make one up
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
            base = normalise_dn(request.baseObject.decode())
            code = _SUCCESS if base.casefold() in directory.entries else _NO_SUCH_OBJECT
        except ValueError:
            code = _INVALID_DN
    if code == _SUCCESS:
        found = [entry for entry in directory.within(base, request.scope) if matches(request.filter, entry)]
        limit = request.sizeLimit or len(found)
        for entry in found[:limit]:
            yield pureldap.LDAPSearchResultEntry(
                objectName=entry.dn, attributes=_shown(entry, request.attributes, types_only=bool(request.typesOnly))
            )
        code = _SUCCESS if len(found) <= limit else _SIZE_LIMIT
    yield pureldap.LDAPSearchResultDone(resultCode=code)


def _shown(entry: LdifEntry, asked: list[bytes], *, types_only: bool) -> list[tuple[str, list[bytes]]]:
    wanted = {name.decode().lower() for name in asked} or {"*"}
    shown: list[tuple[str, list[bytes]]] = []
    for name, values in entry.attributes.items():
        kind = "+" if name in _OPERATIONAL else "*"
        if name != _SECRET and (name in wanted or kind in wanted):
            shown.append((entry.names[name], [] if types_only else list(values)))
    return shown


class _LdapProtocol(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._buffer = b""
        self._bound: str | None = None
        self._restricted = False  # to changing the password
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
            self._answer(message)

    def _answer(self, message: Any) -> None:  # noqa: ANN401 - ldaptor publishes no types
        request = message.value
        self._directory.refresh()
        if isinstance(request, pureldap.LDAPUnbindRequest):
            self._close()
        elif isinstance(request, pureldap.LDAPAbandonRequest):
            return  # every answer is sent before the next request is read
        else:
            octets = b"".join(
                pureldap.LDAPMessage(answer, controls=self._policy(answer, message.controls), id=message.id).toWire()
                for answer in self._answers(request, message.controls)
            )
            if self._transport is not None:
                self._transport.write(octets)

    def _policy(self, answer: Any, asked: Any) -> list[Any] | None:  # noqa: ANN401 - ldaptor publishes no types
        """Return the control that tells whoever asked for it that the password must be changed."""
        told = self._restricted and isinstance(answer, pureldap.LDAPBindResponse)
        return [CHANGE_AFTER_RESET] if told and any(kind == PASSWORD_POLICY for kind, *_ in asked or ()) else None

    def _answers(self, request: Any, controls: Any) -> Iterator[Any]:  # noqa: ANN401 - ldaptor publishes no types
        critical = any(criticality for _, criticality, _ in controls or ())
        if isinstance(request, pureldap.LDAPBindRequest):
            self._bound = None  # RFC 4511 4.2.1: whatever comes of the bind, the rights from before are gone
            outcome = _bind(self._directory, request)
            self._bound = outcome.bound
            self._restricted = self._bound is not None and self._directory.must_change(self._bound)
            yield from outcome.answers
        elif isinstance(request, pureldap.LDAPSearchRequest):
            if critical:
                yield pureldap.LDAPSearchResultDone(resultCode=_UNAVAILABLE_CRITICAL_EXTENSION)
            else:
                yield from _search(self._directory, request, None if self._restricted else self._bound)
        elif type(request) in _REFUSED:
            yield _REFUSED[type(request)](resultCode=_UNWILLING, errorMessage="change the LDIF file instead")
        elif isinstance(request, pureldap.LDAPExtendedRequest) and request.requestName == PASSWORD_MODIFY:
            asked = PasswordModify.decode(request.requestValue)
            code = _modify_password(self._directory, asked, self._bound)
            self._restricted = self._restricted and code != _SUCCESS
            yield pureldap.LDAPExtendedResponse(resultCode=code)
        else:
            yield pureldap.LDAPExtendedResponse(resultCode=_PROTOCOL_ERROR, errorMessage="bind and search only")

    def _close(self) -> None:
        self._buffer = b""
        if self._transport is not None:
            self._transport.close()


def die_with_parent(parent: int) -> None:
    """Have the kernel end this process when the thread that started it ends; a no-op outside Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before the kernel was told
        sys.exit(0)


async def serve(directory: Directory, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; ``ready`` gets the URL as soon as connections are accepted; raises OSError."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for signal_ in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_, stop.set)
    server = await loop.create_server(lambda: _LdapProtocol(directory), host, port)
    ready(f"ldap://{host}:{server.sockets[0].getsockname()[1]}")
    await stop.wait()
    server.close()


def announce(fd: int) -> Callable[[str], None]:
    """Return what tells the starter the URL, as one line, and closes the descriptor unless it is standard output."""

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
