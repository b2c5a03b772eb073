"""What every request to a resource must be like before anything in it is read.

Pure. Proxies, the authorizer and the service behind must see one and the same request: where they could read it in two
ways, it is refused.
"""

import re
from typing import Final
from urllib.parse import unquote

from broker.api.http import HttpRequest
from broker.authz.resource import ResourceKind
from iam.errors import InvalidRequest, InvalidURI, UnsupportedAlgorithm

# RFC 3986: printable ASCII; everything else is percent-encoded. A fragment is never sent.
_TARGET: Final = re.compile(r"[!\"$-~]*")
_SINGLE: Final = frozenset({"authorization", "host", "content-type", "content-length", "content-md5", "range"})
_SIGV2: Final = "awsaccesskeyid"
_SIGNING_PARAMETERS: Final = frozenset({"x-amz-algorithm", "x-amz-credential", "x-amz-signature", _SIGV2})


def check_form(kind: ResourceKind, request: HttpRequest) -> None:
    """Raise InvalidURI, InvalidRequest or UnsupportedAlgorithm for a request that could be read in two ways."""
    if not _TARGET.fullmatch(request.path) or not _TARGET.fullmatch(request.query):
        raise InvalidURI("Couldn't parse the specified URI.", log="a character that must be encoded")
    if len(dict(request.headers)) < len(request.headers):
        _check_repeated(request.headers)
    if kind is ResourceKind.S3:
        _check_sigv2(request)


def _check_repeated(headers: tuple[tuple[str, str], ...]) -> None:
    """Raise where a header is repeated of which a service could take the first and a proxy the last."""
    seen: set[str] = set()
    for name, _ in headers:
        if name in seen and (name in _SINGLE or name.startswith("x-amz-")):
            raise InvalidRequest(f"The header {name} is given twice.")
        seen.add(name)


def _check_sigv2(request: HttpRequest) -> None:
    if _SIGV2 in request.query.lower() and _SIGV2 in _parameter_names(request):
        raise UnsupportedAlgorithm("Unsupported AWS 'algorithm'.", log="presigned with Signature Version 2")


def check_unsigned(kind: ResourceKind, request: HttpRequest) -> None:
    """Raise InvalidRequest where a request without a signature chooses headers of the store's answer.

    Whoever makes a link could otherwise have a browser take an object for a page (S3 API Reference, GetObject). A store
    refuses it itself, but not where the request is signed anew.
    """
    if kind is ResourceKind.S3 and any(name.startswith("response-") for name in _parameter_names(request)):
        raise InvalidRequest("Request specific response headers cannot be used for anonymous GET requests.")


def is_unsigned(request: HttpRequest) -> bool:
    """Return whether a request presents no signature of any kind, neither in its headers nor in its query."""
    return request.header("authorization") is None and not _SIGNING_PARAMETERS & _parameter_names(request)


def _parameter_names(request: HttpRequest) -> set[str]:
    """Return the names of the parameters in lower case, however they are encoded."""
    return {unquote(part.partition("=")[0]).lower() for part in request.query.split("&")}
