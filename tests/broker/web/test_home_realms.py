"""From a name to the place where its password is: realms, links that name a provider, and several directories."""

from urllib.parse import urlencode

import pytest
from sqlalchemy import Engine, event
from support.administrator import Administrator
from support.login_fixtures import (
    ALICE,
    BOB,
    CONTINUE,
    CORP,
    alert,
    browser_of,
    failures,
    hidden_fields,
    links,
    login_setup,
    records,
    send,
    sign_in,
    value_of,
    words,
)

from broker.demo.people import BASE

REALM = "Users from partner.example sign in with Corp."


@pytest.fixture(scope="module")
def shared(tmp_path_factory, redis_url, slapd):
    realms = f"partner.example={CORP},PARTNER={CORP},gone.example={CORP}2"
    config = slapd.config(user_filter="(&(objectClass=person)(|(uid={username})(mail={username})))")
    with login_setup(tmp_path_factory.mktemp("realms"), redis_url, config, FEDGATE_PAGES_REALMS=realms) as made:
        yield made


@pytest.fixture
def world(shared):
    shared.clock.advance(minutes=16)
    return shared


@pytest.fixture
def browser(world):
    return browser_of(world)


# --- what is read for anybody -----------------------------------------------------------------------------------------


def test_the_sign_in_page_reads_no_metadata_document(world, browser):
    run = []

    def note(_connection, _cursor, sql, parameters, *_rest):
        run.append((sql, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        assert browser.get("/login").status == 200
        assert browser.get(f"/login?idp={CORP}").status == 303
        assert browser.get(f"/login?idp={CORP}2").status == 200
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    read = [one for one in run if "FROM saml_provider" in one[0]]
    assert not [sql for sql, _parameters in read if "metadata" in sql]
    with world.installation.store.read() as tx:
        plans = {str(tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values).all()) for sql, values in read}
    assert len([plan for plan in plans if "USING COVERING INDEX ix_saml_provider_sign_in_name" in plan]) == 1
    assert len([plan for plan in plans if "(account_id=? AND name_key=?)" in plan]) == 1


# --- realms -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ann@partner.example", "ann@PARTNER.Example"])
def test_people_of_a_partner_are_shown_their_provider_and_no_directory_hears_of_them(world, browser, name):
    since = len(records(world))
    page = sign_in(browser, name, "their-own-password", to="/security")
    assert page.status == 200
    assert REALM in words(page)
    assert links(page)[CONTINUE] == f"{world.door}?{urlencode({'to': '/security', 'login_hint': name})}"
    assert b"their-own-password" not in page.body
    assert b"<form" not in page.body
    assert records(world, since) == []


@pytest.mark.parametrize("name", ["ann@partner.example", "PARTNER\\ann"])
def test_a_link_with_a_name_shows_its_provider_at_once(browser, name):
    page = browser.get(f"/login?{urlencode({'login_hint': name})}")
    assert "sign in with Corp" in words(page)
    assert CONTINUE in links(page)


@pytest.mark.parametrize("name", ["partner.example", "ann@gone.example", "ann@sub.partner.example", "alice"])
def test_other_names_are_of_the_directory(world, browser, name):
    since = len(records(world))
    assert sign_in(browser, name, "wrong").status == 401
    assert failures(world, since) == [("DirectorySignIn", "IDPRejectedClaim")]


def test_whoever_wants_another_account_gets_the_form_and_is_not_asked_again(browser, slapd):
    slapd.modify(f"dn: uid=erin,ou=people,{BASE}\nchangetype: modify\nreplace: mail\nmail: erin@partner.example\n")
    page = browser.get(links(sign_in(browser, "erin@partner.example", "x", to="/security"))["Use another account"])
    assert value_of(page, "username") == "erin@partner.example"
    page = send(browser, page, "erin@partner.example", "wrong")
    assert page.status == 401
    assert send(browser, page, "erin@partner.example", "trust-but-verify-7").headers["Location"] == "/security"


def test_a_language_can_be_chosen_without_losing_the_way(browser):
    page = sign_in(browser, "alice", "wrong", to="/security")
    page = browser.get(links(page)["Deutsch"])
    assert 'lang="de"' in page.body.decode()
    assert (value_of(page, "username"), hidden_fields(page)["to"]) == ("alice", "/security")


# --- links that name a provider ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Corp", "corp", CORP])
def test_a_link_leads_to_the_provider_that_it_names(world, browser, name):
    answer = browser.get(f"/login?{urlencode({'idp': name, 'to': '/security', 'login_hint': 'ann'})}")
    assert (answer.status, answer.headers["Location"]) == (303, f"{world.door}?to=%2Fsecurity&login_hint=ann")


def test_a_link_leads_there_once_and_then_leaves_the_choice(world, browser):
    assert browser.get("/login?idp=Corp").status == 303
    page = browser.get("/login?idp=Corp")
    assert (page.status, CONTINUE in links(page), 'id="password"' in page.body.decode()) == (200, True, True)
    assert browser_of(world).get("/login?idp=Corp").status == 303


@pytest.mark.parametrize(
    "query", ["idp=Corp&local=1", "idp=Nobody", "idp=", "idp=%ff", "idp=Corp%00", f"idp={CORP}2", f"idp={CORP}%00"]
)
def test_other_links_lead_nowhere_else(browser, query):
    page = browser.get(f"/login?{query}")
    assert (page.status, 'id="password"' in page.body.decode()) == (200, True)


@pytest.mark.parametrize(
    ("hint", "name"), [("alice", "alice"), (' al"<i>ce', 'al"<i>ce'), ("a\nb", ""), ("\ufffd", ""), ("a" * 257, "")]
)
def test_a_link_fills_in_the_name_where_it_can_be_one(browser, hint, name):
    assert value_of(browser.get(f"/login?{urlencode({'login_hint': hint})}"), "username") == name


def test_what_an_account_creates_neither_shows_on_the_page_nor_takes_a_name_over(world, browser):
    other = Administrator.of_a_new_account(world.installation, "000000000001")
    document = world.admin.do("GetSAMLProvider", SAMLProviderArn=CORP).text("SAMLMetadataDocument")
    for name in ("000", "Corp", "partner.example"):
        other.do("CreateSAMLProvider", Name=name, SAMLMetadataDocument=document)
    page = browser.get("/login")
    assert [one for one in links(page) if "Continue" in one] == [CONTINUE]
    assert "111122223333" not in page.body.decode()
    assert browser.get("/login?idp=Corp").headers["Location"].startswith(world.door)
    assert browser_of(world).get("/login?idp=000").status == 200


def test_the_last_door_stands_first_and_says_so(world, browser):
    for name in ("Aaa", "Zzz"):
        document = world.admin.do("GetSAMLProvider", SAMLProviderArn=CORP).text("SAMLMetadataDocument")
        world.admin.do("CreateSAMLProvider", Name=name, SAMLMetadataDocument=document)
        world.show(name)
    doors = [f"Continue with {name}" for name in ("Aaa", "Corp", "Zzz")]
    assert [one for one in links(browser.get("/login")) if "Continue" in one] == doors
    browser.get(links(browser.get("/login"))[doors[1]])
    page = browser.get("/login")
    shown = [one for one in links(page) if "Continue" in one]
    assert shown == [f"{doors[1]} last used", doors[0], doors[2]]


# --- several directories ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def several(tmp_path_factory, redis_url, slapd):
    configs = (
        slapd.config(name="alpha", login_domains=("ALPHA", "alpha.example")),
        slapd.config(name="beta", login_domains=("BETA", "beta.example")),
        slapd.config(name="gamma", login_domains=("BETA",)),
    )
    with login_setup(tmp_path_factory.mktemp("several"), redis_url, *configs) as made:
        yield made


def directory_of(world, since):
    return [one["userIdentity"]["identityProvider"] for one in records(world, since)]


@pytest.mark.parametrize(
    ("name", "chosen", "asked"),
    [
        ("ALPHA\\alice", "", "alpha"),
        ("alice@alpha.example", "", "alpha"),
        ("alice@alpha.example", "beta", "alpha"),
        ("alice@beta.example", "", "beta"),
        ("alice", "beta", "beta"),
        ("alice", "alpha", "alpha"),
        ("BETA\\alice", "gamma", "gamma"),
    ],
)
def test_the_domain_tells_the_directory_else_the_person_does(several, name, chosen, asked):
    since = len(records(several))
    answer = sign_in(browser_of(several), name, directory=chosen)
    assert (answer.status, directory_of(several, since)) == (303, [asked])


@pytest.mark.parametrize(
    ("name", "chosen", "offered"),
    [
        ("alice", "", ["alpha", "beta", "gamma"]),
        ("alice", "delta", ["alpha", "beta", "gamma"]),
        ("BETA\\alice", "", ["beta", "gamma"]),
        ("BETA\\alice", "alpha", ["beta", "gamma"]),
    ],
)
def test_who_does_not_say_which_directory_is_asked(several, name, chosen, offered):
    since = len(records(several))
    browser = browser_of(several)
    page = sign_in(browser, name, directory=chosen)
    assert (page.status, alert(page), value_of(page, "username")) == (400, "Choose your directory.", name)
    text = page.body.decode()
    assert '<label for="directory">' in text
    assert [one for one in ("alpha", "beta", "gamma") if f'<option value="{one}">' in text] == offered
    assert [one["eventName"] for one in records(several, since)] == ["PageRequest"]  # no directory was asked
    assert send(browser, page, name, directory="beta").status == 303


def test_the_choice_is_kept_after_a_wrong_password(several):
    page = sign_in(browser_of(several), "alice", "wrong", directory="beta")
    assert '<option value="beta" selected>' in page.body.decode()
    assert directory_of(several, -1) == ["beta"]


def test_one_directory_is_for_everybody_without_a_domain(tmp_path, redis_url, slapd):
    configs = slapd.config(name="main"), slapd.config(name="other", login_domains=("OTHER",))
    with login_setup(tmp_path, redis_url, *configs) as world:
        assert b'id="directory"' not in browser_of(world).get("/login").body
        for name, asked in (("alice", "main"), ("OTHER\\alice", "other"), ("UNKNOWN\\alice", "main")):
            sign_in(browser_of(world), name)
            assert directory_of(world, -1) == [asked]


def test_one_directory_is_never_a_choice(browser):
    assert b'id="directory"' not in browser.get("/login").body


# --- the name first ---------------------------------------------------------------------------------------------------


def test_the_name_can_be_asked_for_first(tmp_path, redis_url, slapd):
    configs = slapd.config(name="alpha", login_domains=("A",)), slapd.config(name="beta", login_domains=("B",))
    more = {"FEDGATE_PAGES_IDENTIFIER_FIRST": "true", "FEDGATE_PAGES_REALMS": f"partner.example={CORP}"}
    with login_setup(tmp_path, redis_url, *configs, **more) as world:
        browser = browser_of(world)
        page = browser.get("/login?to=/security")
        assert (b'id="password"' in page.body, b'id="directory"' in page.body) == (False, False)
        assert "<button>Next</button>" in page.body.decode()
        assert "sign in with Corp" in words(send(browser, page, "ann@partner.example", None))
        page = browser.get("/login?to=/security")
        second = send(browser, page, "bob", None)
        assert (second.status, value_of(second, "username"), alert(second)) == (200, "bob", "")
        assert (b'id="password"' in second.body, b'id="directory"' in second.body) == (True, True)
        assert b'id="directory"' not in send(browser, browser.get("/login"), "B\\bob", None).body
        assert send(browser, second, "bob", BOB, directory="beta").headers["Location"] == "/security"
        assert alert(sign_in(browser_of(world), "", None)) == "Enter your user name."
        assert sign_in(browser_of(world), "A\\alice", ALICE).status == 303, "a password manager fills in both"
