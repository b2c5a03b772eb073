"""/password: change one's own password, in a directory or an account, by entering the current one.

The current password is required even right after sign-in: an unattended browser must not be enough. Where a password
has expired this is the way back in, so nobody needs a session for it. Afterwards every other browser of the person is
signed out.
"""

from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import urlencode

from flask import Blueprint, Response, request
from flask_babel import gettext as _

from broker.audit import record as audit_record
from broker.sessions.browser import BrowserSession
from broker.signin.iam_password import IamPasswordSignIn
from broker.signin.ldap import LdapSignIn
from broker.web.account.password_change import (
    EVENT,
    AccountPasswords,
    DirectoryPasswords,
    PasswordChangeRequest,
    PasswordOwner,
)
from broker.web.account.password_rules import policy_violation_message
from broker.web.account.password_second_factor import LONGEST_CODE, CodeNotAccepted, PasswordNotChanged
from broker.web.core.current_session import UNDER_MAINTENANCE
from broker.web.core.form_fields import form_field
from broker.web.core.forms import FormMessage, Forms, throttling_message
from broker.web.core.site import Site
from broker.web.i18n.languages import gettext_noop
from broker.web.login.completion import LoginCompletion, return_to
from broker.web.mfa.subject import has_fresh_mfa
from iam.credentials import root_login
from iam.errors import AccessDenied, PasswordPolicyViolation, ServiceUnavailable, Throttling
from sts.identity import Identity, ProviderUnavailable

