"""Security findings in several accounts, each with the entity concerned.

Source: IAM User Guide, "Security best practices in IAM" and "Getting credential reports" (ninety days).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from sqlalchemy import Connection, and_, exists, or_, select

from iam.clock import to_milliseconds
from iam.credentials.person_id import IAM_PREFIX
from iam.inventory.credentials import Key, keys
from iam.inventory.known_providers import DirectoryAccounts
from iam.inventory.providers import SamlProvider, saml_providers_to_mend
from iam.inventory.roles import all_roles
from iam.policy.lint.findings import Level
from iam.store.schema import access_key, account, login_profile, mfa_device, root_login, second_factor, user

OLD_KEY_AGE: Final = timedelta(days=90)
EXPIRY_NOTICE: Final = timedelta(days=30)
_SERIOUS_LEVELS: Final = frozenset({Level.ERROR, Level.SECURITY_WARNING})


class FindingKind(StrEnum):
    """The kinds of findings, in the order in which they are listed."""

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
    """A security finding.

    ``name`` is the user, role or provider, empty for the account's root; ``detail`` is the id of a key, a lint finding,
    a certificate or an error. ``since`` is when it began, or for expiry when it expires, in milliseconds.
    """

    kind: FindingKind
    account_id: str
    name: str = ""
    detail: str = ""
    since: int | None = None

    @property
    def text(self) -> str:
        """Return the text that a search covers."""
        return f"{self.kind} {self.account_id} {self.name} {self.detail}"


def concerns(
    tx: Connection, accounts: tuple[str, ...], directories: DirectoryAccounts, now: datetime
) -> tuple[SecurityFinding, ...]:
    """Return all findings in several accounts, most severe first; ``directories`` are the configured directories."""
    findings = (
        *_roots(tx, accounts),
        *_users(tx, accounts),
        *_keys(tx, accounts, now),
        *_roles(tx, accounts, directories),
        *_saml_providers(tx, accounts, now),
    )
    order = list(FindingKind)
    return tuple(
        sorted(findings, key=lambda item: (order.index(item.kind), item.account_id, item.name.lower(), item.detail))
    )


def _roots(tx: Connection, accounts: tuple[str, ...]) -> Iterator[SecurityFinding]:
    """Yield the roots that can sign in without a second factor, and each access key of a root."""
    device = exists().where(
        mfa_device.c.account_id == account.c.id, mfa_device.c.root.is_(True), mfa_device.c.enabled.is_not(None)
    )
    own = exists().where(second_factor.c.person == IAM_PREFIX + account.c.id)
    key = exists().where(access_key.c.account_id == account.c.id, access_key.c.user_id.is_(None))
    password = exists().where(root_login.c.account_id == account.c.id)
    without_factor = select(account.c.id).where(account.c.id.in_(accounts), ~device, ~own, or_(key, password))
    for account_id in tx.scalars(without_factor).all():
        yield SecurityFinding(FindingKind.ROOT_WITHOUT_FACTOR, account_id)
    for root_key in keys(tx, access_key.c.account_id.in_(accounts), access_key.c.user_id.is_(None)):
        yield SecurityFinding(FindingKind.ROOT_WITH_KEY, root_key.account_id, "", root_key.id, root_key.created)


def _users(tx: Connection, accounts: tuple[str, ...]) -> Iterator[SecurityFinding]:
    device = exists().where(mfa_device.c.user_id == user.c.id, mfa_device.c.enabled.is_not(None))
    own = exists().where(second_factor.c.person == IAM_PREFIX + user.c.id)
    query = select(user.c.account_id, user.c.name).join(login_profile).where(user.c.account_id.in_(accounts))
    for account_id, name in tx.execute(query.where(~device, ~own)):
        yield SecurityFinding(FindingKind.USER_WITHOUT_FACTOR, account_id, name)


def _keys(tx: Connection, accounts: tuple[str, ...], now: datetime) -> Iterator[SecurityFinding]:
    """Yield the active keys of users that were not used for 90 days, and other keys older than 90 days."""
    limit, table = to_milliseconds(now - OLD_KEY_AGE), access_key.c
    active = and_(table.account_id.in_(accounts), table.user_id.is_not(None), table.active.is_(True))
    for key in keys(tx, active, table.created < limit):
        unused = (key.last_used or key.created) < limit
        yield _key_finding(FindingKind.KEY_UNUSED if unused else FindingKind.KEY_OLD, key)


def _key_finding(kind: FindingKind, key: Key) -> SecurityFinding:
    since = key.last_used if kind is FindingKind.KEY_UNUSED else key.created
    return SecurityFinding(kind, key.account_id, key.owner or "", key.id, since)


def _roles(tx: Connection, accounts: tuple[str, ...], directories: DirectoryAccounts) -> Iterator[SecurityFinding]:
    for role in all_roles(tx, accounts, directories):
        if role.unassumable:
            yield SecurityFinding(FindingKind.ROLE_ABANDONED, role.account_id, role.name)
        for finding in role.findings:
            if finding.level in _SERIOUS_LEVELS:
                detail = f"{finding.code} {finding.location}: {finding.text}"
                yield SecurityFinding(FindingKind.TRUST_QUESTIONABLE, role.account_id, role.name, detail)


def _saml_providers(tx: Connection, accounts: tuple[str, ...], now: datetime) -> Iterator[SecurityFinding]:
    for provider in saml_providers_to_mend(tx, accounts, now + EXPIRY_NOTICE):
        yield from _provider_findings(provider, now)


def _provider_findings(provider: SamlProvider, now: datetime) -> Iterator[SecurityFinding]:
    entity = provider.account_id, provider.name
    for certificate in provider.certificates:
        if certificate.until - now <= EXPIRY_NOTICE:
            detail = f"{certificate.fingerprint[:16]} ({certificate.subject})"
            yield SecurityFinding(FindingKind.CERTIFICATE_ENDS, *entity, detail, to_milliseconds(certificate.until))
    if provider.valid_until is not None and provider.valid_until - now <= EXPIRY_NOTICE and provider.refresh_at is None:
        yield SecurityFinding(FindingKind.METADATA_ENDS, *entity, "", to_milliseconds(provider.valid_until))
    if provider.error:
        yield SecurityFinding(FindingKind.METADATA_FAILED, *entity, provider.error, provider.updated)
