"""Versions of passwords: a browser session keeps the one that was judged, and ends where it is no longer the same.

They are compared for equality. Times would not do: a sign-in may have judged the old password before a change and begin
its session afterwards (THREATS J02).
"""

import hashlib
from collections.abc import Iterable

from sqlalchemy import Connection, delete, insert, select

from iam.arn import Random
from iam.store.schema import login_profile, password_mark, root_login

_MARK_BYTES = 16


def version_of_hash(password_hash: str) -> str:
    """Return the version of a stored password: each has a salt of its own, also the same password set again."""
    return _digest((password_hash,))


def version_of_texts(texts: Iterable[str]) -> str:
    """Return the version of a password of which a directory shows these texts; empty where it shows nothing."""
    shown = tuple(texts)
    return _digest(shown) if shown else ""


def stored_version(tx: Connection, subject: str, *, is_root: bool) -> str | None:
    """Return the version of the password of a user, or of a root by its account's id; None without a password."""
    of_user = select(login_profile.c.hash).where(login_profile.c.user_id == subject)
    of_root = select(root_login.c.hash).where(root_login.c.account_id == subject)
    password_hash = tx.scalar(of_root if is_root else of_user)
    return None if password_hash is None else version_of_hash(password_hash)


def mark_of(tx: Connection, person: str) -> str:
    """Return the mark of somebody's last change of a directory password here; empty where there was none."""
    return tx.scalar(select(password_mark.c.mark).where(password_mark.c.person == person)) or ""


def renew_mark(tx: Connection, person: str, random: Random) -> None:
    """Store that somebody's directory password was changed."""
    tx.execute(delete(password_mark).where(password_mark.c.person == person))
    tx.execute(insert(password_mark).values(person=person, mark=random(_MARK_BYTES).hex()))


def _digest(texts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
