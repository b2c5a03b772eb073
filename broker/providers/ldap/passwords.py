"""Proving a password by a bind, and changing it: how each kind of directory is asked, and what its answers mean."""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from broker.providers.ldap.bind_errors import SUCCESS, WRONG_PASSWORD, bind_refusal, policy_refusal
from broker.providers.ldap.connection import LdapConnection, LdapConnectionError, LdapResult
from broker.providers.ldap.vendors import DirectoryVendor, detect_vendor
from sts.identity import Refusal

MAX_PASSWORD: Final = 1024
_LONGEST_DETAIL: Final = 300


class PasswordChangeStatus(Enum):
    """What became of a new password; only CHANGED and perhaps UNKNOWN replaced the old one."""

    CHANGED = "changed"
    UNKNOWN = "may have been changed"  # the directory fell silent after it was asked
    REFUSED = "the old password proves nobody"
    IMPOSSIBLE = "cannot be changed here"
    # Why this one is not taken.
    UNUSABLE = "cannot be a password"
    TOO_SHORT = "too short"
    TOO_LONG = "too long"
    TOO_WEAK = "too weak"
    IN_HISTORY = "used before"
    TOO_YOUNG = "the old one is too young to be changed"
    AGAINST_RULES = "against the rules of the directory"  # which of the above, it does not say


_REJECTED: Final = frozenset(PasswordChangeStatus) - {
    PasswordChangeStatus.CHANGED,
    PasswordChangeStatus.UNKNOWN,
    PasswordChangeStatus.REFUSED,
    PasswordChangeStatus.IMPOSSIBLE,
}


@dataclass(frozen=True, slots=True)
class PasswordChangeResult:
    """What became of a request to change a password.

    ``refusal`` says why the old password did not do, where ``change`` is REFUSED, and where it is IMPOSSIBLE because
    the directory lets this person in for nothing any more. Its reason is for the audit log, unless it is ``proved``.
    ``detail`` is what the directory said, for the audit log; no password is in it.
    """

    change: PasswordChangeStatus
    refusal: Refusal | None = None
    detail: str = ""

    @classmethod
    def refused(cls, refusal: Refusal) -> "PasswordChangeResult":
        """Return the outcome for somebody whose old password does not do."""
        return cls(
            PasswordChangeStatus.IMPOSSIBLE if refusal.no_change_possible else PasswordChangeStatus.REFUSED,
            refusal,
            refusal.detail,
        )

    @property
    def rejected(self) -> bool:
        """Say whether another new password, or the same one later, may do."""
        return self.change in _REJECTED


def is_sendable_text(text: str) -> bool:
    """Say whether this is text that a directory reads to its end."""
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def validate_new_password(old: str, new: str) -> PasswordChangeStatus | None:
    """Return why no directory needs to be asked about this new password."""
    wrong = {
        # RFC 3062 section 2: where there is no new password, the server makes one up.
        PasswordChangeStatus.UNUSABLE: not new or len(new) > MAX_PASSWORD or not is_sendable_text(new),
        PasswordChangeStatus.IN_HISTORY: new == old,
    }
    return next((change for change, applies in wrong.items() if applies), None)


def bind_as_user(connection: LdapConnection, dn: str, password: str) -> Refusal | None:
    """Return why this password does not prove this entry, or None where it does; raises Broken."""
    return _bind_refusal(connection.bind(dn, password))


def change_own_password(
    connection: LdapConnection, kind: DirectoryVendor, dn: str, old: str, new: str
) -> PasswordChangeResult:
    """Bind and change in one go, so that a grace login is used up only once; raises Broken and Unanswered."""
    answer = connection.bind(dn, old)
    refused = _bind_refusal(answer)
    if refused is not None and (answer.result != SUCCESS or not refused.changeable):
        return PasswordChangeResult.refused(refused)
    if kind is DirectoryVendor.ACTIVE_DIRECTORY:
        return _change_result(connection.replace_unicode_password(dn, old, new), old, new)
    return _change_result(connection.modify_own_password(old, new), old, new)


