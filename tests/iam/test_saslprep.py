"""SASLprep: the examples of RFC 4013, section 3, and what people type."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iam.saslprep import ProhibitedCharacter, is_prohibited, saslprep, spellings

PREPARED = {
    "I\u00adX": "IX",  # SOFT HYPHEN is mapped to nothing
    "user": "user",
    "USER": "USER",  # case is preserved
    "\u00aa": "a",  # NFKC
    "\u2168": "IX",
    "a\u00a0b\u3000c": "a b c",  # spaces
    "ju\u0308rgen": "jürgen",
    "ﬁn²": "fin2",
    "\u05d01": "\u05d01",  # no check of directions
    "pass🔑": "pass🔑",  # not in Unicode 3.2
    "\u00ad": "",
}


@pytest.mark.parametrize("text", PREPARED)
def test_a_text_is_prepared(text):
    assert saslprep(text) == PREPARED[text]


@pytest.mark.parametrize(
    "text", ["\u0007", "a\tb", "a\u0085", "\ue000", "\ufffe", "\ud800", "\u2ff0", "\u202e", "\U000e0041"]
)
def test_a_prohibited_character_is_refused(text):
    assert is_prohibited(text)
    with pytest.raises(ProhibitedCharacter):
        saslprep(text)


def test_a_text_has_the_forms_in_which_it_may_be_stored():
    assert spellings("pass-word 1") == ("pass-word 1",)
    assert spellings("jürgen") == ("jürgen",)
    assert spellings("ju\u0308rgen") == ("jürgen", "ju\u0308rgen")
    assert spellings("u\u0308²") == ("ü2", "ü²", "u\u0308²")
    assert spellings("a\tb") == ("a\tb",)


@given(st.text(max_size=20))
def test_preparing_twice_changes_nothing(text):
    if not is_prohibited(text):
        assert spellings(saslprep(text))[0] == saslprep(saslprep(text))
        assert saslprep(unicodedata.normalize("NFC", text)) == saslprep(text)
