"""Registered clients of token exchange: programs that prove themselves with a secret (RFC 6749, section 2.3.1)."""

import base64
import hashlib
import hmac
from collections.abc import Iterable
from urllib.parse import unquote_plus


class ClientAuthenticationFailed(Exception):
    """A client that did not prove itself; the text is for whoever sent the request."""


class ExchangeClients:
    """The clients of the settings: names, and the SHA-256 of their secrets, of which one name may have several.

    An empty secret proves nobody, whatever was registered. Secrets are random and long, so that a plain digest of them
    tells nothing; see the how-to page.
    """

    def __init__(self, entries: Iterable[str], *, only: bool) -> None:
        self._digests: dict[str, list[str]] = {}
        self._only = only
        for entry in entries:
            name, _, digest = entry.partition(":")
            self._digests.setdefault(name, []).append(digest)

    @property
    def methods(self) -> list[str]:
        """Return how clients may prove themselves, in the words of RFC 8414."""
        known = ["client_secret_basic", "client_secret_post"] if self._digests else []
        return known if self._only else [*known, "none"]

    def authenticate(self, header: str | None, name: str | None, secret: str | None) -> str | None:
        """Return the registered client that sent a request; None where an unregistered one may go on.

        ``header`` is that of HTTP, ``name`` and ``secret`` are parameters of the form. Raises ClientRefused.
        """
        if header is not None:
            if secret is not None:
                raise ClientAuthenticationFailed("A client proves itself in the header or in the form, not in both.")
            said, secret = _basic(header)
            if name not in (None, said):
                raise ClientAuthenticationFailed("The header and client_id name different clients.")
            name = said
        digests = self._digests.get(name or "", [])
        if secret is None and not digests:
            if self._only:
                raise ClientAuthenticationFailed("Here only registered clients exchange tokens.")
            return None
        digest = hashlib.sha256((secret or "").encode()).hexdigest()
        if not secret or not any(hmac.compare_digest(digest, one) for one in digests):
            raise ClientAuthenticationFailed("No client has this name and this secret.")
        return name


def _basic(header: str) -> tuple[str, str]:
    scheme, _, given = header.partition(" ")
    try:
        pair = base64.b64decode(given.strip(), validate=True).decode() if scheme.lower() == "basic" else ""
    except ValueError:
        pair = ""
    name, colon, secret = pair.partition(":")
    if not colon:
        raise ClientAuthenticationFailed("The Authorization header must be Basic, of client and secret.")
    return unquote_plus(name), unquote_plus(secret)
