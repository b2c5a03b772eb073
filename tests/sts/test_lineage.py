"""The law of revocation: a session lives exactly as long as no scope of it or of its ancestors was revoked since.

The database is real, so that rows are raised, looked up and deleted as they are in service.
"""

import os
import time
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iam.revocation import ANY, FLOOR, RevocationSnapshot
from iam.store.revocation import KEPT, delete_expired, raise_generation, revoke_session
from iam.store.store import Store
from iam.store.vault import Vault
from sts import lineage
from sts.lineage import Lineage, Parent, begin, load, new_session_id, refusal, scopes_to_read, session_scopes, watched

NOW = 1_800_000_000_000
ROLES, PEOPLE, ACCOUNTS = ("AROAA", "AROAB"), ("corp|ann", "corp|bob"), ("111122223333", "444455556666")


@dataclass
class Minted:
    """A session, and as the law sees it: whether a scope of it or of an ancestor was revoked since it began."""

    id: str
    lineage: Lineage
    scopes: frozenset[str]
    parent: "Minted | None"
    person: str
    raised: bool = False
    at: int = NOW

    def line(self):
        return (self, *(self.parent.line() if self.parent else ()))


@dataclass
class World:
    store: Store
    now: int = NOW
    sessions: list[Minted] = field(default_factory=list)

    def lives(self, session):
        current = self.store.generations(watched(session.lineage, session.id))
        return not refusal(session.lineage, session.id, current)

    def mint(self, account, role, person, parent=None):
        if parent is not None and not self.lives(parent):
            return
        person = parent.person if parent else person
        scopes = session_scopes(account, role, person)
        origin = Parent(parent.lineage, parent.id) if parent else None
        now = self.store.current_generations(scopes_to_read(scopes, origin))
        made = begin(scopes, origin, now)
        minted = Minted(new_session_id(made, os.urandom), made, frozenset(scopes), parent, person, at=self.now)
        self.sessions.append(minted)

    def fell(self, concerned):
        for session in self.sessions:
            session.raised = session.raised or any(concerned(one) for one in session.line())

    def revoke_scope(self, name):
        with self.store.write() as tx:
            raise_generation(tx, name, now_ms=self.now, random=os.urandom)
        self.fell(lambda one: name in one.scopes)

    def revoke_id(self, session):
        with self.store.write() as tx:
            revoke_session(tx, session.id, now_ms=self.now, random=os.urandom)
        self.fell(lambda one: one is session)

    def expire(self, hours):
        self.now += hours * 3_600_000
        with self.store.write() as tx:
            delete_expired(tx, self.now)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    opened = Store(f"sqlite:///{tmp_path_factory.mktemp('s') / 'g.db'}", Vault(b"k" * 32), monotonic=time.monotonic)
    opened.migrate()
    yield opened
    opened.close()


SCOPES = [*(f"role|{role}" for role in ROLES), *(f"person|{person}" for person in PEOPLE), "installation|",
          *(f"account|{account}" for account in ACCOUNTS)]  # fmt: skip
