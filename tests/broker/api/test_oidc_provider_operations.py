"""OpenID Connect providers of IAM: made, changed, tagged, listed and deleted as in AWS."""

import pytest
from support.administrator import Administrator, allow, deny, refused, statements
from support.web_identity_fixtures import open_setup
from support.web_server import web_server

URL = "https://server.example.org/realms/main"


@pytest.fixture
def admin(installation):
    return Administrator.of_a_new_account(installation, "111122223333")


@pytest.fixture
def arn(admin):
    clients = {"ClientIDList.member.1": "my-app", "ThumbprintList.member.1": "a" * 40}
    return admin.do("CreateOpenIDConnectProvider", Url=URL, **clients).text("OpenIDConnectProviderArn")


def call(admin, action, **parameters):
    return admin.installation.call(action, admin.root, **parameters)


def found(admin, arn):
    return admin.do("GetOpenIDConnectProvider", OpenIDConnectProviderArn=arn)


def clients(answer):
    return answer.body.decode().partition("<ClientIDList>")[2].partition("</ClientIDList>")[0].count("<member>")


def test_a_provider_has_an_arn_of_its_address_and_is_told_whole(admin, arn):
    assert arn == "arn:aws:iam::111122223333:oidc-provider/server.example.org/realms/main"
    answer = found(admin, arn)
    assert answer.text("Url") == "server.example.org/realms/main"
    assert "<member>my-app</member>" in answer.body.decode()
    assert f"<member>{'a' * 40}</member>" in answer.body.decode()
    assert answer.text("CreateDate")
    listed = admin.do("ListOpenIDConnectProviders")
    assert listed.text("Arn") == arn
    assert admin.do("GetAccountSummary").body.decode().count("Providers") == 1


@pytest.mark.parametrize(
    "url", [URL, URL.upper().replace("HTTPS", "https"), f"{URL}/", URL.replace(".org", ".org:443")]
)
def test_an_address_is_there_once(admin, arn, url):
    del arn
    answer = call(admin, "CreateOpenIDConnectProvider", Url=url)
    refused(answer, 409, "EntityAlreadyExists", "Provider with url https://")


@pytest.mark.parametrize(
    "url",
    ["http://server.example.org", "server.example.org", "https://", "https://a.example/?x", "https://a.example/#x",
     "https://u@a.example/", "https://a.example:99999", "https://a b.example", "https://a.example//b", "ftp://a.example",
     "https://ä.example", "https://a.example/%41", "https://*", "https://.", "https://a..b", "https://a.example:",
     "https://a.example/*", "https://a.example/${aws:x}", "https://a.example/../x", "https://a.example/.",
     "https://a.example:0", "https://-a.example", "https://a.example/;x", "https://aws", "https://AWS/", "https://saml",
     "https://aws:8443/x", "https://sts", "https://ldap", "https://s3", "https://ec2/"],
)  # fmt: skip
def test_an_address_that_is_none_is_refused(admin, url):
    answer = call(admin, "CreateOpenIDConnectProvider", Url=url)
    refused(answer, 400, "ValidationError", "Invalid Open ID Connect Provider URL")


@pytest.mark.parametrize("url", ["https://www.amazon.com", "https://graph.facebook.com/x"])
def test_services_that_are_asked_about_access_tokens_are_no_issuers(admin, url):
    answer = call(admin, "CreateOpenIDConnectProvider", Url=url)
    refused(answer, 400, "ValidationError", "need no provider")


def test_a_slash_at_the_end_is_part_of_the_address_as_in_aws(admin):
    arn = admin.do("CreateOpenIDConnectProvider", Url="https://tenant.example/").text("OpenIDConnectProviderArn")
    assert arn == "arn:aws:iam::111122223333:oidc-provider/tenant.example/"
    assert found(admin, arn).text("Url") == "tenant.example/"
    bare = call(admin, "GetOpenIDConnectProvider", OpenIDConnectProviderArn=arn.rstrip("/"))
    refused(bare, 404, "NoSuchEntity", "not found")


@pytest.mark.parametrize(
    "url", ["evil.example", "evil.example/", "EVIL.example", "Evil.Example/", "evil.example:443", "evil.example:0443/"]
)
def test_no_spelling_of_an_issuer_passes_a_deny_of_it(admin, url):
    for number, denied in enumerate(("evil.example", "evil.example/", "evil.example:443")):
        both = statements(allow("iam:*"), deny("*", admin.arn("oidc-provider", denied)))
        user = admin.user(f"denied-{number}", both)
        answer = admin.installation.call("CreateOpenIDConnectProvider", user, Url=f"https://{url}")
        refused(answer, 403, "AccessDenied", "with an explicit deny in an identity-based policy")


def test_only_the_address_itself_must_be_allowed(admin):
    user = admin.user("allowed", allow("iam:*", admin.arn("oidc-provider", "tenant.example/")))
    for url, status in (("https://tenant.example", 403), ("https://tenant.example/", 200)):
        assert admin.installation.call("CreateOpenIDConnectProvider", user, Url=url).status == status


