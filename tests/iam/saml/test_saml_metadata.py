"""The metadata of identity providers: what is read, and what is refused (THREATS D35)."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from support.saml_idp import ENTITY_ID, NOW, key_pair, metadata, sign

from iam.saml.metadata import POST, REDIRECT, InvalidMetadata, parse_duration, parse_timestamp, read_metadata
from iam.saml.xml import InvalidXml

SLO = {"SingleSignOnService": "https://idp.example.com/sso", "SingleLogoutService": "https://idp.example.com/slo"}


def found(text=None, now=NOW):
    text = metadata() if text is None else text
    return read_metadata(text if isinstance(text, bytes) else text.encode(), now=now)


def signed(text=None, **how):
    root = etree.fromstring(text or metadata(attributes=' ID="_m"').encode())
    sign(root, **how)
    return etree.tostring(root)


def test_who_it_is_how_it_signs_and_where_it_is_asked():
    idp = found(metadata(addresses=SLO, of_idp=' WantAuthnRequestsSigned="true"'))
    assert idp.entity_id == ENTITY_ID
    (certificate,) = idp.certificates
    assert (certificate.subject, certificate.until) == ("CN=idp", NOW + timedelta(days=365))
    assert len(certificate.fingerprint) == 64
    assert idp.sign_in == {REDIRECT: SLO["SingleSignOnService"], POST: SLO["SingleSignOnService"]}
    assert idp.sign_out[REDIRECT] == SLO["SingleLogoutService"]
    assert idp.wants_signed_requests
    assert (idp.valid_until, idp.cache_duration) == (None, None)


def test_several_certificates_are_kept_and_each_once():
    certificates = [key_pair()[1], key_pair("new")[1], key_pair()[1]]
    assert [one.subject for one in found(metadata(certificates=certificates)).certificates] == ["CN=idp", "CN=new"]


def test_a_key_without_use_signs_and_one_for_encryption_does_not():
    text = metadata(certificates=[key_pair()[1], key_pair("new")[1]])
    assert len(found(text.replace(' use="signing"', "")).certificates) == 2
    assert len(found(text.replace(' use="signing"', ' use="encryption"', 1)).certificates) == 1


def test_a_curve_is_a_key():
    assert len(found(metadata(certificates=[key_pair("curve", 256)[1]])).keys) == 1


def test_the_earliest_end_and_the_shortest_life_count():
    idp = found(metadata(attributes=' validUntil="2027-01-01T00:00:00Z" cacheDuration="P1D"',
                         of_idp=' validUntil="2026-12-01T00:00:00.5Z" cacheDuration="PT1H30M"'))  # fmt: skip
    assert idp.valid_until == datetime(2026, 12, 1, 0, 0, 0, 500_000, UTC)
    assert idp.cache_duration == 5400


def test_metadata_as_active_directory_writes_it_is_read():
    """With a byte order mark, a comment, roles of other protocols, and a signature of its own."""
    more = (
        '<RoleDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        ' xmlns:fed="http://docs.oasis-open.org/wsfed/federation/200706" xsi:type="fed:SecurityTokenServiceType"'
        ' protocolSupportEnumeration="http://docs.oasis-open.org/wsfed/federation/200706"/><!-- AD FS -->'
    )
    text = signed(metadata(attributes=' ID="_m"', more=more).encode())
    assert found(b"\xef\xbb\xbf" + text).entity_id == ENTITY_ID


def test_metadata_signed_by_a_key_that_it_does_not_use_for_assertions_is_read():
    assert found(signed(key=key_pair("federation"))).entity_id == ENTITY_ID


WITH_DTD = metadata().replace("?>", "?><!DOCTYPE x>", 1)


def wrapped(*documents, attributes=""):
    entities = "".join(one.partition("?>")[2] for one in documents)
    name = "md:EntitiesDescriptor"
    return f'<{name} xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata"{attributes}>{entities}</{name}>'


SERVICE_PROVIDER = metadata(entity_id="https://sp.example.com").replace("IDPSSODescriptor", "SPSSODescriptor")
SEVERAL = wrapped(metadata(), metadata(entity_id="https://other.example.com"))
CERTIFICATE = base64.b64encode(b"no certificate").decode()
REFUSED = {
    "DTD": (WITH_DTD, "document type"),
    "entity": (WITH_DTD.replace("x>", 'x [<!ENTITY a SYSTEM "file:///etc/passwd">]>', 1), "document type"),
    "not XML": ("x" * 1000, "not well-formed"),
    "not UTF-8": (metadata().encode("utf-16"), "not UTF-8"),
    "processing instruction": (metadata().replace("?>", "?><?x y?>", 1), "processing instruction"),
    "several entities": (SEVERAL, f"describes 2 identity providers, such as {ENTITY_ID}, https://other.example.com"),
    "no entities": (wrapped(), "no IDPSSODescriptor"),
    "service providers alone": (wrapped(SERVICE_PROVIDER), "no IDPSSODescriptor"),
    "another root": (metadata().replace("md:EntityDescriptor", "md:AffiliationDescriptor"), "neither EntityDescriptor"),
    "over for all": (wrapped(metadata(), attributes=' validUntil="2026-11-25T12:00:00Z"'), "valid until 2026-11-25"),
    "no entity id": (metadata(entity_id=""), "no entityID"),
    "entity id of blanks": (metadata(entity_id=" \t"), "no entityID"),
    "entity id too long": (metadata(entity_id="x" * 1025), "no entityID"),
    "no identity provider": (metadata().replace("IDPSSODescriptor", "SPSSODescriptor"), "no IDPSSODescriptor"),
    "another protocol": (metadata().replace("SAML:2.0:protocol", "SAML:1.1:protocol"), "no IDPSSODescriptor"),
    "no certificate": (metadata().replace("X509Certificate>", "X509Subject>"), "no certificate for signing"),
    "certificate that is none": (metadata().replace("MII", CERTIFICATE, 1), "certificate that cannot be read"),
    "certificate in bad base64": (metadata().replace("MII", "*", 1), "certificate that cannot be read"),
    "too many": (metadata(certificates=[key_pair(f"k{n}", 256)[1] for n in range(11)]), "more than 10"),
    "RSA of 1024 bits": (metadata(certificates=[key_pair("weak", 1024)[1]]), "RSA key of 1024 bits"),
    "over": (metadata(attributes=' validUntil="2026-11-25T12:00:00Z"'), "valid until 2026-11-25T12:00:00Z"),
    "no time": (metadata(attributes=' validUntil="soon"'), "is not a time"),
    "no such day": (metadata(attributes=' validUntil="2026-02-30T00:00:00Z"'), "is not a time"),
    "changed behind its signature": (signed().replace(b"idp.example.com/sso", b"evil.example.com/x"), "was changed"),
    "signature of nobody": (signed(key=key_pair("a"), shown=key_pair("b")[1]), "no known key"),
    "signature with SHA-1": (signed(algorithm="rsa-sha1"), "not accepted"),
    "signature of another form": (signed().replace(b"#_m", b"#_x"), "reference"),
    "two signatures": (signed(signed()), "several Signature"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_metadata_is_refused(name):
    text, why = REFUSED[name]
    with pytest.raises(InvalidMetadata, match=why):
        found(text)


# --- wrappers, blanks and odd parts -----------------------------------------------------------------------------------


def test_a_wrapper_around_one_identity_provider_is_read():
    around = ' validUntil="2026-12-01T00:00:00Z" cacheDuration="PT1H"'
    idp = found(wrapped(SERVICE_PROVIDER, metadata(attributes=' cacheDuration="P1D"'), attributes=around))
    assert (idp.entity_id, idp.valid_until, idp.cache_duration) == (ENTITY_ID, datetime(2026, 12, 1, tzinfo=UTC), 3600)
    assert idp == found(wrapped(f"?>{wrapped(metadata(), attributes=around)}"))
    assert (len(idp.certificates), idp.dropped) == (1, ())


def test_a_wrapper_that_was_changed_after_it_was_signed_is_refused():
    text = signed(wrapped(metadata(), attributes=' ID="_m"').encode())
    assert found(text).entity_id == ENTITY_ID
    with pytest.raises(InvalidMetadata, match="was changed"):
        found(text.replace(b"idp.example.com/sso", b"evil.example.com/x"))


def test_blanks_around_an_address_are_no_part_of_it():
    address = "https://idp.example.com/sso"
    text = metadata(addresses={"SingleSignOnService": f" \t{address}\n"}, entity_id=f"\n{ENTITY_ID} ",
                    attributes=' validUntil=" 2027-01-01T00:00:00Z\n"')  # fmt: skip
    text = text.replace('Binding="', 'Binding=" ').replace('Enumeration="', 'Enumeration="urn:other\n ')
    idp = found(text)
    assert (idp.entity_id, idp.sign_in, idp.dropped) == (ENTITY_ID, {REDIRECT: address, POST: address}, ())
    assert idp.valid_until == datetime(2027, 1, 1, tzinfo=UTC)


ODD = {
    "a weak certificate": (metadata(certificates=[key_pair("weak", 1024)[1], key_pair()[1]]), "RSA key of 1024 bits"),
    "a certificate that is none": (
        metadata(certificates=[key_pair()[1], key_pair("new")[1]]).replace("MII", "*", 1), "cannot be read"),
    "a use that is none": (
        metadata(certificates=[key_pair("new")[1], key_pair()[1]]).replace('"signing"', '"both"', 1), "use is 'both'"),
    "a key without a certificate": (
        metadata(certificates=[key_pair("new")[1], key_pair()[1]])
        .replace("<ds:X509Certificate>", "<ds:X509SKI>", 1).replace("</ds:X509Certificate>", "</ds:X509SKI>", 1),
        "without a certificate"),
    "a duration that is none": (metadata(attributes=' cacheDuration="P"'), "is no duration"),
    "an address that is none": (
        metadata().replace('Location="https', 'Location="javascript', 1), "SingleSignOnService by HTTP-Redirect"),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_an_odd_part_is_left_out_and_told(name):
    text, why = ODD[name]
    idp = found(text)
    assert (len(idp.certificates), bool(idp.sign_in)) == (1, True)
    (reason,) = idp.dropped
    assert why in reason


def test_what_is_told_of_odd_parts_is_bounded():
    many = metadata().replace("</md:IDPSSODescriptor>", '<md:KeyDescriptor use="x"/>' * 50 + "</md:IDPSSODescriptor>")
    assert len(found(many).dropped) == 20


@pytest.mark.parametrize(
    "address",
    ["javascript:alert(1)", "https://", "https://[::1/sso", "https://idp/\r\nSet-Cookie: a=b", "https://idp/#x",
     "https://user@idp/", "https://idp:99999/", "https://idp/ä", 'https://idp/"x', "//idp/sso", ""],
)  # fmt: skip
def test_an_address_to_which_no_browser_can_be_sent_is_none(address):
    idp = found(metadata(addresses={"SingleSignOnService": address}))
    assert (idp.sign_in, len(idp.dropped)) == ({}, 2)


def test_the_last_moment_of_all_is_one():
    assert parse_timestamp("9999-12-31T23:59:59.9999999Z") == datetime.max.replace(tzinfo=UTC)


@given(st.integers(0, 10**6), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_a_duration_is_the_sum_of_its_parts(days, hours, minutes, seconds):
    text = f"P{min(days, 999_999)}DT{hours}H{minutes}M{seconds}S"
    wanted = timedelta(days=min(days, 999_999), hours=hours, minutes=minutes, seconds=seconds)
    assert parse_duration(text) == wanted.total_seconds()


@pytest.mark.parametrize(("text", "seconds"), [("P1Y", 31_536_000), ("P1M", 2_592_000), ("PT0.5S", 0), ("PT5M", 300)])
def test_a_duration_by_example(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "P", "PT", "1D", "-P1D", "P1", "P1H", "PT1D", "P1 D"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(InvalidXml):
        parse_duration(text)


@pytest.mark.parametrize(
    "text", ["2026-11-25", "2026-11-25T12:00:00", "2026-11-25T12:00:00+01:00", "2026-13-01T00:00:00Z"]
)
def test_what_is_no_moment_in_utc_is_refused(text):
    with pytest.raises(InvalidXml):
        parse_timestamp(text)


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2999, 1, 1)))  # noqa: DTZ001
def test_a_moment_is_read_as_it_is_written(at):
    assert parse_timestamp(at.isoformat(timespec="microseconds") + "Z") == at.replace(tzinfo=UTC)
