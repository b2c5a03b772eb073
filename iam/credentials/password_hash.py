"""Password hashes: argon2id, with the second parameters that RFC 9106, section 4, recommends (64 MiB, 3 passes)."""

import argon2

from iam.arn import Random

_HASHER = argon2.PasswordHasher.from_parameters(argon2.profiles.RFC_9106_LOW_MEMORY)
# Made over random bytes that nobody kept: an unknown name costs the same time as a wrong password.
_DUMMY_HASH = "$argon2id$v=19$m=65536,t=3,p=4$jtvwQAqxA4mJrlOW6qg0qQ$P4KK811eoBNhPjXTURLPt2Odk8Vsv15SbWESN5pTe1Q"
_SALT = 16


def hash_password(password: str, random: Random) -> str:
    """Return how a password is kept, as a PHC string."""
    return _HASHER.hash(password, salt=random(_SALT))


def verify_hash(stored: str | None, password: str) -> bool:
    """Return whether a kept hash is this password's; nobody's, None, is no password's and takes as long."""
    try:
        return _HASHER.verify(stored or _DUMMY_HASH, password) and stored is not None
    except argon2.exceptions.VerifyMismatchError:
        return False
