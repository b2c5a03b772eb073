"""A tenant may create every OpenID Connect provider but one, and tries to create that one under another spelling."""

import pytest
from botocore.credentials import Credentials
from support.broker_process import ACCOUNT, Broker, document, error_code

DENIED = f"arn:aws:iam::{ACCOUNT}:oidc-provider/evil.example"
SPELLINGS = ("evil.example", "evil.example/", "EVIL.example", "evil.example:443", "Evil.example:443/")


@pytest.fixture
def tenant(served: Broker):
    iam = served.client("iam")
    iam.create_user(UserName="issuer-tenant")
    policy = document(
        {"Effect": "Allow", "Action": "iam:*", "Resource": "*"}, {"Effect": "Deny", "Action": "*", "Resource": DENIED}
    )
    iam.put_user_policy(UserName="issuer-tenant", PolicyName="p", PolicyDocument=policy)
    key = iam.create_access_key(UserName="issuer-tenant")["AccessKey"]
    return served.client("iam", Credentials(key["AccessKeyId"], key["SecretAccessKey"]))


def test_no_spelling_of_a_denied_issuer_is_created(tenant):
    thumbprints = ["0" * 40]
    for url in SPELLINGS:
        made = error_code(tenant.create_open_id_connect_provider, Url=f"https://{url}", ThumbprintList=thumbprints)
        assert made == "AccessDenied", url


def test_no_issuer_has_the_condition_keys_of_aws(served: Broker):
    iam = served.client("iam")
    for host in ("aws", "saml", "sts", "ldap", "s3"):
        made = error_code(iam.create_open_id_connect_provider, Url=f"https://{host}", ThumbprintList=["0" * 40])
        assert made == "ValidationError", host
