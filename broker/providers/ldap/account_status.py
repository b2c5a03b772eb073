"""Whether a directory has closed an account since its owner signed in, as their entry says (THREATS E12).

There is no password to check, so only what closes the account counts; a password that has expired since does not.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from broker.providers.ldap.connection import Entry
from broker.providers.ldap.groups import text_values
from sts.identity import Refusal

_DISABLED_IN_AD: Final = 0x2  # MS-ADTS 2.2.16: ADS_UF_ACCOUNTDISABLE
# MS-ADTS 2.3.3 and [MS-SAMR] 2.2.1: the values of accountExpires for accounts that never expire.
_NEVER: Final = frozenset({0, 0x7FFF_FFFF_FFFF_FFFF})
_WINDOWS_EPOCH: Final = datetime(1601, 1, 1, tzinfo=UTC)


def _disabled(value: str, _now: datetime) -> bool:
    return bool(_number(value) & _DISABLED_IN_AD)


def _expired(value: str, now: datetime) -> bool:
    ticks = _number(value)
    # accountExpires is in tenths of microseconds. Integers, because it may be later than datetime can represent.
    return ticks not in _NEVER and ticks // 10 <= (now - _WINDOWS_EPOCH) // timedelta(microseconds=1)


# By attribute: the reason of the refusal, and the test of its value. OpenLDAP removes its lock at the next successful
# bind, so a person who is locked out because of a stranger's guesses signs in again.
_STATUS_CHECKS: Final[Mapping[str, tuple[str, Callable[[str, datetime], bool]]]] = {
    "userAccountControl": ("account disabled", _disabled),
    "accountExpires": ("account expired", _expired),
    "pwdAccountLockedTime": ("account locked", lambda _value, _now: True),  # draft-behera-ldap-password-policy-10 5.3.3
    "nsAccountLock": ("account disabled", lambda value, _now: value.casefold() == "true"),  # 389 Directory Server
}
STATUS_ATTRIBUTES: Final = tuple(_STATUS_CHECKS)


def account_refusal(entry: Entry, now: datetime) -> Refusal | None:
    """Return why the account of this entry is closed, or None where nothing in it says so."""
    for attribute, (reason, is_closed) in _STATUS_CHECKS.items():
        if any(is_closed(value, now) for value in text_values(entry, attribute)):
            return Refusal(reason, f"{attribute} of {entry.dn}"[:300], counts_as_failure=False)
    return None


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return 0
