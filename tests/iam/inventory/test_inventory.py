"""What there is in some accounts: found by words, a page at a time, and never from another account."""

import random
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import update
from support.documents import trust
from support.saml_idp import metadata

from iam.accounts import create_account
from iam.credentials import factors, totp
from iam.credentials.person_id import iam_person_id
from iam.inventory.accounts import accounts, names
from iam.inventory.pagination import PAGE, PageRequest, paginate
from iam.inventory.providers import oidc_providers, saml_providers
from iam.inventory.roles import roles
from iam.inventory.security_findings import FindingKind, concerns
from iam.inventory.users import users
from iam.operations import OPERATIONS
from iam.principal import Principal, PrincipalKind
from iam.store import pinned_roles
from iam.store.schema import access_key, saml_provider

OTHER = "444455556666"


@pytest.fixture
def mine(any_account):
    """The account, with another one beside it that has the same things."""
    with any_account.store.write() as tx:
        create_account(
            tx, account_id=OTHER, now=any_account.now, random=random.Random(5).randbytes, vault=any_account.vault
        )
    arn = f"arn:aws:iam::{OTHER}:root"
    beside = replace(
        any_account, id=OTHER, principal=Principal(PrincipalKind.ROOT, OTHER, arn, OTHER, arn, OTHER, "root")
    )
    for account in (any_account, beside):
        fill(account)
    return any_account


def fill(account):
    do(account, "CreateUser", UserName="Ann", Path="/Eng/")
    do(account, "CreateUser", UserName="b_b")
    do(account, "CreateGroup", GroupName="Ops")
    do(account, "AddUserToGroup", GroupName="Ops", UserName="Ann")
    do(account, "CreateAccessKey", UserName="Ann")
    do(account, "CreateRole", RoleName="Dev", AssumeRolePolicyDocument=trust({"AWS": account.id}), Description="Büro")
    do(account, "CreateSAMLProvider", Name="Corp", SAMLMetadataDocument=metadata())
    do(account, "CreateOpenIDConnectProvider", Url="https://idp.example.com", ClientIDList=["web"], ThumbprintList=[])


def give_password(account):
    do(account, "CreateLoginProfile", UserName="Ann", Password="a long enough Passw0rd!")


def do(account, operation, **p):
    return account.run(OPERATIONS[operation].run, **p)


def read(account, query, *arguments):
    with account.store.read() as tx:
        return query(tx, *arguments)


def worries(account, now=None, directories=None):
    found = read(account, concerns, (account.id,), directories or {}, now or account.now)
    return {(one.kind, one.name) for one in found}


QUERIES = {
    "accounts": (accounts, ()),
    "users": (users, ()),
    "roles": (roles, ({},)),
    "saml": (saml_providers, ()),
    "oidc": (oidc_providers, ()),
}


@pytest.mark.parametrize("name", QUERIES)
def test_every_query_is_limited_to_the_accounts_that_it_is_given(mine, name):
    query, more = QUERIES[name]
    both = read(mine, query, PageRequest((mine.id, OTHER)), *more)
    one = read(mine, query, PageRequest((mine.id,)), *more)
    assert (one.found * 2, len(one.rows) * 2) == (both.found, len(both.rows))
    assert {getattr(row, "account_id", None) or row.id for row in one.rows} == {mine.id}
    assert read(mine, query, PageRequest(()), *more).rows == ()
    assert read(mine, query, PageRequest((mine.id,), OTHER), *more).rows == ()


def test_concerns_are_of_the_accounts_that_they_are_asked_for(mine):
    found = read(mine, concerns, (OTHER,), (), mine.now)
    assert found
    assert {one.account_id for one in found} == {OTHER}
    assert read(mine, concerns, (), (), mine.now) == ()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("", ["Ann", "b_b"]),
        ("ANN", ["Ann"]),
        ("eng", ["Ann"]),
        ("ops", ["Ann"]),
        ("ann ops", ["Ann"]),
        ("ann nobody", []),
        ("b_", ["b_b"]),
        ("%", []),
        ("a_n", []),
        ("\\", []),
        (OTHER, []),
    ],
)
def test_users_are_found_by_words_and_a_sign_means_itself(mine, words, found):
    assert [one.name for one in read(mine, users, PageRequest((mine.id,), words)).rows] == found


def test_a_user_is_found_by_the_end_of_a_key(mine):
    (ann,) = read(mine, users, PageRequest((mine.id,), "ann")).rows
    (key,) = ann.keys
    assert read(mine, users, PageRequest((mine.id,), key.id_suffix.lower())).rows == (ann,)
    assert (ann.groups, ann.has_password, ann.factors, ann.last_activity) == (("Ops",), False, (), None)


