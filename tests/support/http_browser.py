"""A browser without scripts, over plain HTTP, and Chromium for those tests that need a real one."""

import contextlib
import html
import http.cookiejar
import re
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser as RealBrowser
from playwright.sync_api import expect, sync_playwright

from support.servers import HANG, program

CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync"]  # fmt: skip


# Five seconds by default; a busy machine may take longer to show a page.
expect.set_options(timeout=HANG * 1000)


@dataclass
class Page:
    """Where a browser came to, and what is there."""

    url: str
    body: str
    status: int = 200

    def form(self):
        """Return address and fields of the first form."""
        action = html.unescape(re.search(r'<form[^>]*action="([^"]*)"', self.body)[1])
        fields = dict(re.findall(r'<input[^>]*name="([^"]+)"[^>]*value="([^"]*)"', self.body))
        fields = {name: html.unescape(value) for name, value in fields.items()}
        return urllib.parse.urljoin(self.url, action), fields


@dataclass
class Browser:
    """Keeps cookies, follows redirects and posts forms, without scripts."""

    opener: urllib.request.OpenerDirector = field(
        default_factory=lambda: urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()), urllib.request.ProxyHandler({})
        )
    )

    def get(self, url, fields=None, **headers) -> Page:
        data = None if fields is None else urllib.parse.urlencode(fields).encode()
        try:
            with self.opener.open(urllib.request.Request(url, data, headers), timeout=HANG) as answer:
                return Page(answer.url, answer.read().decode(), answer.status)
        except urllib.error.HTTPError as error:
            return Page(error.url, error.read().decode(), error.code)

    def submit(self, page, **more) -> Page:
        address, fields = page.form()
        return self.get(address, fields | more)


def trusting(ca_file: Path) -> Browser:
    """Return a browser that believes an authority of the tests."""
    context = ssl.create_default_context(cafile=ca_file)
    opener = urllib.request.build_opener(
        urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()),
        urllib.request.ProxyHandler({}),
        urllib.request.HTTPSHandler(context=context),
    )
    return Browser(opener)


@contextlib.contextmanager
def chromium_browser() -> Iterator[RealBrowser]:
    """Run Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program("chromium", "chromium"), args=CHROMIUM)
        yield browser
        browser.close()
