"""Where a request comes from: its peer, or what trusted proxies say in the one header family that the settings name.

Sources: RFC 7239 (Forwarded); X-Forwarded-For and X-Forwarded-Proto have no standard: lists as RFC 9110, section 5.6.1,
with addresses as proxies write them. Hops are counted from us: each proxy appends to the right.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Final, NamedTuple

Environ = Mapping[str, Any]
Networks = tuple[IPv4Network | IPv6Network, ...]

X_FORWARDED, FORWARDED = "x-forwarded", "forwarded"  # as server.forwarded_headers names them
_LONGEST_UNREAD: Final = 100  # characters of a header that the audit record shows

# RFC 7239, section 6: an address, in brackets where it is IPv6, and a port, which may be a name of the proxy's own.
# Proxies also write IPv6 addresses without brackets, and zones, which mean nothing to anybody else.
_PORT: Final = r"(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?"
_ZONE: Final = r"(?:%[A-Za-z0-9._~%-]+)?"
_NODE: Final = re.compile(
    rf"(?P<v4>[0-9.]+){_PORT}|\[(?P<v6>[0-9A-Fa-f:.]+){_ZONE}\]{_PORT}|(?P<bare>[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*){_ZONE}"
)
# RFC 7239, section 4: token "=" ( token / quoted-string ), with quoted-pairs. Addresses with a colon must be quoted;
# not every proxy does it.
_NAME: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_VALUE: Final = r'(?:([^\s",;]+)|"((?:[^"\\]|\\.)*)")'
_PAIR: Final = re.compile(rf"({_NAME})={_VALUE}")
_ELEMENT: Final = re.compile(rf"\s*{_NAME}={_VALUE}(?:\s*;\s*{_NAME}={_VALUE})*\s*;?\s*")
_MOST_COMMAS: Final = 5


class Source(NamedTuple):
    """Where a request comes from.

    ``address`` is empty where nobody can say it; ``unread`` is then what a proxy wrote, abridged. ``peer`` is the other
    end of the connection.
    """

    address: str
    secure: bool
    peer: str
    unread: str = ""


class _Hop(NamedTuple):
    """What one proxy says of the client that it served: ``node`` and ``proto`` as written, or empty."""

    node: str
    proto: str
    readable: bool = True


@dataclass(frozen=True, slots=True)
class TrustedProxies:
    """The networks of the proxies that are believed, and the header family in which they speak; no other is read."""

    networks: Networks = ()
    family: str = X_FORWARDED

    def source_of(self, environ: Environ) -> Source:
        """Return where a request comes from; only trusted proxies can say more than the connection (THREATS B34)."""
        peer = canonical_address(environ.get("REMOTE_ADDR", ""))
        secure = environ.get("wsgi.url_scheme") == "https"
        if not self._trusts(peer):
            return Source(peer, secure, peer)
        return self._walk(_FAMILIES[self.family](environ), Source(peer, secure, peer))

    def told_by_proxy(self, forwarded_for: str, proto: str) -> Source:
        """Return the source that a proxy names, in the form of X-Forwarded-For, of a request that it asks about."""
        hops = _x_forwarded({"HTTP_X_FORWARDED_FOR": forwarded_for, "HTTP_X_FORWARDED_PROTO": proto})
        return self._walk(hops, Source("", secure=False, peer=""))

    def _walk(self, hops: Iterator[_Hop], source: Source) -> Source:
        """Go from the nearest proxy towards the client, as long as the one who speaks is trusted."""
        for hop in hops:
            secure = hop.proto.lower() == "https" if hop.proto else source.secure
            if not hop.node:
                return source._replace(secure=secure)
            address = canonical_address(_address_in(hop.node)) if hop.readable else ""
            unread = "" if address else hop.node[:_LONGEST_UNREAD]
            source = Source(address, secure, source.peer, unread)
            if not self._trusts(address):
                break
        return source

    def _trusts(self, address: str) -> bool:
        return bool(address and self.networks) and any(ip_address(address) in network for network in self.networks)


def canonical_address(text: str) -> str:
    """Return an address in its canonical form without a zone, or "" for what is no address."""
    try:
        ip = ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    # A dual-stack socket shows an IPv4 peer as ::ffff:192.0.2.1.
    return str(ip.ipv4_mapped if isinstance(ip, IPv6Address) and ip.ipv4_mapped else ip)


def _address_in(node: str) -> str:
    """Return the address of a node without brackets, port and zone; "" for unknown and obfuscated ones."""
    match = _NODE.fullmatch(node.strip('"'))
    return (match["v4"] or match["v6"] or match["bare"]) if match else ""


# --- the families -----------------------------------------------------------------------------------------------------


def _x_forwarded(environ: Environ) -> Iterator[_Hop]:
    """Yield the hops of X-Forwarded-For, each with its scheme.

    A proxy that sets X-Forwarded-Proto anew leaves one value, which is then for all hops. Other lists are counted from
    the right, as the addresses are: what stands further left than the proxies of ours go may be the client's own.
    """
    nodes, protos = _list_of(environ, "HTTP_X_FORWARDED_FOR"), _list_of(environ, "HTTP_X_FORWARDED_PROTO")
    if not nodes and protos:
        yield _Hop("", protos[0])
    for number, node in enumerate(reversed(nodes), 1):
        yield _Hop(node, protos[max(0, len(protos) - number)] if protos else "")


def _list_of(environ: Environ, name: str) -> list[str]:
    # RFC 9110, section 5.6.1: empty elements of a list do not count.
    return [part.strip() for part in environ.get(name, "").split(",") if part.strip()]


def _forwarded(environ: Environ) -> Iterator[_Hop]:
    """Yield the hops of Forwarded, as far as they can be read; the next is then one whose node is no address.

    Read from the right: whatever the client itself sent stands further left and spoils nothing.
    """
    text: str = environ.get("HTTP_FORWARDED", "")
    while text.strip(" \t,"):
        rest, element = _last_element(text)
        pairs = [(name.lower(), token or _unquoted(quoted)) for name, token, quoted in _PAIR.findall(element)]
        given = dict(pairs)
        if not pairs or len(given) < len(pairs):  # section 4: no parameter occurs twice in an element
            yield _Hop(text[-_LONGEST_UNREAD:], "", readable=False)
            return
        yield _Hop(given.get("for", "unknown"), given.get("proto", ""))
        text = rest


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _last_element(text: str) -> tuple[str, str]:
    """Return what is left of the last element, and the element; "" where it breaks the grammar."""
    text = text.rstrip(" \t,")
    comma = len(text)
    for _ in range(_MOST_COMMAS):  # a quoted value may have commas
        comma = text.rfind(",", 0, comma)
        if _ELEMENT.fullmatch(text, comma + 1):
            return text[: comma + 1], text[comma + 1 :]
        if comma < 0:
            break
    return "", ""


_FAMILIES: Final[Mapping[str, Callable[[Environ], Iterator[_Hop]]]] = {
    X_FORWARDED: _x_forwarded,
    FORWARDED: _forwarded,
}
