"""Change a password after verifying the current one: in a directory, or of an IAM user or a root user."""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from flask_babel import gettext as _
from sqlalchemy import Connection

from broker.audit import record as audit_record
from broker.audit.transaction import audited_transaction
from broker.providers.ldap.passwords import PasswordChangeResult, PasswordChangeStatus
from broker.providers.ldap.provider import LdapProvider
from broker.runtime.thread_pool import run_in_thread_pool
from broker.sessions.browser import BrowserSession
from broker.signin.entry_guesses import limit_by_entry
from broker.signin.iam_password import IamPasswordSignIn, VerifiedPassword
from broker.signin.ldap import LdapSignIn
from broker.signin.throttle import throttle_source
from broker.web.account.password_second_factor import CodeNotAccepted, PasswordNotChanged, PasswordSecondFactor
from broker.web.core.forms import FormMessage, throttling_message
from broker.web.core.site import Site
from broker.web.i18n.languages import gettext_noop
from broker.web.login import console_login
from broker.web.login.account import expired_message
from iam.credentials import password_change
from iam.credentials.password_change import CurrentPassword
from iam.credentials.password_version import renew_mark, version_of_hash
from iam.errors import AccessDenied, IDPRejectedClaim, Throttling
from sts.identity import IamIdentity, Identity, ProviderUnavailable, Refusal

EVENT = "ChangePassword"
_CHANGED_MEANWHILE: Final = IDPRejectedClaim("The password was changed at the same time.")
_NO_DIRECTORY = gettext_noop("Directory not found.")


@dataclass(frozen=True, slots=True)
class PasswordOwner:
    """The owner of a password: a directory user, an IAM user, or (neither directory nor account) a root user."""

    username: str
    directory: str = ""
    account: str = ""
    to: str = ""

    @property
    def audit_details(self) -> dict[str, str]:
        """Return the details for the audit log; the name is in userIdentity."""
        told = {"directory": self.directory, "account": self.account}
        return {name: value for name, value in told.items() if value}


@dataclass(frozen=True, slots=True)
class PasswordChangeRequest:
    """A requested password change; ``current_session`` is the browser's, if it has one."""

    owner: PasswordOwner
    old: str = field(repr=False)
    new: str = field(repr=False)
    current_session: BrowserSession | None
    code: str = field(default="", repr=False)  # of a second factor

    def session_of(self, identity: Identity) -> BrowserSession | None:
        """Return the session that changes the user's own password, if the user is signed in here."""
        return self.session_of_person(identity.person)

    def session_of_person(self, person: str) -> BrowserSession | None:
        """Return the session that changes this person's own password, if they are signed in here."""
        own = self.current_session is not None and self.current_session.identity.person == person
        return self.current_session if own else None


@dataclass(frozen=True, slots=True)
class DirectoryPasswords:
    """Changes passwords in the configured directories."""

    site: Site
    ldap: LdapSignIn

    def change(self, change_request: PasswordChangeRequest) -> Identity | None:
        """Change a password, then sign in with it; return None if the directory does not accept the new one yet.

        Raise PasswordNotChanged, Throttling, ProviderUnavailable, AccessDenied.
        """
        site, owner = self.site, change_request.owner
        provider = self.ldap.providers.get(owner.directory)
        if provider is None:
            raise AccessDenied(_NO_DIRECTORY)
        outcome = self._change_in_directory(change_request, provider)
        who = audit_record.directory_user_identity(owner.directory, owner.username, outcome.refusal)
        if outcome.change is not PasswordChangeStatus.CHANGED:
            if outcome.change is PasswordChangeStatus.UNKNOWN:
                self._end_sessions(outcome.person)
            told = change_message(outcome)
            raise PasswordNotChanged(
                told, IDPRejectedClaim(told.text, log=f"{outcome.change.value}: {outcome.detail}"), who
            )
        site.gate.audit.append(
            audit_record.console_event_record(site.request_state, EVENT, None, owner.audit_details, user_identity=who)
        )
        self._end_sessions(outcome.person)
        try:
            found = self.ldap.sign_in(site.request_state, owner.directory, provider, owner.username, change_request.new)
        except (ProviderUnavailable, Throttling):
            return None
        return None if isinstance(found, Refusal) else found

    def _end_sessions(self, person: str) -> None:
        """End the sessions that began with the old password, also where the directory shows nothing of its version."""
        with self.site.store.write(bump_revision=False) as tx:
            renew_mark(tx, person, self.site.gate.random)

    def _change_in_directory(
        self, change_request: PasswordChangeRequest, provider: LdapProvider
    ) -> PasswordChangeResult:
        """Change the password in the directory; count a wrong current password as a failed sign-in."""
        owner, state, throttle = change_request.owner, self.site.request_state, self.ldap.throttle
        subject, source = (
            self.ldap.throttle_subject(owner.directory, owner.username),
            throttle_source(state.request.counted_address),
        )
        with throttle.attempt(subject, source, change_request.old, state.now) as attempt:
            outcome = provider.change_password(
                owner.username,
                change_request.old,
                change_request.new,
                confirm=partial(self._check_second_factor, change_request, provider),
                limit=limit_by_entry(throttle, subject, source, change_request.old, state.now),
            )
            if outcome.refusal is not None and outcome.refusal.counts_as_failure:
                attempt.fail()
            return outcome

    def _check_second_factor(self, change_request: PasswordChangeRequest, provider: LdapProvider, subject: str) -> None:
        person, owner = f"{provider.config.provider}|{subject}", change_request.owner
        session = change_request.session_of_person(person)
        try:
            PasswordSecondFactor(self.site).verify(person, session, change_request.code)
        except CodeNotAccepted as refused:
            refused.who = audit_record.directory_user_identity(owner.directory, owner.username)
            raise


