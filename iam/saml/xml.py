"""Strict XML for security tokens: UTF-8, version 1.0, no DTD, no processing instructions, no external resources.

Pure. Source: SAML 2.0 Core, section 5.4.5, and OWASP, "XML External Entity Prevention". It refuses what parsers
interpret differently (THREATS D10, D22) and what makes them fetch or expand without bound (THREATS D21).
"""

import re
from collections.abc import Iterator

from lxml import etree

_BLANKS = re.compile(r"[ \t\r\n]+")
Element = etree._Element  # noqa: SLF001 - lxml has no other name for it

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_DECLARATION = re.compile(
    rb"<\?xml[ \t\r\n]+version[ ]*=[ ]*(\"1\.0\"|'1\.0')([ \t\r\n]+encoding[ ]*=[ ]*(\"utf-8\"|'utf-8'))?"
    rb"([ \t\r\n]+standalone[ ]*=[ ]*(\"(yes|no)\"|'(yes|no)'))?[ \t\r\n]*\?>",
    re.IGNORECASE,
)
# Every markup that begins with "<!", except comments and CDATA sections, is part of a document type declaration.
_DTD_MARKUP = re.compile(rb"<!(?!--|\[CDATA\[)")

# Tokens declare about ten namespaces; see _check_namespaces for the cost of more.
_MOST_NAMESPACES = 64

_PARSER = etree.XMLParser(
    resolve_entities=False,
    no_network=True,
    load_dtd=False,
    attribute_defaults=False,
    remove_comments=True,  # the text on both sides of a comment becomes one text node, not two (THREATS D10)
    huge_tree=False,  # keeps the limits of libxml2, such as a depth of 256 elements
)


class InvalidXml(ValueError):
    """A document that is not strict XML; the message gives the reason and contains no secret."""


def parse_xml(data: bytes, *, comments: bool = False) -> Element:
    """Return the root element; raise InvalidXml.

    ``comments`` allows comments: only for metadata, never for assertions, where a comment inside a name could change
    who is authenticated (THREATS D10).
    """
    data = data.removeprefix(_BYTE_ORDER_MARK)
    _check_bytes(data, comments=comments)
    try:
        root = etree.fromstring(data, _PARSER)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise InvalidXml(f"it is not well-formed XML: {str(error)[:200]}") from error
    if data.count(b"xmlns") > _MOST_NAMESPACES:  # avoids the walk for ordinary documents
        _check_namespaces(root)
    return root


def _check_namespaces(root: Element) -> None:
    """Refuse too many namespaces in scope: canonicalization visits all of them for every element (THREATS J10)."""
    deep = 0
    for event, _ in etree.iterwalk(root, events=("start-ns", "end-ns")):
        deep += 1 if event == "start-ns" else -1
        if deep > _MOST_NAMESPACES:
            raise InvalidXml(f"it has more than {_MOST_NAMESPACES} namespaces within one another")


def _check_bytes(data: bytes, *, comments: bool) -> None:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidXml("it is not UTF-8") from error
    body = data
    if data.startswith(b"<?"):
        declaration = _DECLARATION.match(data)
        if declaration is None:
            raise InvalidXml("its XML declaration is not that of XML 1.0 in UTF-8")
        body = data[declaration.end() :]
    if b"<?" in body:
        raise InvalidXml("it has a processing instruction")
    if _DTD_MARKUP.search(body):
        raise InvalidXml("it has a document type")
    if not comments and b"<!--" in body:
        raise InvalidXml("it has a comment")


def text_of(element: Element) -> str:
    """Return the text content of an element without child elements; raise InvalidXml."""
    if len(element):
        raise InvalidXml(f"{local_name(element)} holds an element where a text is expected")
    return element.text or ""


def collapse(text: str) -> str:
    """Return a value, such as an anyURI or a time, as XML Schema reads it (part 2, 4.3.6): without blanks around it."""
    return _BLANKS.sub(" ", text).strip(" ")


def local_name(element: Element) -> str:
    """Return the local name of an element."""
    return str(etree.QName(element).localname)


def children(element: Element, *names: str) -> Iterator[Element]:
    """Yield the child elements with one of these names, each in the form ``{namespace}local``."""
    yield from (child for child in element if child.tag in names)


def only_child(element: Element, name: str) -> Element | None:
    """Return the only child element of this name, or None; raise InvalidXml where there are several."""
    elements = list(children(element, name))
    if len(elements) > 1:
        raise InvalidXml(f"{local_name(element)} has several {etree.QName(name).localname}")
    return elements[0] if elements else None


def canonicalize(element: Element, prefixes: list[str] | None = None) -> bytes:
    """Return the exclusive canonical form of an element without comments; raise InvalidXml where it has none.

    ``prefixes`` are those of InclusiveNamespaces ("Exclusive XML Canonicalization", section 3).
    """
    try:
        return etree.tostring(
            element, method="c14n", exclusive=True, with_comments=False, inclusive_ns_prefixes=prefixes
        )
    # libxml2 fails on a relative namespace URI, for example. Empty output instead would verify a digest of nothing
    # (THREATS D08).
    except (etree.LxmlError, ValueError) as error:
        raise InvalidXml(f"{local_name(element)} has no canonical form") from error
