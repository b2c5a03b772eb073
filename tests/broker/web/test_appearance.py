"""An organisation's looks: its name, logo, colours and links; and how large and how local every page is."""

import gzip
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.installation import Installation, environment
from support.login_fixtures import browser_of, links, login_setup, sign_in, signed_in, words
from support.saml_fixtures import Browser

from broker.config import checks
from broker.config.settings import Settings, SettingsError
from broker.web.branding.appearance import Appearance

STATIC = Path(__file__).parents[3] / "broker/web/static"
LOGO = b'<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"><script>alert(1)</script></svg>'
PLAIN = {"FEDGATE_MASTER_KEY": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}


@pytest.fixture
def branded(tmp_path, redis_url):
    """An installation with looks of its own."""
    logo = tmp_path / "logo.svg"
    logo.write_bytes(LOGO)
    more = {
        "FEDGATE_PAGES_ORGANISATION": "Ex & Co <b>",
        "FEDGATE_PAGES_LOGO_FILE": str(logo),
        "FEDGATE_PAGES_COLOURS": "accent=#00645a/#5fd3c4,on-accent=#fff",
        "FEDGATE_PAGES_HELP_URL": "mailto:help@example.com?subject=a&body=b",
        "FEDGATE_PAGES_STATUS_URL": "https://status.example.com",
        "FEDGATE_PAGES_PRIVACY_URL": "/privacy",
    }
    made = Installation(tmp_path, environment(tmp_path, redis_url, **more))
    yield Browser(made)
    made.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory, redis_url, slapd):
    with login_setup(tmp_path_factory.mktemp("looks"), redis_url, slapd.config()) as made:
        yield made


def addressed(page):
    """Return what a page makes a browser load: style sheets, scripts and pictures."""
    return re.findall(r'<(?:link|script|img)\b[^>]*\b(?:href|src)="(/[^"]*)"', page.body.decode())


# --- the looks --------------------------------------------------------------------------------------------------------


def test_an_organisation_has_its_name_its_logo_its_colours_and_its_links(branded):
    page = branded.get("/login")
    text = page.body.decode()
    assert "<title>Sign in - Ex &amp; Co &lt;b&gt;</title>" in text
    assert "<span>Ex &amp; Co &lt;b&gt;</span>" in text
    assert {"Help", "Service status", "Privacy"} <= links(page).keys()
    assert links(page)["Help"] == "mailto:help@example.com?subject=a&body=b"
    assert [one.partition("?")[0] for one in addressed(page)] == [
        "/static/fedgate.css", "/brand.css", "/static/fedgate.js", "/brand/logo"
    ]  # fmt: skip
    assert '<img src="/brand/logo" alt="" height="28">' in text


def test_the_colours_are_a_style_sheet_for_light_and_dark(branded):
    answer = branded.get("/brand.css")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/css; charset=utf-8")
    assert answer.body.decode() == (
        ":root {\n  --accent: light-dark(#00645a, #5fd3c4);\n  --on-accent: light-dark(#fff, #fff);\n}\n"
    )
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_logo_is_a_picture_that_runs_nothing(branded):
    answer = branded.get("/brand/logo")
    assert (answer.status, answer.headers["Content-Type"], answer.body) == (200, "image/svg+xml", LOGO)
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert answer.headers["Cache-Control"] == "public, max-age=3600"


def test_a_logo_that_has_gone_is_missing_and_the_pages_are_there(branded):
    Path(branded.installation.settings.pages_logo_file).unlink()
    assert branded.get("/brand/logo").status == 404
    assert branded.get("/login").status == 200


def test_without_looks_of_its_own_an_organisation_has_ours(world):
    page = browser_of(world).get("/login")
    assert "<title>Sign in - Fedgate</title>" in page.body.decode()
    assert [one.partition("?")[0] for one in addressed(page)] == ["/static/fedgate.css", "/static/fedgate.js"]
    assert not {"Help", "Service status", "Privacy"} & links(page).keys()
    assert browser_of(world).get("/brand/logo").status == 404
    assert browser_of(world).get("/brand.css").body == b":root {\n}\n"


@given(colours=st.lists(st.text("accentikpr-=#0fA/;{}: \n*", max_size=20), max_size=3).map(tuple))
def test_nothing_but_colours_of_ours_gets_into_the_style_sheet(colours):
    if checks.colours(colours):
        return
    lines = Appearance(colours=colours).stylesheet().splitlines()
    wanted = re.compile(
        rf"  --(?:{'|'.join(checks.COLOUR_NAMES)}): light-dark\(#[0-9a-fA-F]{{3,6}}, #[0-9a-fA-F]{{3,6}}\);"
    )
    assert all(wanted.fullmatch(one) for one in lines[1:-1])
    assert len(lines) == len(colours) + 2


def test_every_colour_that_may_be_set_is_one_that_the_pages_use():
    text = (STATIC / "fedgate.css").read_text()
    assert [
        name for name in checks.COLOUR_NAMES if f"  --{name}: light-dark(" not in text or f"var(--{name})" not in text
    ] == []


# --- what is refused --------------------------------------------------------------------------------------------------

