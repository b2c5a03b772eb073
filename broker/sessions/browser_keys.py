"""The keys of Redis under which browser sessions and sign-ins are stored: hashes of what browsers and people have.

Pure. Whoever can read Redis learns neither cookies nor names from them.
"""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BrowserKeys:
    """The keys, all with one prefix."""

    prefix: str = "fedgate:web:"

    def index(self, account_id: str) -> str:
        """Return the key of the sessions of an account's own people; of everybody's with an empty text."""
        return f"{self.prefix}all:{account_id}" if account_id else f"{self.prefix}all"

    def session(self, token: str) -> str:
        """Return the key of the session of a cookie."""
        return f"{self.prefix}session:{_hash(token)}"

    def pending(self, token: str) -> str:
        """Return the key of the pending sign-in of a cookie."""
        return f"{self.prefix}waiting:{_hash(token)}"

    def pending_of(self, person: str) -> str:
        """Return the key of the pending sign-ins of a person."""
        return f"{self.prefix}waiting-of:{_hash(person)}"

    def person(self, person: str) -> str:
        """Return the key of the sessions of a person."""
        return f"{self.prefix}person:{_hash(person)}"

    def logout_request(self, message_id: str) -> str:
        """Return the key of a logout request to an identity provider."""
        return f"{self.prefix}begun:{_hash(message_id)}"

    def form(self, form: str) -> str:
        """Return the key of a form that was sent."""
        return f"{self.prefix}sent:{_hash(form)}"

    def form_response(self, form: str) -> str:
        """Return the key of the response to a form."""
        return f"{self.prefix}answer:{_hash(form)}"


def last_use(session_key: str) -> str:
    """Return the key of when a session was last used."""
    return f"{session_key}:used"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
