"""Refreshes the metadata of SAML identity providers that have a metadata URL, and warns before certificates expire.

One worker fetches for all: the one that updates ``refresh_at``. If that fails, the stored metadata is used until its
own validUntil (THREATS I10). Source: SAML 2.0 Metadata, section 2.3 (validUntil, cacheDuration).
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, Select, select, update

from broker.audit import operator
from broker.audit.envelope import Record
from broker.audit.log import AuditLog
from broker.audit.transaction import store_record
from broker.runtime.fetch import Fetcher, FetchError
from iam.arn import Random, iam_arn
from iam.clock import from_milliseconds, iso_date, to_milliseconds
from iam.errors import LimitExceeded, ServiceError
from iam.limits import Limits
from iam.operations.federation.saml_providers import require_room
from iam.operations.required_permission import RunInThreadPool
from iam.saml.metadata import IdpMetadata, InvalidMetadata, read_metadata
from iam.saml.stored_metadata import load_certificates, metadata_columns
from iam.store.schema import saml_provider
from iam.store.store import Store
from sts.store.single_use import SingleUse

log = logging.getLogger(__name__)

_COLUMNS = saml_provider.c
# Limits of the provider's own cacheDuration: at least minutes, so that refreshes stay cheap, and at most a day, so that
# a withdrawn key does not stay trusted.
_MIN_INTERVAL, _MAX_INTERVAL, _DEFAULT_INTERVAL = timedelta(minutes=5), timedelta(days=1), timedelta(hours=6)
_RETRY = timedelta(minutes=5)
_WARN_BEFORE = timedelta(days=30)
_MAX_ERROR = 1000  # characters
_MOST_FETCHES = 20  # in one run; the others are due in the next one
_MOST_WARNINGS = 100  # providers that are named in the log in one day


@dataclass(frozen=True, slots=True)
class UpcomingExpiry:
    """A certificate, or the metadata itself, that expires soon or has expired."""

    provider: str
    what: str
    until: datetime

    def sentence(self, now: datetime) -> str:
        """Return the warning."""
        days = (self.until - now).days
        when = f"ends in {days} days, on" if self.until > now else "has ended on"
        return f"{self.provider}: {self.what} {when} {iso_date(self.until)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataRefresh:
    """Fetches the metadata of providers that are due for a refresh."""

    store: Store
    fetcher: Fetcher
    audit: AuditLog
    single_use: SingleUse
    limits: Limits
    run_in_thread_pool: RunInThreadPool
    now: Callable[[], datetime]
    random: Random

    def run(self) -> int:
        """Refresh every provider that is due, and log upcoming expiries; return how many were fetched. Never raises.

        An outage of the store ends a run; the next one continues.
        """
        fetched = 0
        try:
            for due in self._due():
                row = self._claim(due)
                if row is not None:
                    fetched += 1
                    self._refresh_safely(row)
            self._warn()
        except ServiceError as error:
            log.warning("metadata was not refreshed: %s", error.log)
        return fetched

    def _refresh_safely(self, row: Row[Any]) -> None:
        try:
            self.refresh(row)
        except ServiceError:
            raise
        except Exception:  # one provider's metadata must not stop the others'
            log.exception("metadata of %s in account %s was not refreshed", row.name, row.account_id)

    def refresh(self, row: Row[Any]) -> str:
        """Fetch one provider's metadata and store it; return the error message, or an empty text."""
        arn = iam_arn(row.account_id, "saml-provider/", row.name, "")
        try:
            text, metadata = self._fetch(row)
        except (FetchError, InvalidMetadata, LimitExceeded, UnicodeDecodeError) as error:
            message = str(error)[:_MAX_ERROR]
            log.warning("metadata of %s was not refreshed: %a", arn, message)
            with self.store.write(bump_revision=False) as tx:
                tx.execute(update(saml_provider).where(_COLUMNS.id == row.id).values(refresh_error=message))
            return message
        self._save(row, arn, text, metadata)
        return ""

    def _fetch(self, row: Row[Any]) -> tuple[str, IdpMetadata]:
        """Return the new metadata; raise InvalidMetadata for that of another identity provider.

        Whoever controls the URL must not be able to replace the provider that an administrator registered.
        """
        text = self.fetcher.on_behalf_of(row.account_id).get(row.metadata_url).decode()
        metadata = self.run_in_thread_pool(lambda: read_metadata(text.encode(), now=self.now()))
        if metadata.entity_id != row.entity_id:
            raise InvalidMetadata(f"it is of another identity provider: {metadata.entity_id[:200]}")
        with self.store.read() as tx:
            require_room(tx, row.account_id, text, self.limits, replacing=row.id)
        return text, metadata

    def _due(self) -> list[Row[Any]]:
        now = to_milliseconds(self.now())
        due: Select[Any] = select(_COLUMNS.id, _COLUMNS.refresh_at).where(_COLUMNS.refresh_at <= now)
        with self.store.read() as tx:
            query = due.where(_COLUMNS.metadata_url.is_not(None)).order_by(_COLUMNS.refresh_at).limit(_MOST_FETCHES)
            return list(tx.execute(query).all())

    def _claim(self, due: Row[Any]) -> Row[Any] | None:
        """Take a provider for this worker, in one conditional update; return it, or None if another was first."""
        unchanged = (_COLUMNS.id == due.id, _COLUMNS.refresh_at == due.refresh_at)
        later = to_milliseconds(self.now() + _RETRY)
        with self.store.write(bump_revision=False) as tx:
            if not tx.execute(update(saml_provider).where(*unchanged).values(refresh_at=later)).rowcount:
                return None
            return tx.execute(select(saml_provider).where(_COLUMNS.id == due.id)).one()

    def _save(self, row: Row[Any], arn: str, text: str, metadata: IdpMetadata) -> None:
        now = self.now()
        changed = text != row.metadata
        values: dict[str, object] = {
            "refresh_at": to_milliseconds(now + refresh_interval(metadata, now)),
            "refresh_error": None,
        }
        record = None
        if changed:
            values |= metadata_columns(text, metadata)
            values["updated"] = to_milliseconds(now)
            record = self._record(row, arn, metadata)
            self.audit.check()
        # Only where nothing changed since the fetch began: an administrator may have stored other metadata.
        unchanged = (
            _COLUMNS.id == row.id,
            _COLUMNS.metadata_url == row.metadata_url,
            _COLUMNS.metadata == row.metadata,
        )
        with self.store.write(bump_revision=changed) as tx:
            saved = tx.execute(update(saml_provider).where(*unchanged).values(values)).rowcount
            if saved and record is not None:
                store_record(tx, record)
        if saved and record is not None:
            self.audit.append(record)
            for reason in metadata.dropped:
                log.warning("metadata of %s: not used: %a", arn, reason)

    def _record(self, row: Row[Any], arn: str, metadata: IdpMetadata) -> Record:
        certificates = [certificate.fingerprint for certificate in metadata.certificates]
        parameters = {"sAMLProviderArn": arn, "from": row.metadata_url, "certificates": certificates}
        return operator.operator_record(
            "RefreshSAMLMetadata",
            row.account_id,
            parameters,
            actor=operator.BACKGROUND,
            now=self.now(),
            random=self.random,
        )

    def _warn(self) -> None:
        """Log upcoming expiries once a day, by one of the workers."""
        now = self.now()
        tomorrow = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        if not self.single_use.consume("saml-warning", iso_date(now), tomorrow, now):
            return
        with self.store.read() as tx:
            expiries = list(upcoming_expiries(tx, now, most=_MOST_WARNINGS))
        for expiry in expiries:
            log.warning("%s", expiry.sentence(now))


