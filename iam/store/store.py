"""The store: transactions for operations, and cached records for request handling.

The cache is dropped when the revision in the database changes: immediately in the process that made the change, in
others within the poll interval. If the revision cannot be read, cached records are not used: a revocation could be
missing.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from sqlalchemy import URL, Connection, Engine, func, select, text, update

from iam.errors import ServiceError, ServiceFailure, ServiceUnavailable
from iam.policy import managed
from iam.policy.document import Policy, PolicyKind
from iam.policy.policy_set import PolicySet
from iam.revocation import RevocationSnapshot
from iam.store import migrations, schema
from iam.store.change_signal import ChangeSignal
from iam.store.database import WAIT, is_busy, open_engine, reading_engine, translate_database_errors, writing_engine
from iam.store.record_reader import RecordReader, managed_document, parse_stored_policy
from iam.store.records import (
    AccessKey,
    AccountRecord,
    OidcProviderRecord,
    RoleRecord,
    SamlProviderRecord,
    UserRecord,
    trusted_party_name,
)
from iam.store.revocation import read_generations
from iam.store.vault import Vault
from iam.store.write_lock import WriteLock

__all__ = [
    "AccessKey",
    "AccountRecord",
    "RoleRecord",
    "SamlProviderRecord",
    "Store",
    "UserRecord",
    "found_revision",
    "record_key_use",
]

REVISION_GRACE = 2.0  # seconds after the poll interval for which cached records are used without a revision check
# Unknown key ids and ARNs that are cached, so that repeated requests with them cost no query and take the same time.
MOST_UNKNOWN = 10_000
MOST_CACHED = 50_000  # records of each kind
# SQLite fails at once with SQLITE_BUSY while the journal mode changes; any other try waits for WAIT seconds.
_MIGRATION_TRIES, _MIGRATION_PAUSE = 20, 0.2
_MIGRATION_LOCK = 0x666564676174  # PostgreSQL's advisory locks are identified by a number; this one is arbitrary

K = TypeVar("K")
V = TypeVar("V")


@dataclass(slots=True)
class _Cache:
    """The records read at one revision of the database; a change replaces the whole cache."""

    revision: int
    keys: dict[str, AccessKey] = field(default_factory=dict)
    unknown_key_ids: set[str] = field(default_factory=set)  # ids of no existing key
    unknown_arns: set[str] = field(default_factory=set)  # ARNs of no existing role or provider
    users: dict[str, UserRecord] = field(default_factory=dict)
    roles: dict[str, RoleRecord] = field(default_factory=dict)
    role_ids: dict[str, str] = field(default_factory=dict)
    roles_by_party: dict[tuple[str, frozenset[str] | None], tuple[RoleRecord, ...]] = field(default_factory=dict)
    managed: dict[str, Policy] = field(default_factory=dict)
    saml_providers: dict[str, SamlProviderRecord] = field(default_factory=dict)
    oidc_providers: dict[str, OidcProviderRecord] = field(default_factory=dict)
    resource_policies: dict[str, PolicySet] = field(default_factory=dict)  # by resource/bucket
    unprotected: set[str] = field(default_factory=set)  # resources and buckets without a policy
    accounts: dict[str, AccountRecord] = field(default_factory=dict)
    aliases: dict[str, AccountRecord] = field(default_factory=dict)
    generations: dict[str, int] = field(default_factory=dict)  # by scope; 0: without a row


@dataclass(frozen=True, slots=True)
class _TransactionView:
    """What the store shows inside ``reading_from``: the transaction, and records read through it."""

    store: "Store"
    tx: Connection
    cache: _Cache


# Of this greenlet or thread alone; a context variable, because what decides reads the store in many places.
_view: ContextVar[_TransactionView | None] = ContextVar("transaction view", default=None)
_FOUND_REVISION = "fedgate_found_revision"  # an execution option of a write transaction's connection


class Store:
    """A database; ``monotonic`` is a clock in seconds, ``poll`` the interval between reads of the revision.

    Processes with the same ``signal_file`` see each other's changes at once, others within a poll interval.
    """

    def __init__(
        self,
        url: str | URL,
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
        # PostgreSQL makes writers of all processes wait in turn. Those of this one wait here: a writer that waits there
        # holds a connection, and with all connections waiting nobody could read.
        sqlite = self.engine.dialect.name == "sqlite"
        self._write_lock = WriteLock(signal_file.with_name("writer.turn") if signal_file and sqlite else None)
        self._refresh_lock = threading.Lock()
        self._signal = ChangeSignal(signal_file) if signal_file else None
        self._last_signal = 0
        self._cache = _Cache(revision=-1)
        self._revision_read_at = float("-inf")  # when the revision was last read
        self._revision_tried_at = float("-inf")  # when reading it was last tried
        # The meaning of a policy text never changes, so parsed policies are kept across revisions.
        self._parsed: dict[tuple[str, PolicyKind, str], Policy] = {}

    # --- schema -------------------------------------------------------------------------------------------------------

    def migrate(self) -> None:
        """Upgrade the database to the current schema; simultaneous processes wait for the first one."""
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
                # Checked again under the lock: another process may have upgraded while this one waited.
                if not migrations.is_current(tx):
                    migrations.upgrade(tx)

    def close(self) -> None:
        """Close all connections and the lock file."""
        self.engine.dispose()
        self._write_lock.close()

    # --- transactions -------------------------------------------------------------------------------------------------

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a read transaction on one snapshot; raise ServiceUnavailable if the database is unreachable."""
        view = self._current_view()
        if view is not None:
            yield view.tx
            return
        with translate_database_errors(ServiceUnavailable), self._reading_engine.begin() as tx:
            yield tx

    @contextmanager
    def write(self, *, bump_revision: bool = True) -> Iterator[Connection]:
        """Open the write transaction, one at a time; commit at the end, roll back on any exception.

        Use ``bump_revision=False`` for changes that no cached record contains, such as failed attempts. Raises
        ServiceFailure if the database is unreachable, full or read-only, ConcurrentModification if another change came
        first.
        """
        with ExitStack() as stack:
            self._acquire_write_lock(stack)
            stack.enter_context(translate_database_errors(ServiceFailure))
            with self._writing_engine.begin() as tx:
                number = _next_revision(tx, bump_revision=bump_revision)
                if number:
                    tx.execution_options(**{_FOUND_REVISION: number - bump_revision})
                yield tx
            if bump_revision:
                self._cache = _Cache(revision=number)
                if self._signal:
                    self._signal.announce(number)
                    self._last_signal = number

    def _acquire_write_lock(self, stack: ExitStack) -> None:
        if not stack.enter_context(self._write_lock.acquire(WAIT)):
            raise ServiceFailure(
                "The data store is not available now. Try again later.", log="another writer holds the write lock"
            )

    @contextmanager
    def reading_from(self, tx: Connection) -> Iterator[None]:
        """Read records through a write transaction: they are as it found them, and cannot change until it ends.

        A cached record may be older than the transaction, which waited its turn behind other changes. To read through a
        second connection would not do: waiting writers may hold all that there are.
        """
        token = _view.set(_TransactionView(self, tx, _Cache(found_revision(tx))))
        try:
            yield
        finally:
            _view.reset(token)

    def _current_view(self) -> _TransactionView | None:
        view = _view.get()
        return view if view is not None and view.store is self else None

    def check(self) -> None:
        """Raise ServiceUnavailable if the database does not respond."""
        with self.read() as tx:
            tx.execute(select(schema.revision.c.number)).one()

    def clock(self) -> datetime | None:
        """Return the time of the database's server, in UTC; None for SQLite, which has this machine's clock."""
        if self.engine.dialect.name == "sqlite":
            return None
        with self.read() as tx:
            moment: datetime = tx.execute(select(func.clock_timestamp())).scalar_one()
        return moment.astimezone(UTC)

    # --- revision -----------------------------------------------------------------------------------------------------

    @property
    def generation(self) -> int:
        """Return the revision of the records shown; other caches compare it to know when to drop theirs."""
        view = self._current_view()
        return (self._cache if view is None else view.cache).revision

    def refresh(self) -> None:
        """Read the revision, at most once per poll interval; drop the cache if it changed. Outages raise nothing.

        Inside ``reading_from`` nothing is read: the number that the transaction wrote is not committed.
        """
        if self._current_view() is not None:
            return
        if self._signal and self._signal.last_announced() != self._last_signal:
            self._refresh_announced(self._signal)
            return
        now = self._monotonic()
        if now - self._revision_tried_at < self._poll and now - self._revision_read_at <= self._poll + REVISION_GRACE:
            return
        # One thread reads the revision; the others wait for it and use the result.
        with self._refresh_lock:
            if self._monotonic() - self._revision_tried_at >= self._poll:
                self._revision_tried_at = now = self._monotonic()
                self._read_revision(now)
                self._revision_tried_at = self._monotonic()

    def _refresh_announced(self, signal: ChangeSignal) -> None:
        # No thread goes on with the cache from before the change while another one still reads the revision.
        with self._refresh_lock:
            announced = signal.last_announced()
            if announced != self._last_signal:
                self._read_revision(self._monotonic())
                self._last_signal = announced

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
        view = self._current_view()
        if view is not None:
            return view.cache
        self.refresh()
        if self._monotonic() - self._revision_read_at > self._poll + REVISION_GRACE:
            raise ServiceUnavailable(
                "The data store is not available now. Try again later.", log="the revision is unknown"
            )
        return self._cache

    def _cache_since(self, revision: int) -> _Cache:
        """Return the cache, after reading the revision anew if it is older; a view is never older than a session."""
        cache = self._fresh_cache()
        if cache.revision >= revision or self._current_view() is not None:
            return cache
        with self._refresh_lock:
            self._read_revision(self._monotonic())
        return self._cache

    # --- records for requests -----------------------------------------------------------------------------------------

    def access_key(self, key_id: str) -> AccessKey | None:
        """Return a long-term access key by its id."""
        cache = self._fresh_cache()
        return self._cached_or_unknown(
            cache.keys, cache.unknown_key_ids, key_id, lambda reader: reader.access_key(key_id)
        )

    def user(self, user_id: str) -> UserRecord | None:
        """Return a user by its unique id."""
        return self._cached_or_loaded(self._fresh_cache().users, user_id, lambda reader: reader.user(user_id))

    def role_by_id(self, role_id: str) -> RoleRecord | None:
        """Return a role by its unique id."""
        return self._cached_or_loaded(self._fresh_cache().roles, role_id, lambda reader: reader.role(role_id))

    def role(self, arn: str) -> RoleRecord | None:
        """Return a role by its ARN."""
        cache = self._fresh_cache()
        role_id = self._cached_or_unknown(cache.role_ids, cache.unknown_arns, arn, lambda reader: reader.role_id(arn))
        return self.role_by_id(role_id) if role_id is not None else None

    def user_by_arn(self, arn: str) -> UserRecord | None:
        """Return a user by its ARN; not cached, because no request handling needs it."""
        with self.read() as tx:
            reader = self._reader(tx)
            user_id = reader.user_id(arn)
            return reader.user(user_id) if user_id else None

    def role_by_name(self, account_id: str, name: str) -> RoleRecord | None:
        """Return a role by its name, as in the ARN of a role session (without the path); not cached."""
        with self.read() as tx:
            reader = self._reader(tx)
            role_id = reader.role_id_by_name(account_id, name)
            return reader.role(role_id) if role_id else None

    def principals(self, account_id: str) -> Iterator[UserRecord | RoleRecord]:
        """Yield every user and role of an account, by kind and name."""
        with self.read() as tx:
            reader = self._reader(tx)
            for table, read in ((schema.user, reader.user), (schema.role, reader.role)):
                ids = select(table.c.id).where(table.c.account_id == account_id).order_by(table.c.name_key)
                for entity_id in tx.scalars(ids).all():
                    record = read(entity_id)
                    if record is not None:
                        yield record

    def roles_trusting(self, provider: str, accounts: frozenset[str] | None = None) -> tuple[RoleRecord, ...]:
        """Return the roles that trust a party: ``ldap-provider/corp`` or its ARN, or ``account/1…2``.

        Those of these accounts, or of all: what other accounts have is not read. Roles that trust every account are
        found with ``account/*`` only.
        """
        party = trusted_party_name(provider), accounts
        cache = self._fresh_cache()
        roles = self._cached_or_loaded(
            cache.roles_by_party, party, lambda reader: self._load_roles_trusting(reader, cache, *party)
        )
        return roles or ()

    def saml_provider(self, arn: str) -> SamlProviderRecord | None:
        """Return a SAML identity provider by its ARN."""
        cache = self._fresh_cache()
        return self._cached_or_unknown(
            cache.saml_providers, cache.unknown_arns, arn, lambda reader: reader.saml_provider(arn)
        )

    def oidc_provider(self, arn: str) -> OidcProviderRecord | None:
        """Return an OpenID Connect provider by its ARN."""
        cache = self._fresh_cache()
        return self._cached_or_unknown(
            cache.oidc_providers, cache.unknown_arns, arn, lambda reader: reader.oidc_provider(arn)
        )

    def managed_policy(self, arn: str) -> Policy | None:
        """Return the default version of a managed policy, AWS's or customer managed."""
        return self._cached_or_loaded(self._fresh_cache().managed, arn, lambda reader: self._managed(reader.tx, arn))

    def resource_policy(self, resource: str, bucket: str) -> PolicySet | None:
        """Return the policies of a resource of the settings and of one of its buckets, if there are any.

        ``bucket`` is "" for none, and EVERY_BUCKET for all of them.
        """
        cache = self._fresh_cache()
        return self._cached_or_unknown(
            cache.resource_policies,
            cache.unprotected,
            f"{resource}/{bucket}",
            lambda reader: reader.resource_policy(resource, bucket),
        )

    def account(self, account_id: str) -> AccountRecord | None:
        """Return an account by its id."""
        table = schema.account.c
        return self._cached_or_loaded(
            self._fresh_cache().accounts, account_id, lambda reader: reader.account(table.id == account_id)
        )

    def first_account(self) -> str:
        """Return the id of the account that was created first, or an empty text without any."""
        table = schema.account.c
        with self.read() as tx:
            return tx.scalar(select(table.id).order_by(table.created, table.id).limit(1)) or ""

    def account_by_alias(self, alias: str) -> AccountRecord | None:
        """Return an account by its alias."""
        table = schema.account.c
        return self._cached_or_loaded(
            self._fresh_cache().aliases, alias, lambda reader: reader.account(table.alias == alias)
        )

    def generations(self, scopes: Sequence[str], *, minted_at: int = 0) -> dict[str, int]:
        """Return the generation of each of these scopes that was revoked, by key; others have none.

        ``minted_at`` is the revision that a session sealed: one that begins right after a revocation on another machine
        is not judged by what this process cached before.
        """
        cached = self._cache_since(minted_at).generations
        known = {scope: cached[scope] for scope in scopes if scope in cached}
        missing = [scope for scope in scopes if scope not in known]
        if missing:
            found = self.current_generations(missing).generations
            for scope in missing:
                known[scope] = found.get(scope, 0)
                _put_in_cache(cached, scope, known[scope])
        return {scope: generation for scope, generation in known.items() if generation}

    def current_generations(self, scopes: Sequence[str]) -> RevocationSnapshot:
        """Return what the database has now, for a session that begins: another machine may just have raised one."""
        with self.read() as tx:
            return read_generations(tx, scopes)

    def _cached_or_loaded(self, cache: dict[K, V], key: K, load: Callable[[RecordReader], V | None]) -> V | None:
        """Return a cached record, or read and cache it.

        The caller chose the dictionary before the read: if a change replaces the cache meanwhile, the outdated record
        goes into the dropped one.
        """
        record = cache.get(key)
        if record is not None:
            return record
        with self.read() as tx:
            record = load(self._reader(tx))
        if record is not None:
            _put_in_cache(cache, key, record)
        return record

    def _cached_or_unknown(
        self, cache: dict[str, V], unknown: set[str], key: str, load: Callable[[RecordReader], V | None]
    ) -> V | None:
        """Return a cached record, or read it; that it does not exist is cached too."""
        if key in unknown:
            return None
        record = self._cached_or_loaded(cache, key, load)
        if record is None:
            if len(unknown) >= MOST_UNKNOWN:
                unknown.clear()
            unknown.add(key)
        return record

    def _reader(self, tx: Connection) -> RecordReader:
        return RecordReader(tx, self._vault, self._parse, self._managed)

    def _parse(self, source: str, kind: PolicyKind, label: str) -> Policy:
        key = (source, kind, label)
        policy = self._parsed.get(key)
        if policy is None:
            policy = parse_stored_policy(source, kind, label)
            _put_in_cache(self._parsed, key, policy)
        return policy

    def _managed(self, tx: Connection, arn: str) -> Policy | None:
        aws_policy = managed.load().get(arn)
        if aws_policy is not None:
            return aws_policy.policy
        document = managed_document(tx, arn)
        return self._parse(document, PolicyKind.IDENTITY, arn) if document is not None else None

    def _load_roles_trusting(
        self, reader: RecordReader, cache: _Cache, name: str, accounts: frozenset[str] | None
    ) -> tuple[RoleRecord, ...]:
        role_ids = reader.roles_trusting(name, accounts)
        known = {role_id: cache.roles[role_id] for role_id in role_ids if role_id in cache.roles}
        for record in reader.roles([role_id for role_id in role_ids if role_id not in known]):
            known[record.id] = record
            _put_in_cache(cache.roles, record.id, record)
        return tuple(known[role_id] for role_id in role_ids if role_id in known)


