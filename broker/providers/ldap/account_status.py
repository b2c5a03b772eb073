"""Whether somebody who proved a password earlier would still be let in, as far as the own entry in a directory says.

No password is asked for, so only what closes the account counts: a password that has expired meanwhile does not.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from broker.providers.ldap.connection import Entry
from broker.providers.ldap.groups import text_values
from sts.identity import Refusal

_DISABLED_IN_AD: Final = 0x2  # MS-ADTS 2.2.16: ADS_UF_ACCOUNTDISABLE
# MS-ADTS 2.3.3 and [MS-SAMR] 2.2.1: what accountExpires holds of accounts that never do.
_NEVER: Final = frozenset({0, 0x7FFF_FFFF_FFFF_FFFF})
_WINDOWS_EPOCH: Final = datetime(1601, 1, 1, tzinfo=UTC)


def _disabled(value: str, _now: datetime) -> bool:
    return bool(_number(value) & _DISABLED_IN_AD)


def _expired(value: str, now: datetime) -> bool:
    ticks = _number(value)
    # Tenths of microseconds; what is later than dates can say is later than now.
    return ticks not in _NEVER and ticks // 10 <= (now - _WINDOWS_EPOCH) // timedelta(microseconds=1)


# By attribute: why its value keeps somebody out, and when. The lock of OpenLDAP goes with the next bind that the
# directory lets through, so that whoever is held for a stranger's guesses proves the password once more.
_STATUS_CHECKS: Final[Mapping[str, tuple[str, Callable[[str, datetime], bool]]]] = {
    "userAccountControl": ("account disabled", _disabled),
    "accountExpires": ("account expired", _expired),
    "pwdAccountLockedTime": ("account locked", lambda _value, _now: True),  # draft-behera-ldap-password-policy-10 5.3.3
    "nsAccountLock": ("account disabled", lambda value, _now: value.casefold() == "true"),  # 389 Directory Server
}
STATUS_ATTRIBUTES: Final = tuple(_STATUS_CHECKS)


def account_refusal(entry: Entry, now: datetime) -> Refusal | None:
    """Return why the directory would let nobody in by this entry, or None where nothing in it says so."""
    for attribute, (reason, keeps_out) in _STATUS_CHECKS.items():
        if any(keeps_out(value, now) for value in text_values(entry, attribute)):
            return Refusal(reason, f"{attribute} of {entry.dn}"[:300], counts_as_failure=False)
    return None


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return 0
