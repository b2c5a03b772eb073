"""Discovery documents and keys of our issuers, with which others verify their tokens (OpenID Connect Discovery, 4)."""

import json
from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, abort

from sts.federation.jwt_issuer import ALGORITHMS, JwtIssuer

_MAX_AGE = 300  # seconds that verifiers may cache; a new key is published long before it signs


def blueprint(jwt_issuer: JwtIssuer) -> Blueprint:
    """Return the routes."""
    made = Blueprint("issuer", __name__, url_prefix="/issuer/<issuer_id>/.well-known")

    @made.get("/openid-configuration")
    def metadata(issuer_id: str) -> Response:
        address = _address(jwt_issuer, issuer_id)
        return _json(
            {
                "issuer": address,
                "jwks_uri": f"{address}/.well-known/jwks.json",
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": list(ALGORITHMS),
                "claims_supported": ["iss", "sub", "aud", "iat", "exp", "jti", "scope"],
            }
        )

    @made.get("/jwks.json")
    def keys(issuer_id: str) -> Response:
        _address(jwt_issuer, issuer_id)
        return _json({"keys": jwt_issuer.public_jwks()})

    return made


def _address(jwt_issuer: JwtIssuer, issuer_id: str) -> str:
    return jwt_issuer.address(issuer_id) or abort(404)


def _json(value: Mapping[str, Any]) -> Response:
    headers = {"Cache-Control": f"public, max-age={_MAX_AGE}"}
    return Response(json.dumps(value, indent=2) + "\n", content_type="application/json", headers=headers)
