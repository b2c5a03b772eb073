"""The addresses of a sign-in to a resource: at the resource's own host, and at Fedgate's pages. Pure."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from broker.authz.resource import plain_host
from broker.config.loopback import is_loopback
from broker.web.core.urls import is_https

PREFIX: Final = "/.fedgate/"  # of the paths at a resource's host that are Fedgate's
CALLBACK, SIGN_IN, SIGN_OUT = f"{PREFIX}callback", f"{PREFIX}sign-in", f"{PREFIX}sign-out"
SESSION_COOKIE, NONCE_COOKIE = "service", "sign-in"
# Why the page of Fedgate tells somebody that there is no way on; the names of parameters.
INTERRUPTED, SIGNED_OUT = "interrupted", "signed_out"
DIRECT: Final = "direct"  # the browser comes from the resource itself, and not from a form
# A name or an address with a port, and nothing that would make a URL lead elsewhere: "evil.example/x.s3.example.com"
# ends as a bucket of s3.example.com does.
_HOST: Final = re.compile(r"(?:[a-z0-9_.-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::[0-9]{1,5})?", re.ASCII)


def normal_host(host: str) -> str:
    """Return the value of a Host header in lower case and without a default port; empty where it is no host."""
    host = plain_host(host)
    return host if _HOST.fullmatch(host) else ""


@dataclass(frozen=True, slots=True)
class ServiceAddresses:
    """Makes addresses and the names of cookies; ``public_url`` is that of Fedgate's pages.

    Resources are served over TLS. Plain http is for the machine itself, and for development.
    """

    public_url: str
    development: bool = False

    def is_secure(self, host: str) -> bool:
        """Return whether browsers reach a resource at this host over TLS."""
        return is_https(self.public_url) or not (self.development or is_loopback(f"http://{host}"))

    def origin(self, host: str) -> str:
        """Return the origin of a ``normal_host``, as browsers write it."""
        return f"{'https' if self.is_secure(host) else 'http'}://{host}"

    def cookie_name(self, name: str, host: str) -> str:
        """Return the full name of a cookie of a resource's host."""
        # __Host-: no other host and no plain http can have set it (RFC 6265bis, section 4.1.3.2).
        return f"__Host-fedgate-{name}" if self.is_secure(host) else f"fedgate-{name}"

    def page(self, resource: str, **parameters: str) -> str:
        """Return the address of the page of Fedgate that signs people in to a resource."""
        return f"{self.public_url}/service/{resource}?{urlencode(parameters)}"

    def callback(self, host: str, code: str, state: str) -> str:
        """Return the address to which a browser takes its code."""
        return f"{self.origin(host)}{CALLBACK}?{urlencode({'code': code, 'state': state})}"
