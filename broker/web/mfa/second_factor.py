"""/mfa: verify a second factor, during sign-in or later to step up a session.

A code counts once, five wrong ones stop all codes for a quarter of an hour, and a passkey answers a challenge of this
very form (THREATS H08). A passkey that only asks for a touch counts as well: the password has been given before.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple
from unicodedata import digit
from urllib.parse import urlencode

from flask import Blueprint, Response, request
from flask_babel import gettext as _

from broker.signin.second_factor import ConsumeCode
from broker.web.core.form_fields import form_field
from broker.web.core.forms import FormMessage, Forms, throttling_message
from broker.web.core.site import Site
from broker.web.login.completion import LoginCompletion, LoginStep
from broker.web.mfa.passkeys import Ceremony, PasskeyRejected, PasskeyResponse, Passkeys, VerifiedPasskey
from broker.web.mfa.subject import MfaSubject, require_mfa_subject
from iam.credentials import factors
from iam.credentials.factors import PASSKEY, TOTP
from iam.errors import InvalidAuthenticationCode, NotSignedIn, Throttling, ValidationError

_EVENT: Final = "SecondFactor"
LONGEST_CREDENTIAL: Final = 20_000  # characters of JSON
_LONGEST_CODE: Final = 64
CODE, RECOVERY, BY_PASSKEY = "code", "recovery", "passkey"

# How a code is used up, by what a form says that it is.
CONSUME: Final[Mapping[str, ConsumeCode]] = {
    CODE: lambda tx, person, code, now, vault: factors.consume_totp(tx, person, normalize_digits(code), now, vault),
    RECOVERY: lambda tx, person, code, now, _vault: factors.consume_recovery_code(tx, person, code, now),
}


class MfaOptions(NamedTuple):
    """The available second factors; ``ceremony`` is None if no passkey works here."""

    app: bool
    recovery: bool
    passkey: bool
    ceremony: Ceremony | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondFactor:
    """The page for verifying a second factor."""

    site: Site
    completion: LoginCompletion
    forms: Forms
    passkeys: Passkeys

    def blueprint(self) -> Blueprint:
        """Return the routes."""
        blueprint = Blueprint("second_factor", __name__)
        blueprint.get("/mfa")(self.show)
        blueprint.post("/mfa")(self.post)
        return blueprint

    # --- showing ------------------------------------------------------------------------------------------------------

    def show(self) -> Response:
        """Show the form, or redirect to enrolment if the user has no second factor; raise NotSignedIn."""
        who = self._subject()
        if not self._factors(who):
            if who.session is None:  # they were reset meanwhile
                raise NotSignedIn("You are not signed in.")
            return self.site.responses.redirect_to_page(f"/mfa/enrol?{urlencode({'to': who.to})}")
        return self._form(who, request.args.get("use", ""))

    def _subject(self) -> MfaSubject:
        return require_mfa_subject(self.completion, LoginStep.VERIFY)

    def _factors(self, who: MfaSubject) -> tuple[factors.Factor, ...]:
        with self.site.store.read() as tx:
            return factors.factors_of(tx, who.identity.person)

    def _form(self, who: MfaSubject, use: str, told: FormMessage | None = None) -> Response:
        kept, recovering = who.query, use == RECOVERY
        return self.forms.render(
            "mfa/second_factor.html",
            told,
            who=who,
            mfa_options=self._mfa_options(who),
            recovering=recovering,
            there=kept,
            kept=kept | {"use": RECOVERY} if recovering else kept,
        )

    def _mfa_options(self, who: MfaSubject) -> MfaOptions:
        site, person = self.site, who.identity.person
        with site.store.read() as tx:
            kinds = {one.kind for one in factors.factors_of(tx, person)}
            left = factors.recovery_codes_left(tx, person)
            known = factors.passkeys_of(tx, person, site.gate.vault)
        usable = bool(known) and self.passkeys.available
        ceremony = self.passkeys.authentication_options(known, who.owner, site.request_state.now) if usable else None
        return MfaOptions(TOTP in kinds, left > 0, PASSKEY in kinds, ceremony)

    # --- taking -------------------------------------------------------------------------------------------------------

    def post(self) -> Response:
        """Process the submitted form, once."""
        use = form_field("use", 16)

        def again(told: FormMessage) -> Response:
            return self._form(self._subject(), use, told)

        return self.forms.answer_once(again, lambda: self._answer(use), event=_EVENT)

    def _answer(self, use: str) -> Response:
        who = self._subject()
        self.site.csrf.check_token(who.login_state)
        if use == BY_PASSKEY:
            return self._verify_with_passkey(who)
        if use not in CONSUME:
            raise ValidationError("The field use cannot be read.")
        return self._verify_with_code(who, use)

    def _verify_with_code(self, who: MfaSubject, use: str) -> Response:
        site, code = self.site, form_field("code", _LONGEST_CODE)
        try:
            good = site.gate.second_factor.consume(site.request_state, who.identity.person, code, CONSUME[use])
        except Throttling as throttling:
            return self._reject(who, use, throttling, throttling_message(throttling))
        if not good:
            error = InvalidAuthenticationCode("The code is wrong or was used before.")
            return self._reject(who, use, error, FormMessage(_WRONG[use](), wrong=True))
        return self._accept(who, use)

    def _verify_with_passkey(self, who: MfaSubject) -> Response:
        try:
            proved = self._verify_passkey(who)
        except PasskeyRejected as error:
            refusal = InvalidAuthenticationCode("The passkey was not accepted.", log=str(error))
            text = _("The passkey was not accepted. Try again, or use another method.")
            return self._reject(who, BY_PASSKEY, refusal, FormMessage(text))
        return self._accept(who, BY_PASSKEY, passkey=proved.passkey.id, userVerified=proved.user_verified)

    def _verify_passkey(self, who: MfaSubject) -> VerifiedPasskey:
        site, person, now = self.site, who.identity.person, self.site.request_state.now
        answer = PasskeyResponse(form_field("credential", LONGEST_CREDENTIAL), form_field("challenge"), who.owner)
        with site.store.read() as tx:
            known = factors.passkeys_of(tx, person, site.gate.vault)
        proved = self.passkeys.verify_authentication(answer, person, known, now)
        with site.store.write(bump_revision=False) as tx:
            grown = factors.record_passkey_use(tx, proved.passkey.id, proved.sign_count, now)
        if not grown:
            raise PasskeyRejected(
                f"passkey {proved.passkey.id}: the signature counter went back, so it may have been copied"
            )
        return proved

    # --- answering ----------------------------------------------------------------------------------------------------

    def _reject(
        self, who: MfaSubject, use: str, error: InvalidAuthenticationCode | Throttling, told: FormMessage
    ) -> Response:
        self.site.audit.record_failure(_EVENT, who.identity.account_id, error, use=use, purpose=_purpose(who))
        return self._form(who, use, told)

    def _accept(self, who: MfaSubject, use: str, **more: object) -> Response:
        site = self.site
        site.audit.record(_EVENT, who.identity.account_id, use=use, purpose=_purpose(who), **more)
        response = site.responses.redirect_to_page(who.to)
        who.complete(self.completion, response, site.request_state.now)
        return response


# What a form says above itself where a code was wrong.
_WRONG: Final[Mapping[str, Callable[[], str]]] = {
    CODE: lambda: str(_("This code is wrong or was already used. Wait for the next code and enter it.")),
    RECOVERY: lambda: str(_("This recovery code is wrong or was already used.")),
}


def _purpose(who: MfaSubject) -> str:
    return "step-up" if who.session else "sign-in"


def normalize_digits(code: str) -> str:
    """Return a code without spaces and with ASCII digits, whatever digits the keyboard produced."""
    return "".join(str(digit(sign, sign)) for sign in code if not sign.isspace())
