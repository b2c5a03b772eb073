"""XML as a security token may use it: UTF-8, version 1.0, no DTD, no processing instruction, nothing fetched.

Pure. Source: SAML 2.0 Core, section 5.4.5, and OWASP, "XML External Entity Prevention"; what is refused here is what
parsers read differently, or what makes them work without end.
"""

import re
from collections.abc import Iterator

from lxml import etree

Element = etree._Element  # noqa: SLF001 - lxml has no other name for it

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_DECLARATION = re.compile(
    rb"<\?xml[ \t\r\n]+version[ ]*=[ ]*(\"1\.0\"|'1\.0')([ \t\r\n]+encoding[ ]*=[ ]*(\"utf-8\"|'utf-8'))?"
    rb"([ \t\r\n]+standalone[ ]*=[ ]*(\"(yes|no)\"|'(yes|no)'))?[ \t\r\n]*\?>",
    re.IGNORECASE,
)
_DTD_MARKUP = re.compile(rb"<!(?!--|\[CDATA\[)")

_MOST_NAMESPACES = 64

_PARSER = etree.XMLParser(
    resolve_entities=False,
    no_network=True,
    load_dtd=False,
    attribute_defaults=False,
    remove_comments=True,  # where they are allowed at all, the text around them is one text
    huge_tree=False,  # no more than 256 elements within one another, among other limits of libxml2
)


class InvalidXml(ValueError):
    """A text that is no XML of the strict kind; the message says why, and names no secret."""


def parse_xml(data: bytes, *, comments: bool = False) -> Element:
    """Return the root element; raise NotStrict. ``comments`` may stand where nobody's identity is told."""
    data = data.removeprefix(_BYTE_ORDER_MARK)
    _check_bytes(data, comments=comments)
    try:
        root = etree.fromstring(data, _PARSER)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise InvalidXml(f"it is not well-formed XML: {str(error)[:200]}") from error
    if data.count(b"xmlns") > _MOST_NAMESPACES:  # which most texts need not be walked through for
        _check_namespaces(root)
    return root


def _check_namespaces(root: Element) -> None:
    """Refuse more namespaces in scope than anybody needs: canonical forms cost as many steps for each element."""
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
    """Return the whole text of an element that holds nothing else; raise NotStrict."""
    if len(element):
        raise InvalidXml(f"{local_name(element)} holds an element where a text is expected")
    return element.text or ""


def local_name(element: Element) -> str:
    """Return an element's name without its namespace."""
    return str(etree.QName(element).localname)


def children(element: Element, *names: str) -> Iterator[Element]:
    """Yield the children of these names, each ``{namespace}local``."""
    yield from (child for child in element if child.tag in names)


def only_child(element: Element, name: str) -> Element | None:
    """Return the one child of a name, or None where there is none; raise NotStrict where there are several."""
    found = list(children(element, name))
    if len(found) > 1:
        raise InvalidXml(f"{local_name(element)} has several {etree.QName(name).localname}")
    return found[0] if found else None


def canonicalize(element: Element, prefixes: list[str] | None = None) -> bytes:
    """Return exclusive canonical XML without comments; raise NotStrict where there is none.

    ``prefixes`` are those of InclusiveNamespaces ("Exclusive XML Canonicalization", section 3).
    """
    try:
        return etree.tostring(
            element, method="c14n", exclusive=True, with_comments=False, inclusive_ns_prefixes=prefixes
        )
    except (etree.LxmlError, ValueError) as error:  # a relative namespace, for one
        raise InvalidXml(f"{local_name(element)} has no canonical form") from error
