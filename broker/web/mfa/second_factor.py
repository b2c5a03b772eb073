"""/mfa: a second factor is given, after the password and before the session, or later by somebody who steps up.

A code counts once, five wrong ones stop all codes for a quarter of an hour, and a passkey answers a challenge of this
very form (THREATS H08). A passkey that only asks for a touch counts as well: the password has been given before.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple
from unicodedata import digit
from urllib.parse import urlencode

from flask import Blueprint, Response, request
from flask_babel import gettext as _
from sqlalchemy import Connection

from broker.web.core.forms import Forms, Told, throttled
from broker.web.core.site import Site
from broker.web.login.completion import Entrance, Step
from broker.web.mfa.passkeys import Answer, Ceremony, NotProved, Passkeys, Proved
from broker.web.mfa.subject import Claimant, claimant
from iam.credentials import factors
from iam.credentials.factors import PASSKEY, TOTP
from iam.errors import InvalidAuthenticationCode, NotSignedIn, Throttling, ValidationError
from iam.store.vault import Vault

_EVENT: Final = "SecondFactor"
LONGEST_CREDENTIAL: Final = 20_000  # characters of JSON
_LONGEST_CODE: Final = 64
CODE, RECOVERY, BY_PASSKEY = "code", "recovery", "passkey"

Spend = Callable[[Connection, str, str, datetime, Vault], bool]

# How a code is used up, by what a form says that it is.
_SPEND: Final[Mapping[str, Spend]] = {
    CODE: lambda tx, person, code, now, vault: factors.spend_totp(tx, person, digits(code), now, vault),
    RECOVERY: lambda tx, person, code, now, _vault: factors.spend_recovery_code(tx, person, code, now),
}


class Ways(NamedTuple):
    """By what somebody can prove themselves; ``ceremony`` is None where they have no passkey that works here."""

    app: bool
    recovery: bool
    passkey: bool
    ceremony: Ceremony | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondFactor:
    """The page on which a second factor is given."""

    site: Site
    entrance: Entrance
    forms: Forms
    passkeys: Passkeys

    def blueprint(self) -> Blueprint:
        """Return the routes."""
        made = Blueprint("second_factor", __name__)
        made.get("/mfa")(self.show)
        made.post("/mfa")(self.post)
        return made

    # --- showing ------------------------------------------------------------------------------------------------------

    def show(self) -> Response:
        """Show the form, or the way to a first factor for somebody signed in who has none; raise NotSignedIn."""
        who = self._who()
        if not self._held(who):
            if who.session is None:  # they were reset meanwhile
                raise NotSignedIn("You are not signed in.")
            return self.site.found(f"{self.site.at('/mfa/enrol')}?{urlencode({'to': who.to})}")
        return self._form(who, request.args.get("use", ""))

    def _who(self) -> Claimant:
        return claimant(self.entrance, Step.PROVE)

    def _held(self, who: Claimant) -> tuple[factors.Factor, ...]:
        with self.site.store.read() as tx:
            return factors.factors_of(tx, who.identity.person)

    def _form(self, who: Claimant, use: str, told: Told | None = None) -> Response:
        kept = {"to": who.to} if who.session else {}
        recovering = use == RECOVERY
        return self.forms.page(
            "mfa.html",
            told,
            who=who,
            ways=self._ways(who),
            recovering=recovering,
            there=kept,
            kept=kept | {"use": RECOVERY} if recovering else kept,
        )

    def _ways(self, who: Claimant) -> Ways:
        site, person = self.site, who.identity.person
        with site.store.read() as tx:
            kinds = {one.kind for one in factors.factors_of(tx, person)}
            left = factors.recovery_codes_left(tx, person)
            known = factors.passkeys_of(tx, person, site.gate.vault)
        usable = bool(known) and self.passkeys.possible
        ceremony = self.passkeys.asking(known, who.owner, site.exchange.now) if usable else None
        return Ways(TOTP in kinds, left > 0, PASSKEY in kinds, ceremony)

    # --- taking -------------------------------------------------------------------------------------------------------

    def post(self) -> Response:
        """Take the form, once."""
        use = self.site.field("use", 16)

        def again(told: Told) -> Response:
            return self._form(self._who(), use, told)

        return self.forms.take(again, lambda: self._answer(use), event=_EVENT)

    def _answer(self, use: str) -> Response:
        who = self._who()
        self.site.check_form(who.known)
        if use == BY_PASSKEY:
            return self._by_passkey(who)
        if use not in _SPEND:
            raise ValidationError("The field use cannot be read.")
        return self._by_code(who, use)

    def _by_code(self, who: Claimant, use: str) -> Response:
        site, code = self.site, self.site.field("code", _LONGEST_CODE)
        person, now = who.identity.person, site.exchange.now
        with site.store.write(revise=False) as tx:
            locked = factors.seconds_locked(tx, person, now)
            good = not locked and _SPEND[use](tx, person, code, now, site.gate.vault)
        if locked:
            throttling = Throttling("Too many tries.", retry_after=locked)
            return self._refused(who, use, throttling, throttled(throttling))
        if not good:
            error = InvalidAuthenticationCode("The code is wrong or was used before.")
            return self._refused(who, use, error, Told(_WRONG[use](), wrong=True))
        return self._passed(who, use)

    def _by_passkey(self, who: Claimant) -> Response:
        try:
            proved = self._proved(who)
        except NotProved as error:
            refusal = InvalidAuthenticationCode("The passkey was not accepted.", log=str(error))
            text = _("The passkey was not accepted. Try again, or use another way.")
            return self._refused(who, BY_PASSKEY, refusal, Told(text))
        return self._passed(who, BY_PASSKEY, passkey=proved.passkey.id, userVerified=proved.user_verified)

    def _proved(self, who: Claimant) -> Proved:
        site, person, now = self.site, who.identity.person, self.site.exchange.now
        field = site.field
        answer = Answer(field("credential", LONGEST_CREDENTIAL), field("challenge"), who.owner)
        with site.store.read() as tx:
            known = factors.passkeys_of(tx, person, site.gate.vault)
        proved = self.passkeys.proved(answer, person, known, now)
        with site.store.write(revise=False) as tx:
            grown = factors.use_passkey(tx, proved.passkey.id, proved.sign_count, now)
        if not grown:
            raise NotProved(f"passkey {proved.passkey.id}: the signature counter went back, so it may have been copied")
        return proved

    # --- answering ----------------------------------------------------------------------------------------------------

    def _refused(self, who: Claimant, use: str, error: InvalidAuthenticationCode | Throttling, told: Told) -> Response:
        self.site.record_failure(_EVENT, who.identity.account_id, error, use=use, purpose=_purpose(who))
        return self._form(who, use, told)

    def _passed(self, who: Claimant, use: str, **more: object) -> Response:
        site = self.site
        site.record(_EVENT, who.identity.account_id, use=use, purpose=_purpose(who), **more)
        response = site.found(site.at(who.to))
        who.let_in(self.entrance, response, site.exchange.now)
        return response


# What a form says above itself where a code was wrong.
_WRONG: Final[Mapping[str, Callable[[], str]]] = {
    CODE: lambda: str(_("This code is wrong or was used before. Wait for the next one and type it.")),
    RECOVERY: lambda: str(_("This recovery code is wrong or was used before.")),
}


def _purpose(who: Claimant) -> str:
    return "step-up" if who.session else "sign-in"


def digits(code: str) -> str:
    """Return a code without spaces, and with the digits that every keyboard may write as ASCII has them."""
    return "".join(str(digit(sign, sign)) for sign in code if not sign.isspace())
