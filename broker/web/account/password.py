"""/password: somebody replaces their own password, of a directory or of an account, by proving the old one.

The old password is asked for even of whoever has just signed in: a browser left open is not its owner. Where a password
has expired this is the way back in, so nobody needs a session for it. Afterwards every other browser of the person is
signed out.
"""

from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Final

from flask import Blueprint, Response, request
from flask_babel import gettext as _

from broker.audit import record as audit_record
from broker.sessions.browser import BrowserSession
from broker.signin.ldap import LdapSignIn
from broker.web.account.password_change import EVENT, AccountPasswords, DirectoryPasswords, NotChanged, Whose, Wish
from broker.web.account.password_rules import sentence
from broker.web.core.forms import Forms, Told, throttled
from broker.web.core.languages import to_translate
from broker.web.core.site import CLOSED, Site
from broker.web.login.account import AccountSignIn
from broker.web.login.completion import Entrance, return_to
from iam.credentials import root_login
from iam.errors import AccessDenied, PasswordPolicyViolation, ServiceUnavailable, Throttling
from sts.identity import IamIdentity, Identity, ProviderUnavailable

_LONGEST: Final = 1024
_ELSEWHERE: Final = to_translate("Your password is with your identity provider: change it there.")


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

    # --- showing ------------------------------------------------------------------------------------------------------

    def show(self) -> Response:
        """Show the form, for whoever a link names or is signed in; raise NotSignedIn where that is nobody."""
        self._check_open()
        named = {name: request.args.get(name, "")[:256] for name in ("username", "directory", "account")}
        if named["username"]:
            return self._form(Whose(**named, to=return_to(request.args.get("to"))), must=True)
        return self._form(self._of(self.site.required().identity))

    def _check_open(self) -> None:
        if self.site.maintenance:
            raise ServiceUnavailable(CLOSED)

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
            raise AccessDenied(_ELSEWHERE)
        return Whose(identity.name, directory=directory, to="/security")

    def _form(self, whose: Whose, told: Told | None = None, *, must: bool = False, new: bool = False) -> Response:
        """Return the form; ``new``: where something is wrong it is the new password, and not the old one."""
        provider = self.ldap.providers.get(whose.directory)
        return self.forms.page(
            "password.html",
            told,
            whose=whose,
            must=must,
            here=provider is None or provider.config.changes_passwords,
            elsewhere=provider.config.password_change_url if provider else "",
            new=new,
            kept={name: value for name, value in asdict(whose).items() if value},
        )

    # --- taking -------------------------------------------------------------------------------------------------------

    def post(self) -> Response:
        """Take the old and the new password."""
        self._check_open()
        with self.site.recording(EVENT):
            read = self.site.field
            whose = Whose(
                read("username", 256).strip(), read("directory", 128), read("account", 63), return_to(read("to", 4096))
            )
            old, new, repeated = (read(name, _LONGEST) for name in ("old", "new", "repeated"))

            def answer() -> Response:
                if new != repeated:
                    return self._form(whose, Told(_("The new passwords differ."), 400, wrong=True), new=True)
                return self._answer(Wish(whose, old, new, self._before()))

            return self.forms.take(lambda told: self._form(whose, told), answer, event=EVENT)

    def _before(self) -> BrowserSession | None:
        """Return the session of this browser; who proves the old password may be somebody else."""
        found = self.site.session()
        self.site.exchange.identity = self.site.exchange.mfa_at = None
        return found

    def _answer(self, wish: Wish) -> Response:
        self.site.gate.audit.check()  # a change that could not be recorded is not made
        try:
            identity = self._changed(wish)
        except NotChanged as refused:
            return self._refused(wish, refused)
        except Throttling as error:
            return self._refused(wish, NotChanged(throttled(error), error))
        except PasswordPolicyViolation as error:
            return self._refused(wish, NotChanged(Told(sentence(error.message), 400, wrong=True), error))
        except ProviderUnavailable as error:
            text = _("The directory does not answer. Try again later.")
            return self._refused(wish, NotChanged(Told(text, 503, retry_after=error.retry_after), error))
        if identity is None:
            return self.site.page("password_changed.html", to=wish.whose.to)
        return self._let_in(wish, identity)

    def _changed(self, wish: Wish) -> Identity | None:
        """Change the password and return whose it is; None where the new one could not be tried yet."""
        if wish.whose.directory:
            return DirectoryPasswords(self.site, self.ldap).change(wish)
        return AccountPasswords(self.site, self.accounts).change(wish)

    def _refused(self, wish: Wish, refused: NotChanged) -> Response:
        site, told = self.site, refused.told
        account_id = (
            site.exchange.identity.account_id if site.exchange.identity else (refused.who or {}).get("accountId")
        )
        entry = audit_record.page(
            site.exchange, EVENT, account_id or None, wish.whose.told, error=refused.error, who=refused.who
        )
        site.gate.audit.append(entry)
        site.exchange.refusal_recorded = True
        return self._form(wish.whose, told, new=told.code == HTTPStatus.BAD_REQUEST)

    def _let_in(self, wish: Wish, identity: Identity) -> Response:
        """Sign the person out everywhere, and in here: as they were signed in before, or as anybody who comes."""
        site, sessions = self.site, self.site.sessions
        sessions.end_all(identity.provider, identity.subject, sessions.of(identity.provider, identity.subject, ()))
        sessions.end_waiting_of(identity.person)  # also those who are half in, by the old one
        before = wish.session_of(identity)
        if before is None:
            return self.entrance.admit(identity, wish.whose.to)
        response = site.found(site.at(wish.whose.to))
        site.open(response, identity, mfa_at=before.mfa_at)
        return response
