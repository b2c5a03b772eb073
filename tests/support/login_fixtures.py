"""The sign-in page over real directories: an installation with a door to elsewhere, and what people do there."""

import contextlib
import html
import json
import re
from collections.abc import Iterator

from support.directories import as_toml
from support.installation import Answer
from support.saml_fixtures import Browser, SamlSetup, open_setup

ALICE, BOB, CAROL = "wonderland-1865", "builder-can-we-fix-it", "ledger-balances-42"
CORP = "arn:aws:iam::111122223333:saml-provider/Corp"
CONTINUE = "Continue with Corp"
SESSION = "fedgate-session"


@contextlib.contextmanager
def login_setup(folder, redis_url, *configs, **settings) -> Iterator[SamlSetup]:
    """Yield an installation whose people come from these directories too; its clock stands still."""
    file = folder / "fedgate.toml"
    file.write_text("".join(as_toml(config) for config in configs))
    made = open_setup(folder, redis_url, FEDGATE_CONFIG=str(file), **settings)
    try:
        yield made
    finally:
        made.installation.close()


def browser_of(world: SamlSetup) -> Browser:
    return Browser(world.installation)


def twin(browser: Browser) -> Browser:
    """Return the same browser once more, to send something at the same time."""
    made = Browser(browser.installation)
    made.cookies = dict(browser.cookies)
    return made


def hidden_fields(page: Answer) -> dict[str, str]:
    found = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', page.body.decode())
    return {name: html.unescape(value) for name, value in found}


def send(browser: Browser, page: Answer, username="alice", password=ALICE, **more: str) -> Answer:
    """Fill in the form of a page and send it; ``headers`` may stand among the fields."""
    headers = more.pop("headers", {})
    fields = {**hidden_fields(page), "username": username, "password": password, **more}
    return browser.post("/login", {name: value for name, value in fields.items() if value is not None}, **headers)


def sign_in(browser: Browser, username="alice", password=ALICE, at="/login", **more: str) -> Answer:
    return send(browser, browser.get(at), username, password, **more)


def signed_in(world: SamlSetup, username="alice", password=ALICE, **more: str) -> Browser:
    """Return a browser in which somebody is signed in."""
    made = browser_of(world)
    answer = sign_in(made, username, password, **more)
    assert answer.status == 303, words(answer)
    assert {SESSION, f"__Host-{SESSION}"} & made.cookies.keys()
    return made


def words(answer: Answer) -> str:
    """Return what a page says, without its tags."""
    text = re.sub(r"<(?:script|style)\b.*?</(?:script|style)>|<[^>]+>", " ", answer.body.decode(), flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(text))


def alert(answer: Answer) -> str:
    """Return what a page's alert says, without the reference; nothing where there is none."""
    found = re.search(r'role="alert"[^>]*>\s*<p>(.*?)</p>', answer.body.decode(), re.DOTALL)
    return html.unescape(re.sub(r"<[^>]+>", "", found[1])) if found else ""


def reference(answer: Answer) -> str:
    """Return the reference that a page shows; nothing where there is none."""
    found = re.search(r"Reference: <code[^>]*>(\w{8})</code>", answer.body.decode())
    return found[1] if found else ""


def value_of(answer: Answer, name: str) -> str:
    """Return what a visible field holds."""
    return html.unescape(re.search(rf'<input id="{name}"[^>]* value="([^"]*)"', answer.body.decode())[1])


def links(answer: Answer) -> dict[str, str]:
    """Return where each link of a page leads, by its words."""
    found = re.findall(r'<a\b[^>]*href="([^"]*)"[^>]*>(.*?)</a>', answer.body.decode(), re.DOTALL)
    return {
        " ".join(re.sub(r"<span class=.mark.*?</span>|<[^>]+>", " ", text).split()): html.unescape(href)
        for href, text in found
    }


def records(world: SamlSetup, since: int = 0) -> list[dict]:
    path = world.installation.services.storage.audit.path
    return [json.loads(line) for line in path.read_text().splitlines()][since:]


def failures(world: SamlSetup, since: int = 0) -> list[tuple[str, str]]:
    """Return event and code of each refusal that was recorded."""
    return [(one["eventName"], one["errorCode"]) for one in records(world, since) if "errorCode" in one]
