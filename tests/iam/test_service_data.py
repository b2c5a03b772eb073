import pytest

from iam.service_data import ServiceData

SERVICES = ServiceData()


@pytest.mark.parametrize("name", ["s3", "S3", "iam", "sts", "access-analyzer"])
def test_services_are_known_in_any_case(name):
    assert SERVICES.has_service(name)
    assert SERVICES.actions(name)


@pytest.mark.parametrize("name", ["", "s4", "../services", "s3/..", "s" * 65, "ünïcode", "*"])
def test_what_is_no_service_has_no_actions_and_names_no_file(name):
    assert not SERVICES.has_service(name)
    assert SERVICES.actions(name) == {}


def test_actions_are_found_in_lower_case_and_our_own_is_among_them():
    assert SERVICES.actions("s3")["getobject"] == "GetObject"
    assert SERVICES.actions("sts")["assumerolewithldapidentity"] == "AssumeRoleWithLDAPIdentity"


@pytest.mark.parametrize(
    ("key", "kind", "many"),
    [
        ("aws:SourceIp", "IPAddress", False),
        ("AWS:PRINCIPALTAG/team", "String", False),
        ("aws:PrincipalTag", None, None),
        ("aws:TagKeys", "ArrayOfString", True),
        ("aws:nosuch", None, None),
        ("s3:prefix", "String", False),
        ("s3:ExistingObjectTag/a/b", "String", False),
        ("iam:ResourceTag/team", "String", False),
        ("sts:ExternalId", "String", False),
        ("saml:cn", "ArrayOfString", True),
        ("accounts.google.com:aud", "String", False),
        ("id.example.com:groups", "Any", None),
        ("ldap:groups", "ArrayOfString", True),
        ("ldap:mail", "Any", None),
        ("saml:attribute/department", "Any", None),
        ("nosuch:key", None, None),
    ],
)
def test_condition_keys_have_types(key, kind, many):
    assert (SERVICES.key_type(key), SERVICES.is_multivalued(key)) == (kind, many)


@pytest.mark.parametrize(
    ("action", "form"),
    [
        ("s3:GetObject", "arn:${Partition}:s3:::${BucketName}/${ObjectName}"),
        ("IAM:CreateUser", "arn:${Partition}:iam::${Account}:user/${UserNameWithPath}"),
        ("sts:AssumeRoleWithLDAPIdentity", "arn:${Partition}:iam::${Account}:role/${RoleNameWithPath}"),
        ("s3:ListAllMyBuckets", "*"),
        ("s3:NoSuch", "*"),
        ("nosuch:Action", "*"),
    ],
)
def test_an_action_has_a_form_of_resource(action, form):
    assert SERVICES.resource_template(action) == form
