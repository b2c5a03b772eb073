"""Every page in every state, for everybody: accessible, readable, whole on a small screen, and with nobody else's help.

axe judges by WCAG 2.2 AA: names, roles, order, contrast, the size of targets. What no program can judge is walked
through in test_pages_journeys.py.
"""

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page
from support.broker_process import ACCOUNT, PASSWORDS, allow
from support.pages import (
    ARNS,
    NEWCOMER_PASSWORD,
    USER,
    USER_PASSWORD,
    USER_WITH_APP,
    WITH_APP,
    ServedPages,
    browsing,
    open_tab,
    partners_answer,
    portal,
    type_in,
)

AXE = Axe().axe_script


def rules(*names: str) -> dict:
    """Return what axe is asked: these rules alone, or all of them."""
    only = {"runOnly": {"type": "rule", "values": names}} if names else {}
    return {"resultTypes": ["violations"], "rules": {"target-size": {"enabled": True}}, **only}


ALL, CONTRAST, TARGETS = rules(), rules("color-contrast"), rules("target-size")
WIDE = {"width": 1280, "height": 800}
# The narrowest that counts, which is also a window of 1280 by 1024 that was enlarged four times (WCAG 2.2, 1.4.10).
NARROW = {"width": 320, "height": 256}


def stay(page: Page, _house: ServedPages) -> None:
    """Do nothing more."""


@dataclass(frozen=True)
class State:
    """Where a state of a page is to be found: signed in as whom, at which path, and what to do there."""

    path: str
    who: str = ""
    then: Callable[[Page, ServedPages], None] = stay


def wrong_password(page: Page, _house: ServedPages) -> None:
    type_in(page, username="nobody", password="wrong")
    page.get_by_role("alert").wait_for()


def throttled(page: Page, _house: ServedPages) -> None:
    for _try in range(6):
        type_in(page, username="somebody", password="wrong")
        page.get_by_role("alert").wait_for()


def password_must_change(page: Page, _house: ServedPages) -> None:
    type_in(page, username="iris", password=NEWCOMER_PASSWORD)
    page.wait_for_url("**/password?**")


def password_differs(page: Page, _house: ServedPages) -> None:
    password_must_change(page, _house)
    type_in(page, old="x", new="y", repeated="z")
    page.get_by_role("alert").wait_for()


def second_factor(page: Page, _house: ServedPages) -> None:
    type_in(page, username=USER_WITH_APP, password=USER_PASSWORD)
    page.wait_for_url("**/mfa")


def recovery(page: Page, _house: ServedPages) -> None:
    second_factor(page, _house)
    page.goto("/mfa?use=recovery")


def wrong_code(page: Page, _house: ServedPages) -> None:
    type_in(page, code="000000")
    page.get_by_role("alert").wait_for()


def own_policy(policy: str, button: str) -> Callable[[Page, ServedPages], None]:
    def do(page: Page, _house: ServedPages) -> None:
        page.locator(".take summary").click()
        page.locator("#narrow").select_option("own")
        page.locator("#policy").fill(policy)
        page.locator(button).click()
        page.locator("[role=alert], .take [role=status]").first.wait_for()

    return do


def take(page: Page, _house: ServedPages) -> None:
    page.locator(".take > button").click()
    page.locator(".tabs").wait_for()


def shown(page: Page, _house: ServedPages) -> None:
    take(page, _house)
    page.locator("#bash summary").click()


def give_reason(page: Page, _house: ServedPages) -> None:
    page.locator(".take > button").click()
    page.locator("#tag-1").wait_for()


def new_codes(page: Page, _house: ServedPages) -> None:
    page.locator("main form button").click()
    page.locator(".codes").wait_for()


def remove(page: Page, _house: ServedPages) -> None:
    page.locator("td .danger").click()
    page.locator("form .danger").wait_for()


