"""The Flask application: everything that a browser or a load balancer asks for.

The machine API on ``/`` has its own edge (broker.aws.edge) and reaches Flask only for what it does not know.
"""

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from broker.health import liveness, readiness
from broker.wiring import Services

_WELCOME = """Fedgate is running.

This address is the endpoint of the AWS-compatible STS and IAM API. To use it:

    fedgate login USER --endpoint {endpoint}
    aws sts get-caller-identity --endpoint-url {endpoint}

Health: /healthz and /readyz
"""


def create_app(services: Services) -> Flask:
    """Return the application over these services."""
    app = Flask("broker", static_folder=None)

    @app.get("/")
    def welcome() -> Response:
        return _text(200, _WELCOME.format(endpoint=services.endpoint))

    @app.get("/healthz")
    def healthz() -> Response:
        return _json(*liveness())

    @app.get("/readyz")
    def readyz() -> Response:
        return _json(*readiness(services.checks))

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Response:
        return _text(error.code or 500, f"{error.name}. Reference: {services.reference()}\n")

    @app.errorhandler(Exception)
    def failed(_error: Exception) -> Response:
        reference = services.reference()
        app.logger.exception("%s %s failed, reference %s", request.method, request.path, reference)
        return _text(500, f"Something went wrong here. Reference: {reference}\n")

    return app
