"""Minting on a worker that has not heard of a revocation yet: another machine has just committed it."""

import os
import time
from datetime import UTC, datetime

import pytest

from iam.errors import InvalidClientTokenId
from iam.store.revocation import revoke
from iam.store.store import Store
from iam.store.vault import Vault
from sts.identity import Identity
from sts.lineage import begin, refusal, session_scopes, watched
from sts.mint import Grant, SessionKind
from sts.operations import StsCall
from sts.operations.session_inputs import mint_session
from sts.token import Sealer, SealingKey

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SEALER = Sealer((SealingKey("0a0b0c0d", bytes(range(32))),))
ACCOUNT, PERSON = "111122223333", "ldap-provider/corp|u1"
GRANT = Grant(SessionKind.ROLE, ACCOUNT, "AROAX", "ann", *PERSON.split("|"))
REVOKED = {"person": PERSON, "installation": ""}


@pytest.fixture
def machines(tmp_path):
    """Two stores over one database; the second reads the revision once and then never again."""
    url, vault = f"sqlite:///{tmp_path}/iam.db", Vault(bytes(32))
    one = Store(url, vault, monotonic=time.monotonic)
    one.migrate()
    two = Store(url, vault, monotonic=lambda: 0.0)
    two.refresh()
    yield one, two
    one.close()
    two.close()


def signed_in(store):
    scopes = session_scopes("", None, PERSON)
    lineage = begin(scopes, None, store.current_generations(scopes))
    return Identity("ldap-provider/corp", "u1", "ann", NOW, lineage=lineage)


def call(store, identity):
    return StsCall(store, SEALER, os.urandom, NOW, identity=identity)


def revoked(store, kind):
    with store.write() as tx:
        revoke(tx, kind, REVOKED[kind], now_ms=1, random=os.urandom)


@pytest.mark.parametrize("kind", REVOKED)
def test_a_browser_session_that_was_revoked_elsewhere_gives_no_role(machines, kind):
    one, two = machines
    identity = signed_in(two)
    mint_session(call(two, identity), GRANT, 900)
    assert two.generations(watched(identity.lineage)) == {}
    revoked(one, kind)
    assert two.generations(watched(identity.lineage)) == {}  # it has not heard of it
    with pytest.raises(InvalidClientTokenId) as refused:
        mint_session(call(two, identity), GRANT, 900)
    assert refused.value.log.startswith(f"revoked by {kind}|")


@pytest.mark.parametrize("kind", REVOKED)
def test_an_honest_session_that_begins_afterwards_works_on_every_machine(machines, kind):
    one, two = machines
    for _ in range(2):  # the second time, the other machine knows the number of the first revocation
        revoked(one, kind)
        session = mint_session(call(two, signed_in(two)), GRANT, 900).session
        lineage, scopes = session.lineage, watched(session.lineage, session.id)
        for store in (one, two):
            assert refusal(lineage, session.id, store.generations(scopes, minted_at=lineage.revision)) == ""


def test_a_session_made_from_another_is_in_its_chain_and_names_it(machines):
    one, _ = machines
    session = mint_session(call(one, signed_in(one)), GRANT, 900).session
    assert session.lineage.ancestors == ()  # a browser session has no id by which it is revoked
    assert dict(session.lineage.generations).keys() == {
        "installation|", f"account|{ACCOUNT}", "role|AROAX", f"person|{PERSON}",
    }  # fmt: skip
