"""Why a directory refuses a bind: tables from its result codes to one short reason for the audit log.

The reason is for the log alone: to the client, an unknown user and a wrong password look the same (THREATS E08, E09).
"""

import re
from dataclasses import replace
from typing import Final

from sts.identity import Refusal

# RFC 4511 appendix A.2. Any other code than these and success is an outage, because the password was never checked; so
# is a referral, which is not followed (THREATS E04).
_BY_RESULT: Final = {
    19: "account locked",  # constraintViolation: 389 Directory Server after too many tries
    32: "unknown user",
    34: "unknown user",
    48: "no password set",
    49: "wrong password",
    50: "not allowed to sign in",
    53: "account disabled",  # unwillingToPerform: 389 Directory Server for an inactivated account
}

# Microsoft, "System Error Codes": the Win32 error in hexadecimal which Active Directory puts after "data", and whether
# it implies a correct password. A domain controller compares the password before it checks anything but the lockout, so
# 52e is also the answer for a wrong password of a disabled account.
_BY_SUBCODE: Final = {
    "525": ("unknown user", False),
    "52e": ("wrong password", False),
    "52f": ("account restricted", False),
    "530": ("outside logon hours", True),
    "531": ("not allowed from this workstation", True),
    "532": ("password expired", True),
    "533": ("account disabled", True),
    "568": ("too many groups", False),
    "701": ("account expired", True),
    "773": ("password must be changed", True),
    "775": ("account locked", False),
}

# draft-behera-ldap-password-policy-10 section 6.2: the error in the response control.
_EXPIRED: Final = 0
_LOCKED: Final = 1
_BY_POLICY: Final = {
    _EXPIRED: "password expired",
    _LOCKED: "account locked",
    2: "password must be changed",
}

# The message of 389 Directory Server for an expired password, only after a bind with it succeeded. FreeIPA's plug-in
# for grace periods runs on the same server before the bind, for any password, and has another message.
_EXPIRED_IN_389: Final = "password expired!"

_SUBCODE: Final = re.compile(r"\bdata ([0-9a-f]{3})\b", re.IGNORECASE)
_INVALID_CREDENTIALS: Final = 49
SUCCESS: Final = 0
# 52e, and 49 without a subcode: a password was compared. All refusals take at least as long (THREATS E09).
WRONG_PASSWORD: Final = "wrong password"  # noqa: S105 - a reason, not a password


def bind_refusal(result: int, message: str, policy_error: int | None = None) -> Refusal | None:
    """Return why the directory refused a bind, or None where the result is an outage."""
    if result not in _BY_RESULT:
        return None
    reason, password_correct = _reason(result, message, policy_error)
    refusal = Refusal(reason, f"result {result}: {message}"[:300] if message else f"result {result}")
    return (
        _with_correct_password(refusal, no_change_possible=policy_error == _EXPIRED)
        if password_correct and result == _INVALID_CREDENTIALS
        else refusal
    )


def _reason(result: int, message: str, policy_error: int | None) -> tuple[str, bool]:
    """Return the reason, and whether it implies a correct password; the control is more exact than the message."""
    if policy_error is not None and policy_error in _BY_POLICY:
        return _BY_POLICY[policy_error], policy_error == _EXPIRED and message.strip() == _EXPIRED_IN_389
    by_result = (_BY_RESULT[result], False)
    subcode = _SUBCODE.search(message)
    return _BY_SUBCODE.get(subcode[1].lower(), by_result) if subcode else by_result


def policy_refusal(policy_error: int | None) -> Refusal | None:
    """Return why a bind that succeeded does not sign anybody in: the password must be changed first; or None."""
    reason = None if policy_error is None else _BY_POLICY.get(policy_error)
    if reason is None:
        return None
    refusal = Refusal(reason, f"password policy error {policy_error}", counts_as_failure=False)
    return refusal if policy_error == _LOCKED else _with_correct_password(refusal, no_change_possible=False)


def needs_vendor_to_judge(refusal: Refusal) -> bool:
    """Return whether the refusal implies a correct password with some vendors only."""
    return refusal.reason == _BY_POLICY[_EXPIRED] and not refusal.password_correct


def as_openldap_means(refusal: Refusal) -> Refusal:
    """Return the refusal of an expired password as one of a correct password, for OpenLDAP.

    Its ppolicy overlay checks the age after the bind. ApacheDS and FreeIPA check it before, so with them the error says
    nothing about the password.
    """
    return _with_correct_password(refusal, no_change_possible=True)


def _with_correct_password(refusal: Refusal, *, no_change_possible: bool) -> Refusal:
    # A correct password is no guess, so it does not count towards a lockout.
    return replace(refusal, counts_as_failure=False, password_correct=True, no_change_possible=no_change_possible)


def policy_error(value: bytes | None) -> int | None:
    """Return the error in a PasswordPolicyResponseValue, or None where it has none or is malformed.

    ``SEQUENCE { warning [0] CHOICE {…} OPTIONAL, error [1] ENUMERATED OPTIONAL }`` in BER; both parts are short.
    """
    if not value or value[:1] != b"\x30":
        return None
    parts = value[2:]
    while len(parts) >= 2:  # noqa: PLR2004 - a tag and a length
        body = parts[2 : 2 + parts[1]]
        if parts[0] == 0x81:  # noqa: PLR2004 - [1], primitive
            return int.from_bytes(body, "big")
        parts = parts[2 + parts[1] :]
    return None