def sign_out(page: Page, _house: ServedPages) -> None:
    page.goto("/login?switch=1")
    type_in(page, username="erin", password=PASSWORDS["erin"])
    page.wait_for_url("**/portal")
    page.locator(".who button").click()
    page.wait_for_url("**/sign-out")


def end_everything(page: Page, _house: ServedPages) -> None:
    page.goto("/login?switch=1")
    type_in(page, username="erin", password=PASSWORDS["erin"])
    page.wait_for_url("**/portal")
    page.goto("/sessions")
    page.locator("form[action$='/sessions/all'] button").click()
    page.wait_for_url("**/sessions/all")


def sent_by_partner(page: Page, house: ServedPages) -> None:
    page.evaluate(
        """({address, response}) => {
          const form = Object.assign(document.createElement("form"), {method: "post", action: address});
          form.append(Object.assign(document.createElement("input"), {name: "SAMLResponse", value: response}));
          document.body.append(form);
          form.submit();
        }""",
        partners_answer(house),
    )
    page.locator("[name=roleIndex]").first.wait_for()


STATES = {
    "login": State("/login"),
    "login, for a role": State(portal("Developer")),
    "login, the name is known": State("/login?login_hint=alice"),
    "login, wrong password": State("/login", then=wrong_password),
    "login, too many tries": State("/login", then=throttled),
    "already signed in": State("/login", "alice"),
    "which account": State("/signin"),
    "account": State(f"/signin/{ACCOUNT}"),
    "account, wrong password": State(f"/signin/{ACCOUNT}", then=wrong_password),
    "owner": State("/root"),
    "password must change": State("/login", then=password_must_change),
    "password, new ones differ": State("/login", then=password_differs),
    "password of somebody signed in": State("/password", "alice"),
    "second factor": State(f"/signin/{ACCOUNT}", then=second_factor),
    "second factor, recovery": State(f"/signin/{ACCOUNT}", then=recovery),
    "set up a second factor": State("/mfa/enrol", "alice"),
    "set up a second factor, wrong code": State("/mfa/enrol", "alice", wrong_code),
    "roles": State("/portal", "alice"),
    "roles, found": State("/portal?q=lab", "alice"),
    "roles, none found": State("/portal?q=nothing+like+it", "alice"),
    "roles, none at all": State("/portal", "frank"),
    "roles of a user": State("/portal", USER),
    "roles, faulty policy": State(portal("Developer"), "alice", own_policy("{", ".take > button")),
    "roles, checked policy": State(portal("Developer"), "alice", own_policy(allow("iam:ListUser"), "[name=check]")),
    "a reason": State(portal("ChangeDesk"), "alice", give_reason),
    "credentials": State(portal("Developer"), "alice", take),
    "credentials, shown": State(portal("Developer"), "alice", shown),
    "other roles": State("/why", "alice"),
    "why not": State(f"/why?role={ARNS['Ledger']}", "alice"),
    "why": State(f"/why?role={ARNS['Developer']}", "alice"),
    "sessions": State("/sessions", "alice"),
    "security": State("/security", "alice"),
    "security, with an app": State("/security", WITH_APP),
    "security, remove it": State("/security", WITH_APP, remove),
    "security, new codes": State("/security?codes=new", WITH_APP),
    "recovery codes": State("/security?codes=new", WITH_APP, new_codes),
    "administration": State("/admin", "alice"),
    "administration, roles": State("/admin/roles", "alice"),
    "administration, users": State("/admin/users", "alice"),
    "administration, providers": State("/admin/providers", "alice"),
    "administration, sessions": State("/admin/sessions", "alice"),
    "administration, audit log": State("/admin/audit", "alice"),
    "refused": State(f"/why?role={ARNS['Ledger']}x", "alice"),
    "not allowed": State("/admin", "frank"),
    "nowhere": State("/nowhere", "alice"),
    "choice of somebody whom a partner sent": State("/login", then=sent_by_partner),
    "signed out": State("/login", then=sign_out),
    "everything ended": State("/login", then=end_everything),
}