def upcoming_expiries(tx: Connection, now: datetime, most: int | None = None) -> Iterator[UpcomingExpiry]:
    """Yield the signing certificates and metadata of identity providers that expire within thirty days.

    Reads what was stored about the metadata and never the documents; ``most`` is a limit of providers, those first of
    which something ends first.
    """
    soon = to_milliseconds(now + _WARN_BEFORE)
    columns = (_COLUMNS.account_id, _COLUMNS.name, _COLUMNS.certificates, _COLUMNS.valid_until, _COLUMNS.refresh_at)
    ending: Select[Any] = (
        select(*columns).where(_COLUMNS.first_end <= soon).order_by(_COLUMNS.first_end, _COLUMNS.id).limit(most)
    )
    for row in tx.execute(ending):
        yield from _expiries_of(row, soon)


def _expiries_of(row: Row[Any], soon: int) -> Iterator[UpcomingExpiry]:
    arn = iam_arn(row.account_id, "saml-provider/", row.name, "")
    for fingerprint, subject, until in load_certificates(row.certificates):
        if until <= soon:
            yield UpcomingExpiry(arn, f"the certificate {fingerprint[:16]} ({subject})", from_milliseconds(until))
    # Metadata with a refresh will be replaced before it expires.
    if row.valid_until is not None and row.valid_until <= soon and row.refresh_at is None:
        yield UpcomingExpiry(arn, "its metadata", from_milliseconds(row.valid_until))


def refresh_interval(metadata: IdpMetadata, now: datetime) -> timedelta:
    """Return the time until the next refresh: the cacheDuration, and at most half of the time until it expires."""
    interval = _DEFAULT_INTERVAL if metadata.cache_duration is None else timedelta(seconds=metadata.cache_duration)
    if metadata.valid_until is not None:
        interval = min(interval, (metadata.valid_until - now) / 2)
    return min(max(interval, _MIN_INTERVAL), _MAX_INTERVAL)
