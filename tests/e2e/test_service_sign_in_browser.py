"""A person with Chromium at two services behind a proxy: what a real browser sends, keeps and refuses."""

import json

import pytest
from support.broker_process import ACCOUNT
from support.front_proxy import running_services
from support.pages import type_in

BOB = f"arn:aws:sts::{ACCOUNT}:assumed-role/Visitor/bob"
PASSWORD = "builder-can-we-fix-it"
POST = "async url => (await fetch(url, {method: 'POST', credentials: 'include', mode: 'no-cors'})).status"
GET = "async url => (await fetch(url)).status"
FORM = """url => {
    document.body.innerHTML = `<form method="post" action="${url}"><input name="text" value="spam"></form>`;
    document.forms[0].submit();
}"""


@pytest.fixture(scope="module")
def services(tmp_path_factory, slapd, furnished, shared_redis):
    with running_services(tmp_path_factory.mktemp("services"), slapd, furnished, shared_redis) as running:
        yield running


@pytest.fixture
def page(chromium):
    with chromium.new_context() as context:
        context.set_default_timeout(20_000)
        yield context.new_page()


def acting(page):
    return json.loads(page.locator("body").inner_text())["principal"]


def test_a_person_signs_in_once_works_and_signs_out(services, page):
    page.goto(f"{services.wiki}/pages?name=first")
    type_in(page, username="bob", password=PASSWORD)
    page.wait_for_url(f"{services.wiki}/pages?name=first")
    assert acting(page) == BOB
    assert page.evaluate(POST, "/pages") == 200
    page.goto(f"{services.board}/")  # without a question
    assert page.url == f"{services.board}/"
    assert acting(page) == BOB
    cookies = page.context.cookies(services.wiki)
    assert {(one["name"], one["httpOnly"], one["sameSite"]) for one in cookies} == {
        ("fedgate-service", True, "Lax"),
        ("fedgate-sign-in", True, "Lax"),
    }
    # The board is another site: neither its scripts nor its forms have the session of the wiki.
    with page.expect_response(lambda response: response.url == f"{services.wiki}/pages") as refused:
        page.evaluate(FORM, f"{services.wiki}/pages")
    assert refused.value.status == 401
    page.goto(f"{services.board}/")
    page.evaluate(FORM, "/.fedgate/sign-out")
    page.get_by_role("heading", name="You are signed out").wait_for()
    page.goto(f"{services.wiki}/pages")
    assert page.locator("#username").is_visible()


def test_a_script_is_told_when_the_session_is_over(services, page):
    page.goto(f"{services.wiki}/")
    type_in(page, username="bob", password=PASSWORD)
    page.wait_for_url(f"{services.wiki}/")
    assert page.evaluate(GET, "/data") == 200
    page.context.clear_cookies(name="fedgate-service")
    assert page.evaluate(GET, "/data") == 401
    page.evaluate("location.assign('/.fedgate/sign-in?to=/data')")
    page.wait_for_url(f"{services.wiki}/data")
    assert acting(page) == BOB
