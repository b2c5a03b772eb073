"""Session names of people: one person each, readable, and stable."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts.trust import session_name

VALID = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
LONG = "x" * 64
NAMES = st.one_of(st.text(max_size=80), st.text(st.sampled_from("ab-=.@ü"), max_size=70))


def marked(login_name, person="ldap-provider/corp|1"):
    name = session_name(login_name, person)
    assert VALID.fullmatch(name)
    assert name != login_name
    return name


@pytest.mark.parametrize("name", ["alice", "alice@corp.example", "a=b,c+d.e-f_g", "xy", LONG])
def test_a_login_name_that_can_be_a_session_name_stays_as_it_is(name):
    assert session_name(name, "ldap-provider/corp|1") == session_name(name, "ldap-provider/corp|2") == name


@pytest.mark.parametrize(
    "names", [("jürgen", "jörgen"), ("иванова", "петрова"), (LONG + "a", LONG + "b"), ("a b", "a/b"), ("a", "")]
)
def test_people_whose_names_are_changed_or_cut_get_names_of_their_own(names):
    one, other = (marked(name, f"saml|{name}") for name in names)
    assert one != other


def test_a_changed_name_is_readable_and_stays_the_same_for_one_person():
    assert marked("jürgen").startswith("j-rgen-")
    assert marked("x" * 200).startswith("x" * 40)
    assert marked("jürgen") == marked("jürgen")
    assert marked("jürgen") != marked("jürgen", "ldap-provider/other|1")


def test_nobody_can_bear_the_marked_name_of_somebody_else():
    victim = marked("jürgen", "ldap-provider/corp|victim")
    assert session_name(victim, "ldap-provider/corp|attacker") != victim
    assert session_name(victim[:-1] + "g", "ldap-provider/corp|attacker") == victim[:-1] + "g"  # no mark


@given(NAMES, NAMES)
def test_two_people_with_two_names_never_share_a_session_name(one, other):
    names = {session_name(name, f"idp|{name}") for name in (one, other)}
    assert all(map(VALID.fullmatch, names))
    assert len(names) == len({one, other})
