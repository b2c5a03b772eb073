"""/login: name and password for a directory, or the way to another identity provider.

A form is tied to the browser that got it, and answered once however often it is sent. Whoever is unknown and whoever
typed a wrong password read the same sentence after the same time; why a right password opens nothing, only those learn
who know it (THREATS E, H).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple
from urllib.parse import parse_qs, urlencode, urlsplit

from flask import Blueprint, Response, request
from flask_babel import gettext as _

from broker.aws.ldap_sign_in import LdapSignIn
from broker.web.entrance import Entrance, return_to
from broker.web.forms import Forms, Told, throttled
from broker.web.site import Site
from iam.arn import parse_arn
from iam.errors import ServiceUnavailable, Throttling, ValidationError
from sts.identity import Identity, Refusal

_DOOR_COOKIE: Final = "fedgate-door"  # where somebody signed in the last time: no secret
_WENT_COOKIE: Final = "fedgate-went"  # that a link has just led to a provider: once is enough
_WENT_FOR: Final = 120  # seconds
_LONGEST_NAME: Final = 256
_LONGEST_PASSWORD: Final = 1024


class Door(NamedTuple):
    """A way to sign in elsewhere: what it is called, where it begins, and the ARN of the provider behind it."""

    name: str
    address: str
    provider: str = ""


class Realm(NamedTuple):
    """A domain whose people sign in through a door."""

    domain: str
    door: Door


@dataclass(frozen=True, slots=True)
class Form:
    """What somebody typed."""

    username: str = ""
    password: str = ""
    directory: str = ""
    to: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """The sign-in page; ``realms`` names the provider of a domain's people by its ARN."""

    site: Site
    entrance: Entrance
    forms: Forms
    ldap: LdapSignIn
    doors: Callable[[], tuple[Door, ...]]
    realms: Mapping[str, str]
    identifier_first: bool
    maintenance: bool

    def blueprint(self) -> Blueprint:
        """Return the routes."""
        made = Blueprint("login", __name__)
        made.get("/login")(self.show)
        made.post("/login")(self.post)
        return made

    # --- showing ------------------------------------------------------------------------------------------------------

    def show(self) -> Response:
        """Show the form, or the way on for somebody who is signed in."""
        if self.maintenance:
            return self.closed()
        site, to = self.site, return_to(request.args.get("to"))
        session = None if "switch" in request.args else site.session()
        if session is not None:
            return site.page("already.html", session=session, to=to)
        door = self._door_named(request.args.get("idp", ""))
        if door is not None and "local" not in request.args and _WENT_COOKIE not in request.cookies:
            response = site.found(f"{site.at(door.address)}?{_query(to=to, login_hint=_hint())}")
            response.set_cookie(_WENT_COOKIE, "1", max_age=_WENT_FOR, secure=site.secure, httponly=True, samesite="Lax")
            return response
        return self.form(Form(username=_hint(), to=to))

    def closed(self) -> Response:
        """Return the page of a service that lets nobody in for now."""
        response = self.site.page("maintenance.html", code=503)
        response.headers["Retry-After"] = "300"
        return response

    def nobody(self) -> Response:
        """Return the form to somebody who wanted a page and is not signed in (THREATS H03)."""
        site = self.site
        if site.wants_json:
            told = {one.name: site.at(one.address) for one in self.doors()}
            return site.json({"code": "NotSignedIn", "message": _("You are not signed in."), "doors": told}, 401)
        if self.maintenance:
            return self.closed()
        wanted = request.full_path.rstrip("?") if request.method == "GET" else ""
        return self.form(
            Form(to=return_to(wanted)), Told(_("Sign in first.")) if request.method == "POST" else None, 401
        )

    def form(self, form: Form, told: Told | None = None, code: int = 200, realm: Realm | None = None) -> Response:
        """Return the form."""
        return self.forms.page(
            "login.html",
            told,
            code,
            why=_why(form.to),
            username=form.username,
            directory=form.directory,
            directories=tuple(self.ldap.providers),
            choose_directory=self._is_ambiguous(form.username),
            identifier_first=self.identifier_first and not form.username,
            realm=realm,
            doors=self._sorted_doors(),
            last=request.cookies.get(_DOOR_COOKIE),
            to=form.to,
        )

    def _sorted_doors(self) -> tuple[Door, ...]:
        """Return the doors, the one that this browser last went through first."""
        last = request.cookies.get(_DOOR_COOKIE)
        return tuple(sorted(self.doors(), key=lambda one: one.address != last))

    def _door_named(self, name: str) -> Door | None:
        """Return the door that a link names: by its name, or its provider's ARN or short name."""
        found = (one for one in self.doors() if name and name.casefold() in _names(one))
        return next(found, None)

    # --- taking -------------------------------------------------------------------------------------------------------

    def post(self) -> Response:
        """Take the form, once."""
        if self.maintenance:
            return self.closed()
        site = self.site
        form = Form(
            site.field("username", _LONGEST_NAME).strip(),
            site.field("password", _LONGEST_PASSWORD),
            site.field("directory", 64),
            return_to(site.field("to", 4096)),
        )
        blank = replace(form, password="")
        return self.forms.take(lambda told: self.form(blank, told), lambda: self._answer(form, blank))

    def _answer(self, form: Form, blank: Form) -> Response:
        realm = self._realm(form.username)
        if realm is not None:
            return self.form(blank, realm=realm)
        directory = self._directory(form)
        if directory is None:
            return self.form(blank, Told(_("Choose your directory."), 400))
        if self.identifier_first and not form.password:
            return self.form(blank)
        try:
            return self._signed_in(form, blank, directory)
        except Throttling as error:
            self.site.record_failure("SignIn", "", error, directory=directory)
            return self.form(blank, throttled(error))
        except ServiceUnavailable as error:  # the other doors are still open
            self.site.record_failure("SignIn", "", error, directory=directory)
            return self.form(blank, Told(_("The directory does not answer. Try again later."), 503, retry_after=5))

    def _signed_in(self, form: Form, blank: Form, directory: str) -> Response:
        provider = self.ldap.providers[directory]
        found = self.ldap.sign_in(self.site.exchange, directory, provider, form.username, form.password)
        if isinstance(found, Identity):
            return self.entrance.admit(found, form.to)
        if found.changeable and provider.config.password_change:
            wanted = _query(directory=directory, username=form.username, to=form.to)
            return self.site.found(self.site.at(f"/password?{wanted}"))
        return self.form(blank, _refused(found, provider.config.password_change_url))

    # --- which directory ----------------------------------------------------------------------------------------------

    def _realm(self, username: str) -> Realm | None:
        """Return the door for people of this name's domain, where it is not a directory's."""
        domain = username.rpartition("@")[2].casefold()
        arn = self.realms.get(domain, "")
        door = next((one for one in self.doors() if arn and one.provider == arn), None)
        return Realm(domain, door) if door else None

    def _directory(self, form: Form) -> str | None:
        """Return the directory to ask: the only one, the one that the domain names, or the one that was chosen."""
        names = tuple(self.ldap.providers)
        if not names:
            raise ValidationError("No directory is configured.")
        by_domain = self._by_domain(form.username)
        if len(names) == 1 or by_domain:
            return by_domain or names[0]
        return form.directory if form.directory in names else self._default()

    def _by_domain(self, username: str) -> str | None:
        found = [name for name, one in self.ldap.providers.items() if one.plain_name(username) != username]
        return found[0] if len(found) == 1 else None

    def _default(self) -> str | None:
        """Return the one directory whose people go without a domain."""
        plain = [name for name, one in self.ldap.providers.items() if not one.config.login_domains]
        return plain[0] if len(plain) == 1 else None

    def _is_ambiguous(self, username: str) -> bool:
        """Return whether only the person can say which directory is meant."""
        if len(self.ldap.providers) < 2 or self._by_domain(username):  # noqa: PLR2004 - one alone is no choice
            return False
        return self._default() is None


