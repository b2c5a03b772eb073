"""What a directory means when it refuses a bind: tables from its codes to one short reason for the audit log."""

import re

from sts.identity import Refusal

# RFC 4511 appendix A.2. What is neither here nor success is an outage, for the password was never judged; so is a
# referral, which is not followed.
_BY_RESULT = {
    19: "account locked",  # constraintViolation: 389 Directory Server after too many tries
    32: "unknown user",
    34: "unknown user",
    48: "no password set",
    49: "wrong password",
    50: "not allowed to sign in",
    53: "account disabled",  # unwillingToPerform: 389 Directory Server for an inactivated account
}

# Microsoft, "System Error Codes": the Win32 error in hexadecimal which Active Directory puts after "data".
_BY_SUBCODE = {
    "525": "unknown user",
    "52e": "wrong password",
    "52f": "account restricted",
    "530": "outside logon hours",
    "531": "not allowed from this workstation",
    "532": "password expired",
    "533": "account disabled",
    "568": "too many groups",
    "701": "account expired",
    "773": "password must be changed",
    "775": "account locked",
}

# draft-behera-ldap-password-policy-10 section 6.2: the error in the response control.
_BY_POLICY = {
    0: "password expired",
    1: "account locked",
    2: "password must be changed",
}

_SUBCODE = re.compile(r"\bdata ([0-9a-f]{3})\b", re.IGNORECASE)
SUCCESS = 0
# 52e and 49 without a subcode mean that a password was compared, which is what the pace of all refusals is set by.
WRONG_PASSWORD = "wrong password"  # noqa: S105 - a reason, not a password


def refusal(result: int, message: str, policy_error: int | None = None) -> Refusal | None:
    """Return why the directory refused a bind, or None where its answer is no refusal at all but an outage."""
    reason = _BY_RESULT.get(result)
    if reason is None:
        return None
    subcode = _SUBCODE.search(message)
    if subcode:
        reason = _BY_SUBCODE.get(subcode[1].lower(), reason)
    if policy_error is not None:
        reason = _BY_POLICY.get(policy_error, reason)
    return Refusal(reason, f"result {result}: {message}"[:300] if message else f"result {result}")


def policy_refusal(policy_error: int | None) -> Refusal | None:
    """Return why a bind that succeeded admits nobody: this person may change the password and nothing else."""
    reason = None if policy_error is None else _BY_POLICY.get(policy_error)
    return None if reason is None else Refusal(reason, f"password policy error {policy_error}", counted=False)


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
