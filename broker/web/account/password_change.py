"""How a password is changed by proving the old one: in a directory, or of an account's user or owner."""

from dataclasses import dataclass, field
from typing import Any, Final

from flask_babel import gettext as _
from sqlalchemy import Connection

from broker.audit import console_login
from broker.audit import record as audit_record
from broker.providers.ldap.passwords import Change, ChangeOutcome
from broker.providers.ldap.provider import LdapProvider
from broker.runtime.thread_pool import aside
from broker.sessions.browser import BrowserSession
from broker.signin.ldap import LdapSignIn
from broker.signin.throttle import network
from broker.web.core.forms import Told, throttled
from broker.web.core.languages import to_translate
from broker.web.core.site import Site
from broker.web.login.account import AccountSignIn, Proved, over
from iam.call import Call
from iam.credentials import password_change
from iam.credentials.password_change import Present
from iam.errors import AccessDenied, IDPRejectedClaim, NoSuchEntity, ServiceError, Throttling
from iam.operations.credentials import passwords
from iam.operations.times_and_tags import milliseconds
from sts import callers
from sts.callers import Ceilings
from sts.identity import IamIdentity, Identity, ProviderUnavailable, Refusal

EVENT = "ChangePassword"
_OVERTAKEN: Final = IDPRejectedClaim("The password was changed at the same time.")
_NO_DIRECTORY = to_translate("There is no such directory.")


@dataclass(frozen=True, slots=True)
class Whose:
    """Whose password it is: of somebody of a directory, of a user of an account, or (neither named) of an owner."""

    username: str
    directory: str = ""
    account: str = ""
    to: str = ""

    @property
    def told(self) -> dict[str, str]:
        """Return what the audit log says of it; the name stands there as userIdentity."""
        told = {"directory": self.directory, "account": self.account}
        return {name: value for name, value in told.items() if value}


@dataclass(frozen=True, slots=True)
class Wish:
    """A change that somebody wishes for; ``before`` is the session of the browser, where it has one."""

    whose: Whose
    old: str = field(repr=False)
    new: str = field(repr=False)
    before: BrowserSession | None

    def session_of(self, identity: Identity) -> BrowserSession | None:
        """Return the session in which somebody changes their own password, where they are signed in here."""
        own = self.before is not None and self.before.identity.person == identity.person
        return self.before if own else None


class NotChanged(Exception):
    """What the form tells instead, and what the audit log says: of whom, and why."""

    def __init__(self, told: Told, error: ServiceError, who: dict[str, Any] | None = None) -> None:
        super().__init__(told.text)
        self.told, self.error, self.who = told, error, who


@dataclass(frozen=True, slots=True)
class DirectoryPasswords:
    """Changes passwords in the configured directories."""

    site: Site
    ldap: LdapSignIn

    def change(self, wish: Wish) -> Identity | None:
        """Change a password, then sign in with it; None where the directory does not take the new one yet.

        Raise NotChanged, Throttling, ProviderUnavailable, AccessDenied.
        """
        site, whose = self.site, wish.whose
        provider = self.ldap.providers.get(whose.directory)
        if provider is None:
            raise AccessDenied(_NO_DIRECTORY)
        outcome = self._counted(wish, provider)
        who = audit_record.directory_user(whose.directory, whose.username, outcome.refusal)
        if outcome.change is not Change.CHANGED:
            told = told_of(outcome)
            raise NotChanged(told, IDPRejectedClaim(told.text, log=f"{outcome.change.value}: {outcome.detail}"), who)
        site.gate.audit.append(audit_record.page(site.exchange, EVENT, None, whose.told, who=who))
        try:
            found = self.ldap.sign_in(site.exchange, whose.directory, provider, whose.username, wish.new)
        except (ProviderUnavailable, Throttling):
            return None
        return None if isinstance(found, Refusal) else found

    def _counted(self, wish: Wish, provider: LdapProvider) -> ChangeOutcome:
        """Ask the directory, in turn, and count a wrong old password as a failed sign-in."""
        whose, exchange, attempts = wish.whose, self.site.exchange, self.ldap.attempts
        subject, source = self.ldap.subject(whose.directory, whose.username), network(exchange.request.source_ip)
        with attempts.turn(subject, source, wish.old):
            attempts.admit(subject, source, exchange.now)
            outcome = provider.change_password(whose.username, wish.old, wish.new)
            if outcome.refusal is not None and outcome.refusal.counted:
                attempts.failed(subject, source, exchange.now)
            return outcome


