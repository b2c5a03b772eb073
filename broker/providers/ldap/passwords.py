"""Proving a password by a bind, and changing it: how each kind of directory is asked, and what its answers mean."""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from broker.providers.ldap.bind_errors import SUCCESS, WRONG_PASSWORD, policy_refusal, refusal
from broker.providers.ldap.connection import Answer, Broken, LdapConnection
from broker.providers.ldap.vendors import Kind, kind_of
from sts.identity import Refusal

MAX_PASSWORD: Final = 1024
_LONGEST_DETAIL: Final = 300


class Change(Enum):
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


_REJECTED: Final = frozenset(Change) - {Change.CHANGED, Change.UNKNOWN, Change.REFUSED, Change.IMPOSSIBLE}


@dataclass(frozen=True, slots=True)
class ChangeOutcome:
    """What became of a request to change a password.

    ``refusal`` says why the old password did not do, where ``change`` is REFUSED, and where it is IMPOSSIBLE because
    the directory lets this person in for nothing any more. Its reason is for the audit log, unless it is ``proved``.
    ``detail`` is what the directory said, for the audit log; no password is in it.
    """

    change: Change
    refusal: Refusal | None = None
    detail: str = ""

    @classmethod
    def refused(cls, refusal: Refusal) -> "ChangeOutcome":
        """Return the outcome for somebody whose old password does not do."""
        return cls(Change.IMPOSSIBLE if refusal.final else Change.REFUSED, refusal, refusal.detail)

    @property
    def rejected(self) -> bool:
        """Say whether another new password, or the same one later, may do."""
        return self.change in _REJECTED


def sendable(text: str) -> bool:
    """Say whether this is text that a directory reads to its end."""
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def objection(old: str, new: str) -> Change | None:
    """Return why no directory needs to be asked about this new password."""
    wrong = {
        # RFC 3062 section 2: where there is no new password, the server makes one up.
        Change.UNUSABLE: not new or len(new) > MAX_PASSWORD or not sendable(new),
        Change.IN_HISTORY: new == old,
    }
    return next((change for change, applies in wrong.items() if applies), None)


def proved(connection: LdapConnection, dn: str, password: str) -> Refusal | None:
    """Return why this password does not prove this entry, or None where it does; raises Broken."""
    return _verdict(connection.bind(dn, password))


def changed_as_oneself(connection: LdapConnection, kind: Kind, dn: str, old: str, new: str) -> ChangeOutcome:
    """Bind and change in one go, so that a grace login is used up only once; raises Broken and Unanswered."""
    answer = connection.bind(dn, old)
    refused = _verdict(answer)
    if refused is not None and (answer.result != SUCCESS or not refused.changeable):
        return ChangeOutcome.refused(refused)
    if kind is Kind.ACTIVE_DIRECTORY:
        return _outcome(connection.replace_unicode_password(dn, old, new), old, new)
    return _outcome(connection.modify_own_password(old, new), old, new)


def changed_by_service(connection: LdapConnection, dn: str, old: str, new: str) -> ChangeOutcome:
    """Change a password in Active Directory for somebody whom it lets in for nothing else; raises as above.

    With the old password in the request everybody has the right to (MS-ADTS 5.1.3.2.1, User-Change-Password).
    """
    # Asked once more, because a kept connection that died must be found out before the new password is sent.
    if kind_of(connection) is not Kind.ACTIVE_DIRECTORY:
        raise Broken("the servers of this directory are of different kinds")
    return _outcome(connection.replace_unicode_password(dn, old, new), old, new)


# --- what the answers mean --------------------------------------------------------------------------------------------

# draft-behera-ldap-password-policy-10 section 6.2, and 9 as OpenLDAP has it.
_BY_POLICY: Final = {
    3: Change.IMPOSSIBLE,  # passwordModNotAllowed
    4: Change.IMPOSSIBLE,  # mustSupplyOldPassword: it was supplied
    5: Change.TOO_WEAK,
    6: Change.TOO_SHORT,
    7: Change.TOO_YOUNG,
    8: Change.IN_HISTORY,
    9: Change.TOO_LONG,
}

# RFC 4511 appendix A.2. What is not here is an outage that changed nothing.
_BY_RESULT: Final = {
    2: Change.IMPOSSIBLE,  # protocolError: the extended operation is unknown
    10: Change.IMPOSSIBLE,  # referral, from a copy that takes no changes; passwords go to no other host
    13: Change.IMPOSSIBLE,  # confidentialityRequired
    19: Change.AGAINST_RULES,  # constraintViolation
    49: Change.REFUSED,  # invalidCredentials
    50: Change.IMPOSSIBLE,  # insufficientAccessRights
    53: Change.IMPOSSIBLE,  # unwillingToPerform
}

# Microsoft, "System Error Codes": with which Active Directory begins its diagnostic message.
_BY_WINDOWS_ERROR: Final = {
    "00000056": Change.REFUSED,  # ERROR_INVALID_PASSWORD
    "0000052d": Change.AGAINST_RULES,  # ERROR_PASSWORD_RESTRICTION: length, history, age and strength alike
    "00000775": Change.REFUSED,  # ERROR_ACCOUNT_LOCKED_OUT
}
_WINDOWS_ERROR: Final = re.compile(r"[0-9A-Fa-f]{8}(?=:)")
_LOCKED_OUT: Final = "00000775"


def _verdict(answer: Answer) -> Refusal | None:
    if answer.result == SUCCESS:
        return policy_refusal(answer.policy_error)
    refused = refusal(answer.result, answer.message, answer.policy_error)
    if refused is None:
        raise Broken(f"bind ended with result {answer.result}: {answer.message}")
    return refused


def _outcome(answer: Answer, old: str, new: str) -> ChangeOutcome:
    if answer.result == SUCCESS:
        return ChangeOutcome(Change.CHANGED)
    change = _meaning(answer)
    # A module that judges passwords may quote what it judges.
    message = answer.message.replace(new, "…").replace(old, "…")
    detail = f"result {answer.result}: {message}"[:_LONGEST_DETAIL]
    if change is None:
        raise Broken(f"the change of a password ended with {detail}")
    if change is Change.REFUSED:
        reason = "account locked" if message.startswith(_LOCKED_OUT) else WRONG_PASSWORD
        return ChangeOutcome.refused(Refusal(reason, detail))
    return ChangeOutcome(change, detail=detail)


def _meaning(answer: Answer) -> Change | None:
    """Return what an answer other than success means: the most exact of the three that it may hold."""
    if answer.policy_error is not None and answer.policy_error in _BY_POLICY:
        return _BY_POLICY[answer.policy_error]
    windows = _WINDOWS_ERROR.match(answer.message)
    by_result = _BY_RESULT.get(answer.result)
    return _BY_WINDOWS_ERROR.get(windows[0].lower(), by_result) if windows else by_result