def change_password_as_service(connection: LdapConnection, dn: str, old: str, new: str) -> PasswordChangeResult:
    """Change a password in Active Directory for somebody whom it lets in for nothing else; raises as above.

    With the old password in the request everybody has the right to (MS-ADTS 5.1.3.2.1, User-Change-Password).
    """
    # Asked once more, because a kept connection that died must be found out before the new password is sent.
    if detect_vendor(connection) is not DirectoryVendor.ACTIVE_DIRECTORY:
        raise LdapConnectionError("the servers of this directory are of different kinds")
    return _change_result(connection.replace_unicode_password(dn, old, new), old, new)


# --- what the answers mean --------------------------------------------------------------------------------------------

# draft-behera-ldap-password-policy-10 section 6.2, and 9 as OpenLDAP has it.
_BY_POLICY: Final = {
    3: PasswordChangeStatus.IMPOSSIBLE,  # passwordModNotAllowed
    4: PasswordChangeStatus.IMPOSSIBLE,  # mustSupplyOldPassword: it was supplied
    5: PasswordChangeStatus.TOO_WEAK,
    6: PasswordChangeStatus.TOO_SHORT,
    7: PasswordChangeStatus.TOO_YOUNG,
    8: PasswordChangeStatus.IN_HISTORY,
    9: PasswordChangeStatus.TOO_LONG,
}

# RFC 4511 appendix A.2. What is not here is an outage that changed nothing.
_BY_RESULT: Final = {
    2: PasswordChangeStatus.IMPOSSIBLE,  # protocolError: the extended operation is unknown
    10: PasswordChangeStatus.IMPOSSIBLE,  # referral, from a copy that takes no changes; passwords go to no other host
    13: PasswordChangeStatus.IMPOSSIBLE,  # confidentialityRequired
    19: PasswordChangeStatus.AGAINST_RULES,  # constraintViolation
    49: PasswordChangeStatus.REFUSED,  # invalidCredentials
    50: PasswordChangeStatus.IMPOSSIBLE,  # insufficientAccessRights
    53: PasswordChangeStatus.IMPOSSIBLE,  # unwillingToPerform
}

# Microsoft, "System Error Codes": with which Active Directory begins its diagnostic message.
_BY_WINDOWS_ERROR: Final = {
    "00000056": PasswordChangeStatus.REFUSED,  # ERROR_INVALID_PASSWORD
    "0000052d": PasswordChangeStatus.AGAINST_RULES,  # ERROR_PASSWORD_RESTRICTION: length, history, age, strength
    "00000775": PasswordChangeStatus.REFUSED,  # ERROR_ACCOUNT_LOCKED_OUT
}
_WINDOWS_ERROR: Final = re.compile(r"[0-9A-Fa-f]{8}(?=:)")
_LOCKED_OUT: Final = "00000775"


def _bind_refusal(answer: LdapResult) -> Refusal | None:
    if answer.result == SUCCESS:
        return policy_refusal(answer.policy_error)
    refused = bind_refusal(answer.result, answer.message, answer.policy_error)
    if refused is None:
        raise LdapConnectionError(f"bind ended with result {answer.result}: {answer.message}")
    return refused


def _change_result(answer: LdapResult, old: str, new: str) -> PasswordChangeResult:
    if answer.result == SUCCESS:
        return PasswordChangeResult(PasswordChangeStatus.CHANGED)
    change = _status_of(answer)
    # A module that judges passwords may quote what it judges.
    message = answer.message.replace(new, "…").replace(old, "…")
    detail = f"result {answer.result}: {message}"[:_LONGEST_DETAIL]
    if change is None:
        raise LdapConnectionError(f"the change of a password ended with {detail}")
    if change is PasswordChangeStatus.REFUSED:
        reason = "account locked" if message.startswith(_LOCKED_OUT) else WRONG_PASSWORD
        return PasswordChangeResult.refused(Refusal(reason, detail))
    return PasswordChangeResult(change, detail=detail)


def _status_of(answer: LdapResult) -> PasswordChangeStatus | None:
    """Return what an answer other than success means: the most exact of the three that it may hold."""
    if answer.policy_error is not None and answer.policy_error in _BY_POLICY:
        return _BY_POLICY[answer.policy_error]
    windows = _WINDOWS_ERROR.match(answer.message)
    by_result = _BY_RESULT.get(answer.result)
    return _BY_WINDOWS_ERROR.get(windows[0].lower(), by_result) if windows else by_result
