"""/mfa/enrol: an authenticator app or a passkey becomes a second factor, and the first one brings recovery codes.

Nothing is kept of a page that was only looked at: seed and challenge travel sealed in its form. Whoever has a factor
already must have given it lately, so that a stolen password, or a browser left open, enrols nobody else's.
"""

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode

import segno
from flask import Blueprint, Response
from flask_babel import gettext as _
from sqlalchemy import Connection

from broker.api.errors import status
from broker.web.core.forms import Forms, Told
from broker.web.core.sealed_fields import Opened, SealedFields
from broker.web.core.site import Site
from broker.web.login.completion import Entrance, Step
from broker.web.mfa.passkeys import Answer, Ceremony, NotProved, Passkeys
from broker.web.mfa.second_factor import LONGEST_CREDENTIAL, digits
from broker.web.mfa.subject import Claimant, claimant, is_fresh
from iam.credentials import factors, totp
from iam.credentials.factors import PASSKEY, TOTP, Factor
from iam.errors import (
    AccessDenied,
    EntityAlreadyExists,
    InvalidAuthenticationCode,
    LimitExceeded,
    NotSignedIn,
    ServiceError,
    ValidationError,
)

_EVENT: Final = "EnrolSecondFactor"
_SEED: Final = 20  # bytes: RFC 4226 4, R6 recommends 160 bits
_LONGEST_NAME: Final = 200  # the store takes fewer, and says so


class Added(NamedTuple):
    """A factor that was added, and the recovery codes that come with the first one."""

    factor: Factor
    codes: tuple[str, ...]


