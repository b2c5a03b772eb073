"""SAML identity providers as IAM keeps them: CreateSAMLProvider and its kin."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from support.iam_account import ACCOUNT, iam_account
from support.saml_idp import key_pair, metadata

from iam.errors import EntityAlreadyExists, InvalidInput, LimitExceeded, NoSuchEntity, NotImplementedHere
from iam.operations import OPERATIONS, tags
from iam.operations.account import get_account_summary
from iam.operations.federation import saml_providers as saml

ARN = f"arn:aws:iam::{ACCOUNT}:saml-provider/Corp"
KEY, OTHER_KEY = key_pair("fedgate")[0].decode(), key_pair("fedgate2")[0].decode()


@pytest.fixture
def iam(tmp_path):
    return iam_account(tmp_path)


def create(iam, name="Corp", document=None, **p):
    return iam.run(saml.create_saml_provider, Name=name, SAMLMetadataDocument=document or metadata(), **p)


def get(iam, arn=ARN):
    return iam.run(saml.get_saml_provider, SAMLProviderArn=arn)


def update(iam, **p):
    return iam.run(saml.update_saml_provider, SAMLProviderArn=ARN, **p)


def test_a_provider_keeps_its_metadata_byte_for_byte(iam):
    document = metadata() + "\n\r\n "
    tagged = [{"Key": "Team", "Value": "x"}]
    assert create(iam, document=document, Tags=tagged) == {"SAMLProviderArn": ARN, "Tags": tagged}
    found = get(iam)
    assert found["SAMLMetadataDocument"] == document
    assert (found["CreateDate"], found["Tags"], found["PrivateKeyList"]) == (iam.now, tagged, [])
    assert found["ValidUntil"] == iam.now + timedelta(days=36_524)
    assert len(found["SAMLProviderUUID"]) >= 22
    assert "AssertionEncryptionMode" not in found


def test_valid_until_is_that_of_the_metadata(iam):
    create(iam, document=metadata(attributes=' validUntil="2027-05-06T07:08:09Z"'))
    assert get(iam)["ValidUntil"] == datetime(2027, 5, 6, 7, 8, 9, tzinfo=UTC)
    assert create(iam, "Plain") == {"SAMLProviderArn": ARN.replace("Corp", "Plain")}
    update(iam, SAMLMetadataDocument=metadata())
    assert get(iam)["ValidUntil"] == iam.now + timedelta(days=36_524)


def test_all_documents_of_an_account_share_one_quota(iam):
    iam.limit(saml_metadata_per_account=2 * len(metadata()) + 10)
    create(iam)
    create(iam, "Second")
    for name in ("Third", "Fourth"):
        with pytest.raises(LimitExceeded, match="Cannot exceed quota for SAMLMetadataPerAccount"):
            create(iam, name)
    update(iam, SAMLMetadataDocument=metadata() + " " * 10)  # what a document replaces does not count
    with pytest.raises(LimitExceeded):
        update(iam, SAMLMetadataDocument=metadata() + " " * 11)
    iam.run(saml.delete_saml_provider, SAMLProviderArn=ARN)
    create(iam, "Third")


def test_a_document_is_parsed_in_the_thread_pool_before_the_transaction_which_takes_the_outcome(iam):
    ran = []

    def run_in_thread_pool(work):
        ran.append(work)
        return work()

    preparation = iam.preparation(run_in_thread_pool=run_in_thread_pool)
    p = {"Name": "Corp", "SAMLMetadataDocument": metadata()}
    prepared = OPERATIONS["CreateSAMLProvider"].prepare(preparation, p)
    assert len(ran) == 1
    with iam.call() as call:
        saml.create_saml_provider(replace(call, prepared=prepared), {**p, "SAMLMetadataDocument": "not parsed again"})
    assert get(iam)["SAMLMetadataDocument"] == metadata()
    assert OPERATIONS["UpdateSAMLProvider"].prepare(preparation, {"SAMLProviderArn": ARN}) is None
    with pytest.raises(InvalidInput):
        OPERATIONS["UpdateSAMLProvider"].prepare(preparation, {"SAMLMetadataDocument": "<x/>"})


def test_providers_are_listed_by_name_without_their_metadata(iam):
    for name in ("b", "A"):
        create(iam, name)
    listed = iam.run(saml.list_saml_providers)["SAMLProviderList"]
    assert [one["Arn"].rpartition("/")[2] for one in listed] == ["A", "b"]
    assert all(one.keys() == {"Arn", "ValidUntil", "CreateDate"} for one in listed)
    assert iam.run(get_account_summary)["SummaryMap"]["Providers"] == 2
    assert iam.run(saml.list_saml_providers, iam.another("999999999999"))["SAMLProviderList"] == []


@pytest.mark.parametrize("document", ["x" * 1000, metadata().replace("?>", "?><!DOCTYPE x>", 1)])
def test_what_is_no_metadata_is_refused(iam, document):
    with pytest.raises(InvalidInput, match="Could not parse metadata"):
        create(iam, document=document)
    create(iam)
    with pytest.raises(InvalidInput, match="Could not parse metadata"):
        update(iam, SAMLMetadataDocument=document)
    assert get(iam)["SAMLMetadataDocument"] == metadata()


def test_metadata_that_is_over_is_refused(iam):
    with pytest.raises(InvalidInput, match="it was valid until 2026-03-01T11:59:59Z"):
        create(iam, document=metadata(attributes=' validUntil="2026-03-01T11:59:59Z"'))


def test_a_name_is_taken_once_whatever_its_case(iam):
    create(iam)
    with pytest.raises(EntityAlreadyExists, match="CORP already exists"):
        create(iam, "CORP")


def test_the_quota_holds(iam):
    iam.limit(saml_providers_per_account=1)
    create(iam)
    with pytest.raises(LimitExceeded, match="SAMLProvidersPerAccount: 1"):
        create(iam, "Second")


@pytest.mark.parametrize(
    "arn",
    [
        ARN.replace("Corp", "corp"),
        ARN.replace("Corp", "gone"),
        ARN.replace(ACCOUNT, "999999999999"),
        ARN.replace("saml-", "oidc-"),
        ARN.replace("arn:aws:iam", "arn:aws:sts"),
        "x" * 20,
    ],
)
@pytest.mark.parametrize("operation", ["get_saml_provider", "update_saml_provider", "delete_saml_provider"])
def test_a_provider_is_found_by_its_exact_arn_alone(iam, operation, arn):
    create(iam)
    with pytest.raises(NoSuchEntity, match="Manifest not found for arn"):
        iam.run(getattr(saml, operation), SAMLProviderArn=arn)


def test_a_provider_of_another_account_is_not_there(iam):
    create(iam)
    with pytest.raises(NoSuchEntity):
        iam.run(saml.get_saml_provider, iam.another("999999999999"), SAMLProviderArn=ARN)


def test_a_deleted_provider_is_gone_with_its_keys_and_tags(iam):
    create(iam, AddPrivateKey=KEY, Tags=[{"Key": "a", "Value": "b"}])
    iam.run(saml.delete_saml_provider, SAMLProviderArn=ARN)
    with pytest.raises(NoSuchEntity):
        get(iam)
    create(iam)
    assert (get(iam)["Tags"], get(iam)["PrivateKeyList"]) == ([], [])


def test_tags_are_put_listed_and_taken_away(iam):
    create(iam)
    iam.run(tags.tag_saml_provider, SAMLProviderArn=ARN, Tags=[{"Key": "A", "Value": "1"}, {"Key": "b", "Value": "2"}])
    iam.run(tags.untag_saml_provider, SAMLProviderArn=ARN, TagKeys=["a"])
    listed = iam.run(tags.list_saml_provider_tags, SAMLProviderArn=ARN)
    assert listed == {"Tags": [{"Key": "b", "Value": "2"}], "IsTruncated": False}
    with pytest.raises(NoSuchEntity):
        iam.run(tags.tag_saml_provider, SAMLProviderArn=f"{ARN}x", Tags=[])


def test_keys_can_be_changed_without_a_moment_without_any(iam):
    create(iam, AddPrivateKey=KEY, AssertionEncryptionMode="Required")
    (old,) = get(iam)["PrivateKeyList"]
    iam.later(seconds=1)
    update(iam, AddPrivateKey=OTHER_KEY)
    assert [one["Timestamp"] for one in get(iam)["PrivateKeyList"]] == [old["Timestamp"], iam.now]
    with pytest.raises(LimitExceeded, match="private keys of a SAML provider: 2"):
        update(iam, AddPrivateKey=KEY)
    update(iam, RemovePrivateKey=old["KeyId"])
    (new,) = get(iam)["PrivateKeyList"]
    assert new["KeyId"] != old["KeyId"]
    with pytest.raises(NoSuchEntity, match=r"private key .* cannot be found"):
        update(iam, RemovePrivateKey=old["KeyId"])
    with pytest.raises(InvalidInput, match="Required needs a private key"):
        update(iam, RemovePrivateKey=new["KeyId"])
    assert get(iam)["AssertionEncryptionMode"] == "Required"


def test_encryption_needs_a_key(iam):
    with pytest.raises(InvalidInput, match="Allowed needs a private key"):
        create(iam, AssertionEncryptionMode="Allowed")
    create(iam)
    update(iam, AddPrivateKey=KEY, AssertionEncryptionMode="Allowed")
    assert get(iam)["AssertionEncryptionMode"] == "Allowed"


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("no key", "cannot be read"),
        (key_pair()[1].decode(), "cannot be read"),
        (key_pair("weak", 1024)[0].decode(), "at least 2048 bits"),
        (key_pair("curve", 256)[0].decode(), "must be an RSA key"),
    ],
)
def test_a_key_that_cannot_be_used_is_refused(iam, key, why):
    with pytest.raises(InvalidInput, match=why):
        create(iam, AddPrivateKey=key)


@pytest.mark.parametrize("name", ["ContextProvider", "IdentityCenterInstanceArn"])
def test_what_is_not_built_is_said_to_be(iam, name):
    with pytest.raises(NotImplementedHere, match=f"{name} is not built yet"):
        create(iam, **{name: {}})
