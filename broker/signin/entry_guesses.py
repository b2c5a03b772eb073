"""Guesses of the password of one entry of a directory, under whichever of its names, count together.

An entry may be found by several names: as uid, mail or userPrincipalName, with a domain or without. The throttle counts
names as they are typed, before the directory is asked; here it counts once more, by the stable id of the entry that was
found. Whoever guesses shall not learn that two names are one person's: what exceeds this limit is refused as a wrong
password is, never with Throttling, and nothing waits. A name of nobody costs the same.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from broker.providers.ldap.guess import Guess, GuessLimit
from broker.signin.throttle import Attempt, SignInThrottle
from iam.errors import Throttling

# Failures count here beside those of the typed name: another source, or each would count twice for the address.
_SOURCE_PREFIX: Final = "entry:"
_DIGEST: Final = 32  # hexadecimal digits


@dataclass(frozen=True, slots=True)
class _EntryGuess:
    """A guess that the throttle allows, with ``attempt``, or does not."""

    attempt: Attempt | None
    count_elsewhere: Callable[[], None]

    @property
    def allowed(self) -> bool:
        """Return whether the directory may be asked."""
        return self.attempt is not None

    def fail(self) -> None:
        """Count a wrong password; one that was not looked at does not lock the entry any longer."""
        if self.attempt is None:
            self.count_elsewhere()  # in the time that it takes to count
        else:
            self.attempt.fail()

    def succeed(self) -> None:
        """Forget the failures of the entry from this source."""
        if self.attempt is not None:
            self.attempt.succeed()


def limit_by_entry(throttle: SignInThrottle, typed: str, source: str, password: str, now: datetime) -> GuessLimit:
    """Return what begins the guess about the entry that is found by the name that was ``typed``."""

    @contextmanager
    def begin(person: str) -> Iterator[Guess]:
        of_nobody, here = _subject(f"nobody|{typed}"), _SOURCE_PREFIX + source
        subject = _subject(f"person|{person}") if person else of_nobody
        with ExitStack() as stack:
            try:
                attempt = stack.enter_context(throttle.attempt(subject, here, password, now, wait=False))
            except Throttling:
                attempt = None
            yield _EntryGuess(attempt, partial(throttle.record_failure, of_nobody, here, now))

    return begin


def _subject(of: str) -> str:
    """Return the subject that the throttle counts: short, and of no typed name."""
    return _SOURCE_PREFIX + hashlib.sha256(of.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
