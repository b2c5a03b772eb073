"""/signin: password sign-in of IAM users by name and of root users by email address.

Passwords open pages and never the API, access keys the API and never a page. An unknown account, an unknown name and a
wrong password get one answer after one time. Source: IAM User Guide, "How IAM users sign in to AWS".
"""

from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import urlencode

from flask import Blueprint, Response, request
from flask_babel import gettext as _

from broker.signin.iam_password import ACCOUNT_NAME, LONGEST_NAME, IamPasswordSignIn, LoginAttempt
from broker.web.core.current_session import UNDER_MAINTENANCE
from broker.web.core.form_fields import form_field
from broker.web.core.forms import FormMessage, Forms, throttling_message
from broker.web.core.site import Site
from broker.web.login import console_login
from broker.web.login.completion import LoginCompletion, return_to
from iam.errors import IDPRejectedClaim, ServiceUnavailable

_LONGEST: Final = 1024  # characters of a password


class AccountLoginForm(NamedTuple):
    """The submitted form without the password; without an account, the user name is a root user's email address."""

    account: str
    username: str
    to: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountLogin:
    """The sign-in pages of IAM users and root users."""

    site: Site
    completion: LoginCompletion
    forms: Forms
    sign_in: IamPasswordSignIn

    def blueprint(self) -> Blueprint:
        """Return the routes."""
        blueprint = Blueprint("account_sign_in", __name__)
        blueprint.get("/signin")(self.start)
        blueprint.get("/signin/<account>")(self.show)
        blueprint.post("/signin/<account>")(self.post)
        blueprint.get("/root", endpoint="show_root")(lambda: self.show(""))
        blueprint.post("/root", endpoint="post_root")(lambda: self.post(""))
        return blueprint

    # --- showing ------------------------------------------------------------------------------------------------------

    def start(self) -> Response:
        """Ask for the account and redirect to its sign-in page."""
        self._check_not_in_maintenance()
        typed, to = request.args.get("account", "").strip().lower(), return_to(request.args.get("to"))
        if ACCOUNT_NAME.fullmatch(typed):
            return self.site.responses.redirect_to_page(f"/signin/{typed}?{urlencode({'to': to})}")
        return self.site.responses.render(
            "login/account_chooser.html", code=400 if typed else 200, account=typed, to=to
        )

    def show(self, account: str) -> Response:
        """Show the form of an account, whether or not it exists; without an account, the form for root users."""
        self._check_not_in_maintenance()
        return self._form(AccountLoginForm(account, "", return_to(request.args.get("to"))))

    def _form(self, login_form: AccountLoginForm, told: FormMessage | None = None) -> Response:
        return self.forms.render("login/account_login.html", told, login_form=login_form, kept={"to": login_form.to})

    def _check_not_in_maintenance(self) -> None:
        if self.site.maintenance:
            raise ServiceUnavailable(UNDER_MAINTENANCE)

    # --- taking -------------------------------------------------------------------------------------------------------

    def post(self, account: str) -> Response:
        """Process the submitted form of an IAM user, or of a root user if no account is named."""
        self._check_not_in_maintenance()
        with self.site.audit.record_failures("ConsoleLogin"):
            login_form = AccountLoginForm(
                account, form_field("username", LONGEST_NAME).strip(), return_to(form_field("to", 4096))
            )
            password = form_field("password", _LONGEST)
            return self.forms.answer_once(
                lambda told: self._form(login_form, told),
                lambda: self._answer(login_form, password),
                event="ConsoleLogin",
            )

    def _answer(self, login_form: AccountLoginForm, password: str) -> Response:
        attempt = self.sign_in.verify_password(
            self.site.request_state, login_form.account, login_form.username, password
        )
        told = self._record_failure(attempt, login_form.to)
        if told is not None or attempt.proved is None:
            return self._form(login_form, told or wrong_credentials_message())
        identity = self.site.request_state.identity = attempt.proved.identity
        if attempt.proved.must_change:
            self.site.audit.record("CheckPassword", identity.account_id)
            return self.site.responses.redirect_to_page(f"/password?{urlencode(login_form._asdict())}")
        return self.completion.complete_login(identity, login_form.to)

    def _record_failure(self, attempt: LoginAttempt, to: str) -> FormMessage | None:
        """Record why a sign-in failed and return its message; None if it succeeded."""
        if attempt.throttling is not None:
            console_login.record_failed_login(self.site, attempt.login_target, attempt.throttling, to)
            return throttling_message(attempt.throttling)
        if attempt.proved is None:
            console_login.record_failed_login(
                self.site, attempt.login_target, console_login.login_error(attempt.login_target), to
            )
            return wrong_credentials_message()
        if attempt.proved.hard_expired:
            console_login.record_failed_login(self.site, attempt.login_target, IDPRejectedClaim("Password expired"), to)
            return expired_message()
        return None


def wrong_credentials_message() -> FormMessage:
    """Return the single message for every failed sign-in."""
    return FormMessage(_("The account, the user name or the password is wrong."), wrong=True)


def expired_message() -> FormMessage:
    """Return the message for a password that only an administrator can replace."""
    return FormMessage(_("Your password has expired. An administrator of the account can set a new one."), 403)
