"""Refreshes the metadata of SAML identity providers that have a metadata URL, and warns before certificates expire.

One worker fetches for all: the one that updates ``refresh_at``. If that fails, the stored metadata is used until its
own validUntil (THREATS I10). Source: SAML 2.0 Metadata, section 2.3 (validUntil, cacheDuration).
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, select, update

from broker.audit import operator
from broker.audit.envelope import Record
from broker.audit.log import AuditLog
from broker.audit.transaction import store_record
from broker.runtime.fetch import Fetcher, FetchError
from iam.arn import Random, iam_arn
from iam.clock import iso_date, to_milliseconds
from iam.errors import ServiceError
from iam.saml.metadata import IdpMetadata, InvalidMetadata, parse_metadata, read_metadata
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
    now: Callable[[], datetime]
    random: Random

    def run(self) -> int:
        """Refresh every provider that is due, and log upcoming expiries; return how many were fetched. Never raises.

        An outage of the store ends a run; the next one continues.
        """
        fetched = 0
        try:
            for row in self._due():
                if self._claim(row):
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
        except (FetchError, InvalidMetadata, UnicodeDecodeError) as error:
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
        text = self.fetcher.get(row.metadata_url).decode()
        metadata = read_metadata(text.encode(), now=self.now())
        if metadata.entity_id != parse_metadata(row.metadata.encode()).entity_id:
            raise InvalidMetadata(f"it is of another identity provider: {metadata.entity_id[:200]}")
        return text, metadata

    def _due(self) -> list[Row[Any]]:
        now = to_milliseconds(self.now())
        with self.store.read() as tx:
            due = (_COLUMNS.refresh_at <= now, _COLUMNS.metadata_url.is_not(None))
            return list(tx.execute(select(saml_provider).where(*due)).all())

    def _claim(self, row: Row[Any]) -> bool:
        """Take a provider for this worker, in one conditional update; return whether no other worker was first."""
        unchanged = (_COLUMNS.id == row.id, _COLUMNS.refresh_at == row.refresh_at)
        later = to_milliseconds(self.now() + _RETRY)
        with self.store.write(bump_revision=False) as tx:
            return bool(tx.execute(update(saml_provider).where(*unchanged).values(refresh_at=later)).rowcount)

    def _save(self, row: Row[Any], arn: str, text: str, metadata: IdpMetadata) -> None:
        now = self.now()
        changed = text != row.metadata
        values: dict[str, object] = {
            "refresh_at": to_milliseconds(now + refresh_interval(metadata, now)),
            "refresh_error": None,
        }
        record = None
        if changed:
            until = metadata.valid_until
            values |= {"metadata": text, "valid_until": to_milliseconds(until) if until else None}
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
        with self.store.read() as tx:
            expiries = list(upcoming_expiries(tx, now))
        tomorrow = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        for expiry in expiries:
            warning = f"{expiry.provider}|{expiry.what}|{iso_date(now)}"
            if self.single_use.consume("saml-warning", warning, tomorrow, now):
                log.warning("%s", expiry.sentence(now))


def upcoming_expiries(tx: Connection, now: datetime) -> Iterator[UpcomingExpiry]:
    """Yield the signing certificates and metadata of identity providers that expire within thirty days."""
    for row in tx.execute(select(saml_provider).order_by(_COLUMNS.account_id, _COLUMNS.name_key)):
        arn = iam_arn(row.account_id, "saml-provider/", row.name, "")
        try:
            metadata = parse_metadata(row.metadata.encode())
        except InvalidMetadata:
            continue
        for certificate in metadata.certificates:
            if certificate.until - now <= _WARN_BEFORE:
                name = f"the certificate {certificate.fingerprint[:16]} ({certificate.subject})"
                yield UpcomingExpiry(arn, name, certificate.until)
        # Metadata with a refresh will be replaced before it expires.
        if metadata.valid_until is not None and metadata.valid_until - now <= _WARN_BEFORE and row.refresh_at is None:
            yield UpcomingExpiry(arn, "its metadata", metadata.valid_until)


def refresh_interval(metadata: IdpMetadata, now: datetime) -> timedelta:
    """Return the time until the next refresh: the cacheDuration, and at most half of the time until it expires."""
    interval = _DEFAULT_INTERVAL if metadata.cache_duration is None else timedelta(seconds=metadata.cache_duration)
    if metadata.valid_until is not None:
        interval = min(interval, (metadata.valid_until - now) / 2)
    return min(max(interval, _MIN_INTERVAL), _MAX_INTERVAL)
