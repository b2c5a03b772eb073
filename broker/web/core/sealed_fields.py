"""Hidden fields in which a form keeps what the server would otherwise have to remember: sealed, dated, and good once.

So a page that is only looked at leaves nothing behind. That one was used is written where no loss of Redis undoes it
(THREATS I05).
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from iam.arn import Random
from iam.clock import from_seconds, to_seconds
from iam.store.vault import CannotUnseal, Vault
from sts.store.single_use import SingleUse

_SECONDS: Final = 8  # bytes in which the moment of sealing stands before the secret


@dataclass(frozen=True, slots=True)
class OpenedField:
    """What a field kept, and until when the field is good."""

    secret: bytes = field(repr=False)
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedFields:
    """Seals fields and opens them again; ``kind`` names in the store of used proofs what they keep."""

    kind: str
    lifetime: timedelta
    vault: Vault
    single_use: SingleUse
    random: Random

    def seal(self, secret: bytes, owner: str, now: datetime) -> str:
        """Return a secret as a field can hold it; ``owner`` is whose form it is in."""
        dated = to_seconds(now).to_bytes(_SECONDS, "big") + secret
        return urlsafe_b64encode(self.vault.seal(dated, self._owner(owner), self.random)).decode()

    def open(self, text: str, owner: str, now: datetime) -> OpenedField | None:
        """Return what a field keeps; None where it is too old, of somebody else's form, or none of ours."""
        try:
            dated = self.vault.open(urlsafe_b64decode(text), self._owner(owner))
        except (CannotUnseal, ValueError):
            return None
        sealed_at = from_seconds(int.from_bytes(dated[:_SECONDS], "big"))
        until = sealed_at + self.lifetime
        return OpenedField(dated[_SECONDS:], until) if now <= until else None

    def consume(self, opened: OpenedField, now: datetime) -> bool:
        """Return whether what a field kept is used for the first time; raise ServiceFailure."""
        return self.single_use.consume(self.kind, opened.secret.hex(), opened.until, now)

    def _owner(self, owner: str) -> str:
        return f"{self.kind}|{owner}"
