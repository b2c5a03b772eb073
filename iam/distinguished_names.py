"""Distinguished names: the one grammar in which they are read, their normal form, and the escaping of values.

Pure. Names are read in the form of RFC 4514 and in the older ones that directories still write: RFC 1779 (quoted
values, ``;`` between RDNs, spaces around separators, ``OID.`` before a number) and RFC 2253.
"""

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

_TYPE = re.compile(
    r"[ \r\n]*(?:(?:OID\.)?(?P<oid>[0-9]+(?:\.[0-9]+)*)|(?P<name>[A-Z][A-Z0-9-]*))[ \r\n]*=[ \r\n]*", re.IGNORECASE
)
# RFC 4514 section 3: a value is characters other than separators and quotes, or pairs: \ and a character, or \ and two
# hex digits. Directories escape more characters than they must, such as / in Active Directory.
_PIECE = re.compile(r"\\(?P<hex>[0-9A-Fa-f]{2})|\\(?P<char>[^\0])|(?P<plain>[^\\\"+,;\0]+)", re.DOTALL)
_QUOTED_PIECE = re.compile(r"\\(?P<hex>[0-9A-Fa-f]{2})|\\(?P<char>[^\0])|(?P<plain>[^\\\"\0]+)", re.DOTALL)
_HEXSTRING = re.compile(r"#(?P<hex>(?:[0-9A-Fa-f]{2})+)")
_END = re.compile(r"[ \r\n]*([,;+]|\Z)")
# Most names, which are in normal form already: nothing to unescape, no space to drop, the type short and in lower case.
# The pattern matches a text in one way only, so that matching takes linear time.
_PLAIN_DN = re.compile(
    r"[a-z][a-z0-9-]{0,4}=[\w.@'()/:-]+(?: [\w.@'()/:-]+)*(?:,[a-z][a-z0-9-]{0,4}=[\w.@'()/:-]+(?: [\w.@'()/:-]+)*)*"
)
# RFC 4514 section 3, and the long names of RFC 4519: one attribute type must not have two spellings.
_SHORT_TYPES: Final[Mapping[str, str]] = {
    "2.5.4.3": "cn", "commonname": "cn",
    "2.5.4.6": "c", "countryname": "c",
    "2.5.4.7": "l", "localityname": "l",
    "2.5.4.8": "st", "stateorprovincename": "st",
    "2.5.4.9": "street", "streetaddress": "street",
    "2.5.4.10": "o", "organizationname": "o",
    "2.5.4.11": "ou", "organizationalunitname": "ou",
    "0.9.2342.19200300.100.1.1": "uid", "userid": "uid",
    "0.9.2342.19200300.100.1.25": "dc", "domaincomponent": "dc",
}  # fmt: skip
# X.690: the tags of OCTET STRING, UTF8String, PrintableString, TeletexString (as directories use it) and IA5String.
_BER_TEXTS: Final = (0x04, 0x0C, 0x13, 0x14, 0x16)
_LONGEST_SHORT_FORM: Final = 0x80  # X.690, 8.1.3.4: below it, one octet is the length


@lru_cache(maxsize=8192)
def normalize_dn(text: str) -> str:
    """Return the `normal_form` of a name that a directory or the settings give: they are few and come often."""
    return normal_form(text)


def normal_form(text: str) -> str:
    """Return the normal form of a distinguished name, which Fedgate prints and compares; raise ValueError.

    Attribute types are in lower case and by their short names, no space stands around ``,``, ``+`` and ``=``, the parts
    of a multi-valued RDN are in order, and a value is in Unicode's form C and escapes only what RFC 4514 section 2.4
    says it must. A value keeps the directory's own upper and lower case: IAM's StringEquals compares case, so a trust
    policy names a group as the directory writes it.
    """
    if _PLAIN_DN.fullmatch(text) and unicodedata.is_normalized("NFC", text):
        return text
    return _text(_parse(text))


@lru_cache(maxsize=8192)
def first_rdn_value(dn: str) -> str:
    """Return the value of a name's first RDN, unescaped: ``Staff`` for ``cn=Staff,ou=groups,…``; raise ValueError."""
    rdns = _parse(dn)
    value = rdns[0][0][1] if rdns else ""
    return value if value.startswith("#") else _value(value, 0)[0]


