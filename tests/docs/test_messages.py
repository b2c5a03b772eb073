"""Each language says everything that the pages say, with the same names, numbers and tags in it."""

import re
from collections.abc import Iterator

import pytest
from babel.messages.catalog import Message
from support import messages

from broker.web.i18n.languages import LANGUAGES
from broker.web.i18n.messages import MESSAGES

HOW_TO_WRITE = "run: python tests/support/messages.py, and translate what is new"
PLACE = re.compile(r"%\((\w+)\)([sd])|%%")
TAG = re.compile(r"</?(\w+)[^>]*>")


def translate_pattern(language: str) -> Iterator[tuple[Message, str, str]]:
    """Yield each text of a catalog with the English and the translation, for plurals with each form."""
    for message in messages.read(language):
        if not message.id:
            continue
        if isinstance(message.id, str):
            yield message, message.id, message.string
        else:
            for form in message.string:
                yield message, message.id[1], form


def test_there_is_a_catalog_for_each_language_but_english():
    assert {file.stem for file in messages.FOLDER.glob("*.po")} == LANGUAGES.keys() - {"en"}


@pytest.mark.parametrize("language", messages.OTHERS)
def test_a_catalog_has_every_text_and_no_other(language):
    wanted = {message.id for message in messages.template()}
    found = {message.id for message in messages.read(language)}
    assert (wanted - found, found - wanted) == (set(), set()), HOW_TO_WRITE
    assert len(wanted) > 100


@pytest.mark.parametrize("language", messages.OTHERS)
def test_every_text_is_translated_and_none_is_a_guess(language):
    assert [english for _, english, text in translate_pattern(language) if not text.strip()] == []
    assert [message.id for message, _, _ in translate_pattern(language) if message.fuzzy] == []
    catalog = messages.read(language)
    forms = [len(message.string) for message in catalog if isinstance(message.id, tuple)]
    assert set(forms) == {catalog.num_plurals}


@pytest.mark.parametrize("language", messages.OTHERS)
def test_a_translation_has_the_names_and_tags_of_the_english(language):
    for message, english, text in translate_pattern(language):
        wanted, found = (sorted(PLACE.findall(one)) for one in (english, text))
        if isinstance(message.id, str):
            assert found == wanted, english
        else:  # "one role" need not say the number
            assert set(found) <= set(wanted), english
        assert sorted(TAG.findall(text)) == sorted(TAG.findall(english)), english
        assert "%" not in PLACE.sub("", text), english


@pytest.mark.parametrize("language", messages.OTHERS)
def test_a_translation_has_no_signs_that_nobody_sees(language):
    for _, english, text in translate_pattern(language):
        assert text == text.strip(), english
        assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\ufeff]", text), english


def test_what_other_layers_are_said_to_say_they_say():
    folders = [messages.ROOT / name for name in ("broker", "sts", "iam")]
    sources = [file.read_text() for folder in folders for file in folder.rglob("*.py") if file.name != "messages.py"]
    assert [one for one in MESSAGES if not any(f'"{one}"' in text for text in sources)] == []
