"""What limits guesses of the password of an entry, once a directory has found it under one of its names."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


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
