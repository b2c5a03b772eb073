"""What the keys of the list of live sessions are called in Redis.

All keys of an account share one hash tag, so that a cluster keeps them on one node.
"""

from hashlib import blake2b


def index(account_id: str) -> str:
    """Return the key of an account's sessions: ids by expiry."""
    return f"fedgate:{{{account_id}}}:live"


def used(account_id: str) -> str:
    """Return the key of their last uses: ids by moment."""
    return f"fedgate:{{{account_id}}}:used"


def entry(account_id: str, session_id: str) -> str:
    """Return the key of one session's line."""
    return f"fedgate:{{{account_id}}}:s:{session_id}"


def of_person(account_id: str, person: str) -> str:
    """Return the key of a person's sessions in an account: ids by expiry.

    The name is hashed: keys are shown by tools that show no values, and a subject may be as long as its issuer likes.
    """
    name = blake2b(person.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return f"fedgate:{{{account_id}}}:p:{name}"
