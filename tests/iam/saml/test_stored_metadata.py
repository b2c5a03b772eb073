"""What is kept of parsed metadata: as much as was parsed, and little, however long the document is."""

import json
from base64 import b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from support.saml_idp import key_pair, metadata

from iam.saml.metadata import InvalidMetadata, parse_metadata
from iam.saml.stored_metadata import load_certificates, load_metadata, metadata_columns

ADDRESSES = {"SingleSignOnService": "https://idp.example.com/sso", "SingleLogoutService": "https://idp.example.com/slo"}


def parsed(**how):
    text = metadata(**how)
    return text, parse_metadata(text.encode())


@pytest.mark.parametrize("attributes", ["", ' validUntil="2026-12-01T00:00:00Z" cacheDuration="PT1H"'])
def test_stored_metadata_is_what_was_parsed(attributes):
    certificates = [key_pair()[1], key_pair("other")[1]]
    text, found = parsed(addresses=ADDRESSES, attributes=attributes, certificates=certificates)
    columns = metadata_columns(text, found)
    assert load_metadata(columns["parsed"]) == found
    shown = load_certificates(columns["certificates"])
    assert [fingerprint for fingerprint, _, _ in shown] == [one.fingerprint for one in found.certificates]
    ends = [until for _, _, until in shown]
    assert columns["first_end"] == min([*ends, columns["valid_until"] or ends[0]])
    assert (columns["entity_id"], columns["metadata_size"]) == (found.entity_id, len(text))


def test_little_is_kept_of_a_long_document():
    long = "https://idp.example.com/" + "x" * 100_000
    text, found = parsed(addresses=ADDRESSES | {"SingleSignOnService": long}, more=f"<!--{'x' * 100_000}-->")
    assert found.sign_in == {}
    assert len(metadata_columns(text, found)["parsed"]) < 3000


@pytest.mark.parametrize("text", [None, "", "{}", "[1]", "null", '{"entity_id": "x"}'])
def test_what_was_never_parsed_is_refused(text):
    with pytest.raises(InvalidMetadata):
        load_metadata(text)


def test_a_key_of_another_kind_is_refused():
    text, found = parsed()
    fields = json.loads(metadata_columns(text, found)["parsed"])
    other = ed25519.Ed25519PrivateKey.generate().public_key()
    der = other.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    fields["certificates"][0][0] = b64encode(der).decode()
    with pytest.raises(InvalidMetadata):
        load_metadata(json.dumps(fields))
