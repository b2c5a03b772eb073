"""AssumeRoleWithSAML through the whole application: a response in, credentials out, and every refusal."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from lxml import etree
from redis import Redis
from sqlalchemy import func, select
from support.administrator import Administrator, allow, assume, deny, refused, trust
from support.saml_fixtures import OUR_CERTIFICATE, open_setup
from support.saml_hostile import FAULTS, REJECTED, encrypted_faults, encrypting
from support.saml_idp import (
    ATTRIBUTES,
    AWS,
    ENTITY_ID,
    NS,
    Response,
    encoded,
    key_pair,
    metadata,
    signed,
)

from broker.providers.saml.provider import SamlServiceProvider
from iam.store.schema import used_marker

NOT_ALLOWED = "Not authorized to perform sts:AssumeRoleWithSAML"


@pytest.fixture(scope="module")
def world(tmp_path_factory, redis_url):
    made = open_setup(tmp_path_factory.mktemp("saml"), redis_url)
    yield made
    made.installation.close()


@pytest.fixture
def fresh(tmp_path, redis_url):
    made = open_setup(tmp_path, redis_url)
    yield made
    made.installation.close()


def last_record(installation):
    return json.loads(installation.services.storage.audit.path.read_text().splitlines()[-1])


def who(world, answer) -> dict[str, str]:
    found = world.installation.call("GetCallerIdentity", answer.credentials)
    return {name: found.text(name) for name in ("Arn", "UserId", "Account")}


def seconds_of(world, answer) -> int:
    return int((datetime.fromisoformat(answer.text("Expiration")) - world.clock()).total_seconds())


# --- what a good response gets ----------------------------------------------------------------------------------------


def test_the_answer_is_that_of_aws(world):
    answer = world.assume(world.response())
    assert answer.status == 200, answer.message
    told = {name: answer.text(name) for name in
            ("Arn", "AssumedRoleId", "Subject", "SubjectType", "Issuer", "Audience", "NameQualifier")}  # fmt: skip
    role_session = told.pop("AssumedRoleId")
    assert told == {
        "Arn": "arn:aws:sts::111122223333:assumed-role/developer/ann",
        "Subject": "ann",
        "SubjectType": "persistent",
        "Issuer": ENTITY_ID,
        "Audience": AWS,
        # of https://idp.example.com/metadata, 111122223333 and /Corp
        "NameQualifier": "P9LLD7nY4s53qfxY1kqlfihLnvo=",
    }
    assert answer.text("PackedPolicySize") is None
    assert seconds_of(world, answer) == 3600
    assert role_session.endswith(":ann")
    assert who(world, answer) == {"Arn": told["Arn"], "UserId": role_session, "Account": "111122223333"}


@pytest.mark.parametrize(
    "address",
    [
        "https://signin.aws.amazon.com/saml",
        "https://eu-central-1.signin.aws.amazon.com/saml",
        "https://us-east-1.signin.aws.amazon.com/saml/acs/SAMLSP1234567890",
        "http://127.0.0.1:8080/saml/111122223333/Corp/acs",
    ],
)
def test_a_response_may_have_been_sent_to_aws_or_to_us_and_that_address_is_the_audience(world, address):
    role = world.trusts(f"for{abs(hash(address))}", Condition={"StringEquals": {"saml:aud": address}})
    answer = world.assume(world.response(role=role, recipient=address, destination=address), role=role)
    assert (answer.status, answer.text("Audience")) == (200, address), answer.message


@pytest.mark.parametrize(
    "name",
    [
        "urn:amazon:webservices",
        "https://signin.aws.amazon.com/saml",
        "https://eu-west-1.signin.aws.amazon.com/saml",
        "http://127.0.0.1:8080/saml/111122223333/Corp/metadata",
        "http://127.0.0.1:8080/saml/111122223333/Corp/acs",
    ],
)
def test_a_response_may_be_made_for_aws_or_for_us(world, name):
    assert world.assume(world.response(audiences=((name,),))).status == 200


def test_the_words_of_the_signed_assertion_count_where_the_response_says_nothing(world):
    bare = replace(world.response(), response_issuer=None, destination=None)
    assert world.assume(bare).status == 200


def test_an_encrypted_assertion_is_read(world):
    assert world.assume(encrypting(OUR_CERTIFICATE)(world.response())).status == 200


def test_the_name_of_a_session_is_in_the_user_id_and_a_session_does_what_its_role_may(world):
    answer = world.assume(world.response(name="Ann.Lee@example.com"))
    assert who(world, answer)["Arn"].endswith(":assumed-role/developer/Ann.Lee@example.com")
    assert world.installation.call("ListRoles", answer.credentials).status == 200


def test_role_and_provider_stand_in_either_order_with_white_space(world):
    for value in (f"{world.provider},{world.role}", f" {world.role} ,\n {world.provider} "):
        assert world.assume(world.response(more={"Role": (value,)})).status == 200, value


def test_a_person_with_several_roles_takes_the_one_that_is_asked_for(world):
    second = world.trusts("second")
    both = tuple(f"{role},{world.provider}" for role in (world.role, second))
    answer = world.assume(world.response(more={"Role": both}), role=second)
    assert answer.text("Arn").endswith(":assumed-role/second/ann"), answer.message


# --- what the attributes make of a session ----------------------------------------------------------------------------

TAGGED = {"PrincipalTag:Project": ("Marketing",), "PrincipalTag:CostCenter": ("12345",)}


def test_tags_go_into_the_session_and_are_asked_of_the_trust_policy(world):
    role = world.admin.role("tagged", world.trusting(Condition={"StringEquals": {"aws:RequestTag/Project": "Marketing"},
                                                                "ForAllValues:StringEquals": {
                                                                    "aws:TagKeys": ["Project", "CostCenter"]}}),
                            allow("iam:ListRoles", Condition={"StringEquals": {
                                "aws:PrincipalTag/costcenter": "12345"}}))  # fmt: skip
    answer = world.assume(world.response(role=role, more=TAGGED), role=role)
    assert world.installation.call("ListRoles", answer.credentials).status == 200, answer.message
    other = TAGGED | {"PrincipalTag:Project": ("Sales",)}
    refused(world.assume(world.response(role=role, more=other), role=role), 403, "AccessDenied", NOT_ALLOWED)


def test_tags_need_the_leave_to_pass_tags(world):
    role = world.admin.role("untagged", trust({"Federated": world.provider}, "sts:AssumeRoleWithSAML"))
    assert world.assume(world.response(role=role), role=role).status == 200
    refused(world.assume(world.response(role=role, more=TAGGED), role=role), 403, "AccessDenied")


def test_a_source_identity_needs_leave_and_goes_through_a_chain(world):
    said = {"SourceIdentity": ("ann@corp",)}
    plain = world.admin.role("plain", trust({"Federated": world.provider}, "sts:AssumeRoleWithSAML"))
    refused(world.assume(world.response(role=plain, more=said), role=plain), 403, "AccessDenied")
    chained = world.admin.role("chained", trust({"AWS": world.role}, ["sts:AssumeRole", "sts:SetSourceIdentity"],
                               Condition={"StringEquals": {"aws:SourceIdentity": "ann@corp"}}))  # fmt: skip
    first = world.assume(world.response(more=said))
    assert first.text("SourceIdentity") == "ann@corp"
    assert assume(world.installation, first.credentials, chained).text("SourceIdentity") == "ann@corp"
    nobody = world.assume(world.response())
    assert assume(world.installation, nobody.credentials, chained).status == 403


def test_transitive_tags_go_through_a_chain_and_others_do_not(world):
    more = TAGGED | {"TransitiveTagKeys": ("Project",)}
    for key, expected in (("Project", 200), ("CostCenter", 403)):
        value = TAGGED[f"PrincipalTag:{key}"][0]
        target = world.admin.role(f"by-{key}", trust({"AWS": world.role}, ["sts:AssumeRole", "sts:TagSession"]),
                                  allow("iam:ListRoles", Condition={"StringEquals": {
                                      f"aws:PrincipalTag/{key}": value}}))  # fmt: skip
        first = world.assume(world.response(more=more))
        second = assume(world.installation, first.credentials, target)
        assert world.installation.call("ListRoles", second.credentials).status == expected, key


def test_the_subject_stays_with_the_session(world):
    known = {"saml:sub": "ann", "saml:sub_type": "persistent", "saml:namequalifier": "P9LLD7nY4s53qfxY1kqlfihLnvo="}
    known |= {"aws:FederatedProvider": world.provider}
    for number, (key, value) in enumerate(known.items()):
        role = world.admin.role(f"subject{number}", world.trusting(),
                                allow("iam:ListRoles", Condition={"StringEquals": {key: value}}))  # fmt: skip
        answer = world.assume(world.response(role=role), role=role)
        assert world.installation.call("ListRoles", answer.credentials).status == 200, key
        answer = world.assume(world.response(role=role, subject="bob", name_format="urn:x"), role=role)
        assert world.installation.call("ListRoles", answer.credentials).status == (403 if "sub" in key else 200), key


def test_the_provider_may_make_a_session_shorter_and_never_longer(world):
    soon = world.clock() + timedelta(minutes=20)
    cases = [
        ({"SessionDuration": ("1800",)}, {}, None, 1800),
        ({"SessionDuration": ("1800",)}, {"DurationSeconds": 900}, None, 900),
        ({"SessionDuration": ("1800",)}, {"DurationSeconds": 7200}, None, 1800),
        ({"SessionDuration": ("43200",)}, {}, None, 3600),
        ({"SessionDuration": ("43200",)}, {"DurationSeconds": 7200}, None, 7200),
        ({}, {"DurationSeconds": 7200}, soon, 1200),
        ({"SessionDuration": ("900",)}, {}, soon, 900),
    ]
    for attributes, asked, until, seconds in cases:
        answer = world.assume(world.response(more=attributes, session_until=until), **asked)
        assert answer.status == 200, answer.message
        assert seconds_of(world, answer) == seconds, (attributes, asked)


def test_nobody_gets_more_than_the_role_allows(world):
    answer = world.assume(world.response(), DurationSeconds=7201)
    refused(answer, 400, "ValidationError", "MaxSessionDuration")


def test_a_session_policy_and_managed_policies_narrow_a_session(world):
    answer = world.assume(world.response(), Policy=allow("sts:GetCallerIdentity"))
    assert 0 < int(answer.text("PackedPolicySize")) <= 100
    assert world.installation.call("ListRoles", answer.credentials).status == 403
    arn = world.admin.policy("NoRoles", deny("iam:ListRoles"))
    answer = world.assume(world.response(), **{"PolicyArns.member.1.arn": arn})
    assert world.installation.call("ListRoles", answer.credentials).status == 403
    refused(world.assume(world.response(), Policy="{"), 400, "MalformedPolicyDocument")


# --- what a trust policy sees -----------------------------------------------------------------------------------------

SEEN = {
    "saml:iss": ENTITY_ID,
    "saml:doc": "111122223333/Corp",
    "saml:sub": "ann",
    "saml:sub_type": "persistent",
    "saml:namequalifier": "P9LLD7nY4s53qfxY1kqlfihLnvo=",
    "SAML:aud": AWS,
    "sts:RoleSessionName": "ann",
    "saml:eduPersonPrincipalName": "ann@example.com",
    "saml:mail": "ann@example.com",
    "saml:cn": "Ann Lee",
    "saml:uid": "alee",
    "saml:attribute/department": "sales",
}
ATTRIBUTES_OF_ANN = {
    "urn:oid:1.3.6.1.4.1.5923.1.1.1.6": ("ann@example.com",),
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress": ("ann@example.com",),
    "urn:oid:2.5.4.3": ("Ann Lee",),
    "0.9.2342.19200300.100.1.1": ("alee",),
    "urn:oid:1.3.6.1.4.1.5923.1.1.1.1": ("staff", "member"),
    "Department": ("sales",),
}


def about_ann(world, role) -> Response:
    made = world.response(role=role)
    return replace(made, attributes=made.attributes | ATTRIBUTES_OF_ANN)


@pytest.mark.parametrize("key", SEEN)
def test_a_trust_policy_asks_for_what_the_assertion_says(world, key):
    name = key.replace(":", "-").replace("/", "-")
    role = world.trusts(name, Condition={"StringEquals": {key: SEEN[key]}})
    assert world.assume(about_ann(world, role), role=role).status == 200
    other = world.trusts(f"not-{name}", Condition={"StringEquals": {key: f"{SEEN[key]}x"}})
    refused(world.assume(about_ann(world, other), role=other), 403, "AccessDenied", NOT_ALLOWED)


def test_several_values_of_an_attribute_are_several_values_of_the_key(world):
    role = world.trusts("staff", Condition={"ForAnyValue:StringEquals": {"saml:edupersonaffiliation": "staff"}})
    assert world.assume(about_ann(world, role), role=role).status == 200
    assert world.assume(world.response(role=role), role=role).status == 403


# --- what is not trusted ----------------------------------------------------------------------------------------------


def test_a_role_that_does_not_trust_the_provider_looks_like_one_that_is_not_there(world):
    for name, document in {"stranger": trust({"AWS": world.admin.account_id}), "none": None,
                           "other-action": trust({"Federated": world.provider}, "sts:AssumeRoleWithWebIdentity"),
                           }.items():  # fmt: skip
        role = world.admin.role(name, document) if document else world.admin.arn("role", "none")
        answer = world.assume(world.response(role=role), role=role)
        refused(answer, 403, "AccessDenied", NOT_ALLOWED)


def test_a_provider_that_is_not_there_is_refused(world):
    answer = world.assume(world.response(), provider=f"{world.provider}2")
    refused(answer, 400, "InvalidIdentityToken", "Specified provider doesn't exist")


def test_a_provider_vouches_in_its_own_account_alone(world, fresh_account):
    role = fresh_account.role("theirs", trust({"Federated": world.provider}, "sts:AssumeRoleWithSAML"))
    refused(world.assume(world.response(role=role), role=role), 403, "AccessDenied", NOT_ALLOWED)


@pytest.fixture(scope="module")
def fresh_account(world):
    return Administrator.of_a_new_account(world.installation)


ROLES = {
    "D30 missing": (None, 400, "InvalidIdentityToken", "Role is required in AuthnResponse"),
    "D30 empty": (("",), 400, "InvalidIdentityToken", "Role is required in AuthnResponse"),
    "D30 three parts": (("{role},{provider},x",), 400, "InvalidIdentityToken", "Role is required"),
    "D30 two roles in one": (("{role},{role}",), 400, "InvalidIdentityToken", "Role is required"),
    "D30 no provider": (("{role}",), 400, "InvalidIdentityToken", "Role is required"),
    "D30 another role": (("{role}s,{provider}",), 403, "AccessDenied", NOT_ALLOWED),
    "D30 another provider": (("{role},{provider}s",), 403, "AccessDenied", NOT_ALLOWED),
    "D30 another case": (("{upper},{provider}",), 403, "AccessDenied", NOT_ALLOWED),
}


@pytest.mark.parametrize("name", ROLES)
def test_the_assertion_must_name_the_role(world, name):
    values, status, code, message = ROLES[name]
    response = world.response()
    attributes = {key: value for key, value in response.attributes.items() if not key.endswith("/Role")}
    if values is not None:
        upper = world.role.replace("developer", "Developer")
        attributes[f"{ATTRIBUTES}Role"] = tuple(
            one.format(role=world.role, provider=world.provider, upper=upper) for one in values
        )
    refused(world.assume(replace(response, attributes=attributes)), status, code, message)


NAMED = "RoleSessionName in AuthnResponse must match [a-zA-Z_0-9+=,.@-]{2,64}"
SECONDS = "SessionDuration in AuthnResponse must be a number of seconds from 900 to 43200"
SOURCE = "Source Identity must match [a-zA-Z_0-9+=,.@-]{2,64}"
WRONG = {
    "D31 no name": ({"RoleSessionName": ()}, "RoleSessionName is required in AuthnResponse"),
    "D31 one character": ({"RoleSessionName": ("a",)}, NAMED),
    "D31 65 characters": ({"RoleSessionName": ("a" * 65,)}, NAMED),
    "D31 a space": ({"RoleSessionName": ("Ann Lee",)}, NAMED),
    "D31 a letter of another alphabet": ({"RoleSessionName": ("änn",)}, NAMED),
    "D31 a line end": ({"RoleSessionName": ("ann\n",)}, NAMED),
    "D31 two names": ({"RoleSessionName": ("ann", "bob")}, "RoleSessionName in AuthnResponse must have one value"),
    "D32 899": ({"SessionDuration": ("899",)}, SECONDS),
    "D32 43201": ({"SessionDuration": ("43201",)}, SECONDS),
    "D32 abc": ({"SessionDuration": ("abc",)}, SECONDS),
    "D32 other digits": ({"SessionDuration": ("٩٠٠",)}, SECONDS),
    "D32 two durations": ({"SessionDuration": ("900", "901")}, "SessionDuration in AuthnResponse must have one value"),
    "D32 reserved": ({"SourceIdentity": ("aws:ann",)}, SOURCE),
    "D32 source identity with a space": ({"SourceIdentity": ("a b",)}, SOURCE),
    "tag with two values": ({"PrincipalTag:a": ("1", "2")}, "PrincipalTag:a in AuthnResponse must be a tag with one"),
    "tag without a key": ({"PrincipalTag:": ("1",)}, "PrincipalTag: in AuthnResponse must be a tag with one value"),
    "tag with a long key": ({f"PrincipalTag:{'k' * 129}": ("1",)}, "PrincipalTag:"),
    "tag with a long value": ({"PrincipalTag:a": ("v" * 257,)}, "PrincipalTag:a in AuthnResponse"),
    "tags that differ in case": ({"PrincipalTag:a": ("1",), "PrincipalTag:A": ("1",)}, "Duplicate tag keys found."),
    "reserved tag": ({"PrincipalTag:aws:x": ("1",)}, "Tag keys that begin with aws: are reserved"),
    "51 tags": ({f"PrincipalTag:{n}": ("1",) for n in range(51)}, "AuthnResponse has more than 50 PrincipalTag"),
    "transitive and no tag": ({"TransitiveTagKeys": ("a",)}, "TransitiveTagKeys in AuthnResponse must name keys"),
}


@pytest.mark.parametrize("name", WRONG)
def test_attributes_that_do_not_fit_are_refused(world, name):
    attributes, message = WRONG[name]
    refused(world.assume(world.response(more=attributes)), 400, "InvalidIdentityToken", message)


# --- everything that the gate refuses, at this door -------------------------------------------------------------------

HOSTILE = FAULTS | encrypted_faults(OUR_CERTIFICATE)


def good_for_faults(world):
    return replace(world.response(), id="_response1", assertion_id="_assertion1")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_response_gets_nothing(world, name):
    fault = HOSTILE[name]
    text = fault.make(good_for_faults(world))
    answer = world.assume(text)
    if not 4 <= len(text) <= 100_000:
        refused(answer, 400, "ValidationError", "'sAMLAssertion' failed to satisfy constraint")
        return
    refused(answer, 403 if fault.code == REJECTED else 400, fault.code, fault.message)
    assert "Traceback" not in answer.body.decode()


@pytest.mark.parametrize("text", ["x" * 3, "x" * 100_001])
def test_what_is_too_short_or_too_long_is_refused_by_the_model(world, text):
    refused(world.assume(text), 400, "ValidationError", "'sAMLAssertion' failed to satisfy constraint")


def test_a_token_must_be_redeemed_within_five_minutes(world):
    late = "Token must be redeemed within 5 minutes of issuance"
    for seconds, expected in ((300, 200), (301, 400)):
        issued = world.clock() - timedelta(seconds=seconds)
        answer = world.assume(world.response(issued=issued))
        assert answer.status == expected, (seconds, answer.message)
    refused(answer, 400, "ExpiredTokenException", late)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1:8080.evil.example"])
def test_the_host_that_a_caller_names_is_nothing_to_the_addresses(world, host):
    """D34: the response was sent to evil.example, and the request says that it is there."""
    address = f"http://{host}/saml/111122223333/Corp/acs"
    text = encoded(signed(world.response(recipient=address, destination=address)))
    headers = {"Host": host, "X-Forwarded-Host": host, "X-Forwarded-Proto": "http"}
    answer = world.installation.call("AssumeRoleWithSAML", None, headers, RoleArn=world.role,
                                     PrincipalArn=world.provider, SAMLAssertion=text)  # fmt: skip
    refused(answer, 400, "InvalidIdentityToken", "Response was not sent to this address")


# --- once -------------------------------------------------------------------------------------------------------------

USED = "The assertion has been used before"


def in_new_envelope(root):
    """The same signed assertion in a response of other making."""
    assertion = root.find("saml:Assertion", NS)
    other = Response(id="_other", assertion_id="_dropped").xml()
    other.replace(other.find("saml:Assertion", NS), assertion)
    return other


AGAIN = {
    "the same bytes": encoded,
    "in base64 with line ends": lambda root: "\r\n".join(
        encoded(root)[at : at + 76] for at in range(0, len(encoded(root)), 76)
    ),
    "with white space between the elements": lambda root: encoded(etree.tostring(root) + b"\n"),
    "in a new envelope": lambda root: encoded(in_new_envelope(root)),
}


@pytest.mark.parametrize("how", AGAIN)
def test_an_assertion_counts_once(world, how):
    root = signed(world.response())
    assert world.assume(encoded(root)).status == 200
    refused(world.assume(AGAIN[how](root)), 400, "InvalidIdentityToken", USED)


def test_an_assertion_counts_once_over_all_workers_restarts_and_losses_of_redis(fresh, redis_url):
    text = encoded(signed(fresh.response()))
    second = fresh.installation.another_worker()
    assert fresh.assume(text).status == 200
    for world in (replace(fresh, installation=second), fresh):
        refused(world.assume(text), 400, "InvalidIdentityToken", USED)
    second.close()
    Redis.from_url(redis_url).flushdb()
    refused(fresh.assume(text), 400, "InvalidIdentityToken", USED)
    restarted = replace(fresh, installation=fresh.installation.another_worker())
    refused(restarted.assume(text), 400, "InvalidIdentityToken", USED)
    restarted.installation.close()


def test_what_was_refused_for_another_reason_is_not_used_up(world):
    text = encoded(signed(world.response(more={"Role": (f"{world.role},{world.provider}",)})))
    refused(world.assume(text, role=f"{world.role}s"), 403, "AccessDenied")
    refused(world.assume(text, DurationSeconds=43_200), 400, "ValidationError")
    refused(world.assume(text, Policy="{"), 400, "MalformedPolicyDocument")
    assert world.assume(text).status == 200


def test_of_many_at_once_one_gets_credentials(fresh):
    text = encoded(signed(fresh.response()))
    workers = [fresh, replace(fresh, installation=fresh.installation.another_worker())]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: workers[number % 2].assume(text), range(16)))
    assert sorted(answer.status for answer in answers) == [200] + [400] * 15
    workers[1].installation.close()


def test_the_same_id_from_another_provider_is_another_assertion(fresh):
    other_key = key_pair("other")
    other = fresh.admin.do("CreateSAMLProvider", Name="Other", SAMLMetadataDocument=metadata(
        entity_id="https://other.example.com", certificates=[other_key[1]])).text("SAMLProviderArn")  # fmt: skip
    role = fresh.admin.role("both", trust({"Federated": [fresh.provider, other]}, "sts:AssumeRoleWithSAML"))
    first = fresh.response(role=role)
    assert fresh.assume(first, role=role).status == 200
    theirs = replace(first, issuer="https://other.example.com", response_issuer="https://other.example.com",
                     attributes=first.attributes | {f"{ATTRIBUTES}Role": (f"{role},{other}",)})  # fmt: skip
    text = encoded(signed(theirs, key=other_key))
    assert fresh.assume(text, role=role, provider=other).status == 200
    refused(fresh.assume(text, role=role), 400, "InvalidIdentityToken", "Response signature invalid")


def test_what_is_over_is_swept_out_and_what_is_not_stays(fresh):
    def markers():
        with fresh.installation.store.read() as tx:
            return tx.execute(select(func.count()).select_from(used_marker)).scalar_one()

    assert fresh.assume(fresh.response()).status == 200
    assert markers() == 1
    fresh.clock.advance(minutes=7)
    single_use = fresh.installation.services.sign_ins.saml.single_use
    single_use._swept -= 601
    assert fresh.assume(fresh.response()).status == 200
    assert markers() == 1


# --- the provider's life ----------------------------------------------------------------------------------------------


def test_a_change_of_key_has_an_overlap_and_then_the_old_key_is_nothing(fresh):
    new = key_pair("new")
    old_text, new_text = encoded(signed(fresh.response())), encoded(signed(fresh.response(), key=new))
    refused(fresh.assume(new_text), 400, "InvalidIdentityToken", "Response signature invalid")
    both = metadata(certificates=[key_pair()[1], new[1]])
    fresh.admin.do("UpdateSAMLProvider", SAMLProviderArn=fresh.provider, SAMLMetadataDocument=both)
    assert (fresh.assume(old_text).status, fresh.assume(new_text).status) == (200, 200)
    only_new = metadata(certificates=[new[1]])
    fresh.admin.do("UpdateSAMLProvider", SAMLProviderArn=fresh.provider, SAMLMetadataDocument=only_new)
    refused(fresh.assume(fresh.response()), 400, "InvalidIdentityToken", "Response signature invalid")


def test_a_provider_that_was_deleted_vouches_for_nobody(fresh):
    text = encoded(signed(fresh.response()))
    fresh.admin.do("DeleteSAMLProvider", SAMLProviderArn=fresh.provider)
    refused(fresh.assume(text), 400, "InvalidIdentityToken", "Specified provider doesn't exist")


def test_metadata_that_is_over_vouches_for_nobody(fresh):
    until = fresh.clock() + timedelta(hours=1)
    given = metadata(attributes=f' validUntil="{until:%Y-%m-%dT%H:%M:%SZ}"')
    fresh.admin.do("UpdateSAMLProvider", SAMLProviderArn=fresh.provider, SAMLMetadataDocument=given)
    assert fresh.assume(fresh.response()).status == 200
    fresh.clock.advance(hours=1)
    refused(
        fresh.assume(fresh.response()), 400, "InvalidIdentityToken", "The metadata of the identity provider is over"
    )


def test_where_encryption_is_required_a_plain_assertion_gets_nothing(fresh):
    fresh.admin.do("UpdateSAMLProvider", SAMLProviderArn=fresh.provider, AssertionEncryptionMode="Required")
    refused(fresh.assume(fresh.response()), 400, "InvalidIdentityToken", "must be")
    assert fresh.assume(encrypting(OUR_CERTIFICATE)(fresh.response())).status == 200


# --- the record -------------------------------------------------------------------------------------------------------


def test_the_record_tells_who_by_what_and_never_the_assertion(fresh):
    text = encoded(signed(fresh.response()))
    answer = fresh.assume(text)
    record = last_record(fresh.installation)
    assert record["eventName"] == "AssumeRoleWithSAML"
    assert record["userIdentity"]["type"] == "SAMLUser"
    assert record["userIdentity"]["userName"] == "ann"
    assert record["userIdentity"]["identityProvider"] == ENTITY_ID
    assert text[:200] not in json.dumps(record)
    assert record["responseElements"]["subjectType"] == "persistent"
    assert answer.credentials.secret_key not in json.dumps(record)
    fresh.assume(text)
    again = last_record(fresh.installation)
    assert again["errorCode"] == "InvalidIdentityToken"
    assert again["userIdentity"]["userName"] == "ann"


def test_the_record_of_a_refusal_says_why_and_the_answer_does_not(fresh):
    role = fresh.trusts("picky", Condition={"StringEquals": {"saml:sub": "bob"}})
    answer = fresh.assume(fresh.response(role=role), role=role)
    refused(answer, 403, "AccessDenied", NOT_ALLOWED)
    assert "saml:sub" not in answer.message
    assert "saml:sub" in json.dumps(last_record(fresh.installation))


def test_a_reader_has_the_addresses_of_its_provider(world):
    record = world.installation.store.saml_provider(world.provider)
    service_provider = SamlServiceProvider("https://sign-in.example.com", timedelta(0), tuple)
    assert service_provider.addresses(record).entity_id == "https://sign-in.example.com/saml/111122223333/Corp/metadata"
