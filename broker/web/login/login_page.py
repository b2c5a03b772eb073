"""/login: name and password for a directory, or the way to another identity provider.

A form is tied to the browser that got it, and answered once however often it is sent. Whoever is unknown and whoever
typed a wrong password read the same sentence after the same time; why a right password opens nothing, only those learn
who know it (THREATS E, H).
"""

from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import parse_qs, urlencode, urlsplit

from flask import Blueprint, Response, request
from flask_babel import gettext as _

from broker.signin.ldap import LdapSignIn
from broker.web.core.forms import Forms, Told, throttled
from broker.web.core.site import Site, is_sendable
from broker.web.login.completion import Entrance, return_to
from broker.web.login.home_realms import HomeRealms, Realm
from iam.errors import Throttling, ValidationError
from sts.identity import Identity, ProviderUnavailable, Refusal

_DOOR: Final = "door"  # what a browser remembers: where somebody went the last time
_WENT: Final = "went"  # and that a link has just led to a provider: once is enough
_WENT_FOR: Final = 120  # seconds
_DOOR_FOR: Final = 90 * 86_400
_LONGEST_NAME: Final = 256
_LONGEST_PASSWORD: Final = 1024


@dataclass(frozen=True, slots=True)
class Form:
    """What somebody typed; ``local``: whatever the domain of the name, a directory is meant."""

    username: str = ""
    password: str = field(default="", repr=False)
    directory: str = ""
    to: str = ""
    local: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """The sign-in page; ``identifier_first``: it asks for the name alone, and then for what that name needs."""

    site: Site
    entrance: Entrance
    forms: Forms
    ldap: LdapSignIn
    home_realms: HomeRealms
    identifier_first: bool

    def blueprint(self) -> Blueprint:
        """Return the routes."""
        made = Blueprint("login", __name__)
        made.get("/login")(self.show)
        made.post("/login")(self.post)
        return made

    # --- showing ------------------------------------------------------------------------------------------------------

    def show(self) -> Response:
        """Show the form, or the way on for somebody who is signed in."""
        if self.site.maintenance:
            return self.closed()
        site, to = self.site, return_to(request.args.get("to"))
        session = None if "switch" in request.args else site.session()
        if session is not None:
            return site.page("already.html", session=session, to=to)
        form = Form(username=_hint(), to=to, local="local" in request.args)
        door = None if form.local else self.home_realms.door(request.args.get("idp", ""))
        if door is not None and not site.memory(_WENT):
            response = site.found(f"{site.at(door.address)}?{_query(to=to, login_hint=form.username)}")
            site.memorise(response, _WENT, "1", _WENT_FOR)
            return response
        return self.form(form, realm=self._realm(form))

    def _realm(self, form: Form) -> Realm | None:
        """Return the door for people of the name's domain, unless they said that they want none."""
        return None if form.local else self.home_realms.realm(form.username)

    def closed(self) -> Response:
        """Return the page of a service that lets nobody in for now."""
        response = self.site.page("maintenance.html", code=503)
        response.headers["Retry-After"] = "300"
        return response

    def nobody(self) -> Response:
        """Return the form to somebody who wanted a page and is not signed in (THREATS H03)."""
        site = self.site
        if site.wants_json:
            told = {one.name: site.at(one.address) for one in self.home_realms.doors()}
            return site.json({"code": "NotSignedIn", "message": _("You are not signed in."), "doors": told}, 401)
        if self.site.maintenance:
            return self.closed()
        if request.method == "POST":
            return self.form(Form(to=return_to(None)), Told(_("Sign in first.")))
        query = request.query_string.decode("ascii", "replace")
        return self.form(Form(to=return_to(f"{request.path}?{query}" if query else request.path)), code=401)

    def form(self, form: Form, told: Told | None = None, code: int = 200, realm: Realm | None = None) -> Response:
        """Return the form."""
        name_only = self.identifier_first and not form.username
        directories = self.home_realms.directories_of(form.username)
        last = self.site.memory(_DOOR)
        more = {"kept": _kept(form)} if request.method == "POST" else {}
        return self.forms.page(
            "login.html",
            told,
            code,
            why=_why(form.to),
            form=form,
            directories=directories,
            choose_directory=len(directories) > 1 and not name_only,
            name_only=name_only,
            realm=realm,
            doors=sorted(self.home_realms.doors(), key=lambda one: one.address != last),
            last=last,
            **more,
        )

    # --- taking -------------------------------------------------------------------------------------------------------

    def post(self) -> Response:
        """Take the form, once."""
        if self.site.maintenance:
            return self.closed()
        with self.site.recording("SignIn"):
            form = self._posted()
            blank = replace(form, password="")
            return self.forms.take(lambda told: self.form(blank, told), lambda: self._answer(form, blank))

    def _posted(self) -> Form:
        read = self.site.field
        return Form(
            read("username", _LONGEST_NAME).strip(),
            read("password", _LONGEST_PASSWORD),
            read("directory", 64),
            return_to(read("to", 4096)),
            bool(read("local", 1)),
        )

    def _answer(self, form: Form, blank: Form) -> Response:
        realm = self._realm(form)
        if realm is not None or (self.identifier_first and form.username and not form.password):
            return self.form(blank, realm=realm)
        if not self.ldap.providers:
            raise ValidationError("No directory is configured.")
        directory = self.home_realms.directory(form.username, form.directory)
        if directory is None or not form.username:
            return self.form(blank, _incomplete(form))
        return self._asked(form, blank, directory)

    def _asked(self, form: Form, blank: Form, directory: str) -> Response:
        try:
            return self._signed_in(form, blank, directory)
        except Throttling as error:
            self.site.record_failure("SignIn", "", error, directory=directory)
            return self.form(blank, throttled(error))
        except ProviderUnavailable as error:  # the other doors are still open
            self.site.record_failure("SignIn", "", error, directory=directory)
            text = _("The directory does not answer. Try again later.")
            return self.form(blank, Told(text, 503, retry_after=error.retry_after))

    def _signed_in(self, form: Form, blank: Form, directory: str) -> Response:
        provider = self.ldap.providers[directory]
        found = self.ldap.sign_in(self.site.exchange, directory, provider, form.username, form.password)
        if isinstance(found, Identity):
            return self.entrance.admit(found, form.to)
        if found.changeable and provider.config.changes_passwords:
            wanted = _query(directory=directory, username=form.username, to=form.to)
            return self.site.found(self.site.at(f"/password?{wanted}"))
        return self.form(blank, _refused(found, provider.config.password_change_url))


