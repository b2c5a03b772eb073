"""Password hashes: argon2id with the second recommended parameters of RFC 9106, section 4 (64 MiB, 3 passes)."""

import argon2

from iam.arn import Random
from iam.saslprep import spellings

# The low-memory profile: each verification needs 64 MiB; the first recommended profile would need 2 GiB. OWASP's
# minimum for argon2id is 19 MiB and 2 passes.
_HASHER = argon2.PasswordHasher.from_parameters(argon2.profiles.RFC_9106_LOW_MEMORY)
# The hash of random bytes that were thrown away, with the parameters above. It is verified for unknown names, so that
# the response time does not reveal whether a name exists. Whoever changes the parameters makes a new one.
_DUMMY_HASH = "$argon2id$v=19$m=65536,t=3,p=4$jtvwQAqxA4mJrlOW6qg0qQ$P4KK811eoBNhPjXTURLPt2Odk8Vsv15SbWESN5pTe1Q"
_SALT = 16  # bytes: RFC 9106, section 3.1


def hash_password(password: str, random: Random) -> str:
    """Return the hash of a password, prepared by SASLprep, as a PHC string."""
    return _HASHER.hash(spellings(password)[0], salt=random(_SALT))


def verify_hash(stored: str | None, password: str) -> bool:
    """Return whether a stored hash matches a password; None never matches, and takes the same time.

    Earlier versions hashed what was typed: a password that preparation changes is compared in its other forms too.
    """
    return any(_matches(stored, spelling) for spelling in spellings(password))


def _matches(stored: str | None, password: str) -> bool:
    try:
        return _HASHER.verify(stored or _DUMMY_HASH, password) and stored is not None
    except argon2.exceptions.VerifyMismatchError:
        return False
