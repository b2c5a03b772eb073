"""Values in Redis, sealed: whoever writes there can take a value away, and never make one that is believed (J07).

The Redis key is associated data, so that a value copied to another key does not open. An old value of the same key
opens: whoever stores something that ends before it expires keeps elsewhere that it has ended.
"""

from base64 import b64decode, b64encode
from collections.abc import Sequence

from iam.arn import Random
from iam.store.vault import CannotUnseal, Vault, derive_key

_PURPOSE = "redis"


class SealedValues:
    """Seals texts for Redis under a key derived from the master key."""

    def __init__(self, master_key: bytes, random: Random) -> None:
        self._vault = Vault(derive_key(master_key, _PURPOSE))
        self._random = random

    def seal(self, key: str, text: str) -> str:
        """Return a text as it is stored under a Redis key."""
        return b64encode(self._vault.seal(text.encode(), key, self._random)).decode()

    def open(self, key: str, stored: object) -> str | None:
        """Return the text stored under a Redis key; None for what was not sealed here for this very key."""
        try:
            return self._vault.open(b64decode(str(stored), validate=True), key).decode()
        except (CannotUnseal, ValueError):
            return None

    def open_all(self, keys: Sequence[str], stored: Sequence[object]) -> list[tuple[str, str]]:
        """Return key and text of each value that opens."""
        opened = [(key, self.open(key, value)) for key, value in zip(keys, stored, strict=True) if value is not None]
        return [(key, text) for key, text in opened if text is not None]