def remember(site: Site, response: Response, address: str) -> None:
    """Let a browser remember the door through which somebody went: it is shown first the next time."""
    response.set_cookie(
        _DOOR_COOKIE, address, max_age=90 * 86_400, secure=site.secure, httponly=True, samesite="Lax", path="/"
    )


def _query(**values: str) -> str:
    return urlencode({name: value for name, value in values.items() if value})


def _hint() -> str:
    hint = request.args.get("login_hint", "")
    return hint if len(hint) <= _LONGEST_NAME and hint.isprintable() else ""


def _names(door: Door) -> set[str]:
    arn = parse_arn(door.provider)
    short = arn.resource.partition("/")[2] if arn else ""
    return {door.name.casefold(), door.provider.casefold(), short.casefold()}


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
    if found.changeable and change_url:
        text = f"{text} {_('Change it here: %(url)s', url=change_url)}"
    return Told(text, 403)


def _reasons() -> dict[str, str]:
    return {
        "account disabled": _("Your account is disabled. Ask your help desk."),
        "account expired": _("Your account has expired. Ask your help desk."),
        "password expired": _("Your password has expired."),
        "password must be changed": _("Your password must be changed first."),
        "outside logon hours": _("You may not sign in at this time of day."),
        "not allowed from this workstation": _("You may not sign in from here."),
    }
