"""How long ago people may have signed in at a provider that keeps them signed in.

Who signed in longer ago is sent back once, to sign in anew; a provider that says the same again is refused.
"""

from datetime import timedelta
from typing import Final

from iam.errors import ExpiredTokenException

MAX_AUTHENTICATION_AGE: Final = timedelta(days=30)  # providers keep people signed in for weeks, not for ever


class AuthenticationTooOld(ExpiredTokenException):
    """The person signed in at the provider too long ago; ``in_response_to`` is the request that is answered, if any."""

    def __init__(self, log: str, in_response_to: str | None = None) -> None:
        super().__init__("The user signed in too long ago", log=log)
        self.in_response_to = in_response_to
