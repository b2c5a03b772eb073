import base64
import contextlib
import json
import zlib

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sts.token import UNPACKED_LIMIT, Sealer, SealingKey, TokenUnreadable, pack, unpack

KEY = "ASIAIEIRCEIRCEIRCEIQ"
OTHER = "ASIAIEIRCEIRCEIRCEIR"
OLD = SealingKey("00000001", b"o" * 32)
NEW = SealingKey("00000002", b"n" * 32)
SEALER = Sealer((NEW, OLD))

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
fields = st.dictionaries(st.text(max_size=8), json_values, max_size=8)


def counted(count):
    return bytes(range(count))


def raw_deflate(data):
    deflate = zlib.compressobj(9, zlib.DEFLATED, -13)
    return deflate.compress(data) + deflate.flush()


@given(plain=st.binary(max_size=600), key_id=st.text(max_size=40), nonce=st.binary(min_size=12, max_size=12))
@settings(max_examples=100, deadline=None)
def test_what_was_sealed_opens_beside_its_access_key(plain, key_id, nonce):
    assume(key_id.isprintable())
    token = SEALER.seal(plain, key_id, lambda _: nonce)
    assert SEALER.open(token, key_id) == plain


@given(plain=st.binary(max_size=100), bit=st.integers(0))
@settings(max_examples=200, deadline=None)
def test_a_token_with_any_one_bit_changed_is_refused(plain, bit):
    envelope = bytearray(base64.b64decode(SEALER.seal(plain, KEY, counted)))
    bit %= len(envelope) * 8
    envelope[bit // 8] ^= 1 << bit % 8
    with pytest.raises(TokenUnreadable):
        SEALER.open(base64.b64encode(envelope).decode(), KEY)


@given(plain=st.binary(max_size=40), at=st.integers(0), sign=st.characters())
@settings(max_examples=200, deadline=None)
def test_a_token_with_any_one_character_exchanged_is_refused(plain, at, sign):
    token = SEALER.seal(plain, KEY, counted)
    at %= len(token)
    assume(token[at] != sign)
    with pytest.raises(TokenUnreadable):
        SEALER.open(token[:at] + sign + token[at + 1 :], KEY)


@given(plain=st.binary(max_size=40), at=st.integers(0))
@settings(max_examples=100, deadline=None)
def test_a_cut_token_is_refused(plain, at):
    token = SEALER.seal(plain, KEY, counted)
    with pytest.raises(TokenUnreadable):
        SEALER.open(token[: at % len(token)], KEY)


@given(token=st.text(), key_id=st.text(alphabet=st.characters()))
@settings(max_examples=200, deadline=None)
def test_arbitrary_text_is_no_token_and_raises_nothing_else(token, key_id):
    with pytest.raises(TokenUnreadable):
        SEALER.open(token, key_id)


@pytest.mark.parametrize(
    "change",
    [
        lambda token: token + "=",
        lambda token: token + "\n",
        lambda token: " " + token,
        lambda token: token.rstrip("=") if token.endswith("=") else token[:-1],
        lambda token: token.replace("+", "-").replace("/", "_") + "-",
        lambda token: "\udcff" + token,
        lambda _: "",
    ],
    ids=["padding", "new line", "space", "no padding", "url alphabet", "surrogate", "empty"],
)
def test_another_spelling_of_a_token_is_refused(change):
    token = SEALER.seal(b"spelling..", KEY, counted)
    with pytest.raises(TokenUnreadable):
        SEALER.open(change(token), KEY)


def test_the_unused_bits_of_the_last_digit_make_no_second_token():
    token = next(t for n in range(3) if (t := SEALER.seal(b"x" * n, KEY, counted)).endswith("="))
    digit = token.rstrip("=")[-1]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    twin = token.rstrip("=")[:-1] + alphabet[alphabet.index(digit) + 1]
    twin += "=" * (len(token) - len(twin))
    assert base64.b64decode(twin) == base64.b64decode(token)
    with pytest.raises(TokenUnreadable):
        SEALER.open(twin, KEY)


def test_a_token_is_refused_beside_another_access_key():
    token = SEALER.seal(b"plain", KEY, counted)
    for other in (OTHER, KEY.lower(), "", KEY + "A", "\udcff"):
        with pytest.raises(TokenUnreadable):
            SEALER.open(token, other)


def test_the_newest_key_seals_and_every_key_opens():
    by_old = Sealer((OLD,)).seal(b"before", KEY, counted)
    by_new = SEALER.seal(b"after", KEY, counted)
    assert base64.b64decode(by_new)[:5].hex() == "02" + NEW.id
    assert SEALER.open(by_old, KEY) == b"before"
    with pytest.raises(TokenUnreadable):
        Sealer((OLD,)).open(by_new, KEY)


def test_a_removed_key_opens_nothing_even_when_its_name_is_reused():
    token = Sealer((OLD,)).seal(b"plain", KEY, counted)
    with pytest.raises(TokenUnreadable):
        Sealer((SealingKey(OLD.id, b"z" * 32),)).open(token, KEY)


def test_version_and_key_id_are_sealed_too_and_cannot_be_exchanged():
    twin = SealingKey("00000003", NEW.key)
    envelope = base64.b64decode(SEALER.seal(b"plain", KEY, counted))
    renamed = envelope[:1] + bytes.fromhex(twin.id) + envelope[5:]
    with pytest.raises(TokenUnreadable):
        Sealer((NEW, twin)).open(base64.b64encode(renamed).decode(), KEY)


def test_each_sealing_asks_for_a_fresh_nonce_of_twelve_bytes():
    asked = []

    def random(count):
        asked.append(count)
        return bytes([len(asked)]) * count

    first, second = (SEALER.seal(b"plain", KEY, random) for _ in range(2))
    assert asked == [12, 12]
    assert first != second


@pytest.mark.parametrize(
    "keys", [(), (NEW, NEW), (NEW, SealingKey(NEW.id, b"x" * 32))], ids=["none", "twice", "one name"]
)
def test_a_sealer_refuses_keys_that_it_could_confuse(keys):
    with pytest.raises(ValueError, match="key"):
        Sealer(keys)


@pytest.mark.parametrize(
    ("key_id", "key"),
    [("0000001", b"k" * 32), ("0000000G", b"k" * 32), ("ABCDEF01", b"k" * 32), ("00000001", b"k" * 16)],
)
def test_a_malformed_sealing_key_is_refused(key_id, key):
    with pytest.raises(ValueError, match="sealing key"):
        SealingKey(key_id, key)


def test_a_sealing_key_does_not_print_itself():
    assert "oooo" not in repr(OLD)


@given(fields=fields)
@settings(max_examples=200, deadline=None)
def test_what_was_packed_unpacks(fields):
    assert unpack(pack(fields)) == fields


def test_text_that_is_no_unicode_survives():
    assert unpack(pack({"a": "\ud800"})) == {"a": "\ud800"}


def test_a_usual_session_packs_to_half_of_its_json():
    session = {
        "i": "3d0b7c4e8f9a1b2c3d4e5f6071829304",
        "s": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0",
        "b": 1795465800123,
        "e": 1795469400000,
        "k": "r",
        "c": "111122223333",
        "n": "AROAQABCDEFGHIJKLMNOP",
        "m": "ann@example.com",
        "v": "arn:aws:iam::111122223333:saml-provider/corp",
        "j": "ann@example.com",
    }
    assert len(pack(session)) < len(json.dumps(session, separators=(",", ":"))) * 0.6


@given(packed=st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_arbitrary_bytes_unpack_to_a_mapping_or_are_refused(packed):
    with contextlib.suppress(TokenUnreadable):
        assert isinstance(unpack(packed), dict)


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        raw_deflate(b"[1]"),
        raw_deflate(b'"text"'),
        raw_deflate(b"{"),
        raw_deflate(b'{"a":' + b"[" * 30_000 + b"]" * 30_000 + b"}"),
        raw_deflate(b'{"a":' + b"9" * 5_000 + b"}"),
        raw_deflate(b'{"a":"\xff"}'),
        raw_deflate(b"{}") + b"more",
        raw_deflate(b"{}")[:-1],
        raw_deflate(b'{"a":"' + b"x" * 50_000_000 + b'"}'),
        raw_deflate(b'{"a":"' + b"x" * (UNPACKED_LIMIT - 7) + b'"}'),
    ],
    ids=["empty", "list", "text", "cut", "deep", "digits", "utf-8", "trailing", "unfinished", "bomb", "one too many"],
)
def test_what_nobody_packed_is_refused(packed):
    with pytest.raises(TokenUnreadable):
        unpack(packed)


def test_the_limit_itself_is_packed_and_unpacked():
    largest = {"a": "x" * (UNPACKED_LIMIT - 8)}
    assert unpack(pack(largest)) == largest
    with pytest.raises(ValueError, match="too much"):
        pack({"a": "x" * (UNPACKED_LIMIT - 7)})
