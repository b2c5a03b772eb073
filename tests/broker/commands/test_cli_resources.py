"""The commands about resources, called in this process."""

import json

import pytest
from support.documents import allow, trust


def facts(text):
    return json.loads(text)


# --- list and show ----------------------------------------------------------------------------------------------------


def test_resources_are_listed(fedgate, admin):
    assert facts(fedgate("resource", "list", "--json")) == [
        {
            "name": "store",
            "kind": "s3",
            "hosts": ["s3.example.com", "*.s3.example.com"],
            "account": admin.account_id,
        },
        {"name": "api", "kind": "http", "hosts": ["api.example.com"], "account": admin.account_id},
        {"name": "plain", "kind": "http", "hosts": ["plain.example.com"], "account": admin.account_id},
    ]
    assert "s3.example.com, *.s3.example.com" in fedgate("resource", "list")
    told = fedgate("check-config")
    assert "store (s3: s3.example.com, *.s3.example.com); api (http: api.example.com)" in told


def test_a_store_is_shown_with_its_policies_and_without_its_secret(fedgate):
    fedgate(
        "resource",
        "policy",
        "put",
        "store",
        "-",
        "--bucket",
        "photos",
        told=allow(resource="arn:aws:s3:::photos/*", Principal="*"),
    )
    told = fedgate("resource", "show", "store")
    for text in ("policy_file", "policy.json", "http://127.0.0.1:7480 with the key RGW", "policy of", "photos"):
        assert text in told
    assert "hush" not in told
    shown = facts(fedgate("resource", "show", "store", "--json"))
    assert [one["bucket"] for one in shown["policies"]] == ["photos"]
    assert (shown["regions"], shown["audit"], shown["service"]) == ("any", "all", "s3")


def test_an_api_is_shown_with_its_routes_or_with_the_convention(fedgate, admin):
    told = fedgate("resource", "show", "api")
    assert "GET, HEAD" in told
    assert "/teams/{team} ?all=* x-purpose: audit" in told
    (first, _second) = facts(fedgate("resource", "show", "api", "--json"))["routes"]
    assert first["keys"] == {"reports:team": "{team}"}
    arn = f"arn:aws:execute-api:us-east-1:{admin.account_id}:plain/prod/METHOD/PATH"
    assert f"execute-api:Invoke on {arn}" in fedgate("resource", "show", "plain")


@pytest.mark.parametrize(
    ("name", "told"), [("stor", "Did you mean store?"), ("nothing-like-it", "They have: store, api, plain.")]
)
@pytest.mark.parametrize("command", [("show",), ("policy", "put")])
def test_a_resource_that_the_settings_do_not_have_is_named(fedgate, command, name, told):
    document = ("-",) if command[0] == "policy" else ()
    out = fedgate("resource", *command, name, *document, status=1, told=allow(Principal="*"))
    assert f"no [resource.{name}]. {told}" in out


# --- policies ---------------------------------------------------------------------------------------------------------


def test_a_policy_is_set_shown_and_deleted_and_each_change_is_recorded(fedgate, admin):
    document = allow("s3:GetObject", "arn:aws:s3:::photos/*", Principal={"AWS": admin.arn("user", "ann")})
    assert facts(fedgate("resource", "policy", "put", "store", "-", "--bucket", "photos", "--json", told=document)) == {
        "resource": "store",
        "bucket": "photos",
        "findings": [],
    }
    assert fedgate("resource", "policy", "get", "store", "--bucket", "photos") == document + "\n"
    assert "has no policy of its own" in fedgate("resource", "policy", "get", "store", status=1)
    assert "store/photos" in fedgate("resource", "policy", "delete", "store", "--bucket", "photos")
    assert "has no policy" in fedgate("resource", "policy", "delete", "store", "--bucket", "photos", status=1)
    lines = fedgate("audit", "tail", "-n", "50", "--json").splitlines()
    records = [one for one in map(json.loads, lines) if one["eventSource"] == "operator.fedgate"]
    assert [one["eventName"] for one in records] == ["PutResourcePolicy", "DeleteResourcePolicy"]
    assert records[0]["requestParameters"] == {"resource": "store", "bucket": "photos", "document": document}
    assert {one["recipientAccountId"] for one in records} == {admin.account_id}


def test_findings_are_told_and_do_not_keep_a_policy_out(fedgate):
    told = fedgate("resource", "policy", "put", "api", "-", told=allow("reports:GetReprt", Principal="*"))
    assert "SECURITY_WARNING TRUST_TO_EVERYONE (Statement[0].Principal)" in told
    assert "reports:GetReprt: the service reports has no such action." in told
    assert "GetReprt" in fedgate("resource", "policy", "get", "api")


@pytest.mark.parametrize(
    ("arguments", "document", "status", "told"),
    [
        (("api", "--bucket", "photos"), allow(Principal="*"), 2, "api is of kind http and has no buckets"),
        (("store", "--bucket", "a/b"), allow(Principal="*"), 1, "A bucket's name has"),
        (("store",), allow(), 1, "Missing required field Principal"),
        (("store",), "{", 1, "Syntax errors in policy."),
        (("store",), allow(Principal={"AWS": "arn:aws:iam::111122223333:user/nobody"}), 1, "Invalid principal in poli"),
        (("store",), allow(Principal="*", Sid="x" * 20_481), 1, "ResourcePolicySize"),
    ],
)
def test_what_is_no_policy_of_the_resource_is_refused(fedgate, arguments, document, status, told):
    name, *options = arguments
    assert told in fedgate("resource", "policy", "put", name, "-", *options, status=status, told=document)


def test_the_policy_of_a_resource_that_is_gone_can_still_be_deleted(fedgate, settings):
    fedgate("resource", "policy", "put", "plain", "-", told=allow("execute-api:Invoke", Principal="*"))
    settings.write_text(settings.read_text().replace("[resource.plain]", "[resource.new]"))
    assert "execute-api" in fedgate("resource", "policy", "get", "plain")
    assert facts(fedgate("resource", "policy", "delete", "plain", "--json")) == {"resource": "plain", "bucket": ""}


# --- what does not exist ----------------------------------------------------------------------------------------------


def test_accounts_roles_and_principals_that_do_not_exist_are_findings(fedgate, settings, admin):
    assert "finding: resource" not in fedgate("check-config")
    (settings.parent / "policy.json").write_text(
        allow(Principal={"AWS": [admin.arn("user", "ann"), admin.arn("user", "x")]})
    )
    text = settings.read_text().replace(f'account = "{admin.account_id}"\nstage', 'account = "999999999999"\nstage')
    settings.write_text(text.replace("anonymous = true", f'browser = "{admin.arn("role", "web")}"'))
    findings = facts(fedgate("check-config", "--json"))["findings"]
    assert [one for one in findings if one.startswith("resource.")] == [
        f"resource.store: {admin.arn('user', 'x')} of policy_file does not exist",
        f"resource.api: the role {admin.arn('role', 'web')} of browser does not exist, so that nobody gets in with it",
        "resource.plain: there is no account 999999999999, so that nobody is the owner: `fedgate account create`",
    ]
    admin.do("CreateRole", RoleName="web", AssumeRolePolicyDocument=trust("*"))
    assert "of browser does not exist" not in fedgate("check-config")


def test_without_a_database_there_is_nothing_to_find(fedgate, settings, tmp_path):
    settings.write_text(f'[database]\nurl = "sqlite:///{tmp_path}/none.db"\n{settings.read_text()}')
    assert "finding: resource" not in fedgate("check-config")
    assert not (tmp_path / "none.db").exists()
