"""Somebody who knows a user's old password signs in again and again while it is changed (J02)."""

from concurrent.futures import ThreadPoolExecutor

from support.broker_process import ACCOUNT
from support.http_browser import Browser

OLD, NEW = "Quill-of-41-herons", "Ferry.past.7.islets"
THIEVES = 12


def test_no_session_that_the_old_password_opened_lives_after_the_change(attacked):
    iam = attacked.client("iam")
    iam.create_user(UserName="ann")
    iam.create_login_profile(UserName="ann", Password=OLD)
    page = f"{attacked.endpoint}/signin/{ACCOUNT}"
    browsers = [Browser() for _ in range(THIEVES)]
    forms = [browser.get(page) for browser in browsers]

    def is_in(browser):
        return browser.get(f"{attacked.endpoint}/sessions", Accept="application/json").status == 200

    first = Browser()
    first.submit(first.get(page), username="ann", password=OLD)
    assert is_in(first)
    with ThreadPoolExecutor(THIEVES + 1) as pool:
        tries = [
            pool.submit(browser.submit, form, username="ann", password=OLD)
            for browser, form in zip(browsers, forms, strict=True)
        ]
        change = pool.submit(iam.update_login_profile, UserName="ann", Password=NEW)
        change.result()
        for one in tries:
            one.result()
    assert not [browser for browser in (first, *browsers) if is_in(browser)]
