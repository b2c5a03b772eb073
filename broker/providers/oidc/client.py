"""The client of OpenID Connect providers: from a code, a refresh token or a logout token to what may be believed.

No framework: addresses and texts go in, identities or errors come out; the clock is an argument. Every token is read by
the same strict verifier as the tokens at the STS (THREATS F). A person is issuer and subject, never a mail address,
which a provider may give to somebody else.
"""

import hashlib
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hmac import compare_digest
from typing import Any, TypeGuard
from urllib.parse import quote, urlencode

from broker.providers.authentication_age import MAX_AUTHENTICATION_AGE, AuthenticationTooOld
from broker.providers.oidc import relying_party
from broker.providers.oidc.key_sets import JwksCache
from broker.providers.oidc.relying_party import AuthorizationRequest, LogoutToken, SignInResult, sign_in_client
from broker.providers.oidc.token import ExpectedToken, Token, check_claims, parse_token
from broker.runtime.fetch import Fetcher, FetchError
from iam.clock import to_seconds
from iam.errors import ExpiredTokenException, IDPCommunicationError, InvalidIdentityToken, ServiceError
from iam.policy.strict_json import Number, load
from iam.saml.metadata import is_redirect_target
from iam.store.records import OidcProviderRecord
from sts.federation.web_identity import claim_values, session_tags, source_identity
from sts.identity import WebIdentity

Metadata = Mapping[str, object]

_LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
_NAME_CLAIMS = ("preferred_username", "email", "sub")  # the first of them that is there names a session
# What an ID token says of itself and of the sign-in, and UserInfo does not repeat.
_TOKEN_CLAIMS = frozenset({
    "iss", "sub", "aud", "azp", "exp", "iat", "nbf", "jti", "sid", "nonce", "at_hash", "auth_time", "acr", "amr",
})  # fmt: skip
# Back-Channel Logout 1.0, section 2.4, advises at most two minutes; providers' clocks and queues need some more. It
# bounds how long a logout token that was used must be remembered.
_LOGOUT_TOKEN_LIFETIME = timedelta(minutes=5)
_UNAVAILABLE = "The provider cannot be reached now. Try again later."
_UNREADABLE = "The provider's answer cannot be read."


