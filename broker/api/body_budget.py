"""How much of request bodies one worker holds at the same time, and who may send large ones.

A body is in memory before its signature can be checked. Whoever names no access key that exists may therefore send
little, and all bodies together may have no more than the budget: what does not fit is refused before it is read.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Final

from broker.api.http import HttpRequest
from iam.errors import RequestTooLarge, ServiceUnavailable

MAX_BODY: Final = 10_000_000  # of a signed call; CreateSAMLProvider takes metadata of 10,000,000 characters
# An assertion of 100,000 characters (STS API Reference, AssumeRoleWithSAML), three bytes each when percent-encoded.
MAX_UNSIGNED_BODY: Final = 300_000
# Of these, as many as there are connections can be in memory; a web identity token has 20,000 characters at most.
FREE_BODY: Final = 32_768
MAX_STRANGERS_FORM: Final = 65_536  # of a page, but those that take assertions and tokens


class BytePool:
    """A number of bytes that requests share."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._lock = threading.Lock()

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Take bytes for the length of the block; raise ServiceUnavailable where they are not there."""
        with self._lock:
            if size > self._free:
                raise _busy(size)
            self._free -= size
        try:
            yield
        finally:
            with self._lock:
                self._free += size


@dataclass(frozen=True, slots=True)
class BodyBudget:
    """The bytes of bodies in one worker: half for anybody, half for those who name an access key.

    ``is_known_signer`` says whether a request names an access key that exists; nothing is verified yet. Bodies as small
    as those of a password sign-in take nothing of it, so that strangers who fill their half keep nobody out.
    """

    anybody: BytePool
    signers: BytePool
    is_known_signer: Callable[[HttpRequest], bool]

    @classmethod
    def of(cls, size: int, is_known_signer: Callable[[HttpRequest], bool]) -> "BodyBudget":
        """Return a budget of so many bytes."""
        return cls(BytePool(size // 2), BytePool(size // 2), is_known_signer)

    @contextmanager
    def admit(self, request: HttpRequest, declared: int | None) -> Iterator[int]:
        """Give the number of bytes that may be read of a call's body, and hold them for the length of the block.

        ``declared`` is the length that the client announced, or None for a chunked body. Raise RequestTooLarge,
        ServiceUnavailable.
        """
        size = MAX_BODY if declared is None else declared
        is_known = size > FREE_BODY and self.is_known_signer(request)
        most = MAX_BODY if is_known else MAX_UNSIGNED_BODY
        if declared is not None and declared > most:
            raise too_large(most)
        with self.hold(min(size, most), self.signers if is_known else self.anybody):
            yield most

    def hold(self, size: int, pool: BytePool | None = None) -> AbstractContextManager[None]:
        """Return a block that holds bytes, of those for anybody by default; raise ServiceUnavailable."""
        return nullcontext() if size <= FREE_BODY else (pool or self.anybody).hold(size)


def too_large(most: int) -> RequestTooLarge:
    """Return the error for a body that has more than so many bytes."""
    return RequestTooLarge(f"The body of a request may have {most} bytes.")


def _busy(size: int) -> ServiceUnavailable:
    return ServiceUnavailable(
        "The service is busy with other requests. Try again later.", log=f"no room for a body of {size} bytes"
    )
