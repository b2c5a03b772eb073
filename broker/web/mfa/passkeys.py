"""Passkeys and security keys as second factors: what a browser is to ask of one, and what the answer proves.

py_webauthn verifies. Here stands what it leaves to its callers: a challenge is good once, for five minutes, and in the
form that it was made for; the answer is of a key of this person; nobody else's page asked for it (THREATS H08). The
signature counter is checked in iam.credentials.factors. Source: WebAuthn Level 3, sections 7.1 and 7.2.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from webauthn import (
    generate_authentication_options,
    generate_registration_options,
    options_to_json,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.helpers import (
    parse_authentication_credential_json,
    parse_client_data_json,
    parse_registration_credential_json,
)
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)
from webauthn.registration.verify_registration_response import VerifiedRegistration

from broker.web.core.sealed_fields import OpenedField, SealedFields
from broker.web.core.urls import origin_of
from iam.clock import SECOND
from iam.credentials.factors import Passkey
from sts.identity import Identity

CHALLENGE_SECONDS: Final = 300  # seconds in which a challenge is answered
_CHALLENGE_BYTES: Final = 32  # bytes of chance: WebAuthn Level 3, 13.4.3 asks for 16
_AUTHENTICATOR_SELECTION: Final = AuthenticatorSelectionCriteria(
    resident_key=ResidentKeyRequirement.PREFERRED, user_verification=UserVerificationRequirement.PREFERRED
)


class PasskeyRejected(Exception):
    """The browser's response is not valid for a passkey; the text is for the audit log."""


class Ceremony(NamedTuple):
    """The data for a WebAuthn call: the options as JSON, and the challenge, sealed for the form."""

    options: str
    challenge: str


class PasskeyResponse(NamedTuple):
    """The submitted credential as JSON, the sealed challenge, and the owner of the form."""

    credential: str
    challenge: str
    owner: str


