"""What directories say when they refuse, and what the audit log makes of it."""

import pytest

from broker.providers.ldap_refusals import policy_error, policy_refusal, refusal

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


@pytest.mark.parametrize(("subcode", "reason"), SUBCODES.items())
def test_the_audit_log_has_active_directorys_exact_reason(subcode, reason):
    message = f"80090308: LdapErr: DSID-0C09041C, comment: AcceptSecurityContext error, data {subcode}, v4563\0"
    refused = refusal(49, message)
    assert refused.reason == reason
    assert f"data {subcode}" in refused.detail
    assert refused.counted


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
    assert refusal(result, message).reason == reason


@pytest.mark.parametrize("result", [1, 2, 3, 7, 8, 10, 11, 13, 51, 52, 80, 118, 4096])
def test_what_is_no_verdict_on_the_password_is_an_outage(result):
    assert refusal(result, "") is None


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
    assert policy_refusal(2).reason == "password must be changed"
    assert not policy_refusal(2).counted
    assert policy_refusal(None) is None


@pytest.mark.parametrize("result", [49, 53])
def test_a_long_diagnostic_is_cut(result):
    assert len(refusal(result, "x" * 100_000).detail) <= 300
