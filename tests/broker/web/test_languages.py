"""Which language somebody gets, how a link changes it, and what comes of texts that are not translated."""

import html
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.login_fixtures import alert, browser_of, hidden_fields, links, login_setup, send, sign_in, value_of

from broker.web.i18n.languages import LANGUAGES, load_catalog, load_translations


@pytest.fixture(scope="module")
def shared(tmp_path_factory, redis_url, slapd):
    with login_setup(tmp_path_factory.mktemp("languages"), redis_url, slapd.config()) as made:
        yield made


@pytest.fixture
def world(shared):
    shared.clock.advance(minutes=16)
    return shared


@pytest.fixture
def browser(world):
    return browser_of(world)


def spoken(page):
    """Return the language and the direction that a page says it has."""
    return re.search(r'<html lang="([^"]*)" dir="([^"]*)">', page.body.decode()).groups()


def heading(page):
    return html.unescape(re.search("<h1>(.*?)</h1>", page.body.decode())[1])


# --- which ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("de", "de"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("de-CH, fr;q=0.9", "de"),
        ("fr;q=0.5, ja", "ja"),
        ("zh, pt, es;q=0.1", "es"),
        ("pt, zh", "en"),
        ("EN-us, de;q=0.9", "en"),
        ("ar-EG", "ar"),
        ("de;q=0", "en"),
        ("de;q=0, fr;q=0.1", "fr"),
        ("*", "en"),
        ("", "en"),
        ("de;q=x", "en"),
        ("../../etc/passwd", "en"),
    ],
)
def test_a_browser_gets_the_language_that_it_likes_best(browser, accepted, language):
    page = browser.get("/login", **{"Accept-Language": accepted})
    assert (page.status, spoken(page)[0]) == (200, language)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    accepted=st.text("deafrjs-_*;q=01., ", max_size=30), wish=st.text(max_size=10), kept=st.text("adeyz%", max_size=5)
)
def test_whatever_a_browser_says_it_gets_a_language_of_ours(shared, accepted, wish, kept):
    browser = browser_of(shared)
    browser.cookies["fedgate-language"] = kept
    page = browser.get(f"/login?lang={''.join(f'%{octet:02x}' for octet in wish.encode(errors='replace'))}",
                       **{"Accept-Language": accepted})  # fmt: skip
    assert page.status == 200
    assert spoken(page)[0] in LANGUAGES


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_page_says_its_language_and_its_direction_and_marks_it_in_the_list(browser, language):
    page = browser.get(f"/login?lang={language}")
    assert spoken(page) == (language, "rtl" if language == "ar" else "ltr")
    listed = re.findall(
        r'<a href="[^"]*" lang="(\w+)" hreflang="(\w+)"( aria-current="true")?>([^<]*)<', page.body.decode()
    )
    assert [(one[0], one[1], one[3]) for one in listed] == [(key, key, name) for key, name in LANGUAGES.items()]
    assert [one[0] for one in listed if one[2]] == [language]


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_has_its_own_words(browser, language):
    page = browser.get(f"/login?lang={language}")
    assert heading(page) == load_catalog(language).gettext("Sign in")
    assert f"<title>{heading(page)} - Fedgate</title>" in html.unescape(page.body.decode())
    wrong = sign_in(browser, "alice", "wrong")
    assert alert(wrong) == load_catalog(language).gettext("The user name or the password is wrong.")


# --- the links --------------------------------------------------------------------------------------------------------


def test_a_link_changes_the_language_and_keeps_the_rest_of_the_address(browser):
    page = browser.get("/login?to=/security&login_hint=a%26b%3Dc&switch=1")
    page = browser.get(links(page)["Français"])
    assert spoken(page)[0] == "fr"
    assert (hidden_fields(page)["to"], value_of(page, "username")) == ("/security", "a&b=c")
    page = browser.get(links(page)["العربية"])
    assert (spoken(page), value_of(page, "username")) == (("ar", "rtl"), "a&b=c")
    assert page.body.decode().count("lang=") < 40


def test_a_language_that_was_chosen_stays_whatever_the_browser_likes_better(browser):
    browser.get("/login?lang=es", **{"Accept-Language": "de"})
    for address in ("/login", "/portal", "/signin"):
        assert spoken(browser.get(address, **{"Accept-Language": "de"}))[0] == "es"
    assert spoken(sign_in(browser, "alice", "wrong"))[0] == "es"
    assert spoken(browser.get("/nowhere", Accept="text/html"))[0] == "es"
    assert spoken(browser.get("/login?lang=ja"))[0] == "ja"
    assert spoken(browser.get("/login"))[0] == "ja"


@pytest.mark.parametrize("wish", ["xx", "DE", "de%00", "", "de&lang=fr"])
def test_a_language_that_there_is_not_changes_nothing(browser, wish):
    browser.cookies["fedgate-language"] = "ja"
    page = browser.get(f"/login?lang={wish}")
    assert spoken(page)[0] == ("de" if wish.startswith("de&") else "ja")


def test_the_links_of_a_page_that_only_answers_forms_lead_to_one_that_can_be_shown(browser):
    refused = browser.post("/sessions/all", {"form_token": "x"})
    assert refused.status == 401
    assert links(refused)["Deutsch"].startswith("/login?")
    assert browser.get(links(refused)["Deutsch"]).status == 200
    refused = send(browser, browser.get("/login"), headers={"Origin": "null"})
    assert links(refused)["Deutsch"].startswith("/login?")
    assert browser.get(links(refused)["Deutsch"]).status == 200


# --- the texts --------------------------------------------------------------------------------------------------------

CATALOG = """
msgid ""
msgstr ""
"Content-Type: text/plain; charset=utf-8\\n"
"Plural-Forms: nplurals=2; plural=(n != 1);\\n"

msgid "Sign in"
msgstr "Anmelden"

msgid "Password"
msgstr ""

#, fuzzy
msgid "User name"
msgstr "Benutzername?"

msgid "Too many attempts. Try again in %(num)d second."
msgid_plural "Too many attempts. Try again in %(num)d seconds."
msgstr[0] "Noch %(num)d Sekunde."
msgstr[1] "Noch %(num)d Sekunden."
"""


def test_what_is_not_translated_or_only_guessed_stays_english(tmp_path):
    file = tmp_path / "de.po"
    file.write_text(CATALOG, encoding="utf-8")
    found = load_translations(file, "de")
    told = {text: found.ugettext(text) for text in ("Sign in", "Password", "User name", "Nobody wrote this")}
    assert told == {"Sign in": "Anmelden", "Password": "Password", "User name": "User name",
                    "Nobody wrote this": "Nobody wrote this"}  # fmt: skip
    one, many = (message for message in re.findall(r'"(Too many.*)"', CATALOG))
    assert [found.ungettext(one, many, number) for number in (1, 2)] == [
        "Noch %(num)d Sekunde.",
        "Noch %(num)d Sekunden.",
    ]


def test_a_language_without_a_file_is_english(tmp_path):
    assert load_translations(tmp_path / "de.po", "de").ugettext("Sign in") == "Sign in"
    assert load_catalog("en").ugettext("Sign in") == "Sign in"
