"""Tickets: what a refused client is told, carried by a proxy that gives it no body of ours (nginx's auth_request).

Pure. A ticket is authenticated and short-lived, and nothing in it is secret: the client reads it a moment later.
"""

import base64
import hmac
import json
import zlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from broker.authz.refusals import Refusal
from broker.authz.resource import ResourceKind
from iam.clock import to_milliseconds

LIFETIME: Final = timedelta(minutes=1)
_PURPOSE: Final = b"fedgate authorizer ticket"
_MAC: Final = 32  # bytes of HMAC-SHA256
# A proxy keeps the headers of an answer in a small buffer: 4 KB in nginx. A longer text is cut.
_LONGEST_TEXT: Final = 1000  # characters
_LONGEST_TICKET: Final = 8_000
_MOST_UNPACKED: Final = 16_384  # bytes


@dataclass(frozen=True, slots=True)
class Tickets:
    """Writes and reads tickets; ``secret`` is the same for all workers of an installation."""

    secret: bytes = field(repr=False)

    def write(self, refusal: Refusal, now: datetime) -> str:
        """Return the ticket of a refusal."""
        expires = to_milliseconds(now + LIFETIME)
        texts = refusal.message[:_LONGEST_TEXT], refusal.path[:_LONGEST_TEXT]
        fields = [expires, refusal.kind, refusal.status, refusal.code, *texts, refusal.request_id, refusal.retry_after]
        packed = zlib.compress(json.dumps(fields).encode())
        return base64.urlsafe_b64encode(self._mac(packed) + packed).decode("ascii")

    def read(self, ticket: str, now: datetime) -> Refusal | None:
        """Return the refusal of a ticket; None where it is not one of ours, or too old."""
        try:
            sealed = base64.b64decode(ticket[:_LONGEST_TICKET], b"-_", validate=True)
        except ValueError:
            return None
        mac, packed = sealed[:_MAC], sealed[_MAC:]
        if not hmac.compare_digest(mac, self._mac(packed)):
            return None
        expires, kind, *rest = json.loads(zlib.decompressobj().decompress(packed, _MOST_UNPACKED))
        return Refusal(ResourceKind(kind), *rest) if to_milliseconds(now) < expires else None

    def _mac(self, packed: bytes) -> bytes:
        return hmac.digest(hmac.digest(self.secret, _PURPOSE, "sha256"), packed, "sha256")
