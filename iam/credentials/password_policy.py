"""Password policies: the account's own, AWS's default, and the list of common passwords.

Source: IAM User Guide, "Set an account password policy for IAM users".
"""

import functools
import importlib.resources
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, select

from iam.arn import Random
from iam.clock import DAY
from iam.errors import PasswordPolicyViolation
from iam.saslprep import spellings
from iam.store.schema import account

LONGEST_PASSWORD_HISTORY = 24  # the largest PasswordReusePrevention
REUSE_MESSAGE = "Policy constraint violation with password reuse prevention during password change."
_CLASSES = {
    "uppercase letter": re.compile(r"[A-Z]"),
    "lowercase letter": re.compile(r"[a-z]"),
    "number": re.compile(r"[0-9]"),
    "symbol": re.compile(r"[!@#$%^&*()_+\-=\[\]{}|']"),
}
_DEFAULT_MINIMUM, _DEFAULT_CLASSES = 8, 3
# People append digits and symbols to a common word, such as a year: up to five are removed before the lookup.
_TAIL = re.compile(r"[^a-z]{1,5}$")

# Generated passwords: groups of four characters joined by hyphens; random bytes for the longest that a policy requires.
# Characters that look alike (I, L, O, 0, 1) are left out.
_ALPHABETS = ("ABCDEFGHJKMNPQRSTUVWXYZ", "abcdefghjkmnpqrstuvwxyz", "23456789")
_GROUP, _GROUPS, _ENTROPY_BYTES = 4, 5, 80


@dataclass(frozen=True, slots=True)
class PasswordPolicy:
    """The members of UpdateAccountPasswordPolicy with its defaults; ages are in days."""

    MinimumPasswordLength: int = 6
    RequireSymbols: bool = False
    RequireNumbers: bool = False
    RequireUppercaseCharacters: bool = False
    RequireLowercaseCharacters: bool = False
    AllowUsersToChangePassword: bool = False
    MaxPasswordAge: int | None = None
    PasswordReusePrevention: int | None = None
    HardExpiry: bool | None = None

    def expires(self, changed: int) -> int | None:
        """Return when a password set at ``changed`` expires, both in milliseconds, or None where it never does."""
        return changed + self.MaxPasswordAge * DAY if self.MaxPasswordAge else None

    def weakness(self, password: str) -> str:
        """Return what the password lacks, or an empty text."""
        if len(password) < self.MinimumPasswordLength:
            return f"Password should have a minimum length of {self.MinimumPasswordLength}"
        required = (
            self.RequireUppercaseCharacters,
            self.RequireLowercaseCharacters,
            self.RequireNumbers,
            self.RequireSymbols,
        )
        for (name, pattern), is_required in zip(_CLASSES.items(), required, strict=True):
            if is_required and not pattern.search(password):
                return f"Password should have at least one {name}"
        return ""


@dataclass(frozen=True, slots=True)
class DefaultPasswordPolicy(PasswordPolicy):
    """AWS's policy for accounts without their own: eight characters, three of four character classes."""

    MinimumPasswordLength: int = _DEFAULT_MINIMUM

    def weakness(self, password: str) -> str:
        """Return what the password lacks, or an empty text."""
        weakness = PasswordPolicy.weakness(self, password)
        present = sum(bool(pattern.search(password)) for pattern in _CLASSES.values())
        if weakness or present >= _DEFAULT_CLASSES:
            return weakness
        return "Password should have at least three of: uppercase letter, lowercase letter, number, symbol"


def policy_of(tx: Connection, account_id: str) -> PasswordPolicy:
    """Return the password policy of an account."""
    stored = tx.execute(select(account.c.password_policy).where(account.c.id == account_id)).scalar_one_or_none()
    return PasswordPolicy(**json.loads(stored)) if stored else DefaultPasswordPolicy()


def require_strong(policy: PasswordPolicy, password: str, names: Iterable[str | None]) -> None:
    """Raise PasswordPolicyViolation for a password that is weak, common, or the name of its user or account.

    The prepared form counts, which is the one that is stored.
    """
    password = spellings(password)[0]
    weakness = policy.weakness(password)
    if weakness:
        raise PasswordPolicyViolation(weakness)
    folded = password.lower()
    if folded in {name.lower() for name in names if name}:
        raise PasswordPolicyViolation("Password should not be the name of the user or of the account")
    if is_common(folded):
        raise PasswordPolicyViolation("Password should not be one of the most common passwords")


def random_password(policy: PasswordPolicy, random: Random) -> str:
    """Return a random password that satisfies the policy, with at least 84 bits of entropy.

    It has characters of every class and none that look alike, so that it can be read and typed.
    """
    entropy, groups = int.from_bytes(random(_ENTROPY_BYTES), "big"), []
    for number in range(max(_GROUPS, (policy.MinimumPasswordLength + _GROUP + 1) // (_GROUP + 1))):
        group, alphabet = "", _ALPHABETS[number % len(_ALPHABETS)]
        for _ in range(_GROUP):
            entropy, index = divmod(entropy, len(alphabet))
            group += alphabet[index]
        groups.append(group)
    return "-".join(groups)


def is_common(password: str) -> bool:
    """Return whether a password is a common one, also with up to five digits or symbols appended."""
    folded = password.lower()
    return folded in _common() or _TAIL.sub("", folded) in _common()


@functools.cache
def _common() -> frozenset[str]:
    text = importlib.resources.files(__package__).joinpath("common_passwords.txt").read_text("utf-8")
    return frozenset(line for line in text.splitlines() if line and not line.startswith("# "))
