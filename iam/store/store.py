"""The durable store: transactions for operations, and for the hot path what it needs, kept in this process.

What is kept is dropped as soon as the revision in the database moves: at once in the worker that made the change, in
the others within the poll. When the revision cannot be read, nothing kept is handed out: a revocation may be missing.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, insert, select, text, update

from iam.errors import ServiceError, ServiceFailure, ServiceUnavailable
from iam.policy import managed
from iam.policy.document import Policy, PolicyKind
from iam.store import migrations, schema
from iam.store.change_signal import ChangeSignal
from iam.store.database import WAIT, is_busy, open_engine, reading_engine, translate_database_errors, writing_engine
from iam.store.records import (
    AccessKey,
    AccountRecord,
    OidcProviderRecord,
    RecordReader,
    Revocations,
    RoleRecord,
    SamlProviderRecord,
    UserRecord,
    managed_document,
    parse_stored_policy,
    trusted_party_name,
)
from iam.store.vault import Vault
from iam.store.write_lock import WriteLock

__all__ = [
    "AccessKey",
    "AccountRecord",
    "Revocations",
    "RoleRecord",
    "SamlProviderRecord",
    "Store",
    "UserRecord",
    "record_key_use",
    "revoke",
]

REVISION_GRACE = 2.0  # seconds that kept records outlive the last look at the revision
MOST_UNKNOWN = 10_000  # unknown key ids and role ARNs that are remembered: asked again, one costs what a known one does
MOST_CACHED = 50_000  # records of each kind
# SQLite says at once that it is busy where it changes its journal; otherwise a try waits for WAIT seconds.
_MIGRATION_TRIES, _MIGRATION_PAUSE = 20, 0.2
_MIGRATION_LOCK = 0x666564676174  # any number; PostgreSQL's advisory locks have numbers for names

K = TypeVar("K")
V = TypeVar("V")


@dataclass(slots=True)
class _Cache:
    """What was read while the database had one revision; a change replaces the whole."""

    revision: int
    keys: dict[str, AccessKey] = field(default_factory=dict)
    unknown_key_ids: set[str] = field(default_factory=set)  # ids that are no key of ours
    unknown_arns: set[str] = field(default_factory=set)  # ARNs that are no role
    users: dict[str, UserRecord] = field(default_factory=dict)
    roles: dict[str, RoleRecord] = field(default_factory=dict)
    role_ids: dict[str, str] = field(default_factory=dict)
    roles_by_party: dict[str, tuple[RoleRecord, ...]] = field(default_factory=dict)
    managed: dict[str, Policy] = field(default_factory=dict)
    saml_providers: dict[str, SamlProviderRecord] = field(default_factory=dict)
    oidc_providers: dict[str, OidcProviderRecord] = field(default_factory=dict)
    accounts: dict[str, AccountRecord] = field(default_factory=dict)
    aliases: dict[str, AccountRecord] = field(default_factory=dict)
    revocations: Revocations | None = None


class Store:
    """One database; ``monotonic`` is a clock in seconds, ``poll`` the most between two looks at the revision.

    Processes that are given the same ``bell`` see each other's changes at once, others within a poll.
    """

    def __init__(
        self,
        url: str,
        vault: Vault,
        *,
        monotonic: Callable[[], float],
        poll: float = 0.5,
        signal_file: Path | None = None,
    ) -> None:
        self.engine: Engine = open_engine(url)
        self._vault = vault
        self._monotonic = monotonic
        self._poll = poll
        self._reading_engine = reading_engine(self.engine)
        self._writing_engine = writing_engine(self.engine)
        sqlite = self.engine.dialect.name == "sqlite"
        self._write_lock = WriteLock(signal_file.with_name("writer.turn") if signal_file else None) if sqlite else None
        self._refresh_lock = threading.Lock()
        self._signal = ChangeSignal(signal_file) if signal_file else None
        self._last_signal = 0
        self._cache = _Cache(revision=-1)
        self._revision_read_at = float("-inf")  # when the revision was last read
        self._revision_tried_at = float("-inf")  # when reading it was last tried
        # What a text means never changes, so parsed policies outlive revisions.
        self._parsed: dict[tuple[str, PolicyKind, str], Policy] = {}

    # --- schema -------------------------------------------------------------------------------------------------------

    def migrate(self) -> None:
        """Bring the database to the present schema; several processes may do so at once, and wait for the first."""
        for last in (*[False] * _MIGRATION_TRIES, True):
            try:
                self._migrate()
            except ServiceFailure as error:
                if last or not is_busy(error):
                    raise
                time.sleep(_MIGRATION_PAUSE)
            else:
                return

    def _migrate(self) -> None:
        with translate_database_errors(ServiceFailure):
            with self.engine.connect() as tx:
                if migrations.is_current(tx):
                    return
            with self._writing_engine.begin() as tx:
                if tx.dialect.name == "postgresql":
                    tx.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _MIGRATION_LOCK})
                if not migrations.is_current(tx):
                    migrations.upgrade(tx)

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()
        if self._write_lock is not None:
            self._write_lock.close()

    # --- transactions -------------------------------------------------------------------------------------------------

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a transaction that reads one snapshot; raise ServiceUnavailable when the database is away."""
        with translate_database_errors(ServiceUnavailable), self._reading_engine.begin() as tx:
            yield tx

    @contextmanager
    def write(self, *, bump_revision: bool = True) -> Iterator[Connection]:
        """Give the one transaction that may write now; commit at the end, roll back on any exception.

        ``revise=False`` is for changes that no kept record shows, such as a count of failures. Raises ServiceFailure
        where the database is away, full or read-only, and ConcurrentModification where another change came first.
        """
        with ExitStack() as stack:
            self._acquire_write_lock(stack)
            stack.enter_context(translate_database_errors(ServiceFailure))
            with self._writing_engine.begin() as tx:
                number = _next_revision(tx, bump_revision=bump_revision)
                yield tx
            if bump_revision:
                self._cache = _Cache(revision=number)
                if self._signal:
                    self._signal.announce(number)
                    self._last_signal = number

    def _acquire_write_lock(self, stack: ExitStack) -> None:
        if self._write_lock is not None and not stack.enter_context(self._write_lock.acquire(WAIT)):
            raise ServiceFailure(
                "The data store is not available now. Try again later.", log="another writer holds the turn"
            )

    def check(self) -> None:
        """Raise ServiceUnavailable where the database does not answer."""
        with self.read() as tx:
            tx.execute(select(schema.revision.c.number)).one()

    # --- revision -----------------------------------------------------------------------------------------------------

    @property
    def generation(self) -> int:
        """Return the revision whose records are kept: who keeps something of its own compares it."""
        return self._cache.revision

    def refresh(self) -> None:
        """Look at the revision, at most once per poll, and drop what was kept when it moved; outages raise nothing."""
        if self._signal and self._signal.last_announced() != self._last_signal:
            self._last_signal = self._signal.last_announced()
            with self._refresh_lock:
                self._read_revision(self._monotonic())
            return
        now = self._monotonic()
        if now - self._revision_tried_at < self._poll and now - self._revision_read_at <= self._poll + REVISION_GRACE:
            return
        # Who knows too little to answer waits for the one that looks, and takes what it finds.
        with self._refresh_lock:
            if self._monotonic() - self._revision_tried_at >= self._poll:
                self._revision_tried_at = now = self._monotonic()
                self._read_revision(now)
                self._revision_tried_at = self._monotonic()

    def _read_revision(self, now: float) -> None:
        try:
            with self.read() as tx:
                number = tx.execute(select(schema.revision.c.number)).scalar_one()
        except ServiceError:
            return
        self._revision_read_at = now
        if number != self._cache.revision:
            self._cache = _Cache(revision=number)

    def _fresh_cache(self) -> _Cache:
        self.refresh()
        if self._monotonic() - self._revision_read_at > self._poll + REVISION_GRACE:
            raise ServiceUnavailable(
                "The data store is not available now. Try again later.", log="the revision is unknown"
            )
        return self._cache

    # --- the hot path -------------------------------------------------------------------------------------------------

    def access_key(self, key_id: str) -> AccessKey | None:
        """Return a long-term access key by its id."""
        kept = self._fresh_cache()
        return self._cached_or_unknown(
            kept.keys, kept.unknown_key_ids, key_id, lambda reader: reader.access_key(key_id)
        )

    def user(self, user_id: str) -> UserRecord | None:
        """Return a user by its unique id."""
        return self._cached_or_loaded(self._fresh_cache().users, user_id, lambda reader: reader.user(user_id))

    def role_by_id(self, role_id: str) -> RoleRecord | None:
        """Return a role by its unique id."""
        return self._cached_or_loaded(self._fresh_cache().roles, role_id, lambda reader: reader.role(role_id))

    def role(self, arn: str) -> RoleRecord | None:
        """Return a role by its ARN."""
        kept = self._fresh_cache()
        role_id = self._cached_or_unknown(kept.role_ids, kept.unknown_arns, arn, lambda reader: reader.role_id(arn))
        return self.role_by_id(role_id) if role_id is not None else None

    def user_by_arn(self, arn: str) -> UserRecord | None:
        """Return a user by its ARN; not kept, for people ask it and requests do not."""
        with self.read() as tx:
            reader = self._reader(tx)
            user_id = reader.user_id(arn)
            return reader.user(user_id) if user_id else None

    def role_by_name(self, account_id: str, name: str) -> RoleRecord | None:
        """Return a role by its name, which the ARNs of its sessions have without its path; not kept either."""
        with self.read() as tx:
            reader = self._reader(tx)
            role_id = reader.role_id_by_name(account_id, name)
            return reader.role(role_id) if role_id else None

    def principals(self, account_id: str) -> Iterator[UserRecord | RoleRecord]:
        """Yield every user and role of an account, by kind and name."""
        with self.read() as tx:
            reader = self._reader(tx)
            for table, read in ((schema.user, reader.user), (schema.role, reader.role)):
                mine = select(table.c.id).where(table.c.account_id == account_id).order_by(table.c.name_key)
                for entity_id in tx.scalars(mine).all():
                    record = read(entity_id)
                    if record is not None:
                        yield record

    def roles_trusting(self, provider: str) -> tuple[RoleRecord, ...]:
        """Return the roles of all accounts that let a party in: ``ldap-provider/corp`` or its ARN, ``account/1…2``.

        What lets every account in is found by ``account/*`` alone.
        """
        name = trusted_party_name(provider)
        kept = self._fresh_cache()
        found = self._cached_or_loaded(
            kept.roles_by_party, name, lambda reader: self._load_roles_trusting(reader, kept, name)
        )
        return found or ()

    def saml_provider(self, arn: str) -> SamlProviderRecord | None:
        """Return a SAML identity provider by its ARN."""
        kept = self._fresh_cache()
        return self._cached_or_unknown(
            kept.saml_providers, kept.unknown_arns, arn, lambda reader: reader.saml_provider(arn)
        )

    def oidc_provider(self, arn: str) -> OidcProviderRecord | None:
        """Return an OpenID Connect provider by its ARN."""
        kept = self._fresh_cache()
        return self._cached_or_unknown(
            kept.oidc_providers, kept.unknown_arns, arn, lambda reader: reader.oidc_provider(arn)
        )

    def managed_policy(self, arn: str) -> Policy | None:
        """Return the default version of a managed policy, AWS's or ours."""
        return self._cached_or_loaded(self._fresh_cache().managed, arn, lambda reader: self._managed(reader.tx, arn))

    def account(self, account_id: str) -> AccountRecord | None:
        """Return an account by its id."""
        table = schema.account.c
        return self._cached_or_loaded(
            self._fresh_cache().accounts, account_id, lambda reader: reader.account(table.id == account_id)
        )

    def account_by_alias(self, alias: str) -> AccountRecord | None:
        """Return an account by its alias."""
        table = schema.account.c
        return self._cached_or_loaded(
            self._fresh_cache().aliases, alias, lambda reader: reader.account(table.alias == alias)
        )

    def revocations(self) -> Revocations:
        """Return every cut-off of sessions."""
        kept = self._fresh_cache()
        if kept.revocations is None:
            with self.read() as tx:
                kept.revocations = self._reader(tx).revocations()
        return kept.revocations

    def _cached_or_loaded(self, kept: dict[K, V], key: K, load: Callable[[RecordReader], V | None]) -> V | None:
        """Return a kept record, or read it.

        The dictionary was chosen before the reading: when a change drops it meanwhile, an old record is kept nowhere.
        """
        found = kept.get(key)
        if found is not None:
            return found
        with self.read() as tx:
            found = load(self._reader(tx))
        if found is not None:
            _put_in_cache(kept, key, found)
        return found

    def _cached_or_unknown(
        self, kept: dict[str, V], unknown: set[str], key: str, load: Callable[[RecordReader], V | None]
    ) -> V | None:
        """Return a kept record, or read it; that there is none is remembered as well, so that it costs no more."""
        if key in unknown:
            return None
        found = self._cached_or_loaded(kept, key, load)
        if found is None:
            if len(unknown) >= MOST_UNKNOWN:
                unknown.clear()
            unknown.add(key)
        return found

    def _reader(self, tx: Connection) -> RecordReader:
        return RecordReader(tx, self._vault, self._parse, self._managed)

    def _parse(self, source: str, kind: PolicyKind, label: str) -> Policy:
        key = (source, kind, label)
        found = self._parsed.get(key)
        if found is None:
            found = parse_stored_policy(source, kind, label)
            _put_in_cache(self._parsed, key, found)
        return found

    def _managed(self, tx: Connection, arn: str) -> Policy | None:
        shipped = managed.load().get(arn)
        if shipped is not None:
            return shipped.policy
        document = managed_document(tx, arn)
        return self._parse(document, PolicyKind.IDENTITY, arn) if document is not None else None

    def _load_roles_trusting(self, reader: RecordReader, kept: _Cache, name: str) -> tuple[RoleRecord, ...]:
        role_ids = reader.roles_trusting(name)
        known = {role_id: kept.roles[role_id] for role_id in role_ids if role_id in kept.roles}
        for record in reader.roles([role_id for role_id in role_ids if role_id not in known]):
            known[record.id] = record
            _put_in_cache(kept.roles, record.id, record)
        return tuple(known[role_id] for role_id in role_ids if role_id in known)


