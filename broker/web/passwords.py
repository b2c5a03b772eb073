"""/password: somebody replaces their own password, of a directory or of an account, by proving the old one.

The old password is asked for even of whoever has just signed in: a browser left open is not its owner. Where a password
has expired this is the way back in, so nobody needs a session for it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from flask import Blueprint, Response, request
from flask_babel import gettext as _

from broker.aside import aside
from broker.attempts import network
from broker.aws.ldap_sign_in import LdapSignIn
from broker.providers.ldap_passwords import Change, ChangeOutcome
from broker.web.account_sign_in import AccountSignIn, Proved
from broker.web.entrance import Entrance, return_to
from broker.web.forms import Forms, Told, throttled
from broker.web.site import Site
from iam import root_login
from iam.call import Call
from iam.errors import (
    AccessDenied,
    IDPRejectedClaim,
    PasswordPolicyViolation,
    ServiceError,
    ServiceUnavailable,
    Throttling,
)
from iam.operations import passwords
from iam.policy.decide import Why
from sts import callers
from sts.callers import Ceilings
from sts.identity import IamIdentity, Identity, Refusal
from sts.question import Asker

_LONGEST: Final = 1024


@dataclass(frozen=True, slots=True)
class Whose:
    """Whose password it is: of somebody of a directory, of a user of an account, or (neither named) of an owner."""

    username: str
    directory: str = ""
    account: str = ""
    to: str = ""


class _Refused(Exception):
    """What the form tells instead of changing anything."""

    def __init__(self, told: Told) -> None:
        super().__init__(told.text)
        self.told = told


class Changing(Protocol):
    """How one kind of password is changed."""

    def __call__(self, whose: Whose, old: str, new: str) -> Identity:
        """Change it and return whose it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passwords:
    """The page on which passwords are changed."""

    site: Site
    entrance: Entrance
    forms: Forms
    ldap: LdapSignIn
    accounts: AccountSignIn

    def blueprint(self) -> Blueprint:
        """Return the routes."""
        made = Blueprint("passwords", __name__)
        made.get("/password")(self.show)
        made.post("/password")(self.post)
        return made

    def show(self) -> Response:
        """Show the form, for whoever a link names or is signed in."""
        asked = {name: request.args.get(name, "")[:256] for name in ("username", "directory", "account")}
        session = None if asked["username"] else self.site.session()
        whose = self._of(session.identity) if session else Whose(**asked, to=return_to(request.args.get("to")))
        return self._form(whose, must=bool(asked["username"]))

    def _of(self, identity: Identity) -> Whose:
        """Return whose password somebody signed in changes; raise AccessDenied where it is not kept here."""
        if isinstance(identity, IamIdentity):
            if not identity.is_root:
                return Whose(identity.name, account=identity.account_id, to="/security")
            with self.site.store.read() as tx:
                stored = root_login.root_login_of(tx, identity.account_id)
            return Whose(stored.email if stored else "", to="/security")
        directory = identity.provider.removeprefix("ldap-provider/")
        if directory not in self.ldap.providers:
            raise AccessDenied(_("Your password is with your identity provider: change it there."))
        return Whose(identity.name, directory=directory, to="/security")

    def _form(self, whose: Whose, told: Told | None = None, *, must: bool = False) -> Response:
        provider = self.ldap.providers.get(whose.directory)
        elsewhere = provider.config.password_change_url if provider else ""
        return self.forms.page("password.html", told, whose=whose, must=must, elsewhere=elsewhere)

    def post(self) -> Response:
        """Take the old and the new password."""
        field = self.site.field
        whose = Whose(
            field("username", 256).strip(), field("directory", 64), field("account", 64), return_to(field("to", 4096))
        )
        old, new, repeated = (field(name, _LONGEST) for name in ("old", "new", "repeated"))

        def answer() -> Response:
            if new != repeated:
                return self._form(whose, Told(_("The new passwords differ."), 400, wrong=True))
            return self._changed(whose, old, new)

        return self.forms.take(lambda told: self._form(whose, told), answer)

    def _changed(self, whose: Whose, old: str, new: str) -> Response:
        try:
            identity = self._way(whose)(whose, old, new)
        except _Refused as refused:
            return self._form(whose, refused.told)
        except Throttling as error:
            self._failed(whose, error)
            return self._form(whose, throttled(error))
        except PasswordPolicyViolation as error:
            self._failed(whose, error)
            return self._form(whose, Told(_(error.message), 400))
        except ServiceUnavailable as error:
            self._failed(whose, error)
            return self._form(whose, Told(_("The directory does not answer. Try again later."), 503, retry_after=5))
        self.site.exchange.identity = identity
        self.site.record("ChangePassword", identity.account_id)
        sessions = self.site.sessions
        sessions.end_all(identity.provider, identity.subject, sessions.of(identity.provider, identity.subject, ()))
        return self.entrance.admit(identity, whose.to)

    def _way(self, whose: Whose) -> Changing:
        if whose.directory:
            return self._of_directory
        return self._of_user if whose.account else self._of_root

    def _failed(self, whose: Whose, error: ServiceError) -> None:
        self.site.record_failure("ChangePassword", "", error, directory=whose.directory, account=whose.account)

    # --- the kinds ----------------------------------------------------------------------------------------------------

    def _of_directory(self, whose: Whose, old: str, new: str) -> Identity:
        """Change a password in a directory, then sign in with it."""
        provider = self.ldap.providers.get(whose.directory)
        if provider is None:
            raise AccessDenied(_("There is no such directory."))
        outcome = self._counted(whose, old, lambda: provider.change_password(whose.username, old, new))
        if outcome.change is not Change.CHANGED:
            told = _told(outcome)
            self._failed(whose, IDPRejectedClaim(told.text, log=f"{outcome.change.value}: {outcome.detail}"))
            raise _Refused(told)
        found = self.ldap.sign_in(self.site.exchange, whose.directory, provider, whose.username, new)
        if isinstance(found, Refusal):
            raise _Refused(Told(_("Your password is changed. Sign in with the new one."), 200))
        return found

    def _counted(self, whose: Whose, old: str, change: Callable[[], ChangeOutcome]) -> ChangeOutcome:
        exchange, attempts = self.site.exchange, self.ldap.attempts
        subject, source = self.ldap.subject(whose.directory, whose.username), network(exchange.request.source_ip)
        with attempts.turn(subject, source, old):
            attempts.admit(subject, source, exchange.now)
            outcome = change()
            if outcome.refusal is not None and outcome.refusal.counted:
                attempts.failed(subject, source, exchange.now)
            return outcome

    def _of_user(self, whose: Whose, old: str, new: str) -> Identity:
        """Change the password of a user, as iam:ChangePassword does; who must change it needs no leave for it."""
        proved = _required(self.accounts.prove(whose.account, whose.username, old))
        identity, site = proved.identity, self.site
        record = site.store.user(identity.subject)
        if record is None:
            raise _Refused(_wrong())
        asker = Asker(site.store, site.exchange.now)
        if (
            not proved.renew
            and asker.question(record.arn, "iam:ChangePassword", record.arn, {}).answer() is not Why.ALLOWED
        ):
            raise _Refused(Told(_("The account does not let its users change their passwords."), 403))
        principal = callers.user(record, "", None, Ceilings()).principal

        def change() -> None:
            with site.store.write() as tx:
                gate = site.gate
                call = Call(tx, principal, identity.account_id, site.exchange.now, gate.random, gate.vault, gate.limits)
                passwords.change_password(call, {"OldPassword": old, "NewPassword": new})

        aside(change)
        return identity

    def _of_root(self, whose: Whose, old: str, new: str) -> Identity:
        """Change the password of an owner."""
        identity = _required(self.accounts.prove_root(whose.username, old)).identity
        site = self.site

        def change() -> None:
            with site.store.write() as tx:
                root_login.change_root_password(
                    tx, identity.account_id, new, now=site.exchange.now, random=site.gate.random
                )

        aside(change)
        return identity


