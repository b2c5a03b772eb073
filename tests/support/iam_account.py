"""One account in a SQLite file, and calls of its root and users: what the tests of IAM operations stand on."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, Engine

from iam.accounts import create_account
from iam.arn import iam_arn, root_arn
from iam.call import Call
from iam.limits import Limits
from iam.operations import OPERATIONS
from iam.operations.required_permission import Preparation
from iam.operations.users import create_user
from iam.principal import Principal, PrincipalKind
from iam.store.database import open_engine, reading_engine, writing_engine
from iam.store.schema import metadata
from iam.store.vault import Vault

ACCOUNT = "123456789012"
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
TRUST = (
    '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"},'
    ' "Action": "sts:AssumeRole"}]}'
)


def prepare(operation, preparation: Preparation, p: dict[str, object]) -> object:
    """Do what an operation does before its transaction, and return the outcome."""
    row = next((row for row in OPERATIONS.values() if row.run is operation), None)
    return row.prepare(preparation, p) if row and row.prepare else None


def root(account_id: str = ACCOUNT) -> Principal:
    arn = root_arn(account_id)
    return Principal(PrincipalKind.ROOT, account_id, arn, account_id, arn, account_id)


def user_principal(user: dict[str, str], account_id: str = ACCOUNT) -> Principal:
    return Principal(
        PrincipalKind.USER, account_id, user["Arn"], user["UserId"], user["Arn"], user["UserId"], user["UserName"]
    )


def role_session(account_id: str = ACCOUNT) -> Principal:
    arn = f"arn:aws:sts::{account_id}:assumed-role/build/session"
    entity = iam_arn(account_id, "role", "build")
    return Principal(PrincipalKind.ROLE_SESSION, account_id, arn, "AROAX:session", entity, "AROAX", "build")


@dataclass
class IamAccount:
    """The account; ``now`` is the time of its calls and moves by ``later``."""

    engine: Engine
    vault: Vault
    now: datetime = NOW
    limits: Limits = field(default_factory=Limits)

    def later(self, **duration: float) -> None:
        self.now += timedelta(**duration)

    @contextmanager
    def call(self, principal: Principal | None = None) -> Iterator[Call]:
        """Give one call in a transaction of its own, as the gate does: what raises leaves nothing behind."""
        who = principal or root()
        with self.writing() as tx:
            yield Call(tx, who, who.account_id, self.now, secrets.token_bytes, self.vault, self.limits)

    def run(self, operation, principal: Principal | None = None, /, **p: object) -> dict:
        prepared = prepare(operation, self.preparation(principal), p)
        with self.call(principal) as call:
            return operation(replace(call, prepared=prepared), p)

    def preparation(self, principal: Principal | None = None, run_in_thread_pool=lambda work: work()) -> Preparation:
        return Preparation(self.now, run_in_thread_pool, lambda: self.call(principal), lambda: self.call(principal))

    def required_permissions(self, ask, principal: Principal | None = None, /, **p: object):
        with self.reading() as tx:
            who = principal or root()
            return ask(Call(tx, who, who.account_id, self.now, secrets.token_bytes, self.vault, self.limits), p)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        with writing_engine(self.engine).begin() as tx:
            yield tx

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with reading_engine(self.engine).begin() as tx:
            yield tx

    def user(self, name: str, **p: object) -> Principal:
        made = self.run(create_user, UserName=name, **p)["User"]
        return user_principal(made)

    def limit(self, **quotas: int) -> None:
        self.limits = replace(self.limits, **quotas)

    def another(self, account_id: str, alias: str | None = None) -> Principal:
        """Make a second account and return its root."""
        with self.writing() as tx:
            create_account(
                tx, account_id=account_id, alias=alias, now=self.now, random=secrets.token_bytes, vault=self.vault
            )
        return root(account_id)


def iam_account(folder: Path) -> IamAccount:
    engine = open_engine(f"sqlite:///{folder / 'iam.db'}")
    metadata.create_all(engine)
    made = IamAccount(engine, Vault(secrets.token_bytes(32)))
    made.another(ACCOUNT, "example-corp")
    return made