@dataclass(frozen=True, slots=True)
class OidcClient:
    """Asks OpenID Connect providers, found by their discovery documents; ``skew`` is how far clocks may differ."""

    jwks_cache: JwksCache
    fetcher: Fetcher
    skew: timedelta

    # --- signing in ---------------------------------------------------------------------------------------------------

    def authorization_url(self, provider: OidcProviderRecord, request: AuthorizationRequest) -> str:
        """Return where to send a browser that is to sign in."""
        _, metadata = self._discover(provider)
        endpoint = _endpoint(metadata, "authorization_endpoint")
        return relying_party.authorization_url(endpoint, sign_in_client(provider), request)

    def check_issuer(self, provider: OidcProviderRecord, issuer: str | None) -> None:
        """Raise InvalidIdentityToken where the response is not this provider's.

        RFC 9207, section 2.4: against mix-up, where a hostile provider has our browser bring it another's code. A
        provider that promises ``iss`` must send it; where one sends it without a promise it must be right all the same.
        """
        expected, metadata = self._discover(provider)
        promised = metadata.get("authorization_response_iss_parameter_supported") is True
        if issuer != expected and (promised or issuer is not None):
            raise InvalidIdentityToken("The answer is of another provider than the one that was asked.")

    def redeem_code(
        self, provider: OidcProviderRecord, code: str, request: AuthorizationRequest, now: datetime
    ) -> SignInResult:
        """Return who signed in; raise InvalidIdentityToken, ExpiredTokenException, IDPCommunicationError.

        Raises AuthenticationTooOld, which is an ExpiredTokenException, where the ID token says so.
        """
        issuer, metadata = self._discover(provider)
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": request.redirect_uri,
            "code_verifier": request.code_verifier,
        }
        response = self._request_tokens(provider, metadata, form)
        id_token, access_token = response.get("id_token"), response.get("access_token")
        if not _is_text(id_token):
            raise IDPCommunicationError("The provider gave no ID token.")
        token = self._verify_token(id_token, issuer, provider, now)
        _check_nonce(token.claims.get("nonce"), request.nonce)
        _check_authentication_time(token.claims.get("auth_time"), now)
        claims = dict(token.claims)
        if _is_text(access_token):
            _check_access_token_hash(id_token, access_token, claims.get("at_hash"))
            # Core, section 5.3.2: UserInfo is not signed, so what the ID token says wins.
            claims = self._userinfo(provider, metadata, access_token, token.subject) | claims
        return SignInResult(_identity(provider, token, claims), _refresh_token(response))

    def refresh(
        self, provider: OidcProviderRecord, identity: WebIdentity, refresh_token: str, now: datetime
    ) -> SignInResult | None:
        """Return the same person with what the provider says now (Core, section 12); None where it refuses.

        Raise InvalidIdentityToken where the answer is about somebody else, IDPCommunicationError where there is none.
        """
        issuer, metadata = self._discover(provider)
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        try:
            response = self._request_tokens(provider, metadata, form)
        except InvalidIdentityToken:
            return None
        id_token, access_token = response.get("id_token"), response.get("access_token")
        if not _is_text(access_token):
            raise IDPCommunicationError(_UNREADABLE, log="no access token")
        claims = self._userinfo(provider, metadata, access_token, identity.subject)
        if not _is_text(id_token):
            return SignInResult(_with_userinfo(identity, claims), _refresh_token(response))
        token = self._verify_token(id_token, issuer, provider, now)
        if token.subject != identity.subject:  # Core, section 12.2
            raise InvalidIdentityToken("The ID token is of somebody else than before.")
        return SignInResult(_identity(provider, token, claims | dict(token.claims)), _refresh_token(response))

    # --- signing out --------------------------------------------------------------------------------------------------

    def logout_url(self, provider: OidcProviderRecord, return_to: str) -> str | None:
        """Return the address of RP-Initiated Logout, or None where the provider has none or cannot be asked."""
        try:
            _, metadata = self._discover(provider)
            endpoint = _endpoint(metadata, "end_session_endpoint")
        except ServiceError:  # the person is signed out here all the same
            return None
        query = {"client_id": sign_in_client(provider).client_id, "post_logout_redirect_uri": return_to}
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"

    def verify_logout_token(self, provider: OidcProviderRecord, text: str, now: datetime) -> LogoutToken:
        """Return what a logout token says; raise InvalidIdentityToken, ExpiredTokenException.

        Back-Channel Logout, section 2.6. It must have ``events`` and no ``nonce``, so that no ID token passes for one,
        nor one for an ID token.
        """
        issuer, _ = self._discover(provider)
        token = self._verify_token(text, issuer, provider, now, logout=True)
        events, token_id, index = (token.claims.get(name) for name in ("events", "jti", "sid"))
        is_logout = isinstance(events, dict) and _LOGOUT_EVENT in events and "nonce" not in token.claims
        if not is_logout or not _is_text(token_id):
            raise InvalidIdentityToken("The token is no logout token")
        if now - token.issued_at > _LOGOUT_TOKEN_LIFETIME:
            raise ExpiredTokenException("The logout token is too old")
        usable_until = token.issued_at + _LOGOUT_TOKEN_LIFETIME + self.skew
        return LogoutToken(token_id, token.subject, index if _is_text(index) else None, usable_until)

    # --- asking the provider ------------------------------------------------------------------------------------------

    def _discover(self, provider: OidcProviderRecord) -> tuple[str, Metadata]:
        """Return the issuer and its metadata; providers of earlier versions may lack a slash at the end of it."""
        issuer = f"https://{provider.url}"
        try:
            return issuer, self.jwks_cache.discovery_document(issuer, provider.account_id)
        except IDPCommunicationError:
            if issuer.endswith("/"):
                raise
            return f"{issuer}/", self.jwks_cache.discovery_document(f"{issuer}/", provider.account_id)

    def _request_tokens(
        self, provider: OidcProviderRecord, metadata: Metadata, grant: Mapping[str, str]
    ) -> Mapping[str, object]:
        """Return the token response for a code or a refresh token; raise InvalidIdentityToken where it is refused."""
        form, headers = _authenticate_client(provider, metadata, grant)
        try:
            fetcher = self.fetcher.on_behalf_of(provider.account_id)
            response = _parse_object(fetcher.post(_endpoint(metadata, "token_endpoint"), form, **headers))
        except FetchError as error:
            if error.status in range(400, 500):
                raise InvalidIdentityToken("The provider rejected the code.", log=f"status {error.status}") from error
            raise IDPCommunicationError(_UNAVAILABLE, log=str(error)) from error
        relying_party.check_token_type(response)
        return response

    def _userinfo(
        self, provider: OidcProviderRecord, metadata: Metadata, access_token: str, subject: str
    ) -> dict[str, Any]:
        """Return the claims of UserInfo, none where the provider has no such endpoint."""
        if "userinfo_endpoint" not in metadata:
            return {}
        endpoint = _endpoint(metadata, "userinfo_endpoint")
        try:
            fetcher = self.fetcher.on_behalf_of(provider.account_id)
            claims = _parse_object(fetcher.get(endpoint, Authorization=f"Bearer {access_token}"))
        except FetchError as error:
            raise IDPCommunicationError(_UNAVAILABLE, log=str(error)) from error
        if claims.get("sub") != subject:  # Core, section 5.3.2: the access token may be somebody else's
            raise InvalidIdentityToken("UserInfo is of somebody else than the ID token.")
        return dict(claims)

    def _verify_token(
        self, text: str, issuer: str, provider: OidcProviderRecord, now: datetime, *, logout: bool = False
    ) -> Token:
        unverified = parse_token(text, logout=logout)
        if unverified.issuer != issuer:
            raise InvalidIdentityToken("The token is of another issuer.")
        self.jwks_cache.verify(unverified, issuer, provider.account_id)
        if (
            logout and "exp" not in unverified.claims
        ):  # Back-Channel Logout 1.0 did not ask for it until its last errata
            expires = Number(to_seconds(now + _LOGOUT_TOKEN_LIFETIME))
            unverified = replace(unverified, claims={**unverified.claims, "exp": expires})
        client_id = sign_in_client(provider).client_id
        return check_claims(unverified, ExpectedToken(clients=(client_id,), now=now, skew=self.skew))