_eviction_lock = threading.Lock()


def _put_in_cache(kept: dict[K, V], key: K, value: V) -> None:
    """Keep a value, at the cost of the oldest when there are too many."""
    with _eviction_lock:
        kept[key] = value
        if len(kept) > MOST_CACHED:
            del kept[next(iter(kept))]


def _next_revision(tx: Connection, *, bump_revision: bool) -> int:
    """Return the revision after this; on PostgreSQL its row's lock lets one writer in at a time, as SQLite does."""
    if not bump_revision and tx.dialect.name == "sqlite":
        return 0  # nobody asks for it, and the turn is taken
    if bump_revision:
        number = tx.execute(
            update(schema.revision).values(number=schema.revision.c.number + 1).returning(schema.revision.c.number)
        )
    else:
        number = tx.execute(select(schema.revision.c.number).with_for_update())
    return int(number.scalar_one())


def revoke(tx: Connection, kind: str, subject: str, before_ms: int, now_ms: int) -> None:
    """Refuse the sessions of a subject (session | person | role | account) that were issued at or before a moment."""
    table = schema.revocation.c
    mine = (table.kind == kind, table.subject == subject)
    known = tx.execute(select(table.before).where(*mine)).scalar()
    if known is None:
        tx.execute(insert(schema.revocation).values(kind=kind, subject=subject, before=before_ms, created=now_ms))
    elif known < before_ms:  # a cut-off never moves back
        tx.execute(update(schema.revocation).where(*mine).values(before=before_ms))


def record_key_use(tx: Connection, key_id: str, at_ms: int, service: str, region: str) -> None:
    """Write down a key's last use; no kept record shows it, so ``write(revise=False)`` is enough."""
    table = schema.access_key.c
    later = (table.last_used.is_(None)) | (table.last_used < at_ms)
    values = {"last_used": at_ms, "last_used_service": service, "last_used_region": region}
    tx.execute(update(schema.access_key).where(table.id == key_id, later).values(values))