class VerifiedPasskey(NamedTuple):
    """A verified passkey: its ID, signature counter, and whether it verified the user (PIN, biometrics)."""

    passkey: Passkey
    sign_count: int
    user_verified: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Passkeys:
    """Creates challenges and verifies responses; passkeys are bound to the host of ``public_url``."""

    public_url: str
    organisation: str
    challenges: SealedFields

    @property
    def rp_id(self) -> str:
        """Return the name that passkeys are bound to (the RP ID)."""
        return urlsplit(self.public_url).hostname or ""

    @property
    def available(self) -> bool:
        """Return whether browsers support passkeys for this site: a domain name, over TLS or on localhost.

        Source: WebAuthn Level 3, 5.1.3 step 8 (a valid domain); Secure Contexts, section 3.1.
        """
        if _is_address(self.rp_id):
            return False
        local = self.rp_id == "localhost" or self.rp_id.endswith(".localhost")
        return local or self.public_url.startswith("https://")

    # --- asking -------------------------------------------------------------------------------------------------------

    def authentication_options(self, known: Sequence[Passkey], owner: str, now: datetime) -> Ceremony:
        """Return the options for verifying one of a person's passkeys; ``owner`` is the owner of the form."""
        challenge = self.challenges.random(_CHALLENGE_BYTES)
        options = generate_authentication_options(
            rp_id=self.rp_id,
            challenge=challenge,
            timeout=CHALLENGE_SECONDS * SECOND,
            allow_credentials=_credential_descriptors(known),
            user_verification=UserVerificationRequirement.PREFERRED,
        )
        return Ceremony(options_to_json(options), self.challenges.seal(challenge, f"get|{owner}", now))

    def registration_options(self, identity: Identity, known: Sequence[Passkey], owner: str, now: datetime) -> Ceremony:
        """Return the options for creating a passkey, on a device that has none of the existing ones."""
        challenge = self.challenges.random(_CHALLENGE_BYTES)
        options = generate_registration_options(
            rp_id=self.rp_id,
            rp_name=self.organisation,
            user_id=_user_handle(identity.person),
            user_name=identity.name,
            challenge=challenge,
            timeout=CHALLENGE_SECONDS * SECOND,
            authenticator_selection=_AUTHENTICATOR_SELECTION,
            exclude_credentials=_credential_descriptors(known),
        )
        return Ceremony(options_to_json(options), self.challenges.seal(challenge, f"create|{owner}", now))

    # --- reading ------------------------------------------------------------------------------------------------------

    def verify_authentication(
        self, answer: PasskeyResponse, person: str, known: Sequence[Passkey], now: datetime
    ) -> VerifiedPasskey:
        """Return the passkey that signed, and consume the challenge; raise PasskeyRejected."""
        opened = self._open_challenge(answer, "get", now)
        try:
            found = self._verify_signature(answer.credential, opened, person, known)
        except PasskeyRejected:
            raise
        except Exception as error:  # whatever a stranger's bytes do to the parsers, they prove nothing
            raise PasskeyRejected(f"the answer is no proof: {error}") from error
        self._consume(opened, now)
        return found

    def _verify_signature(
        self, credential: str, opened: OpenedField, person: str, known: Sequence[Passkey]
    ) -> VerifiedPasskey:
        given = parse_authentication_credential_json(credential)
        handle = given.response.user_handle
        if handle and handle != _user_handle(person):
            raise PasskeyRejected("the passkey is somebody else's")
        passkey = next((one for one in known if one.credential_id == given.raw_id), None)
        if passkey is None:
            raise PasskeyRejected("the passkey is none of this person's")
        _require_own_page(given.response.client_data_json)
        verified = verify_authentication_response(
            credential=given,
            expected_challenge=opened.secret,
            expected_rp_id=self.rp_id,
            expected_origin=origin_of(self.public_url),
            credential_public_key=passkey.public_key,
            credential_current_sign_count=0,  # the store compares, in the same step in which it keeps the new one
        )
        return VerifiedPasskey(passkey, verified.new_sign_count, verified.user_verified)

    def verify_registration(self, answer: PasskeyResponse, now: datetime) -> VerifiedRegistration:
        """Return the passkey that was created, and consume the challenge; raise PasskeyRejected."""
        opened = self._open_challenge(answer, "create", now)
        try:
            given = parse_registration_credential_json(answer.credential)
            _require_own_page(given.response.client_data_json)
            made = verify_registration_response(
                credential=given,
                expected_challenge=opened.secret,
                expected_rp_id=self.rp_id,
                expected_origin=origin_of(self.public_url),
            )
        except PasskeyRejected:
            raise
        except Exception as error:  # as above
            raise PasskeyRejected(f"the answer is no registration: {error}") from error
        self._consume(opened, now)
        return made

    def _open_challenge(self, answer: PasskeyResponse, purpose: str, now: datetime) -> OpenedField:
        opened = self.challenges.open(answer.challenge, f"{purpose}|{answer.owner}", now)
        if opened is None:
            raise PasskeyRejected("the challenge is too old, or of another form")
        return opened

    def _consume(self, opened: OpenedField, now: datetime) -> None:
        if not self.challenges.consume(opened, now):
            raise PasskeyRejected("the challenge was answered before")


def _require_own_page(client_data: bytes) -> None:
    # WebAuthn Level 3, 7.1 step 10 and 7.2 step 13: our pages stand in nobody's frame.
    if parse_client_data_json(client_data).cross_origin:
        raise PasskeyRejected("the page was in a frame of another site")


def _credential_descriptors(known: Sequence[Passkey]) -> list[PublicKeyCredentialDescriptor]:
    return [PublicKeyCredentialDescriptor(id=one.credential_id) for one in known]


def _user_handle(person: str) -> bytes:
    # WebAuthn Level 3, 14.6.1: a user handle tells nothing of the person.
    return hashlib.sha256(person.encode()).digest()


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