# --- small parts ------------------------------------------------------------------------------------------------------


def _authenticate_client(
    provider: OidcProviderRecord, metadata: Metadata, grant: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return form and headers of a token request (Core, section 9); Basic unless the provider takes the form alone."""
    client = sign_in_client(provider)
    if client.secret is None:
        return {**grant, "client_id": client.client_id}, {}
    methods = metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
    if isinstance(methods, list) and "client_secret_basic" not in methods and "client_secret_post" in methods:
        return {**grant, "client_id": client.client_id, "client_secret": client.secret}, {}
    # RFC 6749, section 2.3.1: both are form-encoded first.
    pair = f"{quote(client.client_id, safe='')}:{quote(client.secret, safe='')}"
    return dict(grant), {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}


def _identity(provider: OidcProviderRecord, token: Token, claims: Mapping[str, Any]) -> WebIdentity:
    tags, transitive = session_tags(claims)
    index = claims.get("sid")
    name = next(str(claims[claim]) for claim in _NAME_CLAIMS if _is_text(claims.get(claim)) and claims[claim])
    return WebIdentity(
        provider=provider.arn,
        subject=token.subject,
        name=name,
        authenticated_at=token.issued_at,
        attributes=claim_values(claims),
        account_id=provider.account_id,
        provider_id=provider.id,
        issuer=token.issuer,
        key_prefix=provider.url,
        audience=token.audience,
        audiences=token.audiences,
        source_identity=source_identity(claims),
        tags=tags,
        transitive=transitive,
        session_index=index if _is_text(index) else None,
    )


def _with_userinfo(identity: WebIdentity, claims: Mapping[str, Any]) -> WebIdentity:
    """Return a person with the claims of UserInfo; there is no new ID token (Core, section 12.2).

    A claim that UserInfo no longer has is dropped: it may be the group that was taken away.
    """
    if not claims:
        return identity
    kept = {name: values for name, values in identity.attributes.items() if name in _TOKEN_CLAIMS}
    return replace(identity, attributes=claim_values(claims) | kept)


def _refresh_token(response: Mapping[str, object]) -> str:
    token = response.get("refresh_token")
    return token if _is_text(token) else ""


def _endpoint(metadata: Metadata, name: str) -> str:
    """Return an endpoint of the metadata; raise IDPCommunicationError unless it is an https address."""
    address = metadata.get(name)
    if not isinstance(address, str) or not address.startswith("https://") or not is_redirect_target(address):
        raise IDPCommunicationError(f"The provider's documents have no {name}.")
    return address


def _check_nonce(nonce: object, expected: str) -> None:
    """Raise InvalidIdentityToken where an ID token was made for another request, and so may be replayed or injected."""
    if not _is_text(nonce) or not compare_digest(nonce.encode(), expected.encode()):
        raise InvalidIdentityToken("The ID token answers another request: its nonce is not ours.")


def _check_authentication_time(auth_time: object, now: datetime) -> None:
    """Raise AuthenticationTooOld for a person who signed in at the provider too long ago (Core, section 2: auth_time).

    Some providers write 0 where they do not know.
    """
    seconds = float(auth_time) if isinstance(auth_time, Number) else 0.0
    if 0 < seconds <= to_seconds(now - MAX_AUTHENTICATION_AGE):
        raise AuthenticationTooOld(f"auth_time {auth_time!s:.40}")


def _check_access_token_hash(id_token: str, access_token: str, at_hash: object) -> None:
    """Raise InvalidIdentityToken where at_hash is there and not that of the access token (Core, section 3.1.3.6)."""
    if at_hash is None:
        return
    algorithm = parse_token(id_token).algorithm
    hashes = {"256": hashlib.sha256, "384": hashlib.sha384}  # EdDSA, and what ends in 512, hash with SHA-512
    digest = hashes.get(algorithm[2:], hashlib.sha512)(access_token.encode()).digest()
    left_half = urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
    if at_hash != left_half:
        raise InvalidIdentityToken("The access token is not that of the ID token.")


def _parse_object(data: bytes) -> Mapping[str, object]:
    try:
        document = load(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise IDPCommunicationError(_UNREADABLE, log="not JSON") from error
    if not isinstance(document, dict):
        raise IDPCommunicationError(_UNREADABLE, log="no JSON object")
    return {name: value for name, value in document.items() if value is not None}  # null is absent


def _is_text(value: object) -> TypeGuard[str]:
    """Return whether a value is a JSON string: numbers, kept as they were written, are texts in Python too."""
    return isinstance(value, str) and not isinstance(value, Number)