def parent_dn(dn: str) -> str:
    """Return the normalized name of the parent entry; raise ValueError."""
    return _text(_parse(dn)[1:])


def domain_dn(dn: str) -> str:
    """Return the normalized name of the domain that a name is in, the last of its RDNs that are ``dc``; "" without."""
    rdns = _parse(dn)
    others = [number for number, rdn in enumerate(rdns, 1) if [kind for kind, _ in rdn] != ["dc"]]
    return _text(rdns[max(others, default=0) :])


def escape_dn_value(value: str) -> str:
    """Return a value as it is written inside a distinguished name (RFC 4514 section 2.4)."""
    escaped = "".join(_ESCAPES.get(char) or _octet(char) for char in value)
    if escaped.startswith((" ", "#")):
        escaped = "\\" + escaped
    return escaped[:-1] + "\\ " if len(value) > 1 and value.endswith(" ") else escaped


def _text(rdns: list[list[tuple[str, str]]]) -> str:
    return ",".join("+".join(f"{kind}={value}" for kind, value in rdn) for rdn in rdns)


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
        pairs.append((_type_name(kind), value))
        end = _END.match(text, position)
        if end is None or (end[1] and end.end() == len(text)):
            raise ValueError(f"not a distinguished name: {text!r}")
        position = end.end()
        if end[1] != "+":
            rdns.append(sorted(pairs))
            pairs = []
    return rdns


def _type_name(kind: re.Match[str]) -> str:
    name = (kind["oid"] or kind["name"]).lower()
    return _SHORT_TYPES.get(name, name)


def _escaped_value(text: str, position: int) -> tuple[str, int]:
    """Return the value that begins at a position, escaped, and where it ends."""
    hexstring = _HEXSTRING.match(text, position)
    if hexstring:
        decoded = _ber_text(bytes.fromhex(hexstring["hex"]))
        return hexstring[0].lower() if decoded is None else _escape_normalized(decoded), hexstring.end()
    value, end = _quoted_value(text, position + 1) if text[position : position + 1] == '"' else _value(text, position)
    return _escape_normalized(value), end


def _escape_normalized(value: str) -> str:
    return escape_dn_value(unicodedata.normalize("NFC", value))


def _ber_text(octets: bytes) -> str | None:
    """Return the text in a BER value of a text type with a length of one octet, or None."""
    tag, length, text = octets[0], octets[1:2], octets[2:]
    if tag not in _BER_TEXTS or length != bytes([min(len(text), _LONGEST_SHORT_FORM)]) or length[0] & 0x80:
        return None
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _value(text: str, position: int) -> tuple[str, int]:
    """Return the value that begins at a position, unescaped, and where it ends."""
    value = bytearray()
    length = 0  # unescaped spaces beyond this length are not part of the value
    while piece := _PIECE.match(text, position):
        position, octets = piece.end(), _octets(piece)
        kept = octets.rstrip(b" \r\n") if piece["plain"] else octets
        length = len(value) + len(kept) if kept else length
        value += octets
    del value[length:]
    return value.decode("utf-8", "surrogateescape"), position


def _quoted_value(text: str, position: int) -> tuple[str, int]:
    """Return the value after a quotation mark (RFC 1779), unescaped, and where it ends; raise ValueError."""
    value = bytearray()
    while piece := _QUOTED_PIECE.match(text, position):
        position = piece.end()
        value += _octets(piece)
    if text[position : position + 1] != '"':
        raise ValueError(f"not a distinguished name: {text!r}")
    return value.decode("utf-8", "surrogateescape"), position + 1


def _octets(piece: re.Match[str]) -> bytes:
    if piece["hex"]:
        return bytes.fromhex(piece["hex"])
    return str(piece["char"] or piece["plain"]).encode("utf-8", "surrogateescape")


def _octet(char: str) -> str:
    # A byte that is not UTF-8 (a surrogate, by "surrogateescape") is written as its escaped pair again.
    return f"\\{ord(char) - 0xDC00:02x}" if "\udc80" <= char <= "\udcff" else char


# Line breaks stand between the parts of a name in some directories' texts, as spaces do: in a value they are escaped,
# so that "a" and "a" with a line break stay two values.
_ESCAPES = {**{char: "\\" + char for char in '"+,;<>\\'}, "\0": "\\00", "\n": "\\0a", "\r": "\\0d"}
