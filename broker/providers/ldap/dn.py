"""Distinguished names and search filters: one normal form of names, and escaping that prevents injection.

THREATS E02: a user name such as ``*)(uid=*`` must stay one literal value.
"""

import re
import string
from functools import lru_cache

_TYPE = re.compile(r" *([A-Za-z][A-Za-z0-9-]*|[0-9]+(?:\.[0-9]+)*) *= *")
# RFC 4514 section 3: a value is characters other than these, or pairs: \ and a special character, or \ and two hex
# digits.
_PIECE = re.compile(r'\\(?P<hex>[0-9A-Fa-f]{2})|\\(?P<char>[ "#+,;<=>\\])|(?P<plain>[^\\"+,;<>\0]+)')
_HEXSTRING = re.compile(r"#(?:[0-9A-Fa-f]{2})+")
_END = re.compile(r" *([,+]|\Z)")
# Most names, which are in normal form already: nothing to unescape, no space to drop, the type in lower case. The
# pattern matches a text in one way only, so that matching takes linear time.
_PLAIN_DN = re.compile(
    r"[a-z][a-z0-9-]*=[\w.@'()/:-]+(?: [\w.@'()/:-]+)*(?:,[a-z][a-z0-9-]*=[\w.@'()/:-]+(?: [\w.@'()/:-]+)*)*"
)
_FILTER_SAFE = frozenset((string.ascii_letters + string.digits + "._@-=,").encode())


@lru_cache(maxsize=8192)
def normalise_dn(text: str) -> str:
    """Return the normal form of a distinguished name, which Fedgate prints and compares; raise ValueError.

    Attribute types are in lower case, no space stands around ``,``, ``+`` and ``=``, the parts of a multi-valued RDN
    are in order, and a value escapes only what RFC 4514 section 2.4 says it must. A value keeps the directory's own
    upper and lower case: IAM's StringEquals compares case, so a trust policy names a group as the directory writes it.
    """
    if _PLAIN_DN.fullmatch(text):
        return text
    return ",".join("+".join(f"{kind}={value}" for kind, value in rdn) for rdn in _parse(text))


@lru_cache(maxsize=8192)
def first_rdn_value(dn: str) -> str:
    """Return the value of a name's first RDN, unescaped: ``Staff`` for ``cn=Staff,ou=groups,…``; raise ValueError."""
    rdns = _parse(dn)
    value = rdns[0][0][1] if rdns else ""
    return value if value.startswith("#") else _value(value, 0)[0]


def parent_dn(dn: str) -> str:
    """Return the normalised name of the parent entry; raise ValueError."""
    return ",".join("+".join(f"{kind}={value}" for kind, value in rdn) for rdn in _parse(dn)[1:])


def escape_dn_value(value: str) -> str:
    """Return a value as it is written inside a distinguished name (RFC 4514 section 2.4)."""
    escaped = "".join(_ESCAPES.get(char) or _octet(char) for char in value)
    if escaped.startswith((" ", "#")):
        escaped = "\\" + escaped
    return escaped[:-1] + "\\ " if len(value) > 1 and value.endswith(" ") else escaped


def escape_filter_value(value: str) -> str:
    r"""Return a value as it is written inside a search filter (RFC 4515 section 3).

    All but letters, digits and a few harmless characters become ``\xx``: a list of what is safe cannot miss a character
    that some server's parser treats as special (THREATS E02).
    """
    return "".join(chr(byte) if byte in _FILTER_SAFE else f"\\{byte:02x}" for byte in value.encode())


def _parse(text: str) -> list[list[tuple[str, str]]]:
    """Return the RDNs, each a sorted list of (type, escaped value)."""
    rdns: list[list[tuple[str, str]]] = []
    pairs: list[tuple[str, str]] = []
    position = 0
    while position < len(text):
        kind = _TYPE.match(text, position)
        if kind is None:
            raise ValueError(f"not a distinguished name: {text!r}")
        value, position = _escaped_value(text, kind.end())
        pairs.append((kind[1].lower(), value))
        end = _END.match(text, position)
        if end is None or (end[1] and end.end() == len(text)):
            raise ValueError(f"not a distinguished name: {text!r}")
        position = end.end()
        if end[1] != "+":
            rdns.append(sorted(pairs))
            pairs = []
    return rdns


def _escaped_value(text: str, position: int) -> tuple[str, int]:
    """Return the value that begins at a position, escaped, and where it ends."""
    hexstring = _HEXSTRING.match(text, position)
    if hexstring:
        return hexstring[0].lower(), hexstring.end()
    value, end = _value(text, position)
    return escape_dn_value(value), end


def _value(text: str, position: int) -> tuple[str, int]:
    """Return the value that begins at a position, unescaped, and where it ends."""
    value = bytearray()
    length = 0  # unescaped spaces beyond this length are not part of the value
    while piece := _PIECE.match(text, position):
        position = piece.end()
        value += bytes.fromhex(piece["hex"]) if piece["hex"] else (piece["char"] or piece["plain"]).encode()
        length = max(length, len(value.rstrip(b" "))) if piece["plain"] else len(value)
    del value[length:]
    return value.decode("utf-8", "surrogateescape"), position


def _octet(char: str) -> str:
    # A byte that is not UTF-8 (a surrogate, by "surrogateescape") is written as its escaped pair again.
    return f"\\{ord(char) - 0xDC00:02x}" if "\udc80" <= char <= "\udcff" else char


_ESCAPES = {**{char: "\\" + char for char in '"+,;<>\\'}, "\0": "\\00"}
