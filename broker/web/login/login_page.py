"""/login: directory sign-in with user name and password, and links to the identity providers.

A form is tied to the browser that got it, and answered once however often it is sent. Whoever is unknown and whoever
typed a wrong password read the same sentence after the same time; why a right password opens nothing, only those learn
who know it (THREATS E, H).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import parse_qs, urlencode, urlsplit

from flask import Blueprint, Response, request
from flask_babel import gettext as _

from broker.signin.ldap import LdapSignIn
from broker.web.core.form_fields import form_field, is_valid_form_text
from broker.web.core.forms import FormMessage, Forms, throttling_message
from broker.web.core.responses import wants_json
from broker.web.core.site import Site
from broker.web.i18n.languages import gettext_noop
from broker.web.login.completion import LoginCompletion, return_to
from broker.web.login.home_realms import HomeRealms, Realm
from broker.web.login.interrupted import interrupted_page
from iam.errors import Throttling, ValidationError
from sts.identity import Identity, ProviderUnavailable, Refusal

_LAST_LOGIN_OPTION: Final = "door"  # what a browser remembers: where somebody went the last time
_REDIRECTED: Final = "went"  # and that a link has just led to a provider: once is enough
_REDIRECTED_SECONDS: Final = 120  # seconds
_LAST_LOGIN_OPTION_SECONDS: Final = 90 * 86_400
_LONGEST_NAME: Final = 256
_SERVICE: Final = "/service/"
_SIGN_IN_FIRST: Final = gettext_noop("Sign in first.")
_LONGEST_PASSWORD: Final = 1024


@dataclass(frozen=True, slots=True)
class LoginForm:
    """The submitted form; ``local``: use a directory whatever the domain of the name."""

    username: str = ""
    password: str = field(default="", repr=False)
    directory: str = ""
    to: str = ""
    local: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """The sign-in page; ``identifier_first``: it asks for the user name first."""

    site: Site
    completion: LoginCompletion
    forms: Forms
    ldap: LdapSignIn
    home_realms: HomeRealms
    identifier_first: bool

    def blueprint(self) -> Blueprint:
        """Return the routes."""
        blueprint = Blueprint("login", __name__)
        blueprint.get("/login")(self.show)
        blueprint.post("/login")(self.post)
        return blueprint

    # --- showing ------------------------------------------------------------------------------------------------------

    def show(self) -> Response:
        """Show the form, or a link to continue if the user is already signed in."""
        if self.site.maintenance:
            return self.render_maintenance()
        site, to = self.site, return_to(request.args.get("to"))
        session = None if "switch" in request.args else site.current_session.find()
        if session is not None:
            return site.responses.render("login/already_signed_in.html", session=session, to=to)
        form = LoginForm(username=_login_hint(), to=to, local="local" in request.args)
        login_option = None if form.local else self.home_realms.find_login_option(request.args.get("idp", ""))
        if login_option is not None and not site.cookies.preference(_REDIRECTED):
            response = site.responses.redirect_to_page(
                f"{login_option.address}?{_query(to=to, login_hint=form.username)}"
            )
            site.cookies.set_preference(response, _REDIRECTED, "1", _REDIRECTED_SECONDS)
            return response
        return self.render_form(form, realm=self._realm(form))

    def _realm(self, form: LoginForm) -> Realm | None:
        """Return the realm of the user name's domain, unless the user chose a directory."""
        return None if form.local else self.home_realms.realm(form.username)

    def render_maintenance(self) -> Response:
        """Return the maintenance page."""
        response = self.site.responses.render("core/maintenance.html", code=503)
        response.headers["Retry-After"] = "300"
        return response

    def handle_not_signed_in(self) -> Response:
        """Return the sign-in form for a page that needs a session (THREATS H03)."""
        site = self.site
        if wants_json():
            told = {one.name: site.responses.url_path(one.address) for one in self.home_realms.login_options()}
            return site.responses.json(
                {"code": "NotSignedIn", "message": _("You are not signed in."), "doors": told}, 401
            )
        if self.site.maintenance:
            return self.render_maintenance()
        reason = site.current_session.reason_of_end()
        if not reason and request.method == "POST":
            reason = _SIGN_IN_FIRST
        message = FormMessage(_(reason)) if reason else None
        return self.render_form(LoginForm(to=interrupted_page()), message, code=401)

    def render_form(
        self, form: LoginForm, told: FormMessage | None = None, code: int = 200, realm: Realm | None = None
    ) -> Response:
        """Return the form."""
        name_only = self.identifier_first and not form.username
        directories = self.home_realms.directories_of(form.username)
        last = self.site.cookies.preference(_LAST_LOGIN_OPTION)
        return self.forms.render(
            "login/login.html",
            told,
            code,
            purpose=_purpose(form.to),
            form=form,
            directories=directories,
            choose_directory=len(directories) > 1 and not name_only,
            name_only=name_only,
            realm=realm,
            login_options=sorted(self.home_realms.login_options(), key=lambda one: one.address != last),
            last=last,
            this_page=self.site.responses.url_path("/login"),
            kept=_language_link_fields(form, request.args if request.path == "/login" else {}),
        )

    # --- taking -------------------------------------------------------------------------------------------------------

    def post(self) -> Response:
        """Process the submitted form, once."""
        if self.site.maintenance:
            return self.render_maintenance()
        with self.site.audit.record_failures("SignIn"):
            form = self._posted()
            blank = replace(form, password="")
            return self.forms.answer_once(lambda told: self.render_form(blank, told), lambda: self._answer(form, blank))

    def _posted(self) -> LoginForm:
        return LoginForm(
            form_field("username", _LONGEST_NAME).strip(),
            form_field("password", _LONGEST_PASSWORD),
            form_field("directory", 64),
            return_to(form_field("to", 4096)),
            bool(form_field("local", 1)),
        )

    def _answer(self, form: LoginForm, blank: LoginForm) -> Response:
        realm = self._realm(form)
        if realm is not None or (self.identifier_first and form.username and not form.password):
            return self.render_form(blank, realm=realm)
        if not self.ldap.providers:
            raise ValidationError("No directory is configured.")
        directory = self.home_realms.directory(form.username, form.directory)
        if directory is None or not form.username:
            return self.render_form(blank, _missing_field_message(form))
        return self._try_sign_in(form, blank, directory)

    def _try_sign_in(self, form: LoginForm, blank: LoginForm, directory: str) -> Response:
        try:
            return self._sign_in(form, blank, directory)
        except Throttling as error:
            self.site.audit.record_failure("SignIn", "", error, directory=directory)
            return self.render_form(blank, throttling_message(error))
        except ProviderUnavailable as error:  # the other doors are still open
            self.site.audit.record_failure("SignIn", "", error, directory=directory)
            text = _("The directory is not responding. Try again later.")
            return self.render_form(blank, FormMessage(text, 503, retry_after=error.retry_after))

    def _sign_in(self, form: LoginForm, blank: LoginForm, directory: str) -> Response:
        provider = self.ldap.providers[directory]
        found = self.ldap.sign_in(self.site.request_state, directory, provider, form.username, form.password)
        if isinstance(found, Identity):
            return self.completion.complete_login(found, form.to)
        if found.changeable and provider.config.changes_passwords:
            wanted = _query(directory=directory, username=form.username, to=form.to)
            return self.site.responses.redirect_to_page(f"/password?{wanted}")
        return self.render_form(blank, _refusal_message(found, provider.config.password_change_url))


