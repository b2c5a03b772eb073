"""Registered clients of token exchange: programs that authenticate with a secret (RFC 6749, section 2.3.1)."""

import base64
import hashlib
import hmac
from collections.abc import Iterable
from urllib.parse import unquote_plus


class ClientAuthenticationFailed(Exception):
    """A client that did not authenticate; the message is for whoever sent the request."""


class ExchangeClients:
    """The clients of the settings: names, and the SHA-256 of their secrets, of which one name may have several.

    Several, so that a secret can be replaced without an outage. An empty secret never authenticates, whatever was
    registered. A plain digest is enough because the how-to page has secrets made at random and long: nobody can try
    them all, as they could passwords. ``only`` refuses clients that are not registered.
    """

    def __init__(self, entries: Iterable[str], *, only: bool) -> None:
        self._digests: dict[str, list[str]] = {}
        self._only = only
        for entry in entries:
            name, _, digest = entry.partition(":")
            self._digests.setdefault(name, []).append(digest)

    @property
    def methods(self) -> list[str]:
        """Return how clients may authenticate (RFC 8414, section 2: token_endpoint_auth_methods_supported)."""
        methods = ["client_secret_basic", "client_secret_post"] if self._digests else []
        return methods if self._only else [*methods, "none"]

    def authenticate(self, header: str | None, name: str | None, secret: str | None) -> str | None:
        """Return the registered client that sent a request; None for one that is not registered, where that is allowed.

        ``header`` is Authorization; ``name`` and ``secret`` are parameters of the form. Raise
        ClientAuthenticationFailed.
        """
        if header is not None:
            if secret is not None:  # RFC 6749, section 2.3: not more than one method in a request
                raise ClientAuthenticationFailed("A client proves itself in the header or in the form, not in both.")
            header_name, secret = _parse_basic(header)
            if name not in (None, header_name):
                raise ClientAuthenticationFailed("The header and client_id name different clients.")
            name = header_name
        digests = self._digests.get(name or "", [])
        if secret is None and not digests:
            if self._only:
                raise ClientAuthenticationFailed("Here only registered clients exchange tokens.")
            return None
        digest = hashlib.sha256((secret or "").encode()).hexdigest()
        if not secret or not any(hmac.compare_digest(digest, known) for known in digests):
            raise ClientAuthenticationFailed("No client has this name and this secret.")
        return name


def _parse_basic(header: str) -> tuple[str, str]:
    """Return name and secret of a Basic Authorization header, both form-decoded (RFC 6749, section 2.3.1)."""
    scheme, _, given = header.partition(" ")
    try:
        pair = base64.b64decode(given.strip(), validate=True).decode() if scheme.lower() == "basic" else ""
    except ValueError:
        pair = ""
    name, colon, secret = pair.partition(":")
    if not colon:
        raise ClientAuthenticationFailed("The Authorization header must be Basic, of client and secret.")
    return unquote_plus(name), unquote_plus(secret)