def remember(site: Site, response: Response, address: str) -> None:
    """Let a browser remember the door through which somebody went: it is shown first the next time."""
    site.memorise(response, _DOOR, address, _DOOR_FOR)


def _query(**values: str) -> str:
    return urlencode({name: value for name, value in values.items() if value})


def _hint() -> str:
    hint = request.args.get("login_hint", "").strip()
    return hint if len(hint) <= _LONGEST_NAME and hint.isprintable() and is_sendable(hint) else ""


def _incomplete(form: Form) -> Told:
    """Return what a form lacks."""
    if not form.username:
        return Told(_("Enter your user name."), 400, wrong=True)
    return Told(_("Choose your directory."), 400)


def _kept(form: Form) -> dict[str, str]:
    """Return what the links to other languages keep of a form that was sent."""
    told = {"to": form.to, "login_hint": form.username, "local": "1" if form.local else ""}
    return {name: value for name, value in told.items() if value}


def _why(to: str) -> str:
    """Return the sentence that says why somebody is here."""
    role = parse_qs(urlsplit(to).query).get("role", [""])[0]
    if role:
        return str(_("To open the role %(name)s.", name=role.rpartition("/")[2]))
    return ""


def _refused(found: Refusal, change_url: str) -> Told:
    """Return what a refusal tells: the reason only to whoever knows the password."""
    if not found.proved:
        return Told(_("The user name or the password is wrong."), wrong=True)
    text = _reasons().get(found.reason, _("You may not sign in."))
    return Told(text, 403, link=change_url if found.changeable else "")


def _reasons() -> dict[str, str]:
    return {
        "account disabled": _("Your account is disabled. Ask your help desk."),
        "account expired": _("Your account has expired. Ask your help desk."),
        "password expired": _("Your password has expired."),
        "password must be changed": _("Your password must be changed first."),
        "outside logon hours": _("You may not sign in at this time of day."),
        "not allowed from this workstation": _("You may not sign in from here."),
    }
