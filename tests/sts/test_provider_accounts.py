"""Which accounts' roles a shared provider serves, and which roles are chosen for somebody who names none."""

from datetime import UTC, datetime

import pytest

from sts.identity import Identity
from sts.provider_accounts import ProviderAccounts

FIRST, OTHER = "111122223333", "000000000007"
SET = ProviderAccounts({"ldap-provider/corp": frozenset({OTHER})})


def role(account):
    return f"arn:aws:iam::{account}:role/r"


def somebody(provider="ldap-provider/corp", account_id=""):
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return Identity(provider=provider, subject="1", name="ann", authenticated_at=moment, account_id=account_id)


@pytest.mark.parametrize(
    ("accounts", "provider", "role_arn", "serves", "chooses"),
    [
        (ProviderAccounts(), "ldap-provider/corp", role(FIRST), True, True),
        (ProviderAccounts(), "ldap-provider/corp", role(OTHER), True, False),
        (ProviderAccounts(), "ldap-provider/corp", "no ARN", True, False),
        (SET, "ldap-provider/corp", role(FIRST), False, False),
        (SET, "ldap-provider/corp", role(OTHER), True, True),
        (SET, "ldap-provider/corp", "no ARN", False, False),
        (SET, "ldap-provider/lab", role(OTHER), True, False),
    ],
)
def test_the_operator_says_whose_roles_a_directory_serves(accounts, provider, role_arn, serves, chooses):
    identity = somebody(provider)
    assert accounts.serves(identity, role_arn) is serves
    assert accounts.chooses(identity, role_arn, FIRST) is chooses


def test_a_provider_of_an_account_is_bound_to_it_elsewhere():
    assert ProviderAccounts().chooses(somebody(account_id=OTHER), role(OTHER), FIRST)
