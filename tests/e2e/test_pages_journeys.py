"""What people come for, in Chromium, with scripts and without: every way through the pages ends where it should."""

import re

import pytest
from botocore.exceptions import ClientError
from playwright.sync_api import expect
from support.broker_process import ACCOUNT, PASSWORDS, allow
from support.pages import (
    NEWCOMER_PASSWORD,
    OWNER,
    OWNER_PASSWORD,
    USER,
    USER_PASSWORD,
    USER_WITH_APP,
    browsing,
    credentials_on,
    portal,
    set_up_app,
    sign_in,
    type_in,
)
from support.servers import eventually


@pytest.fixture(params=[True, False], ids=["scripts", "no-scripts"], scope="module")
def scripts(request):
    return request.param


@pytest.fixture
def opened(chromium, house, scripts):
    """Opens browsers, each with somebody signed in or nobody."""
    contexts = []

    def open_one(who="", **options):
        contexts.append(browsing(chromium, house, who, java_script_enabled=scripts, **options))
        return contexts[-1].__enter__()

    yield open_one
    for context in contexts:
        context.__exit__(None, None, None)


@pytest.fixture
def page(opened):
    return opened()


def heading(page):
    return page.get_by_role("heading", level=1).inner_text()


def alert(page):
    return page.get_by_role("alert")


def chosen(page):
    return page.locator("input[name=roleIndex]:checked")


def who_am_i(house, credentials):
    return house.broker.client("sts", credentials).get_caller_identity()["Arn"]


def take(page, *, expected):
    page.get_by_role("button", name="Get credentials").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Credentials for {expected}")
    return credentials_on(page)


# --- in ---------------------------------------------------------------------------------------------------------------


def test_whoever_wants_a_role_signs_in_and_takes_it_with_enter(house, page):
    page.goto(portal("Developer"))
    expect(page.get_by_text("To open the role Developer.")).to_be_visible()
    expect(page.locator("#username")).to_be_focused()
    type_in(page, username="alice", password=PASSWORDS["alice"])
    page.wait_for_url(f"**{portal('Developer')}")
    expect(chosen(page)).to_be_focused()
    chosen(page).press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Credentials for Developer")
    assert who_am_i(house, credentials_on(page)).endswith("assumed-role/Developer/alice")


