"""What directories say when they refuse, and what the audit log makes of it."""

import pytest

from broker.providers.ldap.bind_errors import (
    as_openldap_means,
    bind_refusal,
    needs_vendor_to_judge,
    policy_error,
    policy_refusal,
)
from sts.identity import Refusal

# Active Directory's diagnosticMessage; only the code after "data" differs.
SUBCODES = {
    "525": "unknown user",
    "52e": "wrong password",
    "530": "outside logon hours",
    "531": "not allowed from this workstation",
    "532": "password expired",
    "533": "account disabled",
    "701": "account expired",
    "773": "password must be changed",
    "775": "account locked",
}
# Microsoft documents these as answers to a right password alone.
PROVED = {"530", "531", "532", "533", "701", "773"}


def from_active_directory(subcode):
    return f"80090308: LdapErr: DSID-0C09041C, comment: AcceptSecurityContext error, data {subcode}, v4563\0"


@pytest.mark.parametrize(("subcode", "reason"), SUBCODES.items())
def test_the_audit_log_has_active_directorys_exact_reason(subcode, reason):
    refused = bind_refusal(49, from_active_directory(subcode))
    assert refused.reason == reason
    assert f"data {subcode}" in refused.detail


@pytest.mark.parametrize("subcode", [*SUBCODES, "52f", "568", "999", "52E"])
def test_active_directory_proves_the_password_where_it_says_what_only_the_right_one_hears(subcode):
    refused = bind_refusal(49, from_active_directory(subcode))
    assert refused.password_correct is (subcode in PROVED)
    assert refused.counts_as_failure is not refused.password_correct, "a right password is no guess, any other is"
    assert refused.changeable is (subcode in {"532", "773"})


@pytest.mark.parametrize("result", [19, 32, 48, 50, 53])
@pytest.mark.parametrize("subcode", sorted(PROVED))
def test_a_subcode_in_another_result_than_invalid_credentials_proves_nothing(result, subcode):
    assert not bind_refusal(result, from_active_directory(subcode)).password_correct


EXPIRED, LOCKED, RESET = 0, 1, 2


@pytest.mark.parametrize(
    ("message", "proved"),
    [
        ("password expired!", True),  # 389 Directory Server, after the bind
        ("Password is expired.\n", False),  # FreeIPA's grace periods, before the bind
        ("INVALID_CREDENTIALS: Bind failed: password expired", False),  # ApacheDS, before the password is compared
        ("", False),  # slapd, and whoever else: the kind of directory has to tell
    ],
)
def test_an_expired_password_is_proved_where_the_words_show_who_said_it(message, proved):
    refused = bind_refusal(49, message, EXPIRED)
    assert (refused.reason, refused.password_correct, refused.no_change_possible) == (
        "password expired",
        proved,
        proved,
    )
    assert needs_vendor_to_judge(refused) is not proved
    assert not refused.changeable, "nobody is let in to change it"


def test_openldap_says_expired_only_of_the_right_password():
    refused = as_openldap_means(bind_refusal(49, "", EXPIRED))
    assert (refused.password_correct, refused.counts_as_failure, refused.changeable) == (True, False, False)


@pytest.mark.parametrize("message", ["", "password expired!", from_active_directory("532")])
def test_a_locked_account_never_proves_the_password(message):
    refused = bind_refusal(49, message, LOCKED)
    assert (refused.reason, refused.password_correct, refused.counts_as_failure) == ("account locked", False, True)
    assert not needs_vendor_to_judge(refused)


def test_only_what_a_new_password_mends_is_changeable():
    reasons = {reason for reason in SUBCODES.values() if Refusal(reason, password_correct=True).changeable}
    assert reasons == {"password expired", "password must be changed"}
    assert not any(Refusal(reason).changeable for reason in SUBCODES.values())
    assert not any(
        Refusal(reason, password_correct=True, no_change_possible=True).changeable for reason in SUBCODES.values()
    )


@pytest.mark.parametrize(
    ("result", "message", "reason"),
    [
        (49, "", "wrong password"),
        (49, "80090308: LdapErr: DSID-0C09041C, data 999, v4563", "wrong password"),
        (49, "8009030C: LdapErr: DSID-0C0904DC, DATA 52E, v3839", "wrong password"),
        (49, "database 5333 is busy", "wrong password"),
        (19, "Exceed password retry limit. Please try later.", "account locked"),
        (53, "Account inactivated. Contact system administrator.", "account disabled"),
    ],
)
def test_a_refusal_without_a_known_subcode_has_the_reason_of_its_result(result, message, reason):
    assert bind_refusal(result, message).reason == reason


@pytest.mark.parametrize("result", [1, 2, 3, 7, 8, 10, 11, 13, 51, 52, 80, 118, 4096])
def test_what_is_no_verdict_on_the_password_is_an_outage(result):
    assert bind_refusal(result, "") is None


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("3003810101", 1),
        ("3003810100", 0),
        ("300aa0058001" + "3c" + "00" * 0 + "810102", None),  # lengths that do not add up are not read further
        ("3008a003800105810102", 2),
        ("3005a003810103", None),  # only a warning
        ("3000", None),
        ("", None),
        ("ff", None),
        ("30", None),
    ],
)
def test_the_password_policys_control_is_read_or_left(value, error):
    assert policy_error(bytes.fromhex(value)) == error


def test_a_bind_that_only_lets_somebody_change_the_password_admits_nobody():
    for error in (EXPIRED, RESET):
        assert policy_refusal(error).changeable
        assert not policy_refusal(error).counts_as_failure
    assert policy_refusal(RESET).reason == "password must be changed"
    assert policy_refusal(None) is None
    assert policy_refusal(7) is None


def test_a_bind_that_succeeds_for_a_locked_account_admits_nobody_and_proves_nothing():
    assert (policy_refusal(LOCKED).reason, policy_refusal(LOCKED).password_correct) == ("account locked", False)


@pytest.mark.parametrize("result", [49, 53])
def test_a_long_diagnostic_is_cut(result):
    assert len(bind_refusal(result, "x" * 100_000).detail) <= 300
