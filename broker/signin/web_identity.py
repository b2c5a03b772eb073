"""The issuer first: from a web identity token in a request to an Identity, or to a refusal that says why.

The token never travels further: what comes back are the parameters without it.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import timedelta

from broker.api.request_state import RequestState
from broker.providers.oauth import AMAZON, FACEBOOK, AccessTokenVerifier
from broker.providers.oidc.key_sets import JwksCache
from broker.providers.oidc.token import ExpectedToken, Token, check_claims, parse_token
from iam.arn import ACCOUNT_ID, iam_arn, parse_arn
from iam.call import Params
from iam.errors import AccessDenied, IDPRejectedClaim, InvalidIdentityToken, ValidationError
from iam.operations.federation.issuer_urls import is_reserved_issuer
from iam.store.records import OidcProviderRecord
from iam.store.store import Store
from sts.federation.token_origin import CLAIM, TokenOrigin, open_origin, why_origin_ended
from sts.federation.web_identity import claim_values, session_tags, source_identity
from sts.identity import WebIdentity
from sts.store.single_use import SingleUse
from sts.token import Sealer

_PROOF = "WebIdentityToken"
_ARN_PREFIX = "oidc-provider/"
_MAX_ISSUER = 255  # characters: IAM API Reference, CreateOpenIDConnectProvider, Url
_PROOF_KIND = "web-identity"  # the kind of proof
GOOGLE, COGNITO = "accounts.google.com", "cognito-identity.amazonaws.com"
# Issuers that are principals by name: what tokens call them, and where their documents are.
_BUILT_IN = {
    GOOGLE: (GOOGLE, f"https://{GOOGLE}"),
    f"https://{GOOGLE}": (GOOGLE, f"https://{GOOGLE}"),
    f"https://{COGNITO}": (COGNITO, f"https://{COGNITO}"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WebIdentitySignIn:
    """Believes the issuers that an account has registered, and those that need no registration.

    ``own_issuers`` is what the addresses of our own issuers begin with.
    """

    store: Store
    jwks_cache: JwksCache
    access_tokens: AccessTokenVerifier
    own_issuers: str
    single_use: SingleUse
    skew: timedelta
    max_age: timedelta

    def authenticate(self, state: RequestState, p: Params) -> tuple[WebIdentity, Params]:
        """Return who this is and the parameters without the proof; raise InvalidIdentityToken and its kin."""
        state.params = rest = {key: value for key, value in p.items() if key != _PROOF}
        arn = parse_arn(p["RoleArn"])
        if arn is None or not ACCOUNT_ID.fullmatch(arn.account):
            raise ValidationError(f"{p['RoleArn']} is invalid")
        service = p.get("ProviderId")
        if service is None:
            found = self._identity_from_id_token(state, arn.account, p[_PROOF])
        elif service in (AMAZON, FACEBOOK):
            found = self._identity_from_access_token(state, p["RoleArn"], service, p[_PROOF])
        else:
            raise ValidationError(
                f"ProviderId is for access tokens of {AMAZON} and {FACEBOOK}; leave it out for others"
            )
        state.identity = found
        return found, rest

    def consume(self, state: RequestState, identity: WebIdentity) -> None:
        """Use a token up where it counts once; raise IDPRejectedClaim where it has been used before."""
        if identity.token is None or identity.usable_until is None:
            return
        if not self.single_use.consume(
            _PROOF_KIND, identity.token, identity.usable_until, state.now, issued=identity.authenticated_at
        ):
            raise IDPRejectedClaim("The token has been used before")

    # --- OpenID Connect -----------------------------------------------------------------------------------------------

    def _identity_from_id_token(self, state: RequestState, account_id: str, text: str) -> WebIdentity:
        said = parse_token(text)
        prefix, address = _BUILT_IN.get(said.issuer) or (_provider_path(said.issuer), said.issuer)
        provider_arn = iam_arn(account_id, _ARN_PREFIX, prefix, "")
        provider = self.store.oidc_provider(provider_arn) if prefix else None
        if provider is None and said.issuer not in _BUILT_IN:
            raise InvalidIdentityToken(f"No OpenIDConnect provider found in your account for {said.issuer[:255]}")
        self.jwks_cache.verify(said, address, account_id if provider is not None else "")
        clients = provider.client_ids if provider is not None else None
        token = check_claims(said, ExpectedToken(clients=clients, now=state.now, skew=self.skew, max_age=self.max_age))
        identity = self._identity(token, account_id, prefix, provider_arn, provider)
        origin = self._origin(token, state.sealer)
        return replace(identity, lineage=origin.lineage, session_id=origin.session_id) if origin else identity

    def _origin(self, token: Token, sealer: Sealer) -> TokenOrigin | None:
        """Return who asked for a token of our own issuer; raise InvalidIdentityToken where that session has ended.

        A token that another issuer signed has no origin here, whatever its claims say.
        """
        origin = open_origin(token.claims.get(CLAIM), token.issuer, token.claims.get("jti"), sealer)
        ended = why_origin_ended(origin, self.store) if origin else "its origin is not sealed with a key of today"
        if origin is None and not token.issuer.startswith(self.own_issuers):
            return None
        if ended:
            raise InvalidIdentityToken("The session that asked for the token has ended", log=ended)
        return origin

    def _identity(
        self, token: Token, account_id: str, prefix: str, arn: str, provider: OidcProviderRecord | None
    ) -> WebIdentity:
        tags, transitive = session_tags(token.claims)
        once = None
        if provider is not None and provider.use_once:
            jti = token.claims.get("jti")
            once = json.dumps([provider.id, token.issuer, jti if isinstance(jti, str) else _digest(token)])
        return WebIdentity(
            provider=arn,
            subject=token.subject,
            name=token.subject,
            authenticated_at=token.issued_at,
            attributes=claim_values(token.claims),
            account_id=account_id,
            provider_id=provider.id if provider is not None else "",
            issuer=token.issuer,
            key_prefix=prefix,
            audience=token.audience,
            audiences=token.audiences,
            source_identity=source_identity(token.claims),
            tags=tags,
            transitive=transitive,
            token=once,
            usable_until=token.expires_at + self.skew,
        )

    # --- OAuth --------------------------------------------------------------------------------------------------------

    def _identity_from_access_token(self, state: RequestState, role_arn: str, service: str, token: str) -> WebIdentity:
        account_id = role_arn.split(":")[4]
        # Who asks for a role that does not trust the service costs the service nothing.
        if all(role.arn != role_arn for role in self.store.roles_trusting(service, frozenset({account_id}))):
            raise AccessDenied("Not authorized to perform sts:AssumeRoleWithWebIdentity", log=f"no trust in {service}")
        person = self.access_tokens.person(service, token)
        return WebIdentity(
            provider=iam_arn(account_id, _ARN_PREFIX, service, ""),
            subject=person.subject,
            name=person.subject,
            authenticated_at=state.now,
            attributes=person.keys,
            account_id=account_id,
            issuer=service,
            key_prefix=service,
            audience=person.application,
        )


def _provider_path(issuer: str) -> str:
    """Return an issuer as provider ARNs have it: as it is, without https://; empty where it can be no provider's."""
    path = issuer.removeprefix("https://")
    is_url = path != issuer and len(issuer) <= _MAX_ISSUER and issuer.isascii() and issuer.isprintable()
    return path if is_url and not is_reserved_issuer(path) else ""


def _digest(token: Token) -> str:
    return hashlib.sha256(repr(sorted(token.claims.items(), key=str)).encode()).hexdigest()