def test_clients_come_and_go_without_complaint(admin, arn):
    steps = [("Add", "other", 2), ("Add", "other", 2), ("Remove", "nobody", 2), ("Remove", "my-app", 1)]
    for action, client, left in [*steps, ("Remove", "other", 0)]:
        where = "To" if action == "Add" else "From"
        admin.do(f"{action}ClientID{where}OpenIDConnectProvider", OpenIDConnectProviderArn=arn, ClientID=client)
        assert clients(found(admin, arn)) == left


def test_there_are_a_hundred_clients_and_five_thumbprints_at_most(admin, arn):
    many = {f"ClientIDList.member.{number}": f"c{number}" for number in range(1, 102)}
    refused(call(admin, "CreateOpenIDConnectProvider", Url="https://b.example", **many), 409, "LimitExceeded",
            "Cannot exceed quota for ClientIdsPerOpenIdConnectProvider: 100")  # fmt: skip
    for number in range(99):
        admin.do("AddClientIDToOpenIDConnectProvider", OpenIDConnectProviderArn=arn, ClientID=f"c{number}")
    answer = call(admin, "AddClientIDToOpenIDConnectProvider", OpenIDConnectProviderArn=arn, ClientID="one-more")
    refused(answer, 409, "LimitExceeded")
    prints = {f"ThumbprintList.member.{number}": f"{number}" * 40 for number in range(1, 7)}
    refused(call(admin, "CreateOpenIDConnectProvider", Url="https://b.example", **prints), 400, "InvalidInput")


def test_thumbprints_are_replaced_and_must_be_some(admin, arn):
    change = {"OpenIDConnectProviderArn": arn, "ThumbprintList.member.1": "B" * 40}
    admin.do("UpdateOpenIDConnectProviderThumbprint", **change)
    assert "B" * 40 in found(admin, arn).body.decode()
    for wrong in ("b" * 39, "x" * 40):
        answer = call(admin, "UpdateOpenIDConnectProviderThumbprint", **change | {"ThumbprintList.member.1": wrong})
        assert answer.status == 400


def test_tags_are_those_of_anything_else(admin, arn):
    tag = {"Tags.member.1.Key": "Team", "Tags.member.1.Value": "red"}
    admin.do("TagOpenIDConnectProvider", OpenIDConnectProviderArn=arn, **tag)
    assert found(admin, arn).text("Key") == "Team"
    assert admin.do("ListOpenIDConnectProviderTags", OpenIDConnectProviderArn=arn).text("Value") == "red"
    admin.do("UntagOpenIDConnectProvider", OpenIDConnectProviderArn=arn, **{"TagKeys.member.1": "team"})
    assert found(admin, arn).text("Key") is None


def test_what_is_deleted_is_gone_and_deleting_it_again_is_no_error(admin, arn):
    for _ in range(2):
        admin.do("DeleteOpenIDConnectProvider", OpenIDConnectProviderArn=arn)
    answer = call(admin, "GetOpenIDConnectProvider", OpenIDConnectProviderArn=arn)
    refused(answer, 404, "NoSuchEntity", f"OpenIDConnect Provider not found for arn {arn}")


def test_an_account_sees_its_own_alone(admin, arn):
    other = Administrator.of_a_new_account(admin.installation)
    assert call(other, "GetOpenIDConnectProvider", OpenIDConnectProviderArn=arn).status == 404
    assert other.do("ListOpenIDConnectProviders").text("Arn") is None


def test_an_account_has_a_hundred_at_most(admin):
    for number in range(100):
        admin.do("CreateOpenIDConnectProvider", Url=f"https://n{number}.example")
    answer = call(admin, "CreateOpenIDConnectProvider", Url="https://more.example")
    refused(answer, 409, "LimitExceeded", "Cannot exceed quota for OpenIdConnectProvidersPerAccount: 100")


def test_where_the_operator_wants_it_the_issuer_of_a_new_provider_is_contacted(tmp_path, redis_url):
    with web_server(tmp_path) as server:
        world = open_setup(tmp_path, redis_url, server, FEDGATE_WEB_IDENTITY_CONTACT_ISSUERS="true")
        nobody = call(world.admin, "CreateOpenIDConnectProvider", Url=server.url("/nobody"))
        refused(nobody, 400, "OpenIdIdpCommunicationError", "IAM cannot connect to the")
        thumbprint = {"ThumbprintList.member.1": "a" * 40}
        assert call(world.admin, "CreateOpenIDConnectProvider", Url=server.url("/nobody"), **thumbprint).status == 200
        invalid = call(world.admin, "CreateOpenIDConnectProvider", Url="https://aws")
        refused(invalid, 400, "ValidationError", "Invalid Open ID Connect Provider URL")
        world.installation.close()
