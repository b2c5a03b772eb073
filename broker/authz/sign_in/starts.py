"""Sign-ins of browsers to a resource under way: what the address of the sign-in page carries, sealed, as ``state``.

The server stores nothing for them, since anybody may begin them without end. ``nonce`` is the value of a cookie that
only the browser has in which the sign-in began, so that nobody else's code can be brought into it (login CSRF, RFC
6749, section 10.12; RFC 9700, section 4.7).
"""

import json
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta
from hmac import compare_digest
from typing import Final

from broker.web.core.sealed_fields import OpenedField, SealedFields

LIFETIME: Final = timedelta(minutes=30)  # a first sign-in may include setting up a second factor
_LONGEST_TARGET: Final = 1200  # characters: the sealed state must fit into addresses and cookies on its way


@dataclass(frozen=True, slots=True)
class SignInStart:
    """Where a sign-in began: the host of the resource, and path and query of the page; ``id`` makes it unique."""

    id: str
    host: str
    target: str
    nonce: str

    def is_of(self, nonce: str) -> bool:
        """Return whether the sign-in began in the browser that has this nonce."""
        return compare_digest(self.nonce.encode(), nonce.encode())


@dataclass(frozen=True, slots=True)
class OpenedStart:
    """A sign-in that was sealed here and may go on, unless it was used."""

    start: SignInStart
    field: OpenedField


@dataclass(frozen=True, slots=True)
class SignInStarts:
    """Seals, opens and uses up sign-ins; each belongs to one resource."""

    sealed: SealedFields

    def seal(self, resource: str, start: SignInStart, now: datetime) -> str:
        """Return the state of a sign-in."""
        return self.sealed.seal(json.dumps(astuple(start)).encode(), resource, now)

    def open(self, resource: str, state: str, now: datetime) -> OpenedStart | None:
        """Return the sign-in of a state; None for one that is too old, of another resource, or not ours."""
        opened = self.sealed.open(state, resource, now)
        return None if opened is None else OpenedStart(SignInStart(*json.loads(opened.secret)), opened)

    def consume(self, opened: OpenedStart, now: datetime) -> bool:
        """Return whether this is the first use; raise ServiceFailure."""
        return self.sealed.consume(opened.field, now)


def kept_target(target: str) -> str:
    """Return path and query to come back to: those asked for, or the first page where they are too long."""
    is_path = target.startswith("/") and target.isascii() and target.isprintable() and " " not in target
    return target if is_path and len(target) <= _LONGEST_TARGET else "/"
