"""What a password must be like: the account's policy, AWS's default, and what is too common to be a secret.

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
# People put a year and a sign behind a common word: so much is cut off before the word is looked up.
_TAIL = re.compile(r"[^a-z]{1,5}$")

# A password of ours: groups of four signs with hyphens between them, and chance for the longest that a policy asks for.
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
        for (name, pattern), asked in zip(_CLASSES.items(), required, strict=True):
            if asked and not pattern.search(password):
                return f"Password should have at least one {name}"
        return ""


@dataclass(frozen=True, slots=True)
class DefaultPasswordPolicy(PasswordPolicy):
    """What holds while the account has no policy of its own: eight characters, three of four classes."""

    MinimumPasswordLength: int = _DEFAULT_MINIMUM

    def weakness(self, password: str) -> str:
        """Return what the password lacks, or an empty text."""
        lacking = PasswordPolicy.weakness(self, password)
        present = sum(bool(pattern.search(password)) for pattern in _CLASSES.values())
        if lacking or present >= _DEFAULT_CLASSES:
            return lacking
        return "Password should have at least three of: uppercase letter, lowercase letter, number, symbol"


def policy_of(tx: Connection, account_id: str) -> PasswordPolicy:
    """Return the password policy that holds in an account."""
    stored = tx.execute(select(account.c.password_policy).where(account.c.id == account_id)).scalar_one_or_none()
    return PasswordPolicy(**json.loads(stored)) if stored else DefaultPasswordPolicy()


def require_strong(policy: PasswordPolicy, password: str, names: Iterable[str | None]) -> None:
    """Raise PasswordPolicyViolation for a password that is weak, common, or a name of its user or account."""
    lacking = policy.weakness(password)
    if lacking:
        raise PasswordPolicyViolation(lacking)
    folded = password.lower()
    if folded in {name.lower() for name in names if name}:
        raise PasswordPolicyViolation("Password should not be the name of the user or of the account")
    if is_common(folded):
        raise PasswordPolicyViolation("Password should not be one of the most common passwords")


def random_password(policy: PasswordPolicy, random: Random) -> str:
    """Return a password with signs of every class, as long as the policy asks, and with 84 bits of chance at least.

    It is made to be read and typed: no sign looks like another one.
    """
    chance, groups = int.from_bytes(random(_ENTROPY_BYTES), "big"), []
    for number in range(max(_GROUPS, (policy.MinimumPasswordLength + _GROUP + 1) // (_GROUP + 1))):
        group, signs = "", _ALPHABETS[number % len(_ALPHABETS)]
        for _ in range(_GROUP):
            chance, at = divmod(chance, len(signs))
            group += signs[at]
        groups.append(group)
    return "-".join(groups)


def is_common(password: str) -> bool:
    """Return whether everybody's first guesses contain the password, also with up to five digits or signs behind it."""
    folded = password.lower()
    return folded in _common() or _TAIL.sub("", folded) in _common()


@functools.cache
def _common() -> frozenset[str]:
    text = importlib.resources.files(__package__).joinpath("common_passwords.txt").read_text("utf-8")
    return frozenset(line for line in text.splitlines() if line and not line.startswith("# "))
