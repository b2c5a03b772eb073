"""The texts of the pages: found in the code and the templates, and merged into the catalog of each language.

python tests/support/messages.py     writes what is new into broker/web/translations/*.po, and drops what is gone
"""

from io import BytesIO
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_dir
from babel.messages.pofile import read_po, write_po

from broker.web.i18n.languages import FOLDER, LANGUAGES

ROOT = Path(__file__).parents[2]
WEB = ROOT / "broker" / "web"
METHODS = [("**.py", "python"), ("templates/**.html", "jinja2")]
OPTIONS = {"templates/**.html": {"extensions": "jinja2.ext.i18n", "silent": "false"}}
KEYWORDS = {**DEFAULT_KEYWORDS, "gettext_noop": None}
OTHERS = tuple(language for language in LANGUAGES if language != "en")


def template() -> Catalog:
    """Return every text of the pages, without a translation."""
    found = Catalog(project="Fedgate", header_comment="# The texts of the pages.")
    for _file, _line, message, comments, context in extract_from_dir(WEB, METHODS, OPTIONS, KEYWORDS):
        found.add(message, auto_comments=comments, context=context)
    return found


def file_of(language: str) -> Path:
    return FOLDER / f"{language}.po"


def read(language: str) -> Catalog:
    with file_of(language).open("rb") as source:
        return read_po(source, locale=language)


def merge(language: str) -> Catalog:
    """Return a language's catalog with all texts that there are now, and no others."""
    catalog = read(language) if file_of(language).exists() else Catalog(locale=language, project="Fedgate")
    catalog.header_comment = f"# The pages in {LANGUAGES[language]}."
    catalog.update(template(), no_fuzzy_matching=True, keep_user_comments=True)
    catalog.obsolete.clear()
    return catalog


def write(language: str) -> None:
    """Write a language's catalog, with no more of a header than readers of catalogs need."""
    text = BytesIO()
    write_po(text, merge(language), width=120, no_location=True, sort_output=True, ignore_obsolete=True)
    lines = (line for line in text.getvalue().decode().splitlines(keepends=True) if not line.startswith(_NOT_NEEDED))
    FOLDER.mkdir(exist_ok=True)
    file_of(language).write_text("".join(lines), encoding="utf-8")


# Dates and addresses that would change with every run.
_NOT_NEEDED = (
    "#, fuzzy",
    *(f'"{name}' for name in ("Project", "Report", "POT", "PO-", "Last", "Language-T", "Generated")),
)

if __name__ == "__main__":
    for one in OTHERS:
        write(one)
        missing = sum(not message.string or message.string == ("", "") for message in merge(one) if message.id)
        print(f"{one}: {missing} to translate")  # noqa: T201 - a script's answer
