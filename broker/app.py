"""The Flask application: everything that a browser or a load balancer asks for.

The machine API on ``/`` has its own edge (broker.api.wsgi_adapter) and reaches Flask only for what it does not know.
"""

import json
from collections.abc import Mapping

from flask import Flask, Response, abort, request
from werkzeug.exceptions import HTTPException

from broker.runtime.health import liveness, readiness
from broker.sessions.browser import BrowserSession
from broker.web.core.brand import brand
from broker.web.core.error_pages import Mishaps, text
from broker.web.core.languages import speak
from broker.web.core.site import LARGEST_FORM
from broker.web.core.utf8 import Utf8Request
from broker.web.login.completion import HOME
from broker.web.oauth import issuer, token_exchange
from broker.wiring import Services
from iam.errors import NotSignedIn, ServiceError
from sts.identity import Identity, SamlIdentity, WebIdentity

_WELCOME = """Fedgate is running.

This address is the endpoint of the AWS-compatible STS and IAM API. To use it:

    fedgate login USER --endpoint {endpoint}
    aws sts get-caller-identity --endpoint-url {endpoint}

In the browser: {endpoint}/login

Health: /healthz and /readyz
"""

# What programs ask, by whichever name they reach us; a page works at the public address alone (THREATS H09).
_BY_ANY_NAME = (None, "issuer", "token_exchange", "brand", "saml", "oidc")

# Of every answer that says nothing else of its own: errors, texts, styles.
_GUARDS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
}


def create_app(services: Services) -> Flask:
    """Return the application over these services."""
    app = Flask("broker", static_folder="web/static", template_folder="web/templates")
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_FORM
    app.config["MAX_FORM_MEMORY_SIZE"] = LARGEST_FORM
    app.request_class = Utf8Request
    site = services.login.site
    speak(app)
    brand(app, site.appearance)
    _add_pages(app, services)

    @app.before_request
    def as_it_stands() -> None:
        # Werkzeug takes //a for /a, which a proxy that guards /a does not, and sends /a//b to the host that the caller
        # named (THREATS A28).
        if "//" in request.environ["PATH_INFO"]:
            abort(404)
        if request.blueprint not in _BY_ANY_NAME and not site.is_asked_by_name:
            abort(421)

    @app.after_request
    def guarded(response: Response) -> Response:
        for name, value in _GUARDS.items():
            response.headers.setdefault(name, value)
        return response

    @app.get("/")
    def welcome() -> Response:
        if site.wants_page:
            return site.found(site.at(HOME))
        return text(200, _WELCOME.format(endpoint=services.endpoint))

    @app.get("/healthz")
    def healthz() -> Response:
        return _json(*liveness())

    @app.get("/readyz")
    def readyz() -> Response:
        return _json(*readiness(services.checks))

    app.register_error_handler(ServiceError, site.refused)
    app.register_error_handler(NotSignedIn, lambda _error: services.login.nobody())

    mishaps = Mishaps(site, services.reference)
    app.register_error_handler(HTTPException, mishaps.refused)
    app.register_error_handler(Exception, mishaps.failed)
    return app


def _add_pages(app: Flask, services: Services) -> None:
    app.register_blueprint(issuer.blueprint(services.gate.outbound))
    app.register_blueprint(
        token_exchange.blueprint(
            services.gate, services.exchange_clients, services.trusted_proxies, services.endpoint, services.region
        )
    )
    for pages in (
        services.login,
        services.accounts,
        services.passwords,
        services.second_factor,
        services.enrolment,
        services.security,
        services.session_list,
        services.everyones_sessions,
        services.admin,
        services.admin_audit,
        services.why,
    ):
        app.register_blueprint(pages.blueprint())
    app.register_blueprint(services.saml.blueprint())
    app.register_blueprint(services.oidc.blueprint())

    def leave(identity: Identity) -> Response | None:
        if isinstance(identity, SamlIdentity):
            return services.saml.leave(identity)
        return services.oidc.leave(identity) if isinstance(identity, WebIdentity) else None

    def renew(session: BrowserSession) -> Identity | None:
        site = services.login.site
        if not site.renewal.concerns(session.identity):
            return services.oidc.renew(session)
        found = site.renewed(session)
        return found.identity if found else None

    app.register_blueprint(services.portal.blueprint(leave, renew))


def _json(status: int, facts: Mapping[str, object]) -> Response:
    text = json.dumps(facts, indent=2) + "\n"
    return Response(text, status, content_type="application/json", headers={"Cache-Control": "no-store"})
