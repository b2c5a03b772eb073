"""Verify a password by a bind, and change it: the request for each kind of directory, and the meaning of its results.

A wrong old password, an unknown user and a locked account all become one status, REFUSED: a caller who could tell them
apart could list the users of the directory (THREATS E08, E09).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from broker.providers.ldap.bind_errors import SUCCESS, WRONG_PASSWORD, bind_refusal, policy_refusal
from broker.providers.ldap.connection import LdapConnection, LdapConnectionError, LdapResult
from broker.providers.ldap.vendors import DirectoryVendor, detect_vendor
from iam.saslprep import is_prohibited, saslprep
from sts.identity import Refusal

# Characters; limits what a stranger can have the directory hash.
MAX_PASSWORD: Final = 1024
_MAX_USERNAME: Final = 256  # characters: limits the filter that a stranger can have the directory evaluate
_LONGEST_DETAIL: Final = 300


class PasswordChangeStatus(Enum):
    """The outcome of a password change; only CHANGED, and possibly UNKNOWN, replaced the old password."""

    CHANGED = "changed"
    UNKNOWN = "may have been changed"  # the connection failed after the request was sent
    REFUSED = "the old password proves nobody"
    IMPOSSIBLE = "cannot be changed here"
    # Why the new password is rejected.
    UNUSABLE = "cannot be a password"
    TOO_SHORT = "too short"
    TOO_LONG = "too long"
    TOO_WEAK = "too weak"
    IN_HISTORY = "used before"
    TOO_YOUNG = "the old one is too young to be changed"
    AGAINST_RULES = "against the rules of the directory"  # the directory does not say which of the above


_REJECTED: Final = frozenset(PasswordChangeStatus) - {
    PasswordChangeStatus.CHANGED,
    PasswordChangeStatus.UNKNOWN,
    PasswordChangeStatus.REFUSED,
    PasswordChangeStatus.IMPOSSIBLE,
}


@dataclass(frozen=True, slots=True)
class PasswordChangeResult:
    """The result of a request to change a password.

    ``refusal`` says why the old password was refused, where ``change`` is REFUSED, and where it is IMPOSSIBLE because
    the directory does not admit this person even to change the password. Its reason is for the audit log, unless
    ``password_correct`` is set. ``detail`` is the directory's message, for the audit log; it contains no password.
    ``person`` is whose password it is, once the entry was found.
    """

    change: PasswordChangeStatus
    refusal: Refusal | None = None
    detail: str = ""
    person: str = ""

    @classmethod
    def refused(cls, refusal: Refusal) -> "PasswordChangeResult":
        """Return the result for a refused old password."""
        return cls(
            PasswordChangeStatus.IMPOSSIBLE if refusal.no_change_possible else PasswordChangeStatus.REFUSED,
            refusal,
            refusal.detail,
        )

    @property
    def rejected(self) -> bool:
        """Return whether another new password, or the same one later, may be accepted."""
        return self.change in _REJECTED


def is_sendable_text(text: str) -> bool:
    """Return whether a directory reads this text to its end.

    A server in C may stop at a NUL and so compare only the beginning; lone surrogates have no UTF-8.
    """
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def validate_credentials(name: str, password: str) -> Refusal | None:
    """Return why these credentials are refused without asking the directory, or None.

    No password is tried, so the refusal does not count towards a lockout.
    """
    wrong = {
        "empty user name": not name.strip(),
        # RFC 4513 5.1.2: an empty password binds anonymously, which would sign in anybody (THREATS E01).
        "empty password": not password,
        "impossible user name": len(name) > _MAX_USERNAME or not _is_possible(name) or not saslprep(name).strip(),
        # A prepared password must not be empty either: soft hyphens, for example, are mapped to nothing.
        "impossible password": len(password) > MAX_PASSWORD or not _is_possible(password) or not saslprep(password),
    }
    return next((Refusal(reason, counts_as_failure=False) for reason, applies in wrong.items() if applies), None)


def _is_possible(text: str) -> bool:
    """Return whether a text can be a name or password: all is sent, and nothing in it is prohibited (RFC 4013 2.3)."""
    return is_sendable_text(text) and not is_prohibited(text)


def validate_new_password(old: str, new: str) -> PasswordChangeStatus | None:
    """Return why this new password is rejected without asking the directory, or None."""
    wrong = {
        # RFC 3062 section 2: without a new password the server generates one, which nobody would know.
        PasswordChangeStatus.UNUSABLE: not new
        or len(new) > MAX_PASSWORD
        or not is_sendable_text(new)
        or is_prohibited(new)
        or not saslprep(new),
        PasswordChangeStatus.IN_HISTORY: new == old,
    }
    return next((change for change, applies in wrong.items() if applies), None)


def confirm_nothing() -> None:
    """Let the right old password be enough for a change."""


def bind_as_user(connection: LdapConnection, dn: str, password: str) -> Refusal | None:
    """Return why the directory refuses this password, or None where it is right; raise LdapConnectionError."""
    return _bind_refusal(connection.bind(dn, password))


def change_own_password(
    connection: LdapConnection,
    vendor: DirectoryVendor,
    dn: str,
    old: str,
    new: str,
    *,
    confirm: Callable[[], None] = confirm_nothing,
) -> PasswordChangeResult:
    """Bind and change on one connection, so that a grace login is used up only once.

    The change is made with the person's own rights, so the directory's own rules for passwords apply. ``confirm`` is
    called between the two, and nothing is changed where it raises. Raise LdapConnectionError, ChangeUnconfirmed.
    """
    bound = connection.bind(dn, old)
    refusal = _bind_refusal(bound)
    if refusal is not None and (bound.result != SUCCESS or not refusal.changeable):
        return PasswordChangeResult.refused(refusal)
    confirm()
    if vendor is DirectoryVendor.ACTIVE_DIRECTORY:
        return _change_result(connection.replace_unicode_password(dn, old, new), old, new)
    return _change_result(connection.modify_own_password(old, new), old, new)


def change_password_as_service(connection: LdapConnection, dn: str, old: str, new: str) -> PasswordChangeResult:
    """Change an expired password in Active Directory, where the person cannot bind; raise as above.

    Everybody has the right to, with the old password in the request (MS-ADTS 5.1.3.2.1, User-Change-Password): the
    service account needs no right to reset passwords, and must not use it (see ``replace_unicode_password``).
    """
    # Detect the vendor again on this connection: a pooled connection that died must fail before the password is sent,
    # or the result would be UNKNOWN.
    if detect_vendor(connection) is not DirectoryVendor.ACTIVE_DIRECTORY:
        raise LdapConnectionError("the servers of this directory are of different kinds")
    return _change_result(connection.replace_unicode_password(dn, old, new), old, new)


# --- results ----------------------------------------------------------------------------------------------------------

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

# RFC 4511 appendix A.2. Any other code is an outage that changed nothing.
_BY_RESULT: Final = {
    2: PasswordChangeStatus.IMPOSSIBLE,  # protocolError: the extended operation is unknown
    10: PasswordChangeStatus.IMPOSSIBLE,  # referral, from a read-only replica; not followed (THREATS E04)
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


def _bind_refusal(bound: LdapResult) -> Refusal | None:
    """Return why a bind is refused, or None; an outage raises, so that it never counts as a wrong password."""
    if bound.result == SUCCESS:
        return policy_refusal(bound.policy_error)
    refusal = bind_refusal(bound.result, bound.message, bound.policy_error)
    if refusal is None:
        raise LdapConnectionError(f"bind ended with result {bound.result}: {bound.message}")
    return refusal


def _change_result(result: LdapResult, old: str, new: str) -> PasswordChangeResult:
    if result.result == SUCCESS:
        return PasswordChangeResult(PasswordChangeStatus.CHANGED)
    change = _status_of(result)
    # The server's password checker may quote the password, and the message goes to the audit log.
    message = result.message.replace(new, "…").replace(old, "…")
    detail = f"result {result.result}: {message}"[:_LONGEST_DETAIL]
    if change is None:
        raise LdapConnectionError(f"the change of a password ended with {detail}")
    if change is PasswordChangeStatus.REFUSED:
        reason = "account locked" if message.startswith(_LOCKED_OUT) else WRONG_PASSWORD
        return PasswordChangeResult.refused(Refusal(reason, detail))
    return PasswordChangeResult(change, detail=detail)


def _status_of(result: LdapResult) -> PasswordChangeStatus | None:
    """Return the status of a result other than success: by policy error, else by Windows error, else by resultCode.

    In this order, because each is more exact than the next.
    """
    if result.policy_error is not None and result.policy_error in _BY_POLICY:
        return _BY_POLICY[result.policy_error]
    windows = _WINDOWS_ERROR.match(result.message)
    by_result = _BY_RESULT.get(result.result)
    return _BY_WINDOWS_ERROR.get(windows[0].lower(), by_result) if windows else by_result
