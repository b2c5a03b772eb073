"""/signin: password sign-in of IAM users by name and of root users by email address.

Passwords open pages and never the API, access keys the API and never a page. An unknown account, an unknown name and a
wrong password get one answer after one time. Source: IAM User Guide, "How IAM users sign in to AWS".
"""

import re
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from urllib.parse import urlencode

from flask import Blueprint, Response, request
from flask_babel import gettext as _

from broker.audit import console_login
from broker.audit.console_login import IAM_USER, ROOT
from broker.audit.record import ClaimedPrincipal
from broker.runtime.thread_pool import run_in_thread_pool
from broker.signin.throttle import SignInThrottle, throttle_source
from broker.web.core.current_session import UNDER_MAINTENANCE
from broker.web.core.form_fields import form_field
from broker.web.core.forms import FormMessage, Forms, throttling_message
from broker.web.core.site import Site
from broker.web.login.completion import LoginCompletion, return_to
from iam.arn import ACCOUNT_ID, root_arn
from iam.clock import to_milliseconds
from iam.credentials import login_profile, password_hash, root_login
from iam.errors import IDPRejectedClaim, ServiceUnavailable, Throttling
from iam.store.records import AccountRecord
from sts.identity import IamIdentity

_LONGEST: Final = 1024  # characters of a password
_LONGEST_NAME: Final = 256
_ACCOUNT: Final = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", re.ASCII)  # what an id or an alias can be


@dataclass(frozen=True, slots=True)
class VerifiedPassword:
    """Somebody whose password is right; ``renew``: it must be changed first, ``over``: nobody but others can."""

    identity: IamIdentity
    hash: str = field(repr=False)
    must_change: bool = False
    hard_expired: bool = False


class LoginAttempt(NamedTuple):
    """What came of a password: whom the name means, whom it proved if anybody, or that it was not looked at."""

    login_target: ClaimedPrincipal
    proved: VerifiedPassword | None = None
    throttling: Throttling | None = None


class AccountLoginForm(NamedTuple):
    """The submitted form without the password; without an account, the user name is a root user's email address."""

    account: str
    username: str
    to: str


@dataclass(frozen=True, slots=True)
class _Candidate:
    """Whom a name means, under what failures count, and whom the right password proves."""

    login_target: ClaimedPrincipal
    throttle_key: str
    verified: VerifiedPassword | None = None

    def is_right(self, password: str) -> bool:
        """Return whether this is the password; takes as long for nobody."""
        return password_hash.verify_hash(self.verified.hash if self.verified else None, password)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountLogin:
    """The sign-in pages of IAM users and root users."""

    site: Site
    completion: LoginCompletion
    forms: Forms
    throttle: SignInThrottle

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
        if _ACCOUNT.fullmatch(typed):
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
                account, form_field("username", _LONGEST_NAME).strip(), return_to(form_field("to", 4096))
            )
            password = form_field("password", _LONGEST)
            return self.forms.answer_once(
                lambda told: self._form(login_form, told),
                lambda: self._answer(login_form, password),
                event="ConsoleLogin",
            )

    def _answer(self, login_form: AccountLoginForm, password: str) -> Response:
        attempt = self.verify_password(login_form.account, login_form.username, password)
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

    # --- proving ------------------------------------------------------------------------------------------------------

    def verify_password(self, account: str, username: str, password: str) -> LoginAttempt:
        """Return whom a name and a password prove: a user of the account, or an owner where none is named.

        Failures are counted as those of directories are (THREATS H07).
        """
        one = self._user(account, username) if account else self._owner(username)
        state, source = self.site.request_state, throttle_source(self.site.request_state.request.source_ip)
        try:
            with self.throttle.serialize_attempts(one.throttle_key, source, password):
                failed_before = self.throttle.check_lockout(one.throttle_key, source, state.now)
                if not run_in_thread_pool(lambda: one.is_right(password)):
                    self.throttle.record_failure(one.throttle_key, source, state.now)
                    return LoginAttempt(one.login_target)
                if failed_before:
                    self.throttle.clear_failures(one.throttle_key, source)
        except Throttling as throttling:
            return LoginAttempt(one.login_target, throttling=throttling)
        return LoginAttempt(one.login_target, one.verified)

    def find_account(self, text: str) -> AccountRecord | None:
        """Return the account that an id or an alias names; people also write ids as the console shows them."""
        name, store = _normalize_account(text), self.site.store
        if not name:
            return None
        found = store.account(name) if ACCOUNT_ID.fullmatch(name) else store.account_by_alias(name)
        digits = name.replace("-", "")
        return found or (store.account(digits) if ACCOUNT_ID.fullmatch(digits) else None)

    def _user(self, account: str, username: str) -> _Candidate:
        found = self.find_account(account)
        account_id = found.id if found else ""
        throttle_key = f"iam:{account_id or _normalize_account(account)}|{_normalize_name(username)}"
        with self.site.store.read() as tx:
            stored = login_profile.load_password(tx, account_id, username) if account_id else None
        if stored is None:
            return _Candidate(ClaimedPrincipal(IAM_USER, account_id), throttle_key)
        login_target = ClaimedPrincipal(IAM_USER, account_id, stored.user_id, stored.user_name, stored.arn)
        expired = stored.expires is not None and stored.expires <= to_milliseconds(self.site.request_state.now)
        identity = self._identity(stored.user_name, stored.user_id, account_id)
        proved = VerifiedPassword(
            identity,
            stored.hash,
            must_change=stored.reset_required or expired,
            hard_expired=expired and stored.hard_expiry,
        )
        return _Candidate(login_target, throttle_key, proved)

    def _owner(self, email: str) -> _Candidate:
        throttle_key = f"root:{_normalize_name(email)}"
        with self.site.store.read() as tx:
            stored = root_login.root_login_by_email(tx, email)
        if stored is None:
            return _Candidate(ClaimedPrincipal(ROOT), throttle_key)
        identity = self._identity("root", stored.account_id, stored.account_id)
        login_target = ClaimedPrincipal(ROOT, stored.account_id, stored.account_id, arn=root_arn(stored.account_id))
        return _Candidate(
            login_target, throttle_key, VerifiedPassword(identity, stored.hash, must_change=stored.reset_required)
        )

    def _identity(self, name: str, subject: str, account_id: str) -> IamIdentity:
        return IamIdentity(
            provider="iam",
            subject=subject,
            name=name,
            authenticated_at=self.site.request_state.now,
            account_id=account_id,
        )


def wrong_credentials_message() -> FormMessage:
    """Return the single message for every failed sign-in."""
    return FormMessage(_("The account, the user name or the password is wrong."), wrong=True)


def expired_message() -> FormMessage:
    """Return the message for a password that only an administrator can replace."""
    return FormMessage(_("Your password has expired. An administrator of the account can set a new one."), 403)


def _normalize_account(account: str) -> str:
    """Return what could be an account's id or alias, in small letters; of anything else, which may be long, nothing."""
    name = account.strip().lower()
    return name if _ACCOUNT.fullmatch(name) else ""


def _normalize_name(text: str) -> str:
    """Return a name under which failures count: no other spelling of it has tries of its own.

    A directory's name has no colon, so that nobody there counts as a user or an owner here.
    """
    return text.strip().casefold()[:_LONGEST_NAME]
