"""Keeps the metadata of SAML identity providers fresh where it has an address, and warns before certificates end.

One worker does it at a time: whoever moves ``refresh_at`` first fetches. What cannot be used leaves what is there,
which counts until its own validUntil. Source: SAML 2.0 Metadata, section 2.3 (validUntil, cacheDuration).
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
_SOONEST, _LATEST, _USUAL = timedelta(minutes=5), timedelta(days=1), timedelta(hours=6)
_RETRY = timedelta(minutes=5)
_WARN_BEFORE = timedelta(days=30)
_LONGEST_ERROR = 1000


@dataclass(frozen=True, slots=True)
class UpcomingExpiry:
    """A certificate, or the metadata itself, that ends soon or has ended."""

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
    """Fetches what is due."""

    store: Store
    fetcher: Fetcher
    audit: AuditLog
    single_use: SingleUse
    now: Callable[[], datetime]
    random: Random

    def run(self) -> int:
        """Refresh every provider whose time has come, and warn of what ends; return how many were asked. Never raises.

        An outage of the store ends a run; the next one takes up what was left.
        """
        asked = 0
        try:
            for row in self._due():
                if self._claim(row):
                    asked += 1
                    self._refresh_safely(row)
            self._warn()
        except ServiceError as error:
            log.warning("metadata was not refreshed: %s", error.log)
        return asked

    def _refresh_safely(self, row: Row[Any]) -> None:
        try:
            self.refresh(row)
        except ServiceError:
            raise
        except Exception:  # one provider's metadata is not in the way of the others'
            log.exception("metadata of %s in account %s was not refreshed", row.name, row.account_id)

    def refresh(self, row: Row[Any]) -> str:
        """Fetch one provider's metadata and keep it; return what was wrong, or nothing."""
        arn = iam_arn(row.account_id, "saml-provider/", row.name, "")
        try:
            text, found = self._fetch(row)
        except (FetchError, InvalidMetadata, UnicodeDecodeError) as error:
            wrong = str(error)[:_LONGEST_ERROR]
            log.warning("metadata of %s was not refreshed: %a", arn, wrong)
            with self.store.write(bump_revision=False) as tx:
                tx.execute(update(saml_provider).where(_COLUMNS.id == row.id).values(refresh_error=wrong))
            return wrong
        self._keep(row, arn, text, found)
        return ""

    def _fetch(self, row: Row[Any]) -> tuple[str, IdpMetadata]:
        """Return new metadata of the same identity provider."""
        text = self.fetcher.get(row.metadata_url).decode()
        found = read_metadata(text.encode(), now=self.now())
        if found.entity_id != parse_metadata(row.metadata.encode()).entity_id:
            raise InvalidMetadata(f"it is of another identity provider: {found.entity_id[:200]}")
        return text, found

    def _due(self) -> list[Row[Any]]:
        now = to_milliseconds(self.now())
        with self.store.read() as tx:
            due = (_COLUMNS.refresh_at <= now, _COLUMNS.metadata_url.is_not(None))
            return list(tx.execute(select(saml_provider).where(*due)).all())

    def _claim(self, row: Row[Any]) -> bool:
        mine = (_COLUMNS.id == row.id, _COLUMNS.refresh_at == row.refresh_at)
        later = to_milliseconds(self.now() + _RETRY)
        with self.store.write(bump_revision=False) as tx:
            return bool(tx.execute(update(saml_provider).where(*mine).values(refresh_at=later)).rowcount)

    def _keep(self, row: Row[Any], arn: str, text: str, found: IdpMetadata) -> None:
        now = self.now()
        changed = text != row.metadata
        values: dict[str, object] = {
            "refresh_at": to_milliseconds(now + refresh_interval(found, now)),
            "refresh_error": None,
        }
        record = None
        if changed:
            until = found.valid_until
            values |= {"metadata": text, "valid_until": to_milliseconds(until) if until else None}
            values["updated"] = to_milliseconds(now)
            record = self._record(row, arn, found)
            self.audit.check()
        # Only over what was there when the fetch began: an administrator may have been quicker.
        same = (_COLUMNS.id == row.id, _COLUMNS.metadata_url == row.metadata_url, _COLUMNS.metadata == row.metadata)
        with self.store.write(bump_revision=changed) as tx:
            kept = tx.execute(update(saml_provider).where(*same).values(values)).rowcount
            if kept and record is not None:
                store_record(tx, record)
        if kept and record is not None:
            self.audit.append(record)

    def _record(self, row: Row[Any], arn: str, found: IdpMetadata) -> Record:
        certificates = [one.fingerprint for one in found.certificates]
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
        """Log what ends within thirty days, once a day and once for all workers."""
        now = self.now()
        with self.store.read() as tx:
            endings = list(upcoming_expiries(tx, now))
        tomorrow = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        for one in endings:
            told = f"{one.provider}|{one.what}|{iso_date(now)}"
            if self.single_use.consume("saml-warning", told, tomorrow, now):
                log.warning("%s", one.sentence(now))


def upcoming_expiries(tx: Connection, now: datetime) -> Iterator[UpcomingExpiry]:
    """Yield what ends within thirty days: certificates that sign for identity providers, and metadata."""
    for row in tx.execute(select(saml_provider).order_by(_COLUMNS.account_id, _COLUMNS.name_key)):
        arn = iam_arn(row.account_id, "saml-provider/", row.name, "")
        try:
            found = parse_metadata(row.metadata.encode())
        except InvalidMetadata:
            continue
        for one in found.certificates:
            if one.until - now <= _WARN_BEFORE:
                yield UpcomingExpiry(arn, f"the certificate {one.fingerprint[:16]} ({one.subject})", one.until)
        if found.valid_until is not None and found.valid_until - now <= _WARN_BEFORE and row.refresh_at is None:
            yield UpcomingExpiry(arn, "its metadata", found.valid_until)


def refresh_interval(found: IdpMetadata, now: datetime) -> timedelta:
    """Return how long metadata may be kept: as it says, and at most half of the time until it is over."""
    wanted = _USUAL if found.cache_duration is None else timedelta(seconds=found.cache_duration)
    if found.valid_until is not None:
        wanted = min(wanted, (found.valid_until - now) / 2)
    return min(max(wanted, _SOONEST), _LATEST)
