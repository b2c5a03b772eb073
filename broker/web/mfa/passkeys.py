"""Passkeys and security keys as second factors: what a browser is to ask of one, and what the answer proves.

py_webauthn verifies. Here stands what it leaves to its callers: a challenge is good once, for five minutes, and in the
form that it was made for; the answer is of a key of this person; nobody else's page asked for it (THREATS H08). The
signature counter is the store's business (iam.credentials.factors.use_passkey). Source: WebAuthn Level 3, sections 7.1 and 7.2.
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

from broker.web.core.sealed_fields import Opened, SealedFields
from broker.web.core.site import origin_of
from iam.credentials.factors import Passkey
from sts.identity import Identity

GOOD_FOR: Final = 300  # seconds in which a challenge is answered
_CHALLENGE: Final = 32  # bytes of chance: WebAuthn Level 3, 13.4.3 asks for 16
_WANTED: Final = AuthenticatorSelectionCriteria(
    resident_key=ResidentKeyRequirement.PREFERRED, user_verification=UserVerificationRequirement.PREFERRED
)


class NotProved(Exception):
    """What a browser sent proves no passkey; the text is for the audit log."""


class Ceremony(NamedTuple):
    """What a page needs to ask for a passkey: the options as JSON, and their challenge, sealed for the form."""

    options: str
    challenge: str


class Answer(NamedTuple):
    """What a form brings back: the credential as JSON and the sealed challenge, from whose form."""

    credential: str
    challenge: str
    owner: str


class Proved(NamedTuple):
    """A passkey that signed, what it now counts, and whether it asked its holder for a PIN or the like."""

    passkey: Passkey
    sign_count: int
    user_verified: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Passkeys:
    """Makes challenges and reads answers; keys are bound to the host of ``public_url``."""

    public_url: str
    organisation: str
    challenges: SealedFields

    @property
    def host(self) -> str:
        """Return the name that passkeys are bound to (the RP ID)."""
        return urlsplit(self.public_url).hostname or ""

    @property
    def possible(self) -> bool:
        """Return whether browsers can have passkeys for this site: by a name, over TLS or on the same machine.

        Source: WebAuthn Level 3, 5.1.3 step 8 (a valid domain); Secure Contexts, section 3.1.
        """
        if _is_address(self.host):
            return False
        local = self.host == "localhost" or self.host.endswith(".localhost")
        return local or self.public_url.startswith("https://")

    # --- asking -------------------------------------------------------------------------------------------------------

    def asking(self, known: Sequence[Passkey], owner: str, now: datetime) -> Ceremony:
        """Return how a page asks for one of a person's passkeys; ``owner`` is whose form it is in."""
        challenge = self.challenges.random(_CHALLENGE)
        options = generate_authentication_options(
            rp_id=self.host,
            challenge=challenge,
            timeout=GOOD_FOR * 1000,
            allow_credentials=_described(known),
            user_verification=UserVerificationRequirement.PREFERRED,
        )
        return Ceremony(options_to_json(options), self.challenges.seal(challenge, f"get|{owner}", now))

    def offering(self, identity: Identity, known: Sequence[Passkey], owner: str, now: datetime) -> Ceremony:
        """Return how a page offers to make a passkey, on a device that has none of these."""
        challenge = self.challenges.random(_CHALLENGE)
        options = generate_registration_options(
            rp_id=self.host,
            rp_name=self.organisation,
            user_id=_handle(identity.person),
            user_name=identity.name,
            challenge=challenge,
            timeout=GOOD_FOR * 1000,
            authenticator_selection=_WANTED,
            exclude_credentials=_described(known),
        )
        return Ceremony(options_to_json(options), self.challenges.seal(challenge, f"create|{owner}", now))

    # --- reading ------------------------------------------------------------------------------------------------------

    def proved(self, answer: Answer, person: str, known: Sequence[Passkey], now: datetime) -> Proved:
        """Return which of a person's passkeys signed, and use the challenge up; raise NotProved."""
        opened = self._opened(answer, "get", now)
        try:
            found = self._signed(answer.credential, opened, person, known)
        except NotProved:
            raise
        except Exception as error:  # whatever a stranger's bytes do to the parsers, they prove nothing
            raise NotProved(f"the answer is no proof: {error}") from error
        self._spend(opened, now)
        return found

    def _signed(self, credential: str, opened: Opened, person: str, known: Sequence[Passkey]) -> Proved:
        given = parse_authentication_credential_json(credential)
        handle = given.response.user_handle
        if handle and handle != _handle(person):
            raise NotProved("the passkey is somebody else's")
        passkey = next((one for one in known if one.credential_id == given.raw_id), None)
        if passkey is None:
            raise NotProved("the passkey is none of this person's")
        _require_own_page(given.response.client_data_json)
        verified = verify_authentication_response(
            credential=given,
            expected_challenge=opened.secret,
            expected_rp_id=self.host,
            expected_origin=origin_of(self.public_url),
            credential_public_key=passkey.public_key,
            credential_current_sign_count=0,  # the store compares, in the same step in which it keeps the new one
        )
        return Proved(passkey, verified.new_sign_count, verified.user_verified)

    def registered(self, answer: Answer, now: datetime) -> VerifiedRegistration:
        """Return the passkey that was made, and use the challenge up; raise NotProved."""
        opened = self._opened(answer, "create", now)
        try:
            given = parse_registration_credential_json(answer.credential)
            _require_own_page(given.response.client_data_json)
            made = verify_registration_response(
                credential=given,
                expected_challenge=opened.secret,
                expected_rp_id=self.host,
                expected_origin=origin_of(self.public_url),
            )
        except NotProved:
            raise
        except Exception as error:  # as above
            raise NotProved(f"the answer is no registration: {error}") from error
        self._spend(opened, now)
        return made

    def _opened(self, answer: Answer, purpose: str, now: datetime) -> Opened:
        opened = self.challenges.open(answer.challenge, f"{purpose}|{answer.owner}", now)
        if opened is None:
            raise NotProved("the challenge is too old, or of another form")
        return opened

    def _spend(self, opened: Opened, now: datetime) -> None:
        if not self.challenges.spend(opened, now):
            raise NotProved("the challenge was answered before")


def _require_own_page(client_data: bytes) -> None:
    # WebAuthn Level 3, 7.1 step 10 and 7.2 step 13: our pages stand in nobody's frame.
    if parse_client_data_json(client_data).cross_origin:
        raise NotProved("the page was in a frame of another site")


def _described(known: Sequence[Passkey]) -> list[PublicKeyCredentialDescriptor]:
    return [PublicKeyCredentialDescriptor(id=one.credential_id) for one in known]


def _handle(person: str) -> bytes:
    # WebAuthn Level 3, 14.6.1: a user handle tells nothing of the person.
    return hashlib.sha256(person.encode()).digest()


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
