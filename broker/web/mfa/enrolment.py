"""/mfa/enrol: an authenticator app or a passkey becomes a second factor, and the first one brings recovery codes.

Nothing is kept of a page that was only looked at: seed and challenge travel sealed in its form. Whoever has a factor
already must have given it lately, so that a stolen password, or a browser left open, enrols nobody else's.
"""

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode

import segno
from flask import Blueprint, Response
from flask_babel import gettext as _
from sqlalchemy import Connection

from broker.api.errors import status
from broker.web.core.form_fields import form_field
from broker.web.core.forms import FormMessage, Forms
from broker.web.core.sealed_fields import OpenedField, SealedFields
from broker.web.core.site import Site
from broker.web.login.completion import LoginCompletion, LoginStep
from broker.web.mfa.passkeys import Ceremony, PasskeyRejected, PasskeyResponse, Passkeys
from broker.web.mfa.second_factor import LONGEST_CREDENTIAL, normalize_digits
from broker.web.mfa.subject import MfaSubject, has_fresh_mfa, require_mfa_subject
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
_SEED_BYTES: Final = 20  # bytes: RFC 4226 4, R6 recommends 160 bits
_LONGEST_NAME: Final = 200  # the store takes fewer, and says so


class AddedFactor(NamedTuple):
    """A factor that was added, the recovery codes that come with the first one, and the versions of all factors."""

    factor: Factor
    codes: tuple[str, ...]
    versions: tuple[str, ...]


