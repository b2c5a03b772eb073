"""A session seals what was decided, and reads back the same; what cannot fit is refused with its size."""

import base64
import os
import string
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iam.arn import account_of_access_key, unique_id
from iam.errors import PackedPolicyTooLarge
from sts.lineage import MOST_ANCESTORS, MOST_SCOPES, Lineage
from sts.mint import PACKED_LIMIT, Grant, SessionKind, mint, open_token, packed_policy_size
from sts.token import Sealer, SealingKey, TokenUnreadable

NOW = datetime(2026, 3, 1, 12, 0, 0, 345000, tzinfo=UTC)
SEALER = Sealer((SealingKey("0a0b0c0d", bytes(range(32))),))
GRANT = Grant(
    kind=SessionKind.ROLE,
    account_id="111122223333",
    entity_id="AROAQAAAAAAAAAAAAAAAA",
    name="ann",
    provider="ldap-provider/corp",
    subject="6b3c8f1e-0000-4000-8000-000000000001",
)

texts = st.text(alphabet=string.printable, max_size=40)
pairs = st.lists(st.tuples(texts, texts), max_size=5).map(tuple)
grants = st.builds(
    Grant,
    kind=st.sampled_from(SessionKind),
    account_id=st.from_regex(r"\A[0-9]{12}\Z"),
    entity_id=texts,
    name=st.text(max_size=64).filter(lambda text: text.isprintable()),
    provider=texts,
    subject=texts,
    policy=st.none() | texts,
    policy_arns=st.lists(texts, max_size=3).map(tuple),
    tags=pairs,
    transitive=st.lists(texts, max_size=3).map(tuple),
    source_identity=st.none() | texts,
    mfa_at=st.none() | st.integers(0, 2**50),
    chained=st.booleans(),
    claims=pairs,
)


ids = st.binary(min_size=8, max_size=8).map(bytes.hex)
lineages = st.builds(
    Lineage,
    revision=st.integers(0, 2**40),
    generations=st.dictionaries(texts, st.integers(0, 2**63 - 1), max_size=4).map(lambda few: tuple(few.items())),
    ancestors=st.lists(ids, max_size=4).map(lambda few: tuple("0123456789abcdef" + one for one in few)),
)


@given(grants, st.integers(900, 129_600), lineages)
def test_a_minted_session_reads_back_the_same(grant, seconds, lineage):
    minted = mint(grant, seconds, now=NOW, random=os.urandom, sealer=SEALER, lineage=lineage)
    token, key = minted.credentials.session_token, minted.credentials.access_key_id
    assert open_token(token, key, SEALER) == minted.session
    assert minted.session.grant == grant
    assert minted.session.lineage == lineage.with_scopes(grant.scopes)
    assert set(grant.scopes) <= {name for name, _ in minted.session.lineage.generations}


def test_a_session_of_a_chain_has_the_first_half_of_its_id_from_it_and_others_have_none_in_common():
    first, other = (mint(GRANT, 900, now=NOW, random=os.urandom, sealer=SEALER).session for _ in range(2))
    chained = mint(GRANT, 900, now=NOW, random=os.urandom, sealer=SEALER, lineage=Lineage(1, (), (first.id,))).session
    assert {len(one.id) for one in (first, other, chained)} == {32}
    assert first.id[:16] == chained.id[:16] != other.id[:16]
    assert first.id[16:] != chained.id[16:]


def test_a_token_from_before_lineages_is_refused():
    token = mint(GRANT, 900, now=NOW, random=os.urandom, sealer=SEALER).credentials
    envelope = base64.b64decode(token.session_token)
    older = base64.b64encode(b"\x01" + envelope[1:]).decode()
    with pytest.raises(TokenUnreadable):
        open_token(older, token.access_key_id, SEALER)


def test_the_expiry_is_one_moment_in_whole_seconds():
    minted = mint(GRANT, 900, now=NOW, random=os.urandom, sealer=SEALER)
    assert minted.credentials.expiration == datetime(2026, 3, 1, 12, 15, 0, tzinfo=UTC)
    assert minted.session.expires_at == int(minted.credentials.expiration.timestamp() * 1000)


def test_credentials_have_the_shape_of_aws_and_name_their_account():
    credentials = mint(GRANT, 900, now=NOW, random=os.urandom, sealer=SEALER).credentials
    assert credentials.access_key_id.startswith("ASIA")
    assert len(credentials.access_key_id) == 20
    assert len(credentials.secret_access_key) == 40
    assert account_of_access_key(credentials.access_key_id) == "111122223333"


def test_secrets_are_not_in_the_printed_form():
    minted = mint(GRANT, 900, now=NOW, random=os.urandom, sealer=SEALER)
    shown = repr(minted)
    assert minted.session.secret not in shown
    assert minted.credentials.session_token not in shown


def test_the_token_of_one_key_does_not_open_for_another():
    one, two = (mint(GRANT, 900, now=NOW, random=os.urandom, sealer=SEALER).credentials for _ in range(2))
    with pytest.raises(TokenUnreadable):
        open_token(one.session_token, two.access_key_id, SEALER)


def test_without_policies_and_tags_there_is_no_packed_size():
    assert packed_policy_size(GRANT) is None


def test_the_packed_size_grows_with_what_is_packed():
    few = packed_policy_size(replace(GRANT, tags=(("Team", "blue"),)))
    many = packed_policy_size(replace(GRANT, tags=tuple((f"k{n}", os.urandom(20).hex()) for n in range(20))))
    assert 0 < few < many < 100


def test_more_than_a_token_can_carry_is_refused_with_the_percentage():
    noise = replace(
        GRANT, policy=os.urandom(1000).hex(), tags=tuple((f"k{n}", os.urandom(120).hex()) for n in range(50))
    )
    with pytest.raises(PackedPolicyTooLarge, match=r"consumes \d{3}% of allotted space"):
        mint(noise, 900, now=NOW, random=os.urandom, sealer=SEALER)


# As much as a lineage can be: of as many roles of other accounts as it names, all of them revoked at some time.
LARGEST = Lineage(
    2**40,
    tuple(
        (name, int.from_bytes(os.urandom(8)) >> 1)
        for _ in range(MOST_SCOPES // 2)
        for name in (f"role|{unique_id('AROA', os.urandom)}", f"account|{int.from_bytes(os.urandom(8)) % 10**12:012}")
    ),
    tuple("0123456789abcdef" + os.urandom(8).hex() for _ in range(MOST_ANCESTORS)),
)


@pytest.mark.parametrize("lineage", [Lineage(), LARGEST], ids=["without ancestors", "of the longest chain"])
def test_the_largest_token_fits_a_request_header(lineage):
    sizes = []
    for count in range(1, 51):
        grant = replace(GRANT, tags=tuple((f"k{n}", os.urandom(120).hex()) for n in range(count)))
        try:
            minted = mint(grant, 900, now=NOW, random=os.urandom, sealer=SEALER, lineage=lineage)
        except PackedPolicyTooLarge:
            break
        sizes.append(len(minted.credentials.session_token))
    assert PACKED_LIMIT < max(sizes) < 8190
