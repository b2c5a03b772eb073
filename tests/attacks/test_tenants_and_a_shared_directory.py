"""A tenant lets its own role trust the directory that all share, to break or capture sign-ins that name no role."""

from botocore.credentials import Credentials
from support.broker_process import ACCOUNT, DIRECTORY, Broker, client, document, role_arn, sign_in
from support.servers import eventually

TENANT = "000000000007"  # sorts before every other account
EVERYBODY = document(
    {
        "Effect": "Allow",
        "Principal": {"Federated": f"arn:aws:iam::{TENANT}:ldap-provider/{DIRECTORY}"},
        "Action": "sts:AssumeRoleWithLDAPIdentity",
    }
)
CAPTURING = f"arn:aws:iam::{TENANT}:role/AAA"


def lay_trap(broker: Broker) -> None:
    """Give the tenant a role that trusts everybody in the directory."""
    root = broker.fedgate("account", "create", "--id", TENANT, "--alias", "tenant")["root"]
    tenant = client("iam", broker.endpoint, Credentials(root["access_key_id"], root["secret_access_key"]))
    tenant.create_role(RoleName="AAA", AssumeRolePolicyDocument=EVERYBODY)


def test_a_role_of_a_tenant_neither_breaks_nor_captures_a_sign_in_without_a_role(new_broker):
    broker = new_broker()
    lay_trap(broker)
    eventually(lambda: sign_in(broker.endpoint, "bob", role=CAPTURING).status == 200)
    for _ in range(4):  # by both workers
        answer = broker.sign_in("bob")
        assert answer.status == 200, answer.body
        assert f"arn:aws:sts::{ACCOUNT}:assumed-role/Reader/" in answer.body.decode()
    # Nobody whom no role of the first account trusts is sent to the tenant.
    assert broker.sign_in("frank").code == "AccessDenied"


def test_where_the_operator_names_the_accounts_a_tenant_has_no_part_in_the_directory(new_broker):
    broker = new_broker(directory_settings={"accounts": [ACCOUNT]})
    lay_trap(broker)
    assert broker.sign_in("bob").status == 200
    assert sign_in(broker.endpoint, "bob", role=CAPTURING).code == "AccessDenied"
    assert sign_in(broker.endpoint, "bob", role=role_arn("Reader")).status == 200
