"""The Redis keys of the list of live sessions.

All keys of an account share one hash tag, so that a cluster keeps them on one node.
"""

from hashlib import blake2b


def index(account_id: str) -> str:
    """Return the key of the sorted set of an account's session ids, by expiry."""
    return f"fedgate:{{{account_id}}}:live"


def used(account_id: str) -> str:
    """Return the key of the sorted set of those ids, by time of last use."""
    return f"fedgate:{{{account_id}}}:used"


def entry(account_id: str, session_id: str) -> str:
    """Return the key of the facts about one session."""
    return f"fedgate:{{{account_id}}}:s:{session_id}"


def of_person(account_id: str, person: str) -> str:
    """Return the key of the sorted set of a person's session ids in an account, by expiry.

    The person is hashed: monitoring tools show keys but no values, and the length of a subject is up to its issuer.
    """
    name = blake2b(person.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return f"fedgate:{{{account_id}}}:p:{name}"