@dataclass(frozen=True, slots=True)
class AccountPasswords:
    """Changes passwords of IAM users and root users, with the audit record in the same transaction."""

    site: Site
    sign_in: IamPasswordSignIn

    def change(self, change_request: PasswordChangeRequest) -> Identity:
        """Change a password and return its owner; raise PasswordNotChanged, Throttling, PasswordPolicyViolation."""
        proved = self._verify_old_password(change_request)
        identity = self.site.request_state.identity = proved.identity
        session = change_request.session_of(identity)
        self.site.request_state.mfa_at = PasswordSecondFactor(self.site).verify(
            identity.person, session, change_request.code
        )
        with self.site.store.read() as tx:
            self._check_allowed(tx, proved)
        return self._store_new_password(change_request, proved)

    def _verify_old_password(self, change_request: PasswordChangeRequest) -> VerifiedPassword:
        attempt = self.sign_in.verify_password(
            self.site.request_state, change_request.owner.account, change_request.owner.username, change_request.old
        )
        who = audit_record.console_user_identity(attempt.login_target)
        if attempt.throttling is not None:
            raise PasswordNotChanged(throttling_message(attempt.throttling), attempt.throttling, who)
        if attempt.proved is None:
            raise PasswordNotChanged(wrong_old_password_message(), console_login.login_error(attempt.login_target), who)
        if attempt.proved.hard_expired:
            raise PasswordNotChanged(expired_message(), IDPRejectedClaim("Password expired"), who)
        return attempt.proved

    def _check_allowed(self, tx: Connection, proved: VerifiedPassword) -> None:
        """Raise PasswordNotChanged where a user may not change the password; a required change needs no Allow."""
        site, identity = self.site, proved.identity
        if identity.is_root:
            return
        try:
            site.own_permissions.require_operation(
                tx, site.request_state, identity, EVENT, {}, unless_denied=proved.must_change
            )
        except AccessDenied as error:
            told = FormMessage(_("This account does not allow users to change their own passwords."), 403)
            raise PasswordNotChanged(told, error) from error

    def _store_new_password(self, change_request: PasswordChangeRequest, proved: VerifiedPassword) -> IamIdentity:
        """Replace the verified password, unless it was changed concurrently; return its owner, with the new version."""
        site, state, random = self.site, self.site.request_state, self.site.gate.random
        present = self._current_password(proved.identity)
        if present is None or present.hash != proved.hash:
            raise PasswordNotChanged(wrong_old_password_message(), _CHANGED_MEANWHILE)
        new = run_in_thread_pool(lambda: password_change.hash_new_password(present, change_request.new, random))
        entry = audit_record.console_event_record(
            state, EVENT, proved.identity.account_id, change_request.owner.audit_details
        )
        with audited_transaction(site.store, site.gate.audit, lambda: entry) as tx:
            self._check_allowed(tx, proved)
            if not password_change.write(tx, present, new, state.now):
                raise PasswordNotChanged(wrong_old_password_message(), _CHANGED_MEANWHILE)
        return replace(proved.identity, password_version=version_of_hash(new))

    def _current_password(self, identity: IamIdentity) -> CurrentPassword | None:
        account_id = identity.account_id
        with self.site.store.read() as tx:
            if identity.is_root:
                return password_change.of_root(tx, account_id)
            return password_change.of_user(tx, account_id, identity.subject, self.site.request_state.now)


def wrong_old_password_message() -> FormMessage:
    """Return the single message for any failed verification of the current password."""
    return FormMessage(_("The user name or the current password is wrong."), wrong=True)


def change_message(outcome: PasswordChangeResult) -> FormMessage:
    """Return the message for a directory's result; the reason for a refusal only if the current password was right."""
    if outcome.change is PasswordChangeStatus.REFUSED:
        return wrong_old_password_message()
    code, text = {
        PasswordChangeStatus.UNKNOWN: (
            503,
            _("The directory did not confirm the new password. Try to sign in with it."),
        ),
        PasswordChangeStatus.UNUSABLE: (400, _("This password is not allowed. Choose another one.")),
        PasswordChangeStatus.TOO_SHORT: (400, _("The new password is too short.")),
        PasswordChangeStatus.TOO_LONG: (400, _("The new password is too long.")),
        PasswordChangeStatus.TOO_WEAK: (400, _("The new password is too weak.")),
        PasswordChangeStatus.IN_HISTORY: (400, _("You have used this password before. Choose another one.")),
        PasswordChangeStatus.TOO_YOUNG: (400, _("Your password was changed too recently. Try again later.")),
        PasswordChangeStatus.AGAINST_RULES: (
            400,
            _(
                "The new password does not meet the directory's password policy: length, character types or password"
                " history."
            ),
        ),
    }.get(outcome.change, (403, _("This password cannot be changed here. Contact your help desk.")))
    return FormMessage(text, code, wrong=outcome.rejected and outcome.change is not PasswordChangeStatus.TOO_YOUNG)
