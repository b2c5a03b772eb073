"""What somebody should look after in some accounts: each concern with the thing that it is about.

Source: IAM User Guide, "Security best practices in IAM" and "Getting credential reports" (ninety days).
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from sqlalchemy import Connection, and_, exists, or_, select

from iam.clock import to_milliseconds
from iam.credentials.person_id import IAM_PREFIX
from iam.inventory.credentials import Key, keys
from iam.inventory.providers import SamlProvider, all_saml_providers
from iam.inventory.roles import all_roles
from iam.policy.lint import Level
from iam.store.schema import access_key, account, login_profile, mfa_device, root_login, second_factor, user

OLD_KEY_AGE: Final = timedelta(days=90)
EXPIRY_NOTICE: Final = timedelta(days=30)
_SERIOUS_LEVELS: Final = frozenset({Level.ERROR, Level.SECURITY_WARNING})


class FindingKind(StrEnum):
    """What is wrong; in this order it is told."""

    ROOT_WITHOUT_FACTOR = "root without a second factor"
    ROOT_WITH_KEY = "root with an access key"
    TRUST_QUESTIONABLE = "questionable trust policy"
    USER_WITHOUT_FACTOR = "user with a password and without a second factor"
    CERTIFICATE_ENDS = "certificate of a SAML provider ends"
    METADATA_ENDS = "metadata of a SAML provider ends"
    METADATA_FAILED = "metadata of a SAML provider cannot be had"
    ROLE_ABANDONED = "role that nobody can assume"
    KEY_UNUSED = "access key that nobody uses"
    KEY_OLD = "old access key"


@dataclass(frozen=True, slots=True)
class SecurityFinding:
    """One thing to look after.

    ``name`` is that of the user, role or provider, empty for the account's root; ``detail`` what is more to say: the id
    of a key, a finding, a certificate's subject, an error. ``since`` or until when, in milliseconds.
    """

    kind: FindingKind
    account_id: str
    name: str = ""
    detail: str = ""
    since: int | None = None

    @property
    def text(self) -> str:
        """Return what a search looks through."""
        return f"{self.kind} {self.account_id} {self.name} {self.detail}"


def concerns(
    tx: Connection, accounts: tuple[str, ...], directories: Collection[str], now: datetime
) -> tuple[SecurityFinding, ...]:
    """Return all concerns about some accounts, the gravest first; ``directories`` are the names of those there are."""
    found = (
        *_roots(tx, accounts),
        *_users(tx, accounts),
        *_keys(tx, accounts, now),
        *_roles(tx, accounts, directories),
        *(one for provider in all_saml_providers(tx, accounts) for one in _provider_findings(provider, now)),
    )
    order = list(FindingKind)
    return tuple(sorted(found, key=lambda one: (order.index(one.kind), one.account_id, one.name.lower(), one.detail)))


def _roots(tx: Connection, accounts: tuple[str, ...]) -> Iterator[SecurityFinding]:
    """Yield the roots that can prove themselves by one thing alone, and each key of a root."""
    device = exists().where(
        mfa_device.c.account_id == account.c.id, mfa_device.c.root.is_(True), mfa_device.c.enabled.is_not(None)
    )
    own = exists().where(second_factor.c.person == IAM_PREFIX + account.c.id)
    key = exists().where(access_key.c.account_id == account.c.id, access_key.c.user_id.is_(None))
    password = exists().where(root_login.c.account_id == account.c.id)
    bare = select(account.c.id).where(account.c.id.in_(accounts), ~device, ~own, or_(key, password))
    for account_id in tx.scalars(bare).all():
        yield SecurityFinding(FindingKind.ROOT_WITHOUT_FACTOR, account_id)
    for one in keys(tx, access_key.c.account_id.in_(accounts), access_key.c.user_id.is_(None)):
        yield SecurityFinding(FindingKind.ROOT_WITH_KEY, one.account_id, "", one.id, one.created)


def _users(tx: Connection, accounts: tuple[str, ...]) -> Iterator[SecurityFinding]:
    device = exists().where(mfa_device.c.user_id == user.c.id, mfa_device.c.enabled.is_not(None))
    own = exists().where(second_factor.c.person == IAM_PREFIX + user.c.id)
    query = select(user.c.account_id, user.c.name).join(login_profile).where(user.c.account_id.in_(accounts))
    for account_id, name in tx.execute(query.where(~device, ~own)):
        yield SecurityFinding(FindingKind.USER_WITHOUT_FACTOR, account_id, name)


def _keys(tx: Connection, accounts: tuple[str, ...], now: datetime) -> Iterator[SecurityFinding]:
    """Yield the active keys of users that nobody has used for ninety days, and the others that are so old."""
    limit, table = to_milliseconds(now - OLD_KEY_AGE), access_key.c
    mine = and_(table.account_id.in_(accounts), table.user_id.is_not(None), table.active.is_(True))
    for one in keys(tx, mine, table.created < limit):
        unused = (one.last_used or one.created) < limit
        yield _key_finding(FindingKind.KEY_UNUSED if unused else FindingKind.KEY_OLD, one)


def _key_finding(kind: FindingKind, key: Key) -> SecurityFinding:
    since = key.last_used if kind is FindingKind.KEY_UNUSED else key.created
    return SecurityFinding(kind, key.account_id, key.owner or "", key.id, since)


def _roles(tx: Connection, accounts: tuple[str, ...], directories: Collection[str]) -> Iterator[SecurityFinding]:
    for role in all_roles(tx, accounts, directories):
        if role.unassumable:
            yield SecurityFinding(FindingKind.ROLE_ABANDONED, role.account_id, role.name)
        for finding in role.findings:
            if finding.level in _SERIOUS_LEVELS:
                told = f"{finding.code} {finding.location}: {finding.text}"
                yield SecurityFinding(FindingKind.TRUST_QUESTIONABLE, role.account_id, role.name, told)


def _provider_findings(provider: SamlProvider, now: datetime) -> Iterator[SecurityFinding]:
    about = provider.account_id, provider.name
    for one in provider.certificates:
        if one.until - now <= EXPIRY_NOTICE:
            told = f"{one.fingerprint[:16]} ({one.subject})"
            yield SecurityFinding(FindingKind.CERTIFICATE_ENDS, *about, told, to_milliseconds(one.until))
    if provider.valid_until is not None and provider.valid_until - now <= EXPIRY_NOTICE and provider.refresh_at is None:
        yield SecurityFinding(FindingKind.METADATA_ENDS, *about, "", to_milliseconds(provider.valid_until))
    if provider.error:
        yield SecurityFinding(FindingKind.METADATA_FAILED, *about, provider.error, provider.updated)
