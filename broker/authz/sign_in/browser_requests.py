"""What browsers say about their requests: whether a person goes to a page, from which site, and with which cookies.

Pure. Sources: Fetch Metadata Request Headers (W3C), RFC 6454 and Fetch (Origin), RFC 6265bis (cookies).
"""

from typing import Final

from broker.api.http import HttpRequest

# Cookies of ours, whichever: those of the pages as well, which a browser sends to every port of their host.
_OURS: Final = ("fedgate-", "__host-fedgate-")
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_READS: Final = frozenset({"GET", "HEAD"})


def is_navigation(request: HttpRequest) -> bool:
    """Return whether a person goes to a page with this request, so that it may lead to the sign-in page.

    Not so in a frame, where the sign-in page is not shown, and not for scripts, images and the like.
    """
    if request.method not in _READS or is_upgrade(request):
        return False
    mode = request.header("sec-fetch-mode")
    if mode is not None:
        return mode == "navigate" and request.header("sec-fetch-dest") in (None, "document")
    return "text/html" in (request.header("accept") or "").lower()


def is_safe(request: HttpRequest) -> bool:
    """Return whether a request changes nothing (RFC 9110, section 9.2.1); a WebSocket may change anything."""
    return request.method in _SAFE_METHODS and not is_upgrade(request)


def is_upgrade(request: HttpRequest) -> bool:
    """Return whether a request asks to go on in another protocol: proxies may keep Upgrade to themselves."""
    websocket = request.header("sec-fetch-mode") == "websocket"
    return websocket or any(name in ("upgrade", "sec-websocket-key") for name, _ in request.headers)


def is_same_origin(request: HttpRequest, origin: str) -> bool:
    """Return whether the browser says that a page of this very origin sent a request; without a word it is none.

    Where both headers are there, both must say so.
    """
    site, told = request.header("sec-fetch-site"), request.header("origin")
    if site is None:
        return told == origin
    # A page under Referrer-Policy: no-referrer sends the origin null, and so does a sandboxed frame, which is no
    # same-origin to Fetch metadata.
    return site == "same-origin" and told in (None, "null", origin)


def cookie(request: HttpRequest, name: str) -> str:
    """Return the value of a cookie; empty where there is none, or where two claim the name."""
    values = [value.strip() for one, value in map(_split, _cookies(request)) if one == name]
    return values[0] if len(values) == 1 else ""


def foreign_cookies(request: HttpRequest) -> str:
    """Return the Cookie header that may reach the service: without cookies of ours, perhaps empty."""
    return "; ".join(one for one in _cookies(request) if not _split(one)[0].lower().startswith(_OURS))


def _cookies(request: HttpRequest) -> list[str]:
    """Return the cookies of all Cookie headers: HTTP/2 may send several (RFC 9113, section 8.2.3)."""
    headers = (value for name, value in request.headers if name == "cookie")
    return [one for header in headers for one in map(str.strip, header.split(";")) if one]


def _split(one: str) -> tuple[str, str]:
    name, _, value = one.partition("=")
    return name.strip(), value