def remember_login_option(site: Site, response: Response, address: str) -> None:
    """Store the used sign-in option in a cookie, so that it is shown first next time."""
    site.cookies.set_preference(response, _LAST_LOGIN_OPTION, address, _LAST_LOGIN_OPTION_SECONDS)


def _query(**values: str) -> str:
    return urlencode({name: value for name, value in values.items() if value})


def _login_hint() -> str:
    hint = request.args.get("login_hint", "").strip()
    return hint if len(hint) <= _LONGEST_NAME and hint.isprintable() and is_valid_form_text(hint) else ""


def _missing_field_message(form: LoginForm) -> FormMessage:
    """Return the message for a missing field."""
    if not form.username:
        return FormMessage(_("Enter your user name."), 400, wrong=True)
    return FormMessage(_("Choose your directory."), 400)


def _language_link_fields(form: LoginForm, query: Mapping[str, str]) -> dict[str, str]:
    """Return what the language links keep: of the address, and of the form."""
    told = {"to": form.to, "login_hint": form.username, "local": "1" if form.local else ""}
    kept = {name: value for name, value in query.items() if name != "lang"}
    return kept | {name: value for name, value in told.items() if value}


def _purpose(to: str) -> str:
    """Return the line that says why the user is asked to sign in."""
    parts = urlsplit(to)
    if parts.path.startswith(_SERVICE):
        return str(_("To open %(name)s.", name=parts.path.removeprefix(_SERVICE)))
    role = parse_qs(parts.query).get("role", [""])[0]
    if role:
        return str(_("To open the role %(name)s.", name=role.rpartition("/")[2]))
    return ""


def _refusal_message(found: Refusal, change_url: str) -> FormMessage:
    """Return the message for a refused sign-in; the reason only if the password was right."""
    if not found.password_correct:
        return FormMessage(_("The user name or the password is wrong."), wrong=True)
    text = _reasons().get(found.reason, _("You are not allowed to sign in."))
    return FormMessage(text, 403, link=change_url if found.changeable else "")


def _reasons() -> dict[str, str]:
    return {
        "account disabled": _("Your account is disabled. Contact your help desk."),
        "account expired": _("Your account has expired. Contact your help desk."),
        "password expired": _("Your password has expired."),
        "password must be changed": _("Your password must be changed first."),
        "outside logon hours": _("You are not allowed to sign in at this time of day."),
        "incomplete groups": _("Your groups cannot be read completely. Contact your help desk."),
        "not allowed from this workstation": _("You are not allowed to sign in from this location."),
    }
