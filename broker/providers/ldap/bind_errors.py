"""What a directory means when it refuses a bind: tables from its codes to one short reason for the audit log."""

import re
from dataclasses import replace
from typing import Final

from sts.identity import Refusal

# RFC 4511 appendix A.2. What is neither here nor success is an outage, for the password was never judged; so is a
# referral, which is not followed.
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
# that is said only to a right password. A domain controller compares the password before it looks at anything but the
# lockout, so that 52e hides what else is wrong.
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

# What 389 Directory Server says of an expired password, and only after a bind with it succeeded. FreeIPA's plug-in for
# grace periods runs on the same server before the bind, for any password, in other words.
_EXPIRED_IN_389: Final = "password expired!"

_SUBCODE: Final = re.compile(r"\bdata ([0-9a-f]{3})\b", re.IGNORECASE)
_INVALID_CREDENTIALS: Final = 49
SUCCESS: Final = 0
# 52e and 49 without a subcode mean that a password was compared, which is what the pace of all refusals is set by.
WRONG_PASSWORD: Final = "wrong password"  # noqa: S105 - a reason, not a password


def bind_refusal(result: int, message: str, policy_error: int | None = None) -> Refusal | None:
    """Return why the directory refused a bind, or None where its answer is no refusal at all but an outage."""
    if result not in _BY_RESULT:
        return None
    reason, proved = _reason(result, message, policy_error)
    refused = Refusal(reason, f"result {result}: {message}"[:300] if message else f"result {result}")
    return (
        _with_correct_password(refused, no_change_possible=policy_error == _EXPIRED)
        if proved and result == _INVALID_CREDENTIALS
        else refused
    )


def _reason(result: int, message: str, policy_error: int | None) -> tuple[str, bool]:
    """Return the reason, and whether it is said to a right password alone; the control is more exact than the text."""
    if policy_error is not None and policy_error in _BY_POLICY:
        return _BY_POLICY[policy_error], policy_error == _EXPIRED and message.strip() == _EXPIRED_IN_389
    plain = (_BY_RESULT[result], False)
    subcode = _SUBCODE.search(message)
    return _BY_SUBCODE.get(subcode[1].lower(), plain) if subcode else plain


def policy_refusal(policy_error: int | None) -> Refusal | None:
    """Return why a bind that succeeded admits nobody: this person may change the password and nothing else."""
    reason = None if policy_error is None else _BY_POLICY.get(policy_error)
    if reason is None:
        return None
    refused = Refusal(reason, f"password policy error {policy_error}", counts_as_failure=False)
    return refused if policy_error == _LOCKED else _with_correct_password(refused, no_change_possible=False)


def needs_vendor_to_judge(refused: Refusal) -> bool:
    """Say whether only the kind of directory tells if this was said to a right password alone."""
    return refused.reason == _BY_POLICY[_EXPIRED] and not refused.password_correct


def as_openldap_means(refused: Refusal) -> Refusal:
    """Return an expired password's refusal as slapd means it, whose ppolicy overlay asks for the age after the bind.

    ApacheDS and FreeIPA ask before, so the error alone proves nothing.
    """
    return _with_correct_password(refused, no_change_possible=True)


def _with_correct_password(refused: Refusal, *, no_change_possible: bool) -> Refusal:
    # A right password is no guess.
    return replace(refused, counts_as_failure=False, password_correct=True, no_change_possible=no_change_possible)


def policy_error(value: bytes | None) -> int | None:
    """Return the error in a PasswordPolicyResponseValue, or None where it has none or cannot be read.

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