# Without the lock, two threads could evict the same oldest key, and the second would raise KeyError.
_eviction_lock = threading.Lock()


def _put_in_cache(cache: dict[K, V], key: K, value: V) -> None:
    """Cache a value; evict the oldest one if there are too many."""
    with _eviction_lock:
        cache[key] = value
        if len(cache) > MOST_CACHED:
            del cache[next(iter(cache))]


def _next_revision(tx: Connection, *, bump_revision: bool) -> int:
    """Return the new revision; on PostgreSQL the lock on its row serializes writers, as SQLite does."""
    if not bump_revision and tx.dialect.name == "sqlite":
        return 0  # the caller does not use it, and the write lock is held already
    if bump_revision:
        number = tx.execute(
            update(schema.revision).values(number=schema.revision.c.number + 1).returning(schema.revision.c.number)
        )
    else:
        number = tx.execute(select(schema.revision.c.number).with_for_update())
    return int(number.scalar_one())


def found_revision(tx: Connection) -> int:
    """Return the revision of the data that a write transaction found when its turn came."""
    known: int | None = tx.get_execution_options().get(_FOUND_REVISION)
    return int(tx.scalar(select(schema.revision.c.number)) or 0) if known is None else known


def record_key_use(tx: Connection, key_id: str, at_ms: int, service: str, region: str) -> None:
    """Record a key's last use; no cached record contains it, so use ``write(bump_revision=False)``."""
    table = schema.access_key.c
    later = (table.last_used.is_(None)) | (table.last_used < at_ms)
    values = {"last_used": at_ms, "last_used_service": service, "last_used_region": region}
    tx.execute(update(schema.access_key).where(table.id == key_id, later).values(values))
