"""What all pages share: who asks, with which cookie, and how an answer looks.

Every answer forbids scripts, frames and styles of others, and nothing that is kept on the way (THREATS H). Addresses
come from the settings, never from a request.
"""

import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hmac import compare_digest
from typing import Any
from urllib.parse import urlsplit

from flask import Response, g, make_response, render_template, request
from werkzeug.exceptions import RequestEntityTooLarge

from broker.aws import edge, trail
from broker.aws.dispatch import Gate
from broker.aws.errors import status
from broker.aws.exchange import Exchange
from broker.web.browser_sessions import BrowserSession, BrowserSessions
from iam.errors import AccessDenied, InternalFailure, RequestTooLarge, ServiceError, ServiceUnavailable, Throttling
from iam.records import OidcProviderRecord, SamlProviderRecord
from iam.store import Store
from sts.identity import SamlIdentity, WebIdentity

log = logging.getLogger(__name__)

LARGEST_FORM = 300_000  # bytes: a SAML response has 100,000 characters at most, and three bytes each when encoded
_TOKEN = re.compile(r"[\w-]{43}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The pages' way to everything else; ``public_url`` is what browsers call us."""

    gate: Gate
    sessions: BrowserSessions
    trusted_proxies: edge.Networks
    public_url: str

    @property
    def store(self) -> Store:
        """Return the durable store."""
        return self.gate.store

    @property
    def exchange(self) -> Exchange:
        """Return the exchange of this request, begun when it is first asked for."""
        if "exchange" not in g:
            g.exchange = self.gate.begin(edge.head(request.environ, self.trusted_proxies))
        found: Exchange = g.exchange
        return found

    @property
    def reference(self) -> str:
        """Return eight characters that a person can read out, and that begin the id of the audit record."""
        return self.exchange.id[:8]

    def at(self, path: str) -> str:
        """Return a path of ours as browsers ask for it: the public URL may have one in front."""
        return f"{urlsplit(self.public_url).path}{path}"

    # --- cookies ------------------------------------------------------------------------------------------------------

    @property
    def secure(self) -> bool:
        """Return whether browsers come over TLS."""
        return self.public_url.startswith("https://")

    def _cookie(self, name: str) -> str:
        # __Host-: no other host and no plain http can have set it (RFC 6265bis, section 4.1.3.2).
        return f"__Host-fedgate-{name}" if self.secure else f"fedgate-{name}"

    def session(self) -> BrowserSession | None:
        """Return the session of this browser, as long as what it rests on stands; raise ServiceUnavailable."""
        found = self.sessions.find(_token(request.cookies.get(self._cookie("session"))))
        if found is None or self._stands(found):
            return found
        self.sessions.end(found)
        return None

    def _stands(self, session: BrowserSession) -> bool:
        """Return whether neither the person was revoked, nor the provider changed or removed, since the sign-in."""
        identity = session.identity
        if not (self._saml_stands(identity) if isinstance(identity, SamlIdentity) else self._web_stands(identity)):
            return False
        return not self.store.revocations().refuses(
            session_id="",
            person=f"{identity.provider}|{identity.subject}",
            role_id=None,
            account_id=identity.account_id,
            issued_ms=int(session.opened_at.timestamp() * 1000),
        )

    def _saml_stands(self, identity: SamlIdentity) -> bool:
        provider = self.store.saml_provider(identity.provider)
        if provider is None or provider.id != identity.provider_id or provider.metadata.entity_id != identity.issuer:
            return False
        until = provider.metadata.valid_until
        return until is None or until > self.exchange.now

    def _web_stands(self, identity: WebIdentity) -> bool:
        provider = self.store.oidc_provider(identity.provider)
        known = provider is not None and provider.id == identity.provider_id and provider.sign_in is not None
        return known and provider is not None and provider.sign_in.client_id == identity.audience  # type: ignore[union-attr]

    def set_session(self, response: Response, token: str) -> None:
        """Give the browser its session; links from elsewhere bring it along, forms from elsewhere do not."""
        self._set(response, "session", token, same_site="Lax")

    def drop_session(self, response: Response) -> None:
        """Take the session's cookie away."""
        name = self._cookie("session")
        response.delete_cookie(name, secure=self.secure, httponly=True, samesite="Lax")

    def browser(self) -> str | None:
        """Return the cookie that ties the answer of an identity provider to the browser that was sent there."""
        return _token(request.cookies.get(self._cookie("browser")))

    def set_browser(self, response: Response, token: str) -> None:
        """Set that cookie: the answer is a form from elsewhere, and must bring it along."""
        self._set(response, "browser", token, same_site="None" if self.secure else None)

    def _set(self, response: Response, name: str, token: str, *, same_site: str | None) -> None:
        response.set_cookie(self._cookie(name), token, secure=self.secure, httponly=True, samesite=same_site, path="/")

    # --- forms --------------------------------------------------------------------------------------------------------

    def check_form(self, session: BrowserSession) -> None:
        """Raise AccessDenied unless the form that was posted is one that we gave to this session (THREATS H01)."""
        self.check_origin()
        if not compare_digest(request.form.get("form_token", "").encode(), session.form_token.encode()):
            raise AccessDenied(_NOT_OURS)

    def check_origin(self) -> None:
        """Raise AccessDenied where a browser says that a form is of another site; programs say nothing."""
        origin, site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site", "same-origin")
        if origin not in (None, origin_of(self.public_url)) or site != "same-origin":
            raise AccessDenied(_NOT_OURS)

    # --- answers ------------------------------------------------------------------------------------------------------

    @property
    def wants_json(self) -> bool:
        """Return whether the client would rather have JSON than a page."""
        best = request.accept_mimetypes.best_match(["text/html", "application/json"])
        return bool(best == "application/json")

    def page(self, template: str, *, code: int = 200, forms_to: str = "'self'", **values: object) -> Response:
        """Return a page; ``forms_to`` is where its forms may lead, as form-action says it."""
        response = make_response(render_template(template, root=self.at(""), **values), code)
        return self.guarded(response, forms_to)

    def json(self, value: Mapping[str, Any], code: int = 200) -> Response:
        """Return a JSON object."""
        text = json.dumps(value, indent=2) + "\n"
        return self.guarded(Response(text, code, content_type="application/json"))

    def guarded(self, response: Response, forms_to: str = "'self'") -> Response:
        """Add what keeps an answer to the browser that asked."""
        response.headers["Content-Security-Policy"] = (
            "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
            f"form-action {forms_to}; frame-ancestors 'none'; base-uri 'none'"
        )
        response.headers["Cache-Control"] = "no-store"
        response.headers["Referrer-Policy"] = "same-origin"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["x-amzn-RequestId"] = self.exchange.id
        if self.secure:
            response.headers["Strict-Transport-Security"] = "max-age=31536000"
        return response

    def refused(self, error: ServiceError) -> Response:
        """Return the answer to a request that was refused."""
        code = status(error)
        if error.log != error.message:
            log.info("page %s refused: %s: %a", self.exchange.id, error.code, error.log)
        if self.wants_json:
            response = self.json({"code": error.code, "message": error.message, "reference": self.reference}, code)
        else:
            response = self.page("refused.html", code=code, message=error.message, reference=self.reference)
        if isinstance(error, Throttling | ServiceUnavailable):
            response.headers["Retry-After"] = str(error.retry_after)
        return response

    # --- records ------------------------------------------------------------------------------------------------------

    def record(self, name: str, account_id: str, **told: object) -> None:
        """Record what a page did, before it answers; raise AuditUnavailable."""
        self.gate.audit.append(trail.page(self.exchange, name, account_id, told))

    @contextmanager
    def recording(self, name: str, provider: SamlProviderRecord | OidcProviderRecord) -> Iterator[None]:
        """Record whatever ends the work within, once, as a failure of this event at a provider."""
        try:
            yield
        except ServiceError as error:
            self._failed(name, provider, error)
            raise
        except RequestEntityTooLarge:
            self._failed(name, provider, RequestTooLarge("The form is too large."))
            raise
        except Exception:
            self._failed(name, provider, InternalFailure("An internal error occurred."))
            raise

    def _failed(self, name: str, provider: SamlProviderRecord | OidcProviderRecord, error: ServiceError) -> None:
        entry = trail.page(self.exchange, name, provider.account_id, {"provider": provider.arn}, error=error)
        self.gate.audit.append(entry)


_NOT_OURS = "This form is not from this site, or too old. Go back, load the page anew and try again."


def origin_of(address: str) -> str:
    """Return scheme, host and port of an address, as browsers name them."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


def _token(text: str | None) -> str | None:
    return text if text and _TOKEN.fullmatch(text) else None
