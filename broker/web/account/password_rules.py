"""Translatable messages for violations of the password policy.

The IAM API says it in AWS's words, of which one has a number in it (iam.operations.credentials.password_policy).
"""

import re
from collections.abc import Callable, Mapping
from typing import Final

from flask_babel import gettext as _
from flask_babel import ngettext

from iam.credentials.password_change import PROHIBITED_MESSAGE

_LENGTH: Final = re.compile(r"Password should have a minimum length of ([0-9]+)")
_MESSAGES: Final[Mapping[str, Callable[[], str]]] = {
    "Password should have at least one uppercase letter": lambda: _(
        "The new password must contain an uppercase letter."
    ),
    "Password should have at least one lowercase letter": lambda: _(
        "The new password must contain a lowercase letter."
    ),
    "Password should have at least one number": lambda: _("The new password must contain a digit."),
    "Password should have at least one symbol": lambda: _("The new password must contain a symbol such as ! or #."),
    "Password should have at least three of: uppercase letter, lowercase letter, number, symbol": lambda: _(
        "The new password must contain three of these: uppercase letter, lowercase letter, digit, symbol such as ! or"
        " #."
    ),
    "Password should not be the name of the user or of the account": lambda: _(
        "The new password must not be your name or your account's name."
    ),
    PROHIBITED_MESSAGE: lambda: _("The new password has a character that a password cannot have."),
    "Password should not be one of the most common passwords": lambda: _(
        "The new password is too common. Choose another one."
    ),
    "Policy constraint violation with password reuse prevention during password change.": lambda: _(
        "You have used this password before. Choose another one."
    ),
    "The new password must be different from the current one": lambda: _(
        "This is your current password. Choose another one."
    ),
}


def policy_violation_message(message: str) -> str:
    """Return the translated message for a message of PasswordPolicyViolation."""
    too_short = _LENGTH.fullmatch(message)
    if too_short:
        return str(
            ngettext(
                "The new password must be at least %(num)d character long.",
                "The new password must be at least %(num)d characters long.",
                int(too_short[1]),
            )
        )
    known = _MESSAGES.get(message)
    return str(known()) if known else message
