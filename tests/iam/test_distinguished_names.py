"""Laws and vectors of distinguished names and filter values."""

import unicodedata
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ldap3.utils.dn import parse_dn

from broker.providers.ldap.filters import escape_filter_value
from iam.distinguished_names import domain_dn, escape_dn_value, first_rdn_value, normalize_dn, parent_dn

VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).map(partial(unicodedata.normalize, "NFC"))
AWKWARD = st.text(st.sampled_from(' #+,;<>="\\\0\r\nab\u00e4'), max_size=8)
TYPES = st.sampled_from(["cn", "ou", "dc", "uid", "2.5.4.4"])
RDNS = st.lists(st.tuples(TYPES, VALUES | AWKWARD), min_size=1, max_size=4)

SPELLINGS = [
    ("already normal", "cn=staff,ou=groups,dc=corp,dc=example", "cn=staff,ou=groups,dc=corp,dc=example"),
    ("upper-case types", "CN=Domain Admins,CN=Users,DC=corp", "cn=Domain Admins,cn=Users,dc=corp"),
    ("spaces about separators", "cn = a ,  ou=b , dc= c ", "cn=a,ou=b,dc=c"),
    ("value keeps its case and inner spaces", "cn=The  Staff,dc=X", "cn=The  Staff,dc=X"),
    ("needless escape of =", r"cn=a\=b,dc=x", "cn=a=b,dc=x"),
    ("hex for a comma", r"cn=a\2Cb,dc=x", r"cn=a\,b,dc=x"),
    ("hex for UTF-8", r"cn=Gr\C3\BCn,dc=x", "cn=Grün,dc=x"),
    ("octets that are no UTF-8 stay hex", r"cn=\FFx,dc=x", r"cn=\ffx,dc=x"),
    ("escaped space at both ends", r"cn=\ a\20,dc=x", r"cn=\ a\ ,dc=x"),
    ("escaped and then plain space at the end", r"cn=a\   ,dc=x", r"cn=a\ ,dc=x"),
    ("number sign in front", r"cn=\23a,dc=x", r"cn=\#a,dc=x"),
    ("an escaped number sign is no BER value", r"cn=\#ab,dc=x", r"cn=\#ab,dc=x"),
    ("BER value that is a text", "cn=#04024869,dc=x", "cn=Hi,dc=x"),
    ("BER value that is none", "cn=#020101,dc=x", "cn=#020101,dc=x"),
    ("BER value of a wrong length", "cn=#0C034869,dc=x", "cn=#0c034869,dc=x"),
    ("BER value that is no UTF-8", "cn=#0c01ff,dc=x", "cn=#0c01ff,dc=x"),
    ("RFC 1779: a quoted value", 'CN="Contractors, External",O=Acme', r"cn=Contractors\, External,o=Acme"),
    ("RFC 1779: pairs in a quoted value", r'CN="a\"b\\c",O=Acme', r"cn=a\"b\\c,o=Acme"),
    ("RFC 1779: spaces in a quoted value stay", 'CN=" a ",O=Acme', r"cn=\ a\ ,o=Acme"),
    ("RFC 1779: semicolons", "CN=Notes Group;OU=Groups;O=Acme", "cn=Notes Group,ou=Groups,o=Acme"),
    ("RFC 1779: OID. before a number", "OID.2.5.4.3=Old,oid.2.5.4.10=Acme", "cn=Old,o=Acme"),
    ("a number for a short name", "0.9.2342.19200300.100.1.1=a,2.5.4.4=B", "uid=a,2.5.4.4=B"),
    ("long names of types", "commonName=a,organizationName=b,userid=c", "cn=a,o=b,uid=c"),
    ("Active Directory: an escaped slash", r"CN=Sales\/EMEA,OU=Groups,DC=corp", "cn=Sales/EMEA,ou=Groups,dc=corp"),
    ("an escaped letter", r"cn=a\zz", "cn=azz"),
    ("signs that need no escape here", "cn=<a>#b", r"cn=\<a\>#b"),
    ("lines between parts", "cn=a,\r\n dc=b\n", "cn=a,dc=b"),
    ("a decomposed letter", "cn=Pru\u0308fer,dc=x", "cn=Prüfer,dc=x"),
    ("parts of one RDN are put in order", "uid=1+CN=a,dc=x", "cn=a+uid=1,dc=x"),
    ("an escaped line break is part of the value", "cn=a\\\n,dc=x", r"cn=a\0a,dc=x"),
    ("hex for line breaks", r"cn=\0d\0Aa,dc=x", r"cn=\0d\0aa,dc=x"),
    ("NUL", r"cn=a\00b,dc=x", r"cn=a\00b,dc=x"),
    ("empty value", "cn=,dc=x", "cn=,dc=x"),
    ("the root", "", ""),
]
NOT_NAMES = [
    "staff",
    "=a",
    "cn=a,",
    "cn=a,,dc=b",
    "cn=a+",
    'cn="a',
    'cn="a"b',
    'cn=a"b"',
    "cn=a;",
    "cn=a\\",
    "cn=a\0",
    "OID.cn=a",
]


