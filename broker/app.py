"""The Flask application: the pages, the OAuth endpoints and the health checks.

The query API on ``/`` has its own WSGI adapter (broker.api.wsgi_adapter); Flask gets what that does not answer.
"""

import json
from collections.abc import Mapping

from flask import Flask, Response, abort, request
from werkzeug.exceptions import HTTPException

from broker.api.body_budget import MAX_STRANGERS_FORM
from broker.config.loopback import is_same_machine
from broker.runtime.health import liveness, readiness
from broker.web.branding.branding import init_branding
from broker.web.core.error_pages import ErrorPages, requested_target, text_response
from broker.web.core.form_fields import MAX_FORM_BYTES
from broker.web.core.responses import HOME, wants_html
from broker.web.core.site import Site
from broker.web.core.urls import is_public_host
from broker.web.core.utf8 import Utf8Request
from broker.web.i18n.languages import init_babel
from broker.web.login.interrupted import interrupted_page
from broker.web.oauth import issuer, token_exchange
from broker.wiring import Services
from broker.wiring.api import Api
from broker.wiring.pages import Pages
from iam.errors import NotSignedIn, ServiceError

_WELCOME = """Fedgate is running.

This address is the endpoint of the AWS-compatible STS and IAM API. To use it:

    fedgate login USER --endpoint {endpoint}
    aws sts get-caller-identity --endpoint-url {endpoint}

In the browser: {endpoint}/login

Health: /healthz and /readyz
"""

# Endpoints that programs call, under whichever host name reaches us; pages work at the public URL only (THREATS H09).
_BLUEPRINTS_FOR_ANY_HOST = (None, "issuer", "token_exchange", "brand", "saml", "oidc")

_HEALTH_CHECKS = ("healthz", "readyz")  # they refuse nobody, and are asked every few seconds
# For responses that set none of their own: errors, text, style sheets.
_SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
}


def create_app(services: Services) -> Flask:
    """Return the Flask application that serves these services."""
    app = Flask("broker", static_folder="web/static", template_folder="web/templates")
    app.config["MAX_CONTENT_LENGTH"] = MAX_FORM_BYTES
    app.config["MAX_FORM_MEMORY_SIZE"] = MAX_FORM_BYTES
    app.request_class = Utf8Request
    init_babel(app)
    init_branding(app, services.pages.site.responses.appearance)
    app.add_template_global(services.pages.site.session_end, "session_end")
    _register_api_blueprints(app, services)
    _register_page_blueprints(app, services.pages)
    _register_welcome(app, services.pages.site)
    _register_health_checks(app, services.api)
    _register_request_hooks(app, services.pages.site)
    _register_answer_hooks(app, services.pages.site)
    _register_error_handlers(app, services)
    return app


def _register_api_blueprints(app: Flask, services: Services) -> None:
    api, public_url = services.api, services.pages.site.public_url
    app.register_blueprint(issuer.blueprint(api.gate.jwt_issuer))
    app.register_blueprint(
        token_exchange.blueprint(api.gate, api.exchange_clients, api.trusted_proxies, public_url, api.region)
    )


def _register_page_blueprints(app: Flask, pages: Pages) -> None:
    login, account, roles, administration = pages.login, pages.account, pages.roles, pages.administration
    for page in (
        login.login,
        login.accounts,
        login.saml,
        login.oidc,
        login.second_factor,
        login.sign_out,
        login.enrolment,
        account.passwords,
        account.security,
        account.sessions,
        roles.portal,
        roles.explanation,
        roles.service,
        administration.accounts,
        administration.sessions,
        administration.audit,
    ):
        app.register_blueprint(page.blueprint())


def _register_welcome(app: Flask, site: Site) -> None:
    @app.get("/")
    def welcome() -> Response:
        if wants_html():
            return site.responses.redirect_to_page(HOME)
        return text_response(200, _WELCOME.format(endpoint=site.public_url))


def _register_health_checks(app: Flask, api: Api) -> None:
    @app.get("/healthz")
    def healthz() -> Response:
        return _json(*liveness())

    @app.get("/readyz")
    def readyz() -> Response:
        return _json(*readiness(api.health_checks))


def _register_request_hooks(app: Flask, site: Site) -> None:
    public_url = site.public_url

    @app.before_request
    def limit_form() -> None:
        # Assertions, tokens and passkeys are long; whoever is not signed in has nothing else that is.
        is_long = (request.content_length or 0) > MAX_STRANGERS_FORM or "Transfer-Encoding" in request.headers
        if is_long and request.blueprint not in _BLUEPRINTS_FOR_ANY_HOST and site.current_session.find() is None:
            request.max_content_length = MAX_STRANGERS_FORM

    @app.before_request
    def check_url_and_host() -> Response | None:
        # Werkzeug treats //a as /a, which a proxy that guards /a does not, and redirects /a//b to whichever host the
        # client named (THREATS A28).
        if "//" in request.environ["PATH_INFO"]:
            abort(404)
        host = request.headers.get("Host")
        if request.blueprint in _BLUEPRINTS_FOR_ANY_HOST or is_public_host(public_url, host):
            return None
        # Both are names of this machine. Passkeys work under localhost alone, which is a host name.
        if request.method == "GET" and wants_html() and is_same_machine(f"http://{host}", public_url):
            return site.responses.redirect(public_url + requested_target())
        return abort(421)


def _register_answer_hooks(app: Flask, site: Site) -> None:
    @app.after_request
    def record_refusal(response: Response) -> Response:
        if request.endpoint not in _HEALTH_CHECKS:
            site.audit.record_answer(response)
        return response

    @app.after_request
    def add_security_headers(response: Response) -> Response:
        for name, value in _SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
        return response


def _register_error_handlers(app: Flask, services: Services) -> None:
    login, access = services.pages.login.login, services.pages.roles.portal.admin_access
    error_pages = ErrorPages(
        services.pages.site, services.new_reference, interrupted_page, is_administrator=access.is_administrator
    )
    app.register_error_handler(ServiceError, error_pages.handle_service_error)
    app.register_error_handler(NotSignedIn, lambda _error: login.handle_not_signed_in())
    app.register_error_handler(HTTPException, error_pages.handle_http_error)
    app.register_error_handler(Exception, error_pages.handle_exception)


def _json(status: int, body: Mapping[str, object]) -> Response:
    text = json.dumps(body, indent=2) + "\n"
    return Response(text, status, content_type="application/json", headers={"Cache-Control": "no-store"})
