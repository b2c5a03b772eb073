"""Registered clients of token exchange: programs that authenticate with a secret (RFC 6749, section 2.3.1)."""

import base64
import hashlib
import hmac
from collections.abc import Iterable
from datetime import datetime
from typing import Final, NamedTuple
from urllib.parse import unquote_plus

from broker.signin.throttle import LIMITS_OF_CLIENTS, SignInThrottle, throttle_source

_WRONG: Final = "No client has this name and this secret."
_LONGEST_NAME: Final = 64  # characters, of a registered client's too


class ClientAuthenticationFailed(Exception):
    """A client that did not authenticate; the message is for whoever sent the request."""


class ExchangeClients:
    """The clients of the settings: names, and the SHA-256 of their secrets, of which one name may have several.

    Several, so that a secret can be replaced without an outage. An empty secret never authenticates, whatever was
    registered. A plain digest is enough because the how-to page has secrets made at random and long: nobody can try
    them all, as they could passwords. ``only`` refuses clients that are not registered. Wrong secrets count in the
    throttle: for their source, and for the client from that source.
    """

    def __init__(self, entries: Iterable[str], throttle: SignInThrottle, *, only: bool) -> None:
        self._digests: dict[str, list[str]] = {}
        self._throttle = throttle
        self._only = only
        for entry in entries:
            name, _, digest = entry.partition(":")
            self._digests.setdefault(name, []).append(digest)

    @property
    def methods(self) -> list[str]:
        """Return how clients may authenticate (RFC 8414, section 2: token_endpoint_auth_methods_supported)."""
        methods = ["client_secret_basic", "client_secret_post"] if self._digests else []
        return methods if self._only else [*methods, "none"]

    def authenticate(self, shown: "ShownClient", source: str, now: datetime) -> str | None:
        """Return the registered client that sent a request; None for one that is not registered, where that is allowed.

        ``source`` is an address. Raise ClientAuthenticationFailed, Throttling.
        """
        name, secret = shown.name_and_secret()
        if secret is None and not self._digests.get(name):
            if self._only:
                raise ClientAuthenticationFailed("Here only registered clients exchange tokens.")
            return None
        if not secret:
            raise ClientAuthenticationFailed(_WRONG)
        self._verify(name, secret, throttle_source(source), now)
        return name

    def _verify(self, name: str, secret: str, source: str, now: datetime) -> None:
        subject = f"client:{name[:_LONGEST_NAME]}"
        with self._throttle.attempt(subject, source, secret, now, LIMITS_OF_CLIENTS) as attempt:
            digest = hashlib.sha256(secret.encode()).hexdigest()
            if not any(hmac.compare_digest(digest, known) for known in self._digests.get(name, ())):
                attempt.fail()
                raise ClientAuthenticationFailed(_WRONG)
            attempt.succeed()


class ShownClient(NamedTuple):
    """How a client shows itself: the header Authorization, and client_id and client_secret of the form."""

    header: str | None
    form_name: str | None
    form_secret: str | None

    def name_and_secret(self) -> tuple[str, str | None]:
        """Return the name, or "", and the secret, if any; raise ClientAuthenticationFailed."""
        if self.header is None:
            return self.form_name or "", self.form_secret
        if self.form_secret is not None:  # RFC 6749, section 2.3: not more than one method in a request
            raise ClientAuthenticationFailed("A client proves itself in the header or in the form, not in both.")
        name, secret = _parse_basic(self.header)
        if self.form_name not in (None, name):
            raise ClientAuthenticationFailed("The header and client_id name different clients.")
        return name, secret


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
