"""A browser at a resource behind Fedgate, whose proxy asks the sign-in of this process what each request is."""

import urllib.parse
from dataclasses import dataclass, field

from broker.api.http import HttpRequest, HttpResponse
from support.installation import Answer
from support.saml_fixtures import Browser
from support.signed_in_fixtures import BrowserSetup

NAVIGATION = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document", "accept": "text/html"}


@dataclass
class Visitor:
    """Somebody's browser: its cookies at Fedgate, and those of each resource's host."""

    house: BrowserSetup
    pages: Browser = field(init=False)
    cookies: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pages = self.house.browser()

    @property
    def _services(self):
        return self.house.installation.services

    def resource(self, name: str):
        return self.house.installation.settings.resources[name]

    # --- at the resource ----------------------------------------------------------------------------------------------

    def request(self, url: str, method: str = "GET", **headers: str) -> HttpRequest:
        """Return a request as the authorizer reads it."""
        parts = urllib.parse.urlsplit(url)
        sent = {"host": parts.netloc, **headers}
        kept = self.cookies.get(parts.netloc)
        if kept and "cookie" not in sent:
            sent["cookie"] = "; ".join(f"{name}={value}" for name, value in kept.items())
        pairs = tuple((name.replace("_", "-"), value) for name, value in sent.items())
        return HttpRequest(method, parts.path or "/", parts.query, pairs, b"", "192.0.2.7", parts.scheme == "https")

    def caller(self, name: str, url: str, method: str = "GET", **headers: str):
        """Return as whom the authorizer takes this browser, or None."""
        return self._services.service_sign_in.caller(self.resource(name), self.request(url, method, **headers))

    def begin(self, name: str, url: str) -> HttpResponse:
        """Open a page of the resource while nobody is signed in there."""
        return self._keep(url, self._services.service_sign_in.begin(self.resource(name), self.request(url)))

    def answer(self, name: str, url: str, method: str = "GET", **headers: str) -> HttpResponse | None:
        """Ask for one of Fedgate's own paths at the resource's host."""
        request = self.request(url, method, **headers)
        return self._keep(url, self._services.service_sign_in.answer(self.resource(name), request))

    def _keep(self, url: str, response: HttpResponse | None) -> HttpResponse | None:
        jar = self.cookies.setdefault(urllib.parse.urlsplit(url).netloc, {})
        for line in headers_of(response, "Set-Cookie") if response else ():
            name, _, value = line.partition(";")[0].partition("=")
            jar[name] = value
            if "Max-Age=0" in line:
                del jar[name]
        return response

    # --- at Fedgate ---------------------------------------------------------------------------------------------------

    def open_page(self, address: str) -> Answer:
        """Open an address of Fedgate's pages."""
        parts = urllib.parse.urlsplit(address)
        return self.pages.get(f"{parts.path}?{parts.query}", Accept="text/html")

    def code_address(self, name: str, url: str) -> str:
        """Begin a sign-in and return where Fedgate sends this browser, which is signed in there."""
        answer = self.open_page(location(self.begin(name, url)))
        assert answer.status == 303, answer.body.decode()
        return answer.headers["Location"]

    def enter(self, name: str, url: str) -> HttpResponse:
        """Sign in to the resource, and return the answer that begins the session there."""
        response = self.answer(name, self.code_address(name, url))
        assert response is not None
        return response


def headers_of(response: HttpResponse, name: str) -> list[str]:
    return [value for one, value in response.headers if one == name]


def location(response: HttpResponse) -> str:
    (address,) = headers_of(response, "Location")
    return address
