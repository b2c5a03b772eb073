"""SASLprep: names and passwords in the one form in which directories compare them (RFC 4013, RFC 4513 section 6.3.1).

Pure. A Mac may send a letter and its accent as two characters, where the directory has one: without preparation they
are different texts. Two rules of the profile are left out. The check for bidirectional text would refuse a Hebrew or
Arabic password with a digit at its end, and RFC 8265, its successor, has none; characters that Unicode 3.2 did not
know are let through, as in queries (RFC 3454, section 7).
"""

import stringprep
import unicodedata
from typing import Final

_PROHIBITED: Final = (
    stringprep.in_table_c12,  # spaces that are not ASCII
    stringprep.in_table_c21_c22,  # control characters
    stringprep.in_table_c3,  # private use
    stringprep.in_table_c4,  # no characters
    stringprep.in_table_c5,  # surrogates
    stringprep.in_table_c6,  # not for plain text
    stringprep.in_table_c7,  # not for canonical representation
    stringprep.in_table_c8,  # changes of display, or deprecated
    stringprep.in_table_c9,  # tags
)


class ProhibitedCharacter(ValueError):
    """A text with a character that no name or password may have."""


def saslprep(text: str) -> str:
    """Return the prepared form of a name or password, which may be empty; raise ProhibitedCharacter."""
    if text.isascii() and text.isprintable():
        return text
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char for char in text if not stringprep.in_table_b1(char)
    )
    prepared = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    for char in prepared:
        if any(is_in_table(char) for is_in_table in _PROHIBITED):
            raise ProhibitedCharacter(f"U+{ord(char):04X}")
    return prepared


def is_prohibited(text: str) -> bool:
    """Return whether a text has a character that no name or password may have."""
    try:
        saslprep(text)
    except ProhibitedCharacter:
        return True
    return False


def spellings(text: str) -> tuple[str, ...]:
    """Return the forms in which a text may have been stored, each once: prepared, composed (NFC), and as it came.

    Nearly every text has one. A directory or an older version may have stored what was typed without preparation.
    """
    composed = unicodedata.normalize("NFC", text)
    return tuple(dict.fromkeys((composed if is_prohibited(text) else saslprep(text), composed, text)))
