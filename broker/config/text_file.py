"""Reads text files as editors leave them: a byte order mark is no part of the text, and other encodings are named."""

import codecs
from pathlib import Path
from typing import Final

_OTHER_ENCODINGS: Final = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
# What word processors and chat programs make of quotation marks, blanks and hyphens.
_TYPOGRAPHIC: Final = {
    "\u201c": 'a curly quotation mark: write "',
    "\u201d": 'a curly quotation mark: write "',
    "\u201e": 'a low quotation mark: write "',
    "\u00ab": 'an angle quotation mark: write "',
    "\u00bb": 'an angle quotation mark: write "',
    "\u2018": "a curly quotation mark: write '",
    "\u2019": "a curly quotation mark: write '",
    "\u00a0": "a no-break space: write a plain one",
    "\u200b": "an invisible space: remove it",
    "\u2013": "a dash: write a hyphen",
    "\u2014": "a dash: write a hyphen",
    "\ufeff": "a byte order mark in the middle of the file: remove it",
}


class NotText(ValueError):
    """A file that cannot be read as UTF-8 text; the message says what it is instead and what to do."""


def decode_text(content: bytes) -> str:
    """Return the text of a file in UTF-8, without the byte order mark that Notepad writes; raise NotText."""
    for mark, encoding in _OTHER_ENCODINGS.items():
        if content.startswith(mark):
            raise NotText(f"is in {encoding}, which Notepad calls Unicode: save it as UTF-8")
    if b"\0" in content:
        raise NotText("is in UTF-16 or is not text: save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise NotText(f"is not UTF-8 in line {line}: save it as UTF-8") from error


def read_secret_file(file: Path) -> str:
    """Return the text of a file that only its owner may read; raise OSError, ValueError."""
    if file.stat().st_mode & 0o077:
        raise ValueError(f"{file} can be read by others: chmod 600 {file}")
    try:
        return decode_text(file.read_bytes())
    except NotText as error:
        raise ValueError(f"{file} {error}") from error


def typographic_characters(text: str) -> str:
    """Return what is wrong with the first character of a line that an editor has replaced, or ""."""
    found = next((char for char in text if char in _TYPOGRAPHIC), "")
    return f"{found} (U+{ord(found):04X}) is {_TYPOGRAPHIC[found]}" if found else ""