def violations(page: Page, options: dict = ALL) -> list[str]:
    """Return what axe finds serious or critical, each with where it is and why; the rest is shown where tests fail."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE)
    found = page.evaluate("async options => (await axe.run(document, options)).violations", options)
    told = [
        f"{one['impact']} {one['id']}: {node['target']} {node['failureSummary']}"
        for one in found
        for node in one["nodes"]
    ]
    sys.stdout.write("\n".join(told))
    return [text for text in told if text.startswith(("serious", "critical"))]


def width(page: Page) -> tuple[int, int]:
    """Return how wide the page is and how wide the window."""
    return tuple(page.evaluate("() => [document.scrollingElement.scrollWidth, innerWidth]"))


def ring(page: Page) -> float:
    """Return how thick the ring is around what the next key would go to."""
    page.keyboard.press("Tab")
    return page.evaluate(
        """() => {
          const style = getComputedStyle(document.activeElement);
          return style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth);
        }"""
    )


def reach(page: Page, house: ServedPages, state: State) -> None:
    page.goto(state.path)
    state.then(page, house)


def fits(page: Page) -> bool:
    wide, window = width(page)
    return wide <= window


@pytest.fixture(scope="module")
def tabs(chromium, house):
    """One tab for each person and language, since opening one takes longer than looking at a page."""
    with contextlib.ExitStack() as stack:
        yield cache(lambda who, locale: stack.enter_context(open_tab(chromium, house, who, locale=locale)))


@contextlib.contextmanager
def reached(tabs, house, name, locale):
    """Reach a state as in a browser that was just opened; nothing there may be complained about."""
    state = STATES[name]
    tab = tabs(state.who, locale)
    tab.complaints.told.clear()
    if not state.who:
        tab.page.context.clear_cookies()
    tab.page.emulate_media(color_scheme="light", forced_colors="none")
    tab.page.set_viewport_size(WIDE)
    reach(tab.page, house, state)
    yield tab.page
    assert tab.complaints.told == []


@pytest.mark.parametrize("name", STATES)
def test_every_state_is_for_everybody(tabs, house, name):
    with reached(tabs, house, name, "en") as page:
        assert page.locator("h1").count() == 1
        assert violations(page) == []
        assert fits(page)
        page.emulate_media(color_scheme="dark")
        assert violations(page, CONTRAST) == []
        page.set_viewport_size(NARROW)
        assert violations(page, TARGETS) == []
        assert fits(page)
        page.emulate_media(color_scheme="light", forced_colors="active")
        assert page.locator("h1").is_visible()
        assert ring(page) >= 2


@pytest.mark.parametrize("name", STATES)
def test_every_state_runs_from_right_to_left_in_arabic(tabs, house, name):
    with reached(tabs, house, name, "ar") as page:
        html = page.locator("html")
        assert (html.get_attribute("dir"), html.get_attribute("lang")) == ("rtl", "ar")
        assert fits(page)
        page.emulate_media(color_scheme="dark")
        page.set_viewport_size(NARROW)
        assert violations(page) == []
        assert fits(page)


def test_the_sign_in_page_weighs_less_than_50_kb_with_all_it_needs(chromium, house):
    with browsing(chromium, house) as page:
        sizes = []
        page.on("response", lambda response: sizes.append(len(response.body())))
        page.goto("/login", wait_until="networkidle")
        assert len(sizes) >= 3
        assert sum(sizes) < 50_000


def test_printed_credentials_are_the_facts_without_what_can_be_pressed(chromium, house):
    with browsing(chromium, house, "alice") as page:
        reach(page, house, STATES["credentials"])
        page.emulate_media(media="print")
        assert page.locator(".facts").is_visible()
        for what in ("button", "nav", "footer"):
            assert not any(one.is_visible() for one in page.locator(what).all()), what
