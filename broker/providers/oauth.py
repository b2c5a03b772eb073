"""Login with Amazon and Facebook: access tokens that say nothing by themselves; their issuer is asked about each.

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
_MAX_LENGTH = 255  # characters of an id
_REFUSALS = (400, 401)  # how both answer to a token that is invalid
_MAX_CONCURRENT = 16  # requests of one worker at the same time: a slow issuer must not take every thread


class TokenSubject(NamedTuple):
    """Whom an access token is about: their id at the provider, the application's id, and the condition keys."""

    subject: str
    application: str
    keys: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class AccessTokenVerifier:
    """Asks the two providers about tokens, at these URLs."""

    fetcher: Fetcher
    amazon_url: str
    facebook_url: str
    slots: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(_MAX_CONCURRENT))

    def person(self, provider: str, token: str) -> TokenSubject:
        """Return whom a token is about; raise InvalidIdentityToken, ExpiredTokenException, IDPCommunicationError."""
        verify: Mapping[str, Callable[[str], TokenSubject]] = {AMAZON: self._amazon, FACEBOOK: self._facebook}
        if not self.slots.acquire(blocking=False):
            raise ServiceUnavailable(f"Too many tokens of {provider} are being checked. Try again later.")
        try:
            return verify[provider](token)
        finally:
            self.slots.release()

    def _amazon(self, token: str) -> TokenSubject:
        answer = self._get(AMAZON, f"{self.amazon_url}/auth/o2/tokeninfo", access_token=token)
        if answer.get("iss", _AMAZON_ISSUER) != _AMAZON_ISSUER:
            raise InvalidIdentityToken("The access token is invalid", log="iss")
        seconds_left = answer.get("exp")  # from now, other than in a JSON Web Token
        if not isinstance(seconds_left, Number):
            raise InvalidIdentityToken("The access token is invalid", log="the answer has no exp")
        if float(seconds_left) <= 0:
            raise ExpiredTokenException("The access token has expired")
        # The application is a condition key: a trust policy must name its own, for any application can get tokens.
        subject, application = _text(answer, "user_id"), _text(answer, "app_id")
        keys = {"user_id": (subject,), "app_id": (application,), "aud": (_text(answer, "aud"),)}
        return TokenSubject(subject, application, keys)

    def _facebook(self, token: str) -> TokenSubject:
        application = _text(self._get(FACEBOOK, f"{self.facebook_url}/app", access_token=token), "id")
        subject = _text(self._get(FACEBOOK, f"{self.facebook_url}/me", fields="id", access_token=token), "id")
        return TokenSubject(subject, application, {"id": (subject,), "app_id": (application,)})

    def _get(self, provider: str, address: str, **query: str) -> Mapping[str, object]:
        try:
            answer = load(self.fetcher.get(f"{address}?{urlencode(query)}").decode("utf-8"))
        except FetchError as error:
            if error.status in _REFUSALS:
                raise InvalidIdentityToken("The access token is invalid", log=f"{provider}: {error.status}") from error
            raise IDPCommunicationError(f"Error communicating with {provider}", log=str(error)) from error
        except (ValueError, RecursionError) as error:
            raise IDPCommunicationError(f"Error communicating with {provider}", log="not JSON") from error
        if not isinstance(answer, dict):
            raise IDPCommunicationError(f"Error communicating with {provider}", log="no JSON object")
        return answer


def _text(answer: Mapping[str, object], name: str) -> str:
    value = answer.get(name)
    if not isinstance(value, str) or isinstance(value, Number) or not 1 <= len(value) <= _MAX_LENGTH:
        raise InvalidIdentityToken("The access token is invalid", log=f"the answer has no {name}")
    return value
