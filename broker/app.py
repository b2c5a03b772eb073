"""The Flask application: everything that a browser or a load balancer asks for.

The machine API on ``/`` has its own edge (broker.api.wsgi_adapter) and reaches Flask only for what it does not know.
"""

import json
from collections.abc import Mapping

from flask import Flask, Response, abort, request
from werkzeug.exceptions import HTTPException

from broker.runtime.health import liveness, readiness
from broker.sessions.browser import BrowserSession
from broker.web.core.brand import init_branding
from broker.web.core.error_pages import ErrorPages, text_response
from broker.web.core.form_fields import MAX_FORM_BYTES
from broker.web.core.languages import init_babel
from broker.web.core.responses import wants_html
from broker.web.core.urls import is_public_host
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
_BLUEPRINTS_FOR_ANY_HOST = (None, "issuer", "token_exchange", "brand", "saml", "oidc")

# Of every answer that says nothing else of its own: errors, texts, styles.
_SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
}


def create_app(services: Services) -> Flask:
    """Return the application over these services."""
    app = Flask("broker", static_folder="web/static", template_folder="web/templates")
    app.config["MAX_CONTENT_LENGTH"] = MAX_FORM_BYTES
    app.config["MAX_FORM_MEMORY_SIZE"] = MAX_FORM_BYTES
    app.request_class = Utf8Request
    site = services.login.site
    init_babel(app)
    init_branding(app, site.responses.appearance)
    _add_pages(app, services)

    @app.before_request
    def check_url_and_host() -> None:
        # Werkzeug takes //a for /a, which a proxy that guards /a does not, and sends /a//b to the host that the caller
        # named (THREATS A28).
        if "//" in request.environ["PATH_INFO"]:
            abort(404)
        if request.blueprint not in _BLUEPRINTS_FOR_ANY_HOST and not is_public_host(
            site.public_url, request.headers.get("Host")
        ):
            abort(421)

    @app.after_request
    def add_security_headers(response: Response) -> Response:
        for name, value in _SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    @app.get("/")
    def welcome() -> Response:
        if wants_html():
            return site.responses.redirect_to_page(HOME)
        return text_response(200, _WELCOME.format(endpoint=services.endpoint))

    @app.get("/healthz")
    def healthz() -> Response:
        return _json(*liveness())

    @app.get("/readyz")
    def readyz() -> Response:
        return _json(*readiness(services.checks))

    error_pages = ErrorPages(site, services.reference)
    app.register_error_handler(ServiceError, error_pages.handle_service_error)
    app.register_error_handler(NotSignedIn, lambda _error: services.login.handle_not_signed_in())

    app.register_error_handler(HTTPException, error_pages.handle_http_error)
    app.register_error_handler(Exception, error_pages.handle_exception)
    return app


def _add_pages(app: Flask, services: Services) -> None:
    app.register_blueprint(issuer.blueprint(services.gate.jwt_issuer))
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
        services.own_sessions,
        services.admin_sessions,
        services.admin,
        services.admin_audit,
        services.role_explanation,
    ):
        app.register_blueprint(pages.blueprint())
    app.register_blueprint(services.saml.blueprint())
    app.register_blueprint(services.oidc.blueprint())

    def provider_logout(identity: Identity) -> Response | None:
        if isinstance(identity, SamlIdentity):
            return services.saml.provider_logout(identity)
        return services.oidc.provider_logout(identity) if isinstance(identity, WebIdentity) else None

    def refresh_identity(session: BrowserSession) -> Identity | None:
        site = services.login.site
        if not site.directory_refresh.is_directory_identity(session.identity):
            return services.oidc.refresh_identity(session)
        found = site.current_session.refresh_identity(session)
        return found.identity if found else None

    app.register_blueprint(services.portal.blueprint(provider_logout, refresh_identity))


def _json(status: int, facts: Mapping[str, object]) -> Response:
    text = json.dumps(facts, indent=2) + "\n"
    return Response(text, status, content_type="application/json", headers={"Cache-Control": "no-store"})