AddFactor = Callable[[Connection], Factor | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """The page for adding a second factor."""

    site: Site
    completion: LoginCompletion
    forms: Forms
    passkeys: Passkeys
    seeds: SealedFields

    def blueprint(self) -> Blueprint:
        """Return the routes."""
        blueprint = Blueprint("enrolment", __name__)
        blueprint.get("/mfa/enrol")(self.show)
        blueprint.post("/mfa/enrol")(self.post)
        return blueprint

    # --- showing ------------------------------------------------------------------------------------------------------

    def show(self) -> Response:
        """Show the QR code and the passkey button, or redirect to the second factor that must be verified first."""
        who = self._subject()
        return self._redirect_to_mfa(who) or self._form(who)

    def _subject(self) -> MfaSubject:
        return require_mfa_subject(self.completion, LoginStep.ENROL)

    def _redirect_to_mfa(self, who: MfaSubject) -> Response | None:
        """Redirect users who already have a factor to its verification; raise NotSignedIn during a pending sign-in."""
        with self.site.store.read() as tx:
            held = factors.factors_of(tx, who.identity.person)
        if not held or (who.session and has_fresh_mfa(who.session, self.site.request_state.now)):
            return None
        if who.session is None:  # it was added in another browser meanwhile
            raise NotSignedIn("You are not signed in.")
        back = f"/mfa/enrol?{urlencode({'to': who.to})}"
        return self.site.responses.redirect_to_page(f"/mfa?{urlencode({'to': back})}")

    def _form(self, who: MfaSubject, told: FormMessage | None = None, seed: OpenedField | None = None) -> Response:
        """Return the page; ``seed`` is kept after a wrong code, so that the QR code need not be scanned again."""
        site, now = self.site, self.site.request_state.now
        secret = seed.secret if seed else site.gate.random(_SEED_BYTES)
        address = otpauth_uri(secret, who.identity.name, site.responses.appearance.organisation)
        return self.forms.render(
            "mfa/enrolment.html",
            told,
            who=who,
            must=who.session is None,
            kept=who.query,
            seed=form_field("seed") if seed else self.seeds.seal(secret, who.owner, now),
            secret=_grouped_base32(secret),
            address=address,
            picture=segno.make(address, micro=False).svg_inline(omitsize=True, border=4),
            ceremony=self._ceremony(who),
        )

    def _ceremony(self, who: MfaSubject) -> Ceremony | None:
        if not self.passkeys.available:
            return None
        site = self.site
        with site.store.read() as tx:
            known = factors.passkeys_of(tx, who.identity.person, site.gate.vault)
        return self.passkeys.registration_options(who.identity, known, who.owner, site.request_state.now)

    # --- taking -------------------------------------------------------------------------------------------------------

    def post(self) -> Response:
        """Process the submitted form, once."""
        return self.forms.answer_once(lambda told: self._form(self._subject(), told), self._answer, event=_EVENT)

    def _answer(self) -> Response:
        who, use = self._subject(), form_field("use", 16)
        self.site.csrf.check_token(who.login_state)
        take = _HANDLERS.get(use)
        if take is None:
            raise ValidationError("The field use cannot be read.")
        return self._redirect_to_mfa(who) or take(self, who)

    def _add_totp(self, who: MfaSubject) -> Response:
        """Add an authenticator app after verifying a code of the seed in the form."""
        site, now = self.site, self.site.request_state.now
        seed = self.seeds.open(form_field("seed"), who.owner, now)
        if seed is None:
            error = ValidationError("The seed is too old, or of another form.")
            return self._reject(
                who, TOTP, error, FormMessage(_("This page was open too long. Scan the new code."), 400)
            )
        code = normalize_digits(form_field("code", 64))
        if totp.accepted_step(seed.secret, code, now, None) is None:
            wrong = InvalidAuthenticationCode("The code is wrong.")
            told = FormMessage(_("This code is wrong. Wait for the next code and enter it."), 400, wrong=True)
            return self._reject(who, TOTP, wrong, told, seed=seed)
        if not self.seeds.consume(seed, now):  # two apps of one seed would take each code twice
            known = EntityAlreadyExists("The app is added already.")
            told = FormMessage(_("This app is already added. Scan the new code to add another one."), 409)
            return self._reject(who, TOTP, known, told)
        gate, name = site.gate, self._name(_("Authenticator app"))

        def add(tx: Connection) -> Factor | None:
            return factors.add_totp(
                tx, who.identity.person, name, seed.secret, code, now, gate.vault, gate.random, limits=gate.limits
            )

        return self._add(who, TOTP, add)

    def _add_passkey(self, who: MfaSubject) -> Response:
        """Add the passkey that the browser created."""
        gate, now = self.site.gate, self.site.request_state.now
        answer = PasskeyResponse(form_field("credential", LONGEST_CREDENTIAL), form_field("challenge"), who.owner)
        try:
            made = self.passkeys.verify_registration(answer, now)
        except PasskeyRejected as error:
            refusal = InvalidAuthenticationCode("The passkey was not accepted.", log=str(error))
            return self._reject(who, PASSKEY, refusal, FormMessage(_("The passkey was not accepted. Try again."), 400))
        name = self._name(_("Passkey"))
        facts = made.credential_id, made.credential_public_key, made.sign_count

        def add(tx: Connection) -> Factor | None:
            person = who.identity.person
            return factors.add_passkey(tx, person, name, *facts, now, gate.vault, gate.random, limits=gate.limits)

        return self._add(who, PASSKEY, add)

    def _name(self, otherwise: str) -> str:
        return form_field("name", _LONGEST_NAME).strip() or otherwise

    def _add(self, who: MfaSubject, kind: str, add: AddFactor) -> Response:
        try:
            added = self._store_factor(who, kind, add)
        except AccessDenied as error:
            self.site.audit.record_failure(_EVENT, who.identity.account_id, error, kind=kind)
            raise
        except (EntityAlreadyExists, LimitExceeded, ValidationError) as error:
            return self._reject(who, kind, error, FormMessage(_(error.message), status(error)))
        site = self.site
        if not added.codes:
            return site.responses.redirect_to_page(who.to)
        response = codes_page(site, added.codes, who.to)
        replace(who, factors=added.versions).complete(self.completion, response, site.request_state.now)
        return response

    def _store_factor(self, who: MfaSubject, kind: str, add: AddFactor) -> AddedFactor:
        """Store a factor and its record; raise AccessDenied if another factor was added first."""
        site, person, now = self.site, who.identity.person, self.site.request_state.now
        with site.transaction(who.login_state) as tx:
            held = factors.factors_of(tx, person)
            if held and not (who.session and has_fresh_mfa(who.session, now)):
                raise AccessDenied(_("Verify your second factor first."))
            factor = add(tx)
            if factor is None:
                raise ValidationError("The code is wrong.")
            self._check_allowed(tx, who, factor, demanded=not held and self.completion.requires_mfa(who.identity))
            codes = () if held else factors.replace_recovery_codes(tx, person, now, site.gate.random)
            told = {"kind": kind, "factorName": factor.name, "factor": factor.id, "recoveryCodes": len(codes)}
            site.audit.record(_EVENT, who.identity.account_id, **told)
            versions = factors.factor_versions(tx, person)
        return AddedFactor(factor, codes, versions)

    def _check_allowed(self, tx: Connection, who: MfaSubject, factor: Factor, *, demanded: bool) -> None:
        """Raise AccessDenied where a user may not add this factor by the IAM API either.

        A first factor that a setting demands needs no Allow: without it the user could not sign in at all.
        """
        site, identity = self.site, who.identity
        device = [("CreateVirtualMFADevice", {"VirtualMFADeviceName": factor.name})] if factor.kind == TOTP else []
        for operation, parameters in (*device, ("EnableMFADevice", {})):
            site.own_permissions.require_operation(
                tx, site.request_state, identity, operation, parameters, unless_denied=demanded
            )

    def _reject(
        self, who: MfaSubject, kind: str, error: ServiceError, told: FormMessage, *, seed: OpenedField | None = None
    ) -> Response:
        self.site.audit.record_failure(_EVENT, who.identity.account_id, error, kind=kind)
        return self._form(who, told, seed)


_HANDLERS: Final[Mapping[str, Callable[[Enrolment, MfaSubject], Response]]] = {
    TOTP: Enrolment._add_totp,  # noqa: SLF001 - a table of its own methods
    PASSKEY: Enrolment._add_passkey,  # noqa: SLF001 - as above
}


def codes_page(site: Site, codes: Sequence[str], to: str) -> Response:
    """Return the page that shows recovery codes once; without language links, which would lose the codes."""
    return site.responses.render("mfa/recovery_codes.html", codes=codes, to=to, languages={})


def otpauth_uri(seed: bytes, name: str, organisation: str) -> str:
    """Return the otpauth URI for authenticator apps (Google Authenticator, "Key Uri Format")."""
    query: dict[str, Any] = {"secret": base64.b32encode(seed).decode(), "issuer": organisation}
    # The colon stands between organisation and name, and so in neither.
    label = f"{organisation.replace(':', ' ')}:{name.replace(':', ' ')}"
    return f"otpauth://totp/{quote(label)}?{urlencode(query, quote_via=quote)}"


def _grouped_base32(seed: bytes) -> str:
    """Return a seed for manual entry: base32 in groups of four."""
    return " ".join(re.findall("....", base64.b32encode(seed).decode()))