@pytest.mark.parametrize(("dn", "expected"), [row[1:] for row in SPELLINGS], ids=[row[0] for row in SPELLINGS])
def test_a_name_has_one_spelling(dn, expected):
    assert normalize_dn(dn) == expected
    assert normalize_dn(expected) == expected


@pytest.mark.parametrize(
    ("dn", "domain", "parent"),
    [
        ("CN=a,OU=b,DC=corp,DC=example", "dc=corp,dc=example", "ou=b,dc=corp,dc=example"),
        ("dc=corp,dc=example", "dc=corp,dc=example", "dc=example"),
        (r"cn=x\,dc=a,o=Acme", "", "o=Acme"),
        ("dc=a,o=b,dc=c+cn=d,dc=e", "dc=e", "o=b,cn=d+dc=c,dc=e"),
        ("", "", ""),
    ],
)
def test_the_domain_of_a_name_and_its_parent(dn, domain, parent):
    assert domain_dn(dn) == domain
    assert parent_dn(dn) == parent


@pytest.mark.parametrize("text", NOT_NAMES)
def test_what_is_no_name_is_refused(text):
    with pytest.raises(ValueError, match="not a distinguished name"):
        normalize_dn(text)


@settings(max_examples=200)
@given(RDNS)
def test_escaped_values_come_back_and_stay_where_they_are(rdns):
    dn = ",".join(f"{kind}={escape_dn_value(value)}" for kind, value in rdns)
    assert normalize_dn(dn) == dn
    assert first_rdn_value(dn) == rdns[0][1]


@settings(max_examples=200)
@given(RDNS)
def test_different_values_never_share_a_spelling(rdns):
    dn = ",".join(f"{kind}={escape_dn_value(value)}" for kind, value in rdns)
    other = ",".join(f"{kind}={escape_dn_value(value + 'x')}" for kind, value in rdns)
    assert normalize_dn(dn) != normalize_dn(other)


@settings(max_examples=200)
@given(st.text(max_size=30))
def test_normalizing_twice_changes_nothing_and_text_never_crashes_it(text):
    try:
        once = normalize_dn(text)
    except ValueError:
        return
    assert normalize_dn(once) == once


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(st.just("cn"), st.text("abcXYZ,+ ", min_size=1, max_size=6).map(str.strip).filter(bool)), min_size=1
    )
)
def test_ldap3_reads_the_same_parts(rdns):
    dn = ",".join(f"{kind}={escape_dn_value(value)}" for kind, value in rdns)
    assert len(parse_dn(normalize_dn(dn))) == len(rdns)


@settings(max_examples=200)
@given(VALUES | AWKWARD)
def test_a_filter_value_holds_nothing_that_a_filter_minds(value):
    escaped = escape_filter_value(value)
    assert not set(escaped) & set('*()\0<>|&!~"')
    octets = bytes.fromhex("".join(part[:2] + part[2:].encode().hex() for part in ("\\" + escaped).split("\\")[2:]))
    plain = escaped.split("\\")[0].encode()
    assert plain + octets == value.encode()