own = st.tuples(st.sampled_from(ACCOUNTS), st.sampled_from(ROLES), st.sampled_from(PEOPLE))
steps = st.one_of(
    st.tuples(st.just("mint"), own),
    st.tuples(st.just("chain"), own, st.integers(0, 30)),
    st.tuples(st.just("scope"), st.sampled_from(SCOPES)),
    st.tuples(st.just("id"), st.integers(0, 30)),
    st.tuples(st.just("expire"), st.sampled_from([1, 20, KEPT // 3_600_000])),
)


def run(world, step):
    kind, *rest = step
    chosen = world.sessions[rest[-1] % len(world.sessions)] if kind in ("chain", "id") and world.sessions else None
    match kind:
        case "mint":
            world.mint(*rest[0])
        case "chain" if chosen:
            world.mint(*rest[0], chosen)
        case "id" if chosen:
            world.revoke_id(chosen)
        case "scope":
            world.revoke_scope(rest[0])
        case "expire":
            world.expire(rest[0])


@given(st.lists(steps, max_size=25))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_session_lives_exactly_until_a_scope_of_its_line_is_revoked(store, script):
    world = World(store)
    for step in script:
        run(world, step)
        for session in world.sessions:
            lives = world.lives(session)
            assert not (lives and session.raised)  # never again, whatever was deleted
            # The floor refuses nothing that has not expired: a session lives at most for 36 hours.
            assert lives or session.raised or world.now - session.at > KEPT - 3_600_000


def chained(store, count, role=lambda _number: "AROAA"):
    world = World(store)
    world.mint(ACCOUNTS[0], role(0), PEOPLE[0])
    for number in range(1, count):
        world.mint(ACCOUNTS[0], role(number), PEOPLE[0], world.sessions[-1])
    assert len(world.sessions) == count
    return world


@pytest.mark.parametrize("count", [5, lineage.MOST_ANCESTORS + 1, 60])
def test_however_long_a_chain_is_the_whole_rest_of_it_falls_with_each_session(store, count):
    world = chained(store, count)
    world.revoke_id(world.sessions[count // 2])
    assert [world.lives(session) for session in world.sessions[: min(count // 2, lineage.MOST_ANCESTORS)]].count(
        False
    ) == 0
    assert not any(world.lives(session) for session in world.sessions[count // 2 :])


@pytest.mark.parametrize("count", [10, 100])
def test_however_many_roles_a_chain_has_it_falls_with_each_of_them_and_its_token_stays_small(store, count):
    world = chained(store, count, lambda number: f"AROA{number:017}")
    assert max(len(session.lineage.generations) for session in world.sessions) <= lineage.MOST_SCOPES + 1
    world.revoke_scope(f"role|AROA{5:017}")
    assert [world.lives(session) for session in world.sessions] == [True] * 5 + [False] * (count - 5)


def test_a_chain_that_is_bound_to_every_revocation_says_so(store):
    world = chained(store, lineage.MOST_SCOPES + 5, lambda number: f"AROA{number:017}")
    assert ANY in dict(world.sessions[-1].lineage.generations)
    world.revoke_scope("role|AROAOFSOMEBODYELSE")
    assert not world.lives(world.sessions[-1])
    assert world.lives(world.sessions[0])


def test_a_child_minted_on_an_outdated_view_falls_with_its_parent():
    """Another machine's worker chains from a session that was revoked a moment ago."""
    scopes = session_scopes(ACCOUNTS[0], ROLES[0], PEOPLE[0])
    parent = begin(scopes, None, RevocationSnapshot(7, {}))
    raised = RevocationSnapshot(8, {f"role|{ROLES[0]}": 99})
    child = begin(scopes, Parent(parent, "ab" * 16), raised)
    assert refusal(child, "ab" * 8 + "cd" * 8, raised.generations) == f"role|{ROLES[0]}"
    assert refusal(begin(scopes, None, raised), "ef" * 16, raised.generations) == ""


def test_an_unknown_lineage_is_refused_by_the_first_revocation_of_its_scopes():
    bare = Lineage().with_scopes(("role|AROAA",))
    assert refusal(bare, "s", {}) == ""
    assert refusal(bare, "s", {"role|AROAA": 5}) == "role|AROAA"
    assert refusal(bare, "s", {FLOOR: 1}) == FLOOR


def test_a_session_of_a_database_that_counted_less_than_its_floor_is_not_refused():
    snapshot = RevocationSnapshot(3, {FLOOR: 4000})
    first = begin(("role|AROAA",), None, snapshot)
    child = begin(("role|AROAA",), Parent(first, "ab" * 16), snapshot)
    assert [refusal(one, "s", snapshot.generations) for one in (first, child)] == ["", ""]


def test_a_lineage_reads_back_from_its_json():
    full = Lineage(5, (("person|corp|ü", 2**62), ("role|AROAA", 0)), ("ab" * 16,))
    assert load(full.dump()) == full
    assert load("") == Lineage()


def test_a_browser_session_is_a_parent_without_an_id():
    scopes = session_scopes("", None, PEOPLE[0])
    browser = begin(scopes, None, RevocationSnapshot(3, {}))
    child = begin(session_scopes(ACCOUNTS[0], ROLES[0], PEOPLE[0]), Parent(browser), RevocationSnapshot(4, {}))
    assert (child.revision, child.ancestors, child.chain) == (4, (), "")
    assert replace(child, revision=3).with_scopes(scopes).generations == child.generations