def test_the_last_activity_is_the_newest_of_all(mine):
    with mine.store.write() as tx:
        tx.execute(update(access_key).values(last_used=5))
    (ann,) = read(mine, users, PageRequest((mine.id,), "ann")).rows
    assert ann.last_activity == 5


def test_roles_are_found_by_whom_they_trust_and_know_when_they_were_taken(mine):
    (role,) = read(mine, roles, PageRequest((mine.id,), f"{mine.id} DEV"), {}).rows
    assert (role.unassumable, role.taken, role.description) == (False, None, "Büro")
    with mine.store.write() as tx:
        pinned_roles.record_role_use(tx, "x|1", role.id, mine.now)
        pinned_roles.record_role_use(tx, "x|2", role.id, mine.now + timedelta(seconds=1))
    (role,) = read(mine, roles, PageRequest((mine.id,), "dev"), {}).rows
    assert role.taken == int(mine.now.timestamp() * 1000) + 1000


def test_names_of_accounts_have_their_alias(mine):
    assert read(mine, names, (mine.id, OTHER)) == {mine.id: f"acme ({mine.id})", OTHER: OTHER}


def test_metadata_that_cannot_be_read_is_an_error_and_no_crash(mine):
    with mine.store.write() as tx:
        tx.execute(update(saml_provider).values(metadata="<x/>", parsed=None, entity_id=None, certificates=None))
    (one,) = read(mine, saml_providers, PageRequest((mine.id,))).rows
    assert (one.entity_id, one.certificates, bool(one.error)) == ("", (), True)
    assert (FindingKind.METADATA_FAILED, "Corp") in worries(mine)


def test_a_second_factor_of_either_kind_ends_the_worry(mine):
    assert (FindingKind.USER_WITHOUT_FACTOR, "Ann") not in worries(mine)
    give_password(mine)
    (ann,) = read(mine, users, PageRequest((mine.id,), "ann")).rows
    assert ann.has_password
    assert (FindingKind.USER_WITHOUT_FACTOR, "Ann") in worries(mine)
    with mine.store.write() as tx:
        factors.add_passkey(tx, iam_person_id(mine.id, ann.id), "key", b"1", b"k", 0, mine.now, mine.vault, mine.random)
    assert (FindingKind.USER_WITHOUT_FACTOR, "Ann") not in worries(mine)
    assert (FindingKind.ROOT_WITHOUT_FACTOR, "") in worries(mine)
    seed = bytes(20)
    code = totp.code_at(seed, totp.step_at(mine.now))
    with mine.store.write() as tx:
        factors.add_totp(tx, iam_person_id(mine.id, None), "app", seed, code, mine.now, mine.vault, mine.random)
    assert (FindingKind.ROOT_WITHOUT_FACTOR, "") not in worries(mine)
    assert (FindingKind.ROOT_WITH_KEY, "") in worries(mine)


def test_keys_are_a_worry_after_ninety_days_and_not_before(mine):
    day = timedelta(days=1)
    assert (FindingKind.KEY_UNUSED, "Ann") not in worries(mine, mine.now + 90 * day)
    assert (FindingKind.KEY_UNUSED, "Ann") in worries(mine, mine.now + 90 * day + day / 24)


def test_metadata_that_nobody_refreshes_is_a_worry_before_it_ends(mine):
    until = mine.now + timedelta(days=20)
    document = metadata(attributes=f' validUntil="{until:%Y-%m-%dT%H:%M:%SZ}"')
    do(mine, "UpdateSAMLProvider", SAMLProviderArn=f"arn:aws:iam::{mine.id}:saml-provider/Corp",
       SAMLMetadataDocument=document)  # fmt: skip
    assert (FindingKind.METADATA_ENDS, "Corp") in worries(mine)


# --- pages ------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 3 * PAGE), st.sampled_from(["", "1", "2 1", "x"]))
def test_the_pages_of_a_list_are_the_list(count, query):
    things = [str(number) for number in range(count)]
    first = paginate(things, PageRequest((), query), str)
    together = [
        row for page in range(first.pages) for row in paginate(things, PageRequest((), query, page + 1), str).rows
    ]
    assert together == [one for one in things if all(word in one for word in query.split())]
    assert first.found == len(together)


@given(st.text(), st.text())
@example("", "100000" + "0" * 5000)  # more digits than Python reads
def test_whatever_an_address_says_is_some_page(query, page):
    scope = PageRequest.of(("1",), query, page)
    assert 1 <= scope.page <= 100_000
    assert len(scope.query) <= 200
    assert paginate(["a"], scope, str).page == 1
