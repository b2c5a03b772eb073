"""The languages of the pages, how one is chosen for a request, and their gettext catalogs.

The .po files in ``translations/`` are read once per process: there are no compiled .mo files that could be outdated.
"""

from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Final

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import NullTranslations, Translations
from flask import Flask, request
from flask_babel import Babel, Domain, get_locale

LANGUAGES: Final = {
    "en": "English",
    "de": "Deutsch",
    "fr": "Français",
    "es": "Español",
    "ja": "日本語",
    "ar": "العربية",
}
LANGUAGE_COOKIE: Final = "language"
_COOKIES: Final = (f"__Host-fedgate-{LANGUAGE_COOKIE}", f"fedgate-{LANGUAGE_COOKIE}")
FOLDER: Final = Path(__file__).parents[1] / "translations"


def select_locale() -> str:
    """Return the language of the response: of ?lang=, else of the cookie, else the browser's first that we have."""
    for chosen in (*request.args.getlist("lang")[:1], *map(request.cookies.get, _COOKIES)):
        if chosen in LANGUAGES:
            return chosen
    # Werkzeug's best_match takes any language of ours over the first one's region: fr for "de-CH, fr;q=0.9".
    accepted = (name.lower().partition("-")[0] for name, quality in request.accept_languages if quality > 0)
    return next((name for name in accepted if name in LANGUAGES), "en")


def gettext_noop(text: str) -> str:
    """Mark a text for translation where it is shown, and return it unchanged."""
    return text


@cache
def load_catalog(language: str) -> NullTranslations:
    """Return the catalog of a language; the texts in the code and the templates are English."""
    return load_translations(FOLDER / f"{language}.po", language)


def load_translations(file: Path, language: str) -> NullTranslations:
    """Return the catalog in a .po file; texts that are untranslated or fuzzy stay English."""
    if not file.exists():
        return NullTranslations()
    compiled = BytesIO()
    with file.open("rb") as source:
        write_mo(compiled, read_po(source, locale=language))
    compiled.seek(0)
    return Translations(compiled)


class _TranslationDomain(Domain):  # type: ignore[misc]  # flask-babel publishes no types
    """Gives Flask-Babel our catalogs."""

    def get_translations(self) -> NullTranslations:
        return load_catalog(str(get_locale() or "en"))


def init_babel(app: Flask) -> None:
    """Register Flask-Babel, with our choice of language and our catalogs."""
    babel = Babel(app, locale_selector=select_locale)
    babel.domain_instance = _TranslationDomain()
