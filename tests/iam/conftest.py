"""An account in a real database, on SQLite and on PostgreSQL, and a way to call operations as the gate does."""

import contextlib
import random
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest
from support.iam_account import prepare

from iam.accounts import create_account
from iam.arn import iam_arn, root_arn
from iam.call import Call
from iam.limits import Limits
from iam.operations.required_permission import Preparation
from iam.principal import Principal, PrincipalKind
from iam.store.store import Store
from iam.store.vault import Vault

ACCOUNT = "111122223333"
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


class Clock:
    """A monotonic clock that moves when it is told to."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@dataclass(frozen=True)
class Account:
    """One account of one store; its methods do what the gate does around an operation."""

    store: Store
    vault: Vault
    principal: Principal
    id: str = ACCOUNT
    now: datetime = NOW
    limits: Limits = field(default_factory=Limits)
    random: object = random.Random(7).randbytes

    def call(self, tx) -> Call:
        return Call(tx, self.principal, self.id, self.now, self.random, self.vault, self.limits)

    def run(self, operation, **p):
        prepared = prepare(operation, Preparation(self.now, lambda work: work(), self._calling, self._calling), p)
        with self._calling() as call:
            return operation(replace(call, prepared=prepared), p)

    @contextlib.contextmanager
    def _calling(self):
        with self.store.write() as tx:
            yield self.call(tx)

    def ask(self, required_permissions, **p):
        with self.store.read() as tx:
            return required_permissions(self.call(tx), p)

    def allowing(self, **limits) -> "Account":
        return replace(self, limits=replace(self.limits, **limits))

    def as_user(self, user) -> "Account":
        arn = user["Arn"]
        name, user_id = user["UserName"], user["UserId"]
        return replace(self, principal=Principal(PrincipalKind.USER, self.id, arn, user_id, arn, user_id, name))

    def as_role_session(self) -> "Account":
        arn, role = f"arn:aws:sts::{self.id}:assumed-role/r/s", iam_arn(self.id, "role", "r")
        principal = Principal(PrincipalKind.ROLE_SESSION, self.id, arn, "AROAX:s", role, "AROAX", "r")
        return replace(self, principal=principal)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def vault():
    return Vault(bytes(range(32)))


@pytest.fixture
def sqlite_url(tmp_path):
    return f"sqlite:///{tmp_path}/iam.db"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.server)])
def url(request):
    """Each database in turn."""
    return request.getfixturevalue({"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param])


@pytest.fixture
def open_store(vault, clock):
    """Opens stores of one clock, and closes them at the end."""
    with contextlib.ExitStack() as stack:

        def opened(url: str, monotonic=clock, **more) -> Store:
            store = Store(url, vault, monotonic=monotonic, **more)
            stack.callback(store.close)
            return store

        yield opened


def _with_account(store: Store, vault: Vault) -> Account:
    store.migrate()
    with store.write() as tx:
        create_account(tx, account_id=ACCOUNT, alias="acme", now=NOW, random=random.Random(3).randbytes, vault=vault)
    arn = root_arn(ACCOUNT)
    return Account(store, vault, Principal(PrincipalKind.ROOT, ACCOUNT, arn, ACCOUNT, arn, ACCOUNT, "root"))


@pytest.fixture
def account(open_store, sqlite_url, vault):
    """An account on SQLite, whose clock is real."""
    return _with_account(open_store(sqlite_url, time.monotonic), vault)


@pytest.fixture
def postgres_account(open_store, postgres_url, vault):
    """An account on PostgreSQL, whose clock stands still."""
    return _with_account(open_store(postgres_url), vault)


@pytest.fixture
def any_account(open_store, url, vault):
    """An account on each database in turn, whose clock stands still."""
    return _with_account(open_store(url), vault)