def test_a_wrong_password_is_told_where_the_focus_is(page):
    page.goto("/login")
    type_in(page, username="carol", password="wrong")
    expect(alert(page)).to_be_focused()
    expect(alert(page)).to_contain_text("The user name or the password is wrong.")
    expect(page).to_have_title(re.compile("^Error: Sign in"))
    expect(page.locator("#username")).to_have_value("carol")
    for name in ("username", "password"):
        expect(page.locator(f"#{name}")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#password")).to_have_value("")
    page.keyboard.press("Tab")
    expect(page.locator("#username")).to_be_focused()
    type_in(page, password=PASSWORDS["carol"])
    page.wait_for_url("**/portal")


def test_a_user_of_an_account_signs_in_and_takes_what_the_user_may_do(house, page):
    page.goto("/login")
    page.get_by_role("link", name="sign in to an account").click()
    type_in(page, account="acme")
    type_in(page, username=USER, password="wrong")
    expect(alert(page)).to_be_focused()
    type_in(page, username=USER, password=USER_PASSWORD)
    page.wait_for_url("**/portal")
    page.get_by_role("radio").press("Space")
    taken = take(page, expected=USER)
    assert who_am_i(house, taken) == f"arn:aws:iam::{ACCOUNT}:user/{USER}"


def test_a_user_with_an_app_gives_its_code_once(house, page, scripts):
    page.goto(f"/signin/{ACCOUNT}")
    type_in(page, username=USER_WITH_APP, password=USER_PASSWORD)
    page.wait_for_url("**/mfa")
    expect(page.locator("#code")).to_be_focused()
    type_in(page, code="000000")
    expect(alert(page)).to_be_focused()
    type_in(page, code=house.code(step=0 if scripts else 1))
    page.wait_for_url("**/portal")


def test_an_owner_must_set_up_a_second_factor_before_anything_else(house, page):
    page.goto("/root")
    type_in(page, username=OWNER, password=OWNER_PASSWORD)
    page.wait_for_url("**/mfa/enrol")
    page.goto("/portal")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    set_up_app(page)
    assert len(set(page.locator(".codes code").all_inner_texts())) == 10
    page.get_by_role("link", name="I have saved the codes").click()
    page.wait_for_url("**/portal")
    house.forget_apps(ACCOUNT)


def test_a_newcomer_sets_a_password_of_their_own_first(page, scripts):
    name, new = ("gina", "hugo")[scripts], "nobody-guesses-this-1"
    page.goto("/login")
    type_in(page, username=name, password=NEWCOMER_PASSWORD)
    page.wait_for_url("**/password?**")
    expect(page.get_by_text("must be changed before you can sign in")).to_be_visible()
    expect(page.locator("#old")).to_be_focused()
    type_in(page, old=NEWCOMER_PASSWORD, new=new, repeated="something else")
    expect(alert(page)).to_be_focused()
    expect(alert(page)).to_contain_text("The new passwords do not match.")
    type_in(page, old=NEWCOMER_PASSWORD, new=new, repeated=new)
    page.wait_for_url("**/portal")
    assert "no role trusts you yet" in page.locator("main").inner_text()


def test_a_link_changes_the_language_and_it_stays(page):
    page.goto("/login?to=/sessions")
    page.get_by_role("link", name="العربية").click()
    page.wait_for_url("**/login?**lang=ar")
    expect(page.locator("html")).to_have_attribute("dir", "rtl")
    assert "to=" in page.url
    page.goto("/signin")
    expect(page.locator("html")).to_have_attribute("lang", "ar")
    page.get_by_role("link", name="English").click()
    expect(page.locator("html")).to_have_attribute("dir", "ltr")


def test_a_form_that_a_double_click_sends_twice_signs_in_once(opened):
    page = opened()
    page.goto("/login")
    page.locator("#username").fill("erin")
    page.locator("#password").fill(PASSWORDS["erin"])
    page.get_by_role("button", name="Sign in", exact=True).dblclick()
    expect(page).to_have_url(re.compile("/portal$"))  # the second click may cancel the first navigation
    page.goto("/sessions")
    browsers = page.get_by_role("table", name="Browsers in which you are signed in")
    expect(browsers.locator("tbody tr")).to_have_count(1)
    page.get_by_role("button", name="Revoke everything").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("All sessions revoked")


# --- roles ------------------------------------------------------------------------------------------------------------


def test_a_search_leaves_what_fits_and_enter_takes_what_was_chosen(house, opened, scripts):
    page = opened("alice")
    page.goto("/portal")
    search = page.get_by_role("searchbox")
    if scripts:
        page.keyboard.press("/")
        expect(search).to_be_focused()
        search.press_sequentially("books of lab")
        expect(page.locator("li.role:visible")).to_have_count(0)
        expect(page.locator("#found")).to_have_text("No matching roles.")
        expect(page.get_by_role("button", name="Get credentials")).to_be_hidden()
        search.fill("labreader")
        expect(page.locator("li.role:visible")).to_have_count(1)
        expect(page.locator("#found")).to_contain_text("1")
        expect(chosen(page)).to_have_count(0)
        expect(page.locator("#chosen")).to_have_text("No role chosen")
    search.fill("labreader")
    search.press("Enter")
    page.wait_for_url("**/portal?q=labreader")
    expect(page.locator("li.role")).to_have_count(1)
    page.get_by_role("radio").press("Space")
    if scripts:
        expect(page.locator("#chosen")).to_have_text("Role: LabReader")
    page.get_by_role("radio").press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Credentials for LabReader")
    assert who_am_i(house, credentials_on(page)).endswith("assumed-role/LabReader/alice")


def test_a_pinned_role_stands_first_until_it_is_unpinned(opened):
    page = opened("bob")
    page.goto("/portal")
    page.get_by_role("button", name="Pin SupportDesk").click()
    first = page.get_by_role("region", name="Pinned and recent").get_by_role("listitem").first
    expect(first).to_contain_text("SupportDesk")
    expect(page.get_by_role("radio", name="SupportDesk")).to_have_count(1)
    expect(first.get_by_role("radio")).not_to_be_checked()
    first.get_by_role("button", name="Unpin SupportDesk").click()
    page.wait_for_url("**/portal")
    expect(page.get_by_role("button", name="Unpin")).to_have_count(0)


@pytest.mark.parametrize("path", ["/portal", portal("ReadOnly")])
def test_a_small_screen_shows_the_title_and_leaves_most_of_itself_to_the_page(opened, path):
    page = opened("alice")
    page.set_viewport_size({"width": 320, "height": 640})
    page.goto("/portal")
    page.get_by_role("button", name="Pin Developer", exact=True).click()
    page.goto(path)
    expect(page.get_by_role("heading", level=1)).to_be_in_viewport()
    assert page.locator("header").bounding_box()["height"] < 640 / 5
    one_line = page.locator(".pin").first.bounding_box()["height"]
    unpin = page.get_by_role("button", name="Unpin Developer")
    assert unpin.bounding_box()["height"] == one_line
    unpin.click()


def test_the_lengths_offered_are_those_of_the_chosen_role(opened, scripts):
    page = opened("alice")
    page.goto(portal("BillingReader"))
    lengths = page.get_by_label("Session duration").locator("option")
    longest = "as long as the role allows"
    expect(lengths).to_have_text(["15 minutes", "1 hour (default)", longest])
    if scripts:
        page.get_by_role("radio", name=re.compile("^Administrator")).press("Space")
        expect(lengths.filter(has_text="12 hours")).to_have_count(1)
        page.get_by_role("radio", name="BillingReader").press("Space")
        expect(lengths.filter(has_text="12 hours")).to_have_count(0)


def test_what_was_chosen_survives_another_language_and_a_search(opened, scripts):
    if not scripts:
        pytest.skip("without scripts, a link cannot know what was chosen since the page was loaded")
    page = opened("alice")
    page.goto(portal("Administrator"))
    page.locator(".take summary").click()
    page.locator("#narrow").select_option("read")
    page.locator("#seconds").select_option("900")
    page.get_by_role("link", name="Deutsch").click()
    expect(page.locator("html")).to_have_attribute("lang", "de")
    expect(chosen(page)).to_have_value(re.compile("Administrator$"))
    page.get_by_role("searchbox").fill("Administrator")
    page.get_by_role("searchbox").press("Enter")
    page.wait_for_url(re.compile("q=Administrator"))
    expect(page.locator("#narrow")).to_have_value("read")
    expect(page.locator("#seconds")).to_have_value("900")


def test_a_click_anywhere_on_a_row_chooses_its_role(opened):
    page = opened("alice")
    page.goto("/portal")
    page.locator("li.role", has_text="Opens and answers support cases").click(position={"x": 400, "y": 40})
    expect(chosen(page)).to_have_value(re.compile("SupportDesk$"))


def test_credentials_can_be_narrowed_to_reading(house, opened):
    page = opened("alice")
    page.goto(portal("Administrator"))
    page.get_by_label("Session duration").select_option("900")
    page.get_by_text("Request fewer permissions than the role has").click()
    page.get_by_label("Permissions", exact=True).select_option("read")
    iam = house.broker.client("iam", take(page, expected="Administrator"))
    iam.list_users()
    with pytest.raises(ClientError, match="AccessDenied"):
        iam.create_user(UserName="nobody")


def test_a_policy_of_ones_own_is_checked_and_then_holds(house, opened):
    page = opened("alice")
    page.goto(portal("Administrator"))
    page.get_by_text("Request fewer permissions than the role has").click()
    page.get_by_label("Permissions", exact=True).select_option("own")
    policy = page.get_by_label("Session policy (JSON)")
    policy.fill('{"Version": "2012-10-17"')
    page.get_by_role("button", name="Get credentials").click()
    expect(alert(page)).to_be_focused()
    expect(policy).to_have_value('{"Version": "2012-10-17"')
    policy.fill(allow("iam:ListUser"))
    page.get_by_role("button", name="Check the policy").click()
    expect(page.locator(".checks")).to_contain_text("iam:ListUser")
    policy.fill(allow("iam:ListUsers"))
    page.get_by_role("button", name="Check the policy").click()
    expect(page.get_by_text("No findings for this policy.")).to_be_visible()
    iam = house.broker.client("iam", take(page, expected="Administrator"))
    iam.list_users()
    with pytest.raises(ClientError, match="AccessDenied"):
        iam.list_roles()


def test_a_role_that_wants_a_ticket_asks_for_it(house, opened):
    page = opened("alice")
    page.goto(portal("ChangeDesk"))
    chosen(page).press("Enter")
    type_in(page, **{"tag-1": "not a ticket"})
    expect(alert(page)).to_be_focused()
    type_in(page, **{"tag-1": "CHG-4711"})
    expect(page.get_by_role("heading", level=1)).to_have_text("Credentials for ChangeDesk")
    assert who_am_i(house, credentials_on(page)).endswith("assumed-role/ChangeDesk/alice")


def test_a_role_with_a_second_factor_leads_to_setting_one_up(opened):
    page = opened("alice")
    page.goto(portal("BreakGlass"))
    chosen(page).press("Enter")
    page.wait_for_url("**/mfa/enrol**")


def test_credentials_are_hidden_until_they_are_shown_and_copied_without_showing(opened, scripts):
    page = opened("alice", permissions=["clipboard-read", "clipboard-write"] if scripts else [])
    page.goto(portal("ReadOnly"))
    taken = take(page, expected="ReadOnly")
    text = page.locator("#text-bash")
    expect(text).to_be_hidden()
    if scripts:
        expect(page.locator("[data-until]")).to_have_text(re.compile(r"in (59 minutes|1 hour)"))
        page.locator("#bash").get_by_role("button", name="Copy", exact=True).click()
        expect(page.get_by_text("Copied.")).to_be_attached()
        assert page.evaluate("navigator.clipboard.readText()") == text.input_value()
    page.locator("#bash summary").click()
    expect(text).to_be_visible()
    assert taken.secret_key in text.input_value()
    assert taken.secret_key not in page.url


def test_the_format_that_was_read_last_stands_open_the_next_time(opened, scripts):
    page = opened("alice")
    page.goto(portal("ReadOnly"))
    take(page, expected="ReadOnly")
    if not scripts:
        expect(page.get_by_role("heading", level=2, name="Terraform")).to_be_visible()
        return
    page.get_by_role("link", name="PowerShell").click()
    expect(page.locator("#powershell")).to_be_visible()
    expect(page.locator("#bash")).to_be_hidden()
    page.goto(portal("ReadOnly"))
    take(page, expected="ReadOnly")
    expect(page.get_by_role("link", name="PowerShell")).to_have_attribute("aria-current", "true")


def test_why_a_role_is_closed_is_told_condition_by_condition(opened):
    page = opened("alice")
    page.goto("/portal")
    page.get_by_role("link", name="other roles: why not?").click()
    page.get_by_role("link", name="Why not? Ledger").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Why not Ledger?")
    missed = page.locator(".checks .fail")
    expect(missed).to_contain_text("not met:")
    expect(missed).to_contain_text("cn=finance,ou=groups,dc=corp,dc=example")
    expect(page.locator(".checks .pass")).to_contain_text("ldap-provider/corp")


# --- sessions, and out ------------------------------------------------------------------------------------------------


def test_revoked_credentials_are_refused(house, opened):
    page = opened("bob")
    page.goto(portal("BillingReader"))
    taken = take(page, expected="BillingReader")
    page.get_by_role("link", name="Sessions").click()
    revoke = page.get_by_role("button", name=f"Revoke {taken.access_key[-4:]}")
    if not revoke.is_visible():  # the list is written behind
        eventually(lambda: page.reload() and revoke.is_visible(), every=0.1)
    revoke.click()
    page.wait_for_url("**/sessions")
    expect(revoke).to_have_count(0)
    eventually(lambda: house.broker.code(taken) == "InvalidClientTokenId")


def test_another_browser_is_signed_out_from_here(opened):
    here, there = opened("", user_agent="Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"), opened()
    for page in (here, there):
        sign_in(page, "erin")
    here.goto("/sessions")
    rows = here.get_by_role("table", name="Browsers in which you are signed in").locator("tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.filter(has_text="this browser")).to_contain_text("Firefox on Linux")
    rows.filter(has_not_text="this browser").get_by_role("button", name="Sign out").click()
    expect(rows).to_have_count(1)
    there.goto("/portal")
    assert heading(there) == "Sign in"
    here.get_by_role("button", name="Revoke everything").click()
    here.goto("/portal")
    assert heading(here) == "Sign in"


def test_somebody_else_takes_the_browser_over(page):
    sign_in(page, "carol")
    page.get_by_role("link", name="Switch user").click()
    type_in(page, username="bob", password=PASSWORDS["bob"])
    page.wait_for_url("**/portal")
    expect(page.get_by_role("banner")).to_contain_text("Signed in as bob")


def test_whoever_signs_out_is_out(page):
    sign_in(page, "carol")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("You are signed out")
    page.go_back()
    page.goto("/portal")
    assert heading(page) == "Sign in"


# --- with the keyboard alone ------------------------------------------------------------------------------------------

RING = """() => {
  const style = getComputedStyle(document.activeElement);
  return style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth);
}"""
WHERE = "() => (document.activeElement.innerText || document.activeElement.id || '').trim().split('\\n')[0]"


def test_the_whole_way_can_be_gone_with_the_keyboard(opened):
    page = opened("alice")
    page.goto("/sessions")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to main content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    seen = []
    for _stop in range(7):
        page.keyboard.press("Tab")
        seen.append(page.evaluate(WHERE))
        assert page.evaluate(RING) >= 2, seen
    assert seen[:6] == ["Roles", "Sessions", "Security", "Administration", "Switch user", "Sign out"]
    skip.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate(WHERE) == seen[6]


def test_keys_move_through_roles_open_what_is_folded_and_take(opened):
    page = opened("alice")
    page.goto(portal("Administrator"))
    account = page.locator("details.account").last
    account.locator("summary").focus()
    page.keyboard.press("Space")
    expect(account.locator("li.role").first).to_be_hidden()
    page.keyboard.press("Enter")
    expect(account.locator("li.role").first).to_be_visible()
    chosen(page).press("ArrowDown")
    expect(chosen(page)).to_be_focused()
    role = chosen(page).get_attribute("value").rpartition("/")[2]
    chosen(page).press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Credentials for {role}")