_LONGEST: Final = 1024
_ELSEWHERE: Final = gettext_noop("Your identity provider manages your password. Change it there.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Passwords:
    """The page for changing a password."""

    site: Site
    completion: LoginCompletion
    forms: Forms
    ldap: LdapSignIn
    iam_password: IamPasswordSignIn

    def blueprint(self) -> Blueprint:
        """Return the routes."""
        blueprint = Blueprint("passwords", __name__)
        blueprint.get("/password")(self.show)
        blueprint.post("/password")(self.post)
        return blueprint

    # --- showing ------------------------------------------------------------------------------------------------------

    def show(self) -> Response:
        """Show the form for the user in the link or the session; raise NotSignedIn if there is neither."""
        self._check_not_in_maintenance()
        named = {name: request.args.get(name, "")[:256] for name in ("username", "directory", "account")}
        if named["username"]:
            return self._form(PasswordOwner(**named, to=return_to(request.args.get("to"))), must=True)
        session = self.site.current_session.require()
        owner, rule = self._password_owner(session.identity), self.site.gate.second_factor
        if rule.has_factor(session.identity) and not has_fresh_mfa(session, self.site.request_state.now):
            return self.site.responses.redirect_to_page(f"/mfa?{urlencode({'to': '/password'})}")
        return self._form(owner)

    def _check_not_in_maintenance(self) -> None:
        if self.site.maintenance:
            raise ServiceUnavailable(UNDER_MAINTENANCE)

    def _password_owner(self, identity: Identity) -> PasswordOwner:
        """Return whose password a signed-in user changes; raise AccessDenied if it is not stored here."""
        if self.site.gate.kinds.of(identity).is_principal:
            if not identity.is_root:
                return PasswordOwner(identity.name, account=identity.account_id, to="/security")
            with self.site.store.read() as tx:
                stored = root_login.root_login_of(tx, identity.account_id)
            return PasswordOwner(stored.email if stored else "", to="/security")
        directory = identity.directory
        if directory not in self.ldap.providers:
            raise AccessDenied(_ELSEWHERE)
        return PasswordOwner(identity.name, directory=directory, to="/security")

    def _form(
        self,
        owner: PasswordOwner,
        told: FormMessage | None = None,
        *,
        must: bool = False,
        new: bool = False,
        asks_code: bool = False,
    ) -> Response:
        """Return the form; ``new``: where something is wrong it is the new password, and not the old one.

        ``asks_code``: with a field for the code of a second factor. Who must change the password has one, for a
        directory may count each try with an expired password.
        """
        provider = self.ldap.providers.get(owner.directory)
        return self.forms.render(
            "account/password.html",
            told,
            owner=owner,
            must=must,
            here=provider is None or provider.config.changes_passwords,
            elsewhere=provider.config.password_change_url if provider else "",
            new=new,
            asks_code=asks_code or must,
            optional_code=not asks_code,
            kept={name: value for name, value in asdict(owner).items() if value},
        )

    # --- taking -------------------------------------------------------------------------------------------------------

    def post(self) -> Response:
        """Process the submitted form with the current and the new password."""
        self._check_not_in_maintenance()
        with self.site.audit.record_failures(EVENT):
            owner = PasswordOwner(
                form_field("username", 256).strip(),
                form_field("directory", 128),
                form_field("account", 63),
                return_to(form_field("to", 4096)),
            )
            old, new, repeated = (form_field(name, _LONGEST) for name in ("old", "new", "repeated"))

            def answer() -> Response:
                if new != repeated:
                    return self._form(
                        owner, FormMessage(_("The new passwords do not match."), 400, wrong=True), new=True
                    )
                code = form_field("code", LONGEST_CODE)
                return self._answer(PasswordChangeRequest(owner, old, new, self._current_session(), code))

            return self.forms.answer_once(lambda told: self._form(owner, told), answer, event=EVENT)

    def _current_session(self) -> BrowserSession | None:
        """Return the browser's session; its identity may differ from the owner of the password."""
        session = self.site.current_session.find()
        self.site.request_state.identity = self.site.request_state.mfa_at = None
        return session

    def _answer(self, change_request: PasswordChangeRequest) -> Response:
        self.site.gate.audit.check()  # a change that could not be recorded is not made
        try:
            identity = self._change_password(change_request)
        except PasswordNotChanged as refused:
            return self._reject(change_request, refused)
        except Throttling as error:
            return self._reject(change_request, PasswordNotChanged(throttling_message(error), error))
        except PasswordPolicyViolation as error:
            return self._reject(
                change_request,
                PasswordNotChanged(FormMessage(policy_violation_message(error.message), 400, wrong=True), error),
            )
        except ProviderUnavailable as error:
            text = _("The directory is not responding. Try again later.")
            return self._reject(
                change_request, PasswordNotChanged(FormMessage(text, 503, retry_after=error.retry_after), error)
            )
        if identity is None:
            return self.site.responses.render("account/password_changed.html", to=change_request.owner.to)
        return self._sign_in_anew(change_request, identity)

    def _change_password(self, change_request: PasswordChangeRequest) -> Identity | None:
        """Change the password and return its owner; None if the new password could not be verified yet."""
        if change_request.owner.directory:
            return DirectoryPasswords(self.site, self.ldap).change(change_request)
        return AccountPasswords(self.site, self.iam_password).change(change_request)

    def _reject(self, change_request: PasswordChangeRequest, refused: PasswordNotChanged) -> Response:
        site, told = self.site, refused.told
        account_id = (
            site.request_state.identity.account_id
            if site.request_state.identity
            else (refused.who or {}).get("accountId")
        )
        entry = audit_record.console_event_record(
            site.request_state,
            EVENT,
            account_id or None,
            change_request.owner.audit_details,
            error=refused.error,
            user_identity=refused.who,
        )
        site.gate.audit.append(entry)
        site.request_state.refusal_recorded = True
        asks_code = isinstance(refused, CodeNotAccepted) or bool(change_request.code)
        new = told.code == HTTPStatus.BAD_REQUEST
        return self._form(change_request.owner, told, new=new, asks_code=asks_code)

    def _sign_in_anew(self, change_request: PasswordChangeRequest, identity: Identity) -> Response:
        """End all sessions of the person and sign them in here again."""
        site, sessions = self.site, self.site.sessions
        sessions.end_of_person(identity.provider, identity.subject)  # also who is half in, by the old password
        current_session = change_request.session_of(identity)
        if current_session is None:
            return self.completion.complete_login(identity, change_request.owner.to)
        response = site.responses.redirect_to_page(change_request.owner.to)
        site.current_session.start(response, identity, mfa=current_session.mfa)
        return response
