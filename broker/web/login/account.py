"""/signin: users of an account with their names, and the owner with an e-mail address; both with a password.

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
from broker.audit.record import Meant
from broker.runtime.thread_pool import aside
from broker.signin.throttle import Attempts, network
from broker.web.core.forms import Forms, Told, throttled
from broker.web.core.site import CLOSED, Site
from broker.web.login.completion import Entrance, return_to
from iam.arn import ACCOUNT_ID, root_arn
from iam.credentials import root_login
from iam.errors import IDPRejectedClaim, ServiceUnavailable, Throttling
from iam.operations.credentials import passwords
from iam.operations.times_and_tags import milliseconds
from iam.store.records import AccountRecord
from sts.identity import IamIdentity

_LONGEST: Final = 1024  # characters of a password
_LONGEST_NAME: Final = 256
_ACCOUNT: Final = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", re.ASCII)  # what an id or an alias can be


@dataclass(frozen=True, slots=True)
class Proved:
    """Somebody whose password is right; ``renew``: it must be changed first, ``over``: nobody but others can."""

    identity: IamIdentity
    hash: str = field(repr=False)
    renew: bool = False
    over: bool = False


class Tried(NamedTuple):
    """What came of a password: whom the name means, whom it proved if anybody, or that it was not looked at."""

    meant: Meant
    proved: Proved | None = None
    throttling: Throttling | None = None


class Entered(NamedTuple):
    """What somebody typed but the password; without an account it is the address of an owner."""

    account: str
    username: str
    to: str


@dataclass(frozen=True, slots=True)
class _Candidate:
    """Whom a name means, under what failures count, and whom the right password proves."""

    meant: Meant
    counted: str
    if_right: Proved | None = None

    def is_right(self, password: str) -> bool:
        """Return whether this is the password; takes as long for nobody."""
        return passwords.is_hash_of(self.if_right.hash if self.if_right else None, password)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSignIn:
    """The sign-in of users and owners."""

    site: Site
    entrance: Entrance
    forms: Forms
    attempts: Attempts

    def blueprint(self) -> Blueprint:
        """Return the routes."""
        made = Blueprint("account_sign_in", __name__)
        made.get("/signin")(self.start)
        made.get("/signin/<account>")(self.show)
        made.post("/signin/<account>")(self.post)
        made.get("/root", endpoint="show_root")(lambda: self.show(""))
        made.post("/root", endpoint="post_root")(lambda: self.post(""))
        return made

    # --- showing ------------------------------------------------------------------------------------------------------

    def start(self) -> Response:
        """Ask which account, and go to its own page."""
        self._check_open()
        typed, to = request.args.get("account", "").strip().lower(), return_to(request.args.get("to"))
        if _ACCOUNT.fullmatch(typed):
            return self.site.found(f"{self.site.at(f'/signin/{typed}')}?{urlencode({'to': to})}")
        return self.site.page("accounts.html", code=400 if typed else 200, account=typed, to=to)

    def show(self, account: str) -> Response:
        """Show the form of an account, whether or not there is such an account; of owners where none is named."""
        self._check_open()
        return self._form(Entered(account, "", return_to(request.args.get("to"))))

    def _form(self, entered: Entered, told: Told | None = None) -> Response:
        return self.forms.page("account.html", told, entered=entered, kept={"to": entered.to})

    def _check_open(self) -> None:
        if self.site.maintenance:
            raise ServiceUnavailable(CLOSED)

    # --- taking -------------------------------------------------------------------------------------------------------

    def post(self, account: str) -> Response:
        """Take the name and password of a user, or of an owner where no account is named."""
        self._check_open()
        with self.site.recording("ConsoleLogin"):
            read = self.site.field
            entered = Entered(account, read("username", _LONGEST_NAME).strip(), return_to(read("to", 4096)))
            password = read("password", _LONGEST)
            return self.forms.take(
                lambda told: self._form(entered, told), lambda: self._answer(entered, password), event="ConsoleLogin"
            )

    def _answer(self, entered: Entered, password: str) -> Response:
        tried = self.prove(entered.account, entered.username, password)
        told = self._objection(tried, entered.to)
        if told is not None or tried.proved is None:
            return self._form(entered, told or wrong())
        identity = self.site.exchange.identity = tried.proved.identity
        if tried.proved.renew:
            self.site.record("CheckPassword", identity.account_id)
            return self.site.found(self.site.at(f"/password?{urlencode(entered._asdict())}"))
        return self.entrance.admit(identity, entered.to)

    def _objection(self, tried: Tried, to: str) -> Told | None:
        """Record why somebody does not get in, and return what they are told; None where they may."""
        if tried.throttling is not None:
            console_login.failed(self.site, tried.meant, tried.throttling, to)
            return throttled(tried.throttling)
        if tried.proved is None:
            console_login.failed(self.site, tried.meant, console_login.wrong(tried.meant), to)
            return wrong()
        if tried.proved.over:
            console_login.failed(self.site, tried.meant, IDPRejectedClaim("Password expired"), to)
            return over()
        return None

    # --- proving ------------------------------------------------------------------------------------------------------

    def prove(self, account: str, username: str, password: str) -> Tried:
        """Return whom a name and a password prove: a user of the account, or an owner where none is named.

        Failures are counted as those of directories are (THREATS H07).
        """
        one = self._user(account, username) if account else self._owner(username)
        exchange, source = self.site.exchange, network(self.site.exchange.request.source_ip)
        try:
            with self.attempts.turn(one.counted, source, password):
                failed_before = self.attempts.admit(one.counted, source, exchange.now)
                if not aside(lambda: one.is_right(password)):
                    self.attempts.failed(one.counted, source, exchange.now)
                    return Tried(one.meant)
                if failed_before:
                    self.attempts.succeeded(one.counted, source)
        except Throttling as throttling:
            return Tried(one.meant, throttling=throttling)
        return Tried(one.meant, one.if_right)

    def account_of(self, text: str) -> AccountRecord | None:
        """Return the account that an id or an alias names; people also write ids as the console shows them."""
        name, store = _possible(text), self.site.store
        if not name:
            return None
        found = store.account(name) if ACCOUNT_ID.fullmatch(name) else store.account_by_alias(name)
        digits = name.replace("-", "")
        return found or (store.account(digits) if ACCOUNT_ID.fullmatch(digits) else None)

    def _user(self, account: str, username: str) -> _Candidate:
        found = self.account_of(account)
        account_id = found.id if found else ""
        counted = f"iam:{account_id or _possible(account)}|{_one_spelling(username)}"
        with self.site.store.read() as tx:
            stored = passwords.stored_password(tx, account_id, username) if account_id else None
        if stored is None:
            return _Candidate(Meant(IAM_USER, account_id), counted)
        meant = Meant(IAM_USER, account_id, stored.user_id, stored.user_name, stored.arn)
        expired = stored.expires is not None and stored.expires <= milliseconds(self.site.exchange.now)
        identity = self._identity(stored.user_name, stored.user_id, account_id)
        proved = Proved(
            identity, stored.hash, renew=stored.reset_required or expired, over=expired and stored.hard_expiry
        )
        return _Candidate(meant, counted, proved)

    def _owner(self, email: str) -> _Candidate:
        counted = f"root:{_one_spelling(email)}"
        with self.site.store.read() as tx:
            stored = root_login.root_by_email(tx, email)
        if stored is None:
            return _Candidate(Meant(ROOT), counted)
        identity = self._identity("root", stored.account_id, stored.account_id)
        meant = Meant(ROOT, stored.account_id, stored.account_id, arn=root_arn(stored.account_id))
        return _Candidate(meant, counted, Proved(identity, stored.hash, renew=stored.reset_required))

    def _identity(self, name: str, subject: str, account_id: str) -> IamIdentity:
        return IamIdentity(
            provider="iam",
            subject=subject,
            name=name,
            authenticated_at=self.site.exchange.now,
            account_id=account_id,
        )


def wrong() -> Told:
    """Return the one answer to whoever proved nothing."""
    return Told(_("The account, the user name or the password is wrong."), wrong=True)


def over() -> Told:
    """Return what somebody reads whose password has expired for good."""
    return Told(_("Your password has expired. An administrator of the account can set a new one."), 403)


def _possible(account: str) -> str:
    """Return what could be an account's id or alias, in small letters; of anything else, which may be long, nothing."""
    name = account.strip().lower()
    return name if _ACCOUNT.fullmatch(name) else ""


def _one_spelling(text: str) -> str:
    """Return a name under which failures count: no other spelling of it has tries of its own.

    A directory's name has no colon, so that nobody there counts as a user or an owner here.
    """
    return text.strip().casefold()[:_LONGEST_NAME]
