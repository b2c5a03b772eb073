"""What limits guesses of the password of an entry, once a directory has found it under one of its names."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Protocol

from sts.identity import Refusal

TOO_MANY_GUESSES: Final = "too many wrong passwords of this entry"  # the reason of a refusal


class Guess(Protocol):
    """One guess. Where it is not ``allowed``, it is refused as a wrong password, in the same time."""

    @property
    def allowed(self) -> bool:
        """Return whether the directory may be asked."""
        ...

    def fail(self) -> None:
        """Count a wrong password."""
        ...

    def succeed(self) -> None:
        """Note that the password was right."""
        ...


# Begins a guess about a person (``provider|subject``); of an empty text where the directory knows nobody of the name.
GuessLimit = Callable[[str], AbstractContextManager[Guess]]


class _Unlimited:
    allowed = True

    def fail(self) -> None:
        """Count nothing."""

    def succeed(self) -> None:
        """Note nothing."""


@contextmanager
def unlimited(_person: str) -> Iterator[Guess]:
    """Allow every guess."""
    yield _Unlimited()


def count_refusal(guess: Guess, refusal: Refusal | None) -> None:
    """Count a refusal where it says that a password was tried and was wrong."""
    if refusal is not None and refusal.counts_as_failure:
        guess.fail()
