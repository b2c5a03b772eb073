"""A Flask request that reads forms and queries that are not valid UTF-8: what cannot be decoded becomes U+FFFD.

Werkzeug keeps such octets of a form percent-encoded, as if that had been typed, reports unescaped ones as a form that
is too large, and fails on such a query (THREATS H11).
"""

from typing import IO, Any
from urllib.parse import parse_qsl, quote

from flask import Request
from werkzeug.datastructures import ImmutableMultiDict
from werkzeug.formparser import FormDataParser

from iam.errors import ValidationError

_FORM = "application/x-www-form-urlencoded"
_ASCII = "".join(map(chr, range(128)))


class SingleValues(ImmutableMultiDict[str, str]):
    """The fields of a form or a query; one that comes twice is refused by whoever reads it as one value.

    Two readers of a repeated field may take different values of it: a check the first, what is checked the last.
    """

    def __getitem__(self, name: str) -> str:
        """Return the one value of a field; raise KeyError without one, ValidationError with several."""
        if len(self.getlist(name)) > 1:
            raise ValidationError("A field of the request comes twice.")
        return super().__getitem__(name)


class Utf8Forms(FormDataParser):
    """Reads forms; what is not UTF-8 becomes U+FFFD, which form_field refuses."""

    def parse(
        self, stream: IO[bytes], mimetype: str, content_length: int | None, options: dict[str, str] | None = None
    ) -> Any:  # noqa: ANN401 - a triple of Werkzeug's own
        """Return the rest of the stream, the fields and the files; raise RequestEntityTooLarge."""
        if mimetype != _FORM:
            return super().parse(stream, mimetype, content_length, options)
        text = stream.read().decode(errors="replace")
        return stream, self.cls(parse_qsl(text, keep_blank_values=True, errors="replace")), self.cls()


class Utf8Request(Request):
    """A request whose query can always be read: octets outside ASCII are percent-encoded (RFC 3986, section 2.1)."""

    form_data_parser_class = Utf8Forms
    parameter_storage_class = SingleValues

    def __init__(self, environ: dict[str, Any], *arguments: bool) -> None:
        query = environ.get("QUERY_STRING", "")
        if not query.isascii():
            environ["QUERY_STRING"] = quote(query, safe=_ASCII, encoding="latin-1")
        super().__init__(environ, *arguments)