Add = Callable[[Connection], Factor | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """The page on which second factors are set up."""

    site: Site
    entrance: Entrance
    forms: Forms
    passkeys: Passkeys
    seeds: SealedFields

    def blueprint(self) -> Blueprint:
        """Return the routes."""
        made = Blueprint("enrolment", __name__)
        made.get("/mfa/enrol")(self.show)
        made.post("/mfa/enrol")(self.post)
        return made

    # --- showing ------------------------------------------------------------------------------------------------------

    def show(self) -> Response:
        """Show an app's QR code and a passkey's button, or the way to the factor that must be given first."""
        who = self._who()
        return self._detour(who) or self._form(who)

    def _who(self) -> Claimant:
        return claimant(self.entrance, Step.ENROL)

    def _detour(self, who: Claimant) -> Response | None:
        """Return where somebody must go first who has a factor already; raise NotSignedIn for who only waits."""
        with self.site.store.read() as tx:
            held = factors.factors_of(tx, who.identity.person)
        if not held or (who.session and is_fresh(who.session, self.site.exchange.now)):
            return None
        if who.session is None:  # it was added in another browser meanwhile
            raise NotSignedIn("You are not signed in.")
        back = f"/mfa/enrol?{urlencode({'to': who.to})}"
        return self.site.found(f"{self.site.at('/mfa')}?{urlencode({'to': back})}")

    def _form(self, who: Claimant, told: Told | None = None, seed: Opened | None = None) -> Response:
        """Return the page; ``seed`` is what an earlier one had, so that nobody scans twice because of a wrong code."""
        site, now = self.site, self.site.exchange.now
        secret = seed.secret if seed else site.gate.random(_SEED)
        address = otpauth(secret, who.identity.name, site.appearance.organisation)
        return self.forms.page(
            "mfa_enrol.html",
            told,
            who=who,
            must=who.session is None,
            kept={"to": who.to} if who.session else {},
            seed=site.field("seed") if seed else self.seeds.seal(secret, who.owner, now),
            secret=_groups(secret),
            address=address,
            picture=segno.make(address, micro=False).svg_inline(omitsize=True, border=4),
            ceremony=self._ceremony(who),
        )

    def _ceremony(self, who: Claimant) -> Ceremony | None:
        if not self.passkeys.possible:
            return None
        site = self.site
        with site.store.read() as tx:
            known = factors.passkeys_of(tx, who.identity.person, site.gate.vault)
        return self.passkeys.offering(who.identity, known, who.owner, site.exchange.now)

    # --- taking -------------------------------------------------------------------------------------------------------

    def post(self) -> Response:
        """Take the form, once."""
        return self.forms.take(lambda told: self._form(self._who(), told), self._answer, event=_EVENT)

    def _answer(self) -> Response:
        who, use = self._who(), self.site.field("use", 16)
        self.site.check_form(who.known)
        take = _TAKE.get(use)
        if take is None:
            raise ValidationError("The field use cannot be read.")
        return self._detour(who) or take(self, who)

    def _app(self, who: Claimant) -> Response:
        """Add an app that shows a code of the seed in the form."""
        site, now = self.site, self.site.exchange.now
        seed = self.seeds.open(site.field("seed"), who.owner, now)
        if seed is None:
            error = ValidationError("The seed is too old, or of another form.")
            return self._refused(who, TOTP, error, Told(_("This page was open too long. Scan the new code."), 400))
        code = digits(site.field("code", 64))
        if totp.accepted_step(seed.secret, code, now, None) is None:
            wrong = InvalidAuthenticationCode("The code is wrong.")
            told = Told(_("This code is wrong. Wait for the next one and type it."), 400, wrong=True)
            return self._refused(who, TOTP, wrong, told, seed=seed)
        if not self.seeds.spend(seed, now):  # two apps of one seed would take each code twice
            known = EntityAlreadyExists("The app is added already.")
            told = Told(_("This app is added already. Scan the new code for another one."), 409)
            return self._refused(who, TOTP, known, told)
        gate, name = site.gate, self._name(_("Authenticator app"))

        def add(tx: Connection) -> Factor | None:
            return factors.add_totp(
                tx, who.identity.person, name, seed.secret, code, now, gate.vault, gate.random, limits=gate.limits
            )

        return self._add(who, TOTP, add)

    def _passkey(self, who: Claimant) -> Response:
        """Add a passkey that the browser has just made."""
        site, gate, now = self.site, self.site.gate, self.site.exchange.now
        answer = Answer(site.field("credential", LONGEST_CREDENTIAL), site.field("challenge"), who.owner)
        try:
            made = self.passkeys.registered(answer, now)
        except NotProved as error:
            refusal = InvalidAuthenticationCode("The passkey was not accepted.", log=str(error))
            return self._refused(who, PASSKEY, refusal, Told(_("The passkey was not accepted. Try again."), 400))
        name = self._name(_("Passkey"))
        facts = made.credential_id, made.credential_public_key, made.sign_count

        def add(tx: Connection) -> Factor | None:
            person = who.identity.person
            return factors.add_passkey(tx, person, name, *facts, now, gate.vault, gate.random, limits=gate.limits)

        return self._add(who, PASSKEY, add)

    def _name(self, otherwise: str) -> str:
        return self.site.field("name", _LONGEST_NAME).strip() or otherwise

    def _add(self, who: Claimant, kind: str, add: Add) -> Response:
        try:
            added = self._added(who, kind, add)
        except (EntityAlreadyExists, LimitExceeded, ValidationError) as error:
            return self._refused(who, kind, error, Told(_(error.message), status(error)))
        site = self.site
        if not added.codes:
            return site.found(site.at(who.to))
        response = codes_page(site, added.codes, who.to)
        who.let_in(self.entrance, response, site.exchange.now)
        return response

    def _added(self, who: Claimant, kind: str, add: Add) -> Added:
        """Add a factor, and its record with it; raise AccessDenied where another one came first."""
        site, person, now = self.site, who.identity.person, self.site.exchange.now
        with site.store.write(revise=False) as tx:
            held = factors.factors_of(tx, person)
            if held and not (who.session and is_fresh(who.session, now)):
                raise AccessDenied(_("Give your second factor first."))
            factor = add(tx)
            if factor is None:
                raise ValidationError("The code is wrong.")
            codes = () if held else factors.new_recovery_codes(tx, person, now, site.gate.random)
            told = {"kind": kind, "factorName": factor.name, "factor": factor.id, "recoveryCodes": len(codes)}
            site.record(_EVENT, who.identity.account_id, **told)
        return Added(factor, codes)

    def _refused(
        self, who: Claimant, kind: str, error: ServiceError, told: Told, *, seed: Opened | None = None
    ) -> Response:
        self.site.record_failure(_EVENT, who.identity.account_id, error, kind=kind)
        return self._form(who, told, seed)


_TAKE: Final[Mapping[str, Callable[[Enrolment, Claimant], Response]]] = {
    TOTP: Enrolment._app,  # noqa: SLF001 - a table of its own methods
    PASSKEY: Enrolment._passkey,  # noqa: SLF001 - as above
}


def codes_page(site: Site, codes: Sequence[str], to: str) -> Response:
    """Return the page that shows recovery codes this once: no link to another language leads away from it."""
    return site.page("mfa_codes.html", codes=codes, to=to, languages={})


def otpauth(seed: bytes, name: str, organisation: str) -> str:
    """Return the address that authenticator apps read (Google Authenticator, "Key Uri Format")."""
    query: dict[str, Any] = {"secret": base64.b32encode(seed).decode(), "issuer": organisation}
    # The colon stands between organisation and name, and so in neither.
    label = f"{organisation.replace(':', ' ')}:{name.replace(':', ' ')}"
    return f"otpauth://totp/{quote(label)}?{urlencode(query, quote_via=quote)}"


def _groups(seed: bytes) -> str:
    """Return a seed as people type it: base32 in groups of four."""
    return " ".join(re.findall("....", base64.b32encode(seed).decode()))
