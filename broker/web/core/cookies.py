"""The cookies of the pages: their names, their attributes, and which values are read back."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from flask import Response, request

_TOKEN: Final = re.compile(r"[\w-]{43}", re.ASCII)  # 32 random bytes in base64url, as BrowserSessions makes them
_SESSION: Final = "session"
_BROWSER: Final = "browser"


@dataclass(frozen=True, slots=True)
class Cookies:
    """Reads and sets the cookies; ``secure`` when browsers come over TLS."""

    secure: bool

    def _full_name(self, name: str) -> str:
        # __Host-: no other host and no plain http can have set it (RFC 6265bis, section 4.1.3.2).
        return f"__Host-fedgate-{name}" if self.secure else f"fedgate-{name}"

    def token(self, name: str) -> str | None:
        """Return the token in a cookie, or None where there is none or it cannot be ours."""
        text = request.cookies.get(self._full_name(name), "")
        return text if _TOKEN.fullmatch(text) else None

    def set_token(self, response: Response, name: str, token: str, *, same_site: str | None) -> None:
        """Set a cookie that lasts until the browser is closed."""
        response.set_cookie(
            self._full_name(name), token, secure=self.secure, httponly=True, samesite=same_site, path="/"
        )

    def clear(self, response: Response, name: str) -> None:
        """Delete a cookie."""
        response.delete_cookie(self._full_name(name), secure=self.secure, httponly=True, samesite="Lax")

    def session_token(self) -> str | None:
        """Return the token of this browser's session."""
        return self.token(_SESSION)

    def set_session(self, response: Response, token: str) -> None:
        """Set the session cookie; links from other sites send it, forms of other sites do not."""
        self.set_token(response, _SESSION, token, same_site="Lax")

    def clear_session(self, response: Response) -> None:
        """Delete the session cookie."""
        self.clear(response, _SESSION)

    def login_starts(self) -> tuple[str, ...]:
        """Return the sealed sign-ins that this browser has under way at identity providers, the newest first."""
        return tuple(filter(None, request.cookies.get(self._full_name(_BROWSER), "").split(".")))

    def set_login_starts(self, response: Response, sealed: Sequence[str]) -> None:
        """Set the sealed sign-ins; SameSite=None because the provider's answer is a form posted from its own site."""
        if sealed:
            self.set_token(response, _BROWSER, ".".join(sealed), same_site="None" if self.secure else None)
        else:
            self.clear(response, _BROWSER)

    def preference(self, name: str) -> str:
        """Return what this browser remembers under a name; anybody can set it, so it must not be trusted."""
        return request.cookies.get(self._full_name(name), "")

    def set_preference(self, response: Response, name: str, text: str, seconds: int) -> None:
        """Let a browser remember something that is not secret."""
        response.set_cookie(
            self._full_name(name), text, max_age=seconds, secure=self.secure, httponly=True, samesite="Lax", path="/"
        )
