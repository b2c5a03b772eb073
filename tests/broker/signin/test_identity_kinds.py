"""The table of the kinds of identity: both halves of every row, one row for each type, and no switch beside it."""

import ast
from dataclasses import replace
from pathlib import Path

import pytest

from broker.signin.kinds import BrokerIdentityKind, IdentityKinds
from iam.errors import InternalFailure
from sts import identity
from sts.identity import Identity
from sts.identity_kinds import IAM, LDAP, STS_IDENTITY_KINDS

ROOT = Path(__file__).parents[3]
IDENTITY_TYPES = {one for one in vars(identity).values() if isinstance(one, type) and issubclass(one, Identity)}


def broker_half(name: str) -> BrokerIdentityKind:
    return BrokerIdentityKind(name=name, user_identity=lambda _: {}, is_valid=lambda _identity, _now: True)


def test_every_kind_of_an_installation_has_both_halves(installation):
    kinds = installation.services.api.gate.kinds
    assert [half.name for half in STS_IDENTITY_KINDS] == [row.sts.name for row in kinds.rows]
    assert [row.broker.name for row in kinds.rows] == [row.sts.name for row in kinds.rows]


@pytest.mark.parametrize("missing", [half.name for half in STS_IDENTITY_KINDS])
def test_a_kind_without_its_half_at_the_broker_is_refused(missing):
    halves = [broker_half(half.name) for half in STS_IDENTITY_KINDS if half.name != missing]
    with pytest.raises(ValueError, match=missing):
        IdentityKinds(STS_IDENTITY_KINDS, halves)


@pytest.mark.parametrize("missing", STS_IDENTITY_KINDS, ids=lambda half: half.name)
def test_a_kind_without_its_half_at_the_sts_is_refused(missing):
    halves = [half for half in STS_IDENTITY_KINDS if half is not missing]
    with pytest.raises(ValueError, match=missing.name):
        IdentityKinds(halves, [broker_half(half.name) for half in STS_IDENTITY_KINDS])


@pytest.mark.parametrize(
    "other",
    [replace(LDAP, operation="AssumeRoleWithBadge"), replace(IAM, operation="AssumeRoleWithBadge"), LDAP],
    ids=["type", "another type", "name"],
)
def test_two_kinds_of_one_type_or_one_name_are_refused(other):
    with pytest.raises(ValueError, match="two kinds"):
        IdentityKinds((*STS_IDENTITY_KINDS, other), [broker_half(half.name) for half in STS_IDENTITY_KINDS])


def test_a_kind_does_not_replace_an_operation_of_the_sts():
    other = replace(LDAP, operation="GetSessionToken")
    halves = [other, *(half for half in STS_IDENTITY_KINDS if half is not LDAP)]
    with pytest.raises(ValueError, match="replaces an operation"):
        IdentityKinds(halves, [broker_half(half.name) for half in STS_IDENTITY_KINDS])


def test_every_type_of_identity_has_one_row():
    assert sorted(half.identity_type.__name__ for half in STS_IDENTITY_KINDS) == sorted(
        one.__name__ for one in IDENTITY_TYPES
    )


def test_an_identity_whose_type_has_no_row_is_not_taken_for_one_of_its_parent_class(installation):
    class Unknown(Identity):
        pass

    unknown = Unknown("ldap-provider/corp", "1", "ann", installation.now())
    assert installation.services.api.gate.kinds.find(unknown) is None
    with pytest.raises(InternalFailure):
        installation.services.api.gate.kinds.of(unknown)


def type_switches(file: Path) -> list[int]:
    """Return the lines that ask for the type of an identity by name."""
    names = {one.__name__ for one in IDENTITY_TYPES} - {"Identity"}
    return [
        node.lineno
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("isinstance", "type")
        and names & {name.id for argument in node.args for name in ast.walk(argument) if isinstance(name, ast.Name)}
    ]


@pytest.mark.parametrize("package", ["sts", "broker"])
def test_nothing_asks_for_the_type_of_an_identity(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert {str(file.relative_to(ROOT)): found for file in files if (found := type_switches(file))} == {}
