"""Hidden form fields that hold server state: sealed, bound to a person and a browser, dated, and usable once.

Rendering a form so stores nothing. Use is recorded in SQL, which a loss of Redis does not undo (THREATS I05).
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from iam.arn import Random
from iam.clock import from_seconds, to_seconds
from iam.store.vault import CannotUnseal, Vault
from sts.store.single_use import SingleUse

_TIMESTAMP_BYTES: Final = 8  # the time of sealing, in seconds, before the secret


@dataclass(frozen=True, slots=True)
class OpenedField:
    """The secret of a field, and when the field expires."""

    secret: bytes = field(repr=False)
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedFields:
    """Seals fields and opens them again; ``kind`` is their name in the list of used proofs."""

    kind: str
    lifetime: timedelta
    vault: Vault
    single_use: SingleUse
    random: Random

    def seal(self, secret: bytes, owner: str, now: datetime) -> str:
        """Return the value of a field that holds a secret in a form of ``owner``."""
        dated = to_seconds(now).to_bytes(_TIMESTAMP_BYTES, "big") + secret
        return urlsafe_b64encode(self.vault.seal(dated, self._owner(owner), self.random)).decode()

    def open(self, text: str, owner: str, now: datetime) -> OpenedField | None:
        """Return what a field holds; None if it has expired, was sealed for another owner, or was not sealed here."""
        try:
            dated = self.vault.open(urlsafe_b64decode(text), self._owner(owner))
        except (CannotUnseal, ValueError):
            return None
        sealed_at = from_seconds(int.from_bytes(dated[:_TIMESTAMP_BYTES], "big"))
        until = sealed_at + self.lifetime
        return OpenedField(dated[_TIMESTAMP_BYTES:], until) if now <= until else None

    def consume(self, opened: OpenedField, now: datetime) -> bool:
        """Mark a field as used; return False if it was used before; raise ServiceFailure."""
        return self.single_use.consume(self.kind, opened.secret.hex(), opened.until, now)

    def _owner(self, owner: str) -> str:
        return f"{self.kind}|{owner}"
