"""Login with Amazon and Facebook: access tokens that say nothing by themselves, and are asked about at their issuer.

Source: Login with Amazon Developer Guide, "Obtain customer profile information" (token information); Facebook Graph
API, "app" and "me"; IAM User Guide, "Available keys for AWS OIDC federation".
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlencode

from broker.runtime.fetch import Fetcher, FetchError
from iam.errors import ExpiredTokenException, IDPCommunicationError, InvalidIdentityToken, ServiceUnavailable
from iam.policy.strict_json import Number, load

AMAZON, FACEBOOK = "www.amazon.com", "graph.facebook.com"
_AMAZON_ISSUER = "https://www.amazon.com"
_LONGEST = 255
_REFUSALS = (400, 401)
_MOST_AT_ONCE = 16  # questions that one worker asks at the same time


class TokenSubject(NamedTuple):
    """Whom an access token is for: their id at the provider, the application's, and what condition keys tell."""

    subject: str
    application: str
    keys: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class AccessTokenVerifier:
    """Asks the two providers about tokens, at these addresses."""

    fetcher: Fetcher
    amazon_url: str
    facebook_url: str
    turns: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(_MOST_AT_ONCE))

    def person(self, provider: str, token: str) -> TokenSubject:
        """Return whom a token is for; raise InvalidIdentityToken, ExpiredTokenException, IDPCommunicationError."""
        ask: Mapping[str, Callable[[str], TokenSubject]] = {AMAZON: self._amazon, FACEBOOK: self._facebook}
        if not self.turns.acquire(blocking=False):
            raise ServiceUnavailable(f"Too many tokens of {provider} are being checked. Try again later.")
        try:
            return ask[provider](token)
        finally:
            self.turns.release()

    def _amazon(self, token: str) -> TokenSubject:
        told = self._ask(AMAZON, f"{self.amazon_url}/auth/o2/tokeninfo", access_token=token)
        if told.get("iss", _AMAZON_ISSUER) != _AMAZON_ISSUER:
            raise InvalidIdentityToken("The access token is invalid", log="iss")
        left = told.get("exp")  # seconds from now
        if not isinstance(left, Number):
            raise InvalidIdentityToken("The access token is invalid", log="the answer has no exp")
        if float(left) <= 0:
            raise ExpiredTokenException("The access token has expired")
        subject, application = _text(told, "user_id"), _text(told, "app_id")
        keys = {"user_id": (subject,), "app_id": (application,), "aud": (_text(told, "aud"),)}
        return TokenSubject(subject, application, keys)

    def _facebook(self, token: str) -> TokenSubject:
        application = _text(self._ask(FACEBOOK, f"{self.facebook_url}/app", access_token=token), "id")
        subject = _text(self._ask(FACEBOOK, f"{self.facebook_url}/me", fields="id", access_token=token), "id")
        return TokenSubject(subject, application, {"id": (subject,), "app_id": (application,)})

    def _ask(self, provider: str, address: str, **query: str) -> Mapping[str, object]:
        try:
            found = load(self.fetcher.get(f"{address}?{urlencode(query)}").decode("utf-8"))
        except FetchError as error:
            if error.status in _REFUSALS:
                raise InvalidIdentityToken("The access token is invalid", log=f"{provider}: {error.status}") from error
            raise IDPCommunicationError(f"Error communicating with {provider}", log=str(error)) from error
        except (ValueError, RecursionError) as error:
            raise IDPCommunicationError(f"Error communicating with {provider}", log="not JSON") from error
        if not isinstance(found, dict):
            raise IDPCommunicationError(f"Error communicating with {provider}", log="no JSON object")
        return found


def _text(told: Mapping[str, object], name: str) -> str:
    value = told.get(name)
    if not isinstance(value, str) or isinstance(value, Number) or not 1 <= len(value) <= _LONGEST:
        raise InvalidIdentityToken("The access token is invalid", log=f"the answer has no {name}")
    return value