@dataclass(frozen=True, slots=True)
class AccountPasswords:
    """Changes passwords of users and owners, each with its record in one transaction."""

    site: Site
    accounts: AccountSignIn

    def change(self, wish: Wish) -> Identity:
        """Change a password and return whose it is; raise NotChanged, Throttling, PasswordPolicyViolation."""
        proved = self._proved(wish)
        identity = self.site.exchange.identity = proved.identity
        if not identity.is_root and not proved.renew and not self._may(identity, wish.session_of(identity)):
            told = Told(_("The account does not let its users change their passwords."), 403)
            raise NotChanged(told, AccessDenied("The user has no leave for iam:ChangePassword."))
        self._replace(wish, proved)
        return identity

    def _proved(self, wish: Wish) -> Proved:
        tried = self.accounts.prove(wish.whose.account, wish.whose.username, wish.old)
        who = audit_record.console_user(tried.meant)
        if tried.throttling is not None:
            raise NotChanged(throttled(tried.throttling), tried.throttling, who)
        if tried.proved is None:
            raise NotChanged(wrong(), console_login.wrong(tried.meant), who)
        if tried.proved.over:
            raise NotChanged(over(), IDPRejectedClaim("Password expired"), who)
        return tried.proved

    def _may(self, identity: IamIdentity, session: BrowserSession | None) -> bool:
        """Return whether a user has the leave; whoever must change the password is not asked for it."""
        site = self.site
        site.exchange.mfa_at = milliseconds(session.mfa_at) if session and session.mfa_at else None
        with site.store.read() as tx:
            ask = passwords.on_own_password(self._call(tx, identity), {})
        return site.desk.may(site.exchange, identity, ask, "iam:ChangePassword")

    def _call(self, tx: Connection, identity: IamIdentity) -> Call:
        gate, exchange, record = self.site.gate, self.site.exchange, self.site.store.user(identity.subject)
        if record is None:
            raise NoSuchEntity(f"The user {identity.name} has gone.")
        principal = callers.user(record, "", None, Ceilings()).principal
        return Call(tx, principal, identity.account_id, exchange.now, gate.random, gate.vault, gate.limits)

    def _replace(self, wish: Wish, proved: Proved) -> None:
        """Put the new password in the place of the one that was proved, unless somebody else was quicker."""
        site, exchange, random = self.site, self.site.exchange, self.site.gate.random
        present = self._present(proved.identity)
        if present is None or present.hash != proved.hash:
            raise NotChanged(wrong(), _OVERTAKEN)
        new = aside(lambda: password_change.successor(present, wish.new, random))
        entry = audit_record.page(exchange, EVENT, proved.identity.account_id, wish.whose.told)
        with site.store.write() as tx:
            if not password_change.write(tx, present, new, exchange.now):
                raise NotChanged(wrong(), _OVERTAKEN)
            audit_record.keep(tx, entry, exchange)
        site.gate.audit.append(entry)

    def _present(self, identity: IamIdentity) -> Present | None:
        account_id = identity.account_id
        with self.site.store.read() as tx:
            if identity.is_root:
                return password_change.of_root(tx, account_id)
            return password_change.of_user(tx, account_id, identity.subject, self.site.exchange.now)


def wrong() -> Told:
    """Return the one answer to whoever does not prove the old password."""
    return Told(_("The user name or the old password is wrong."), wrong=True)


def told_of(outcome: ChangeOutcome) -> Told:
    """Return what a directory's answer means to the person; why the old password did not do, only where it is right."""
    if outcome.change is Change.REFUSED:
        return wrong()
    code, text = {
        Change.UNKNOWN: (
            503,
            _("The directory did not say whether it took the new password. Try to sign in with it."),
        ),
        Change.UNUSABLE: (400, _("This cannot be a password. Choose another one.")),
        Change.TOO_SHORT: (400, _("The new password is too short.")),
        Change.TOO_LONG: (400, _("The new password is too long.")),
        Change.TOO_WEAK: (400, _("The new password is too weak.")),
        Change.IN_HISTORY: (400, _("You have used this password before. Choose another one.")),
        Change.TOO_YOUNG: (400, _("Your password was changed too short a time ago to be changed again.")),
        Change.AGAINST_RULES: (
            400,
            _("The new password is against the rules of the directory: length, kinds of signs, or used before."),
        ),
    }.get(outcome.change, (403, _("This password cannot be changed here. Ask your help desk.")))
    return Told(text, code, wrong=outcome.rejected and outcome.change is not Change.TOO_YOUNG)
