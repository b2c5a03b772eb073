"""Sign-ins under way at identity providers, sealed in a cookie of the browser that began them.

Anybody may begin sign-ins without end, so the server stores nothing until a provider has vouched for somebody; then the
sign-in is marked as used. What is sealed for one browser is in no other one: a provider's answer to it can be taken
from that browser alone (login CSRF, RFC 6819, section 4.4.1.8).
"""

import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from typing import Final, NamedTuple

from flask import Response, after_this_request, g

from broker.web.core.cookies import Cookies
from broker.web.core.request_states import RequestStates
from broker.web.core.responses import HOME
from broker.web.core.sealed_fields import OpenedField, SealedFields

LIFETIME_SECONDS: Final = 600  # from the first page to the answer of the identity provider
_MOST: Final = 4  # sign-ins that one browser has under way, such as in several tabs; the oldest is dropped
_LONGEST_COOKIE: Final = 3600  # characters: RFC 6265, section 6.1, lets browsers drop cookies beyond 4096 bytes


@dataclass(frozen=True, slots=True)
class IdpRequest:
    """What is sealed of a sign-in: the provider that was asked, and what its answer must fit.

    ``nonce`` and ``verifier`` are those of OpenID Connect and PKCE (THREATS F01-F03). ``forced``: the provider was
    asked to have the person sign in anew.
    """

    provider: str
    relay_state: str
    return_to: str = ""
    nonce: str = ""
    verifier: str = ""
    forced: bool = False


class LoginStart(NamedTuple):
    """A sign-in under way, as it was sealed and opened."""

    request: IdpRequest
    field: OpenedField
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginStarts:
    """Keeps and finds sign-ins by the id of their request: ``ID`` in SAML, ``state`` in OpenID Connect."""

    cookies: Cookies
    requests: RequestStates
    sealed: SealedFields

    def save(self, message_id: str, start: IdpRequest) -> None:
        """Add a sign-in to the browser's cookie, in front of those that it has."""
        text = self._seal(message_id, start)
        if len(text) > _LONGEST_COOKIE:  # the page to return to is too long: the person lands on the first one
            text = self._seal(message_id, replace(start, return_to=HOME))
        kept = [text]
        for older in self._texts()[: _MOST - 1]:
            if len(".".join((*kept, older))) <= _LONGEST_COOKIE:
                kept.append(older)
        self._set_texts(kept)

    def find(self, message_id: str) -> LoginStart | None:
        """Return the sign-in that this browser began with a request of this id, or None; it may be used already."""
        now = self.requests.current.now
        for text in self._texts()[:_MOST]:
            opened = self.sealed.open(text, message_id, now)
            if opened is not None:
                return LoginStart(IdpRequest(*json.loads(opened.secret)), opened, text)
        return None

    def consume(self, start: LoginStart) -> bool:
        """Use a sign-in up; return whether it was not used before."""
        return self.sealed.consume(start.field, self.requests.current.now)

    def remove(self, start: LoginStart) -> None:
        """Take a sign-in out of the browser's cookie with the response to this request, whatever it will be."""
        self._set_texts([text for text in self._texts() if text != start.text])

    def _texts(self) -> Sequence[str]:
        """Return the sealed sign-ins that the browser has after what this request changed."""
        texts: Sequence[str] = g.login_starts if "login_starts" in g else self.cookies.login_starts()
        return texts

    def _set_texts(self, texts: Sequence[str]) -> None:
        if "login_starts" not in g:
            after_this_request(self._set_cookie)
        g.login_starts = texts

    def _set_cookie(self, response: Response) -> Response:
        self.cookies.set_login_starts(response, g.login_starts)
        return response

    def _seal(self, message_id: str, start: IdpRequest) -> str:
        return self.sealed.seal(json.dumps(astuple(start)).encode(), message_id, self.requests.current.now)
