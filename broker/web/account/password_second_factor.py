"""The second factor of somebody who changes their password: without it a stolen password alone could be replaced.

Whoever has a second factor gives it, in the last five minutes of their session or as a code in the form: also somebody
whose password has expired, who cannot sign in first.
"""

from dataclasses import dataclass
from typing import Any, Final

from flask_babel import gettext as _

from broker.sessions.browser import BrowserSession
from broker.signin.second_factor import ConsumeCode
from broker.web.core.forms import FormMessage
from broker.web.core.site import Site
from broker.web.mfa.second_factor import CODE, CONSUME, RECOVERY
from broker.web.mfa.subject import has_fresh_mfa
from iam.clock import to_milliseconds
from iam.credentials import factors
from iam.errors import InvalidAuthenticationCode, ServiceError

LONGEST_CODE: Final = 64
_DIGITS: Final = 6  # of a code of an app; recovery codes are longer


class PasswordNotChanged(Exception):
    """A refused password change: the message for the form, and the identity and reason for the audit log."""

    def __init__(self, told: FormMessage, error: ServiceError, who: dict[str, Any] | None = None) -> None:
        super().__init__(told.text)
        self.told, self.error, self.who = told, error, who


class CodeNotAccepted(PasswordNotChanged):
    """The code of a second factor is missing or wrong, and the current password right."""


@dataclass(frozen=True, slots=True)
class PasswordSecondFactor:
    """Checks the second factor of a password's owner, once the current password is known to be right."""

    site: Site

    def verify(self, person: str, session: BrowserSession | None, code: str) -> int | None:
        """Return when a second factor was given, in milliseconds, or None where the person has none.

        ``session`` is the person's own, if they are signed in here. Raise CodeNotAccepted, Throttling.
        """
        state = self.site.request_state
        if session is not None and session.mfa_at is not None and has_fresh_mfa(session, state.now):
            return to_milliseconds(session.mfa_at)
        with self.site.store.read() as tx:
            held = factors.factors_of(tx, person)
        if not held:
            return None
        if not code:
            text = _("Enter a code of your authenticator app, or a recovery code.")
            raise CodeNotAccepted(FormMessage(text, 403), InvalidAuthenticationCode("The code is missing."))
        if not self.site.gate.second_factor.consume(state, person, code, _consume_for(code)):
            text = _("This code is wrong or was already used.")
            raise CodeNotAccepted(FormMessage(text), InvalidAuthenticationCode("The code is wrong or was used before."))
        return to_milliseconds(state.now)


def _consume_for(code: str) -> ConsumeCode:
    """Return how a code is used up: by its length it is of an app, or a recovery code."""
    return CONSUME[CODE if len("".join(code.split())) <= _DIGITS else RECOVERY]
