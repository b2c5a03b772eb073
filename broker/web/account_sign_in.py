"""/signin: users of an account with their names, and the owner with an e-mail address; both with a password.

Passwords open pages and never the API, access keys the API and never a page. An unknown account, an unknown name and a
wrong password get one answer after one time. Source: IAM User Guide, "How IAM users sign in to AWS"; CloudTrail User
Guide, "AWS Management Console sign-in events".
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import quote, urlencode

from flask import Blueprint, Response, request
from flask_babel import gettext as _

from broker.aside import aside
from broker.attempts import Attempts, network
from broker.web.entrance import Entrance, return_to
from broker.web.forms import Forms, Told, throttled
from broker.web.site import Site
from iam import root_login
from iam.arn import ACCOUNT_ID
from iam.errors import IDPRejectedClaim, Throttling
from iam.operations import passwords
from iam.records import AccountRecord
from sts.identity import IamIdentity

_LONGEST: Final = 1024  # characters of a password
_LONGEST_NAME: Final = 256
PROVIDER: Final = "iam"
ROOT_NAME: Final = "root"


class Proved(NamedTuple):
    """Somebody whose password is right; ``renew``: it must be changed first, ``over``: nobody but others can."""

    identity: IamIdentity
    renew: bool = False
    over: bool = False


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
        made.get("/root")(self.show_root)
        made.post("/root")(self.post_root)
        return made

    # --- showing ------------------------------------------------------------------------------------------------------

    def start(self) -> Response:
        """Ask which account, and go to its own page."""
        account = request.args.get("account", "").strip()
        if account:
            return self.site.found(self.site.at(f"/signin/{quote(account[:63], safe='')}"))
        return self.site.page("accounts.html", to=return_to(request.args.get("to")))

    def show(self, account: str) -> Response:
        """Show the form of an account, whether or not there is such an account."""
        return self._form(account, "", return_to(request.args.get("to")))

    def show_root(self) -> Response:
        """Show the form of owners."""
        return self._form("", "", return_to(request.args.get("to")))

    def _form(self, account: str, username: str, to: str, told: Told | None = None) -> Response:
        return self.forms.page("account.html", told, account=account, username=username, to=to)

    # --- taking -------------------------------------------------------------------------------------------------------

    def post(self, account: str) -> Response:
        """Take the name and password of a user."""
        username = self.site.field("username", _LONGEST_NAME).strip()
        return self._taken(account, username, lambda password: self.prove(account, username, password))

    def post_root(self) -> Response:
        """Take the e-mail address and password of an owner."""
        email = self.site.field("username", _LONGEST_NAME).strip()
        return self._taken("", email, lambda password: self.prove_root(email, password))

    def _taken(self, account: str, username: str, prove: Callable[[str], Proved | None]) -> Response:
        password, to = self.site.field("password", _LONGEST), return_to(self.site.field("to", 4096))

        def again(told: Told) -> Response:
            return self._form(account, username, to, told)

        def answer() -> Response:
            try:
                proved = prove(password)
            except Throttling as error:
                self.site.record_failure("ConsoleLogin", "", error)
                return again(throttled(error))
            if proved is None:
                return again(Told(_("The account, the user name or the password is wrong."), wrong=True))
            if proved.over:
                return again(
                    Told(_("Your password has expired. An administrator of the account can set a new one."), 403)
                )
            if proved.renew:
                asked = {"account": account, "username": username, "to": to}
                return self.site.found(self.site.at(f"/password?{urlencode(asked)}"))
            return self.entrance.admit(proved.identity, to)

        return self.forms.take(again, answer)

    # --- proving ------------------------------------------------------------------------------------------------------

    def account_of(self, text: str) -> AccountRecord | None:
        """Return the account that an id or an alias names."""
        store = self.site.store
        return store.account(text) if ACCOUNT_ID.fullmatch(text) else store.account_by_alias(text)

    def prove(self, account: str, username: str, password: str) -> Proved | None:
        """Return the user whom a name and a password prove, and record it; raise Throttling."""
        found = self.account_of(account)
        account_id = found.id if found else ""

        def check() -> Proved | None:
            with self.site.store.read() as tx:
                stored = passwords.stored_password(tx, account_id, username) if account_id else None
            if not aside(lambda: passwords.is_password(stored, password)) or stored is None:
                return None
            expired = stored.expires is not None and stored.expires <= self._now_ms
            return Proved(
                self._identity(stored.user_name, stored.user_id, account_id),
                renew=stored.reset_required or expired,
                over=expired and stored.hard_expiry,
            )

        proved = self._counted(f"iam|{account_id or account.casefold()}|{username.casefold()}", password, check)
        if proved is not None:
            with self.site.store.write(revise=False) as tx:
                passwords.note_sign_in(tx, proved.identity.subject, self.site.exchange.now)
        self._record(proved, account_id)
        return proved

    def prove_root(self, email: str, password: str) -> Proved | None:
        """Return the owner whom an address and a password prove, and record it; raise Throttling."""

        def check() -> Proved | None:
            with self.site.store.read() as tx:
                stored = root_login.root_by_email(tx, email)
            if not aside(lambda: root_login.is_root_password(stored, password)) or stored is None:
                return None
            identity = self._identity(ROOT_NAME, stored.account_id, stored.account_id)
            return Proved(identity, renew=stored.reset_required)

        proved = self._counted(f"root|{email.casefold()}", password, check)
        if proved is not None:
            with self.site.store.write(revise=False) as tx:
                root_login.note_root_sign_in(tx, proved.identity.account_id, self.site.exchange.now)
        self._record(proved, "")
        return proved

    def _counted(self, subject: str, password: str, check: Callable[[], Proved | None]) -> Proved | None:
        """Check a password in its turn, and count the failures as those of directories are counted (THREATS H07)."""
        exchange = self.site.exchange
        source = network(exchange.request.source_ip)
        with self.attempts.turn(subject, source, password):
            failed_before = self.attempts.admit(subject, source, exchange.now)
            proved = check()
            if proved is None:
                self.attempts.failed(subject, source, exchange.now)
            elif failed_before:
                self.attempts.succeeded(subject, source)
            return proved

    def _identity(self, name: str, subject: str, account_id: str) -> IamIdentity:
        return IamIdentity(
            provider=PROVIDER,
            subject=subject,
            name=name,
            authenticated_at=self.site.exchange.now,
            account_id=account_id,
        )

    def _record(self, proved: Proved | None, account_id: str) -> None:
        if proved is None:
            self.site.record_failure("ConsoleLogin", account_id, IDPRejectedClaim("Failed authentication"))
            return
        self.site.exchange.identity = proved.identity
        self.site.record("ConsoleLogin", proved.identity.account_id)

    @property
    def _now_ms(self) -> int:
        return int(self.site.exchange.now.timestamp() * 1000)