CORP = "arn:aws:iam::111122223333:saml-provider/Corp"
REFUSED = [
    ("ORGANISATION", " ", "must be a name, or left out"),
    ("COLOURS", "accent=red", "accent=red is not NAME=#LIGHT or NAME=#LIGHT/#DARK, NAME being one of accent"),
    ("COLOURS", "accent=#12345", "accent=#12345 is not NAME=#LIGHT"),
    ("COLOURS", "font=#123", "font=#123 is not NAME=#LIGHT"),
    ("COLOURS", "accent=#123/", "accent=#123/ is not NAME=#LIGHT"),
    ("COLOURS", "accent=#123;} *{x:y", "is not NAME=#LIGHT"),
    ("LOGO_FILE", "/etc/passwd", "must be a file that ends in .svg, .png, .webp"),
    ("LOGO_FILE", "/nowhere/logo.svg", "/nowhere/logo.svg cannot be read: No such file or directory"),
    ("HELP_URL", "javascript:alert(1)", "must begin with https://, http://, mailto:, /"),
    ("STATUS_URL", "status.example.com", "must begin with https://"),
    ("PRIVACY_URL", "https://a b", "must begin with https://"),
    ("REALMS", "partner.example", "partner.example is not DOMAIN=ARN, such as partner.example=arn:aws:iam::"),
    ("REALMS", f"={CORP}", "is not DOMAIN=ARN"),
    ("REALMS", "partner.example=arn:aws:iam::111122223333:role/x", "is not DOMAIN=ARN"),
    ("REALMS", f"ann@partner.example={CORP}", "is not DOMAIN=ARN"),
    ("REALMS", f"a.example={CORP},A.example={CORP}", "a.example is named twice"),
    ("SECOND_FACTOR", "corpp", 'corpp is no directory of these settings, no ARN of a provider, and not "iam"'),
    ("SECOND_FACTOR", "iam,arn:aws:iam::1:user/x", "arn:aws:iam::1:user/x is no directory"),
    ("IDLE", "59", "must be at least 60"),
    ("LIFETIME", "3599", "must be at least pages.idle, at most 86400"),
]


@pytest.mark.parametrize(("name", "value", "remedy"), REFUSED)
def test_a_look_that_cannot_be_is_refused_with_what_to_do(name, value, remedy):
    with pytest.raises(SettingsError) as caught:
        Settings.read(None, PLAIN | {f"FEDGATE_PAGES_{name}": value})
    (problem,) = caught.value.problems
    assert (problem.where, problem.key) == ("environment", f"FEDGATE_PAGES_{name}")
    assert remedy in problem.remedy


def test_a_logo_that_would_make_every_page_slow_is_refused(tmp_path):
    large, folder = tmp_path / "large.png", tmp_path / "folder.png"
    large.write_bytes(bytes(200_001))
    folder.mkdir()
    for file, remedy in ((large, "has 200001 bytes"), (folder, "cannot be read: Is a directory")):
        with pytest.raises(SettingsError, match=remedy):
            Settings.read(None, PLAIN | {"FEDGATE_PAGES_LOGO_FILE": str(file)})


def test_what_can_be_is_taken(tmp_path):
    file = tmp_path / "fedgate.toml"
    file.write_text('[directory.corp]\ntype = "ldap"\nurls = ["ldaps://h"]\nuser_base = "dc=h"\n'
                    f'[pages]\nsecond_factor = ["corp", "iam", "{CORP}"]\nrealms = ["PARTNER={CORP}"]\n'
                    'colours = ["line=#ABC"]\nhelp_url = "/help"\n')  # fmt: skip
    assert Settings.read(file, PLAIN).pages_second_factor == ("corp", "iam", CORP)


# --- what a browser loads ---------------------------------------------------------------------------------------------


def test_the_sign_in_page_with_all_that_it_loads_is_below_fifty_kilobytes(branded, world):
    for browser in (branded, browser_of(world)):
        page = browser.get("/login?lang=ja&to=/portal?role=x")
        loaded = [browser.get(one).body for one in addressed(page)]
        assert len(loaded) > 1
        assert len(page.body) + sum(map(len, loaded)) < 50_000
        assert len(gzip.compress(page.body + b"".join(loaded))) < 15_000


def test_no_page_loads_anything_from_elsewhere(world):
    browser = signed_in(world)
    for address in ("/login?switch=1", "/portal", "/sessions", "/security", "/signin", "/password", "/nowhere"):
        text = browser.get(address, Accept="text/html").body.decode()
        loaded = re.findall(
            r'<(?:link|script|img|iframe|source|video|object|embed)\b[^>]*\b(?:href|src|data)="([^"]*)"', text
        )
        assert [one for one in loaded if not re.match(r"/(?!/)|data:,$", one)] == []
    for file in STATIC.iterdir():
        assert not re.search(
            r"url\(|@import|https?://|//[a-z]+\.", re.sub(r"^\s*//.*", "", file.read_text(), flags=re.MULTILINE)
        )


def test_what_is_asked_for_by_its_fingerprint_is_kept_and_the_rest_is_asked_for_again(branded):
    page = branded.get("/login")
    for address in addressed(page)[:3]:
        assert re.search(r"\?v=[0-9a-f]{12}$", address)
        answer = branded.get(address)
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert "Set-Cookie" not in answer.headers
        for other in (address.partition("?")[0], f"{address}0"):
            assert "immutable" not in branded.get(other).headers["Cache-Control"]
    plain = branded.get("/static/fedgate.css")
    assert plain.headers["Cache-Control"] == "no-cache"
    again = branded.get("/static/fedgate.css", **{"If-None-Match": plain.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")


def test_what_has_secrets_is_kept_by_nobody(world):
    browser = signed_in(world)
    for address in ("/portal", "/sessions", "/security", "/login", "/login?switch=1"):
        assert browser.get(address).headers["Cache-Control"] == "no-store"
    assert sign_in(browser, at="/login?switch=1").headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "name", ["../app.py", "..%2fapp.py", "%2e%2e/site.py", "/etc/passwd", "fedgate.css%00", "nothing.css"]
)
def test_only_files_for_browsers_are_given_out(world, name):
    answer = browser_of(world).get(f"/static/{name}")
    assert answer.status == 404
    assert "import" not in words(answer)