def _required(proved: Proved | None) -> Proved:
    if proved is None or proved.over:
        raise _Refused(_wrong())
    return proved


def _wrong() -> Told:
    return Told(_("The user name or the old password is wrong."), wrong=True)


def _told(outcome: ChangeOutcome) -> Told:
    """Return what a directory's answer means to the person; why the old password did not do, only where it is right."""
    if outcome.change is Change.REFUSED:
        return _wrong()
    texts: Mapping[Change, str] = {
        Change.UNKNOWN: _("The directory did not say whether it took the new password. Try to sign in with it."),
        Change.IMPOSSIBLE: _("This password cannot be changed here. Ask your help desk."),
        Change.UNUSABLE: _("This cannot be a password. Choose another one."),
        Change.TOO_SHORT: _("The new password is too short."),
        Change.TOO_LONG: _("The new password is too long."),
        Change.TOO_WEAK: _("The new password is too weak."),
        Change.IN_HISTORY: _("You have used this password before. Choose another one."),
        Change.TOO_YOUNG: _("Your password was changed too short a time ago to be changed again."),
        Change.AGAINST_RULES: _(
            "The new password is against the rules of the directory: length, kinds of signs, or used before."
        ),
    }
    return Told(texts.get(outcome.change, _("This password cannot be changed here. Ask your help desk.")), 400)
