"""The languages of the pages: which there are, which one a browser gets, and their texts.

Texts are kept as gettext writes them (``translations/LANGUAGE.po``) and read once per process: no compiled file lies
beside its source and grows old.
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
LANGUAGE_COOKIE: Final = "language"  # what a browser is told to remember: no secret, for the value is one of these
_COOKIES: Final = (f"__Host-fedgate-{LANGUAGE_COOKIE}", f"fedgate-{LANGUAGE_COOKIE}")
FOLDER: Final = Path(__file__).parents[1] / "translations"


def select_locale() -> str:
    """Return the language of this answer: of the link, else of the cookie, else what the browser likes best."""
    for wish in (request.args.get("lang"), *map(request.cookies.get, _COOKIES)):
        if wish in LANGUAGES:
            return wish
    # Werkzeug's best_match takes any language of ours over the first one's region: fr for "de-CH, fr;q=0.9".
    liked = (name.lower().partition("-")[0] for name, quality in request.accept_languages if quality > 0)
    return next((one for one in liked if one in LANGUAGES), "en")


def gettext_noop(text: str) -> str:
    """Return a sentence as it is: translated where it is shown, and found here by whoever gathers what to translate."""
    return text


@cache
def load_catalogue(language: str) -> NullTranslations:
    """Return the texts of a language; English is what stands in the templates."""
    return load_translations(FOLDER / f"{language}.po", language)


def load_translations(file: Path, language: str) -> NullTranslations:
    """Return the texts of a .po file; what is not translated there, or only guessed, stays English."""
    if not file.exists():
        return NullTranslations()
    compiled = BytesIO()
    with file.open("rb") as source:
        write_mo(compiled, read_po(source, locale=language))
    compiled.seek(0)
    return Translations(compiled)


class _TranslationDomain(Domain):  # type: ignore[misc]  # flask-babel publishes no types
    """Hands Flask-Babel our catalogues."""

    def get_translations(self) -> NullTranslations:
        return load_catalogue(str(get_locale() or "en"))


def init_babel(app: Flask) -> None:
    """Let an application's templates and views speak the language of whoever asks."""
    babel = Babel(app, locale_selector=select_locale)
    babel.domain_instance = _TranslationDomain()
