"""What sign-in through an OAuth provider needs of a client, and what goes in and out of one. No framework, no I/O.

Source: OpenID Connect Core, section 3.1 (authorization code flow); RFC 7636 (PKCE); RFC 9207 (issuer of a response);
OpenID Connect RP-Initiated Logout and Back-Channel Logout.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, runtime_checkable

from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from iam.errors import IDPCommunicationError, InternalFailure
from iam.store.records import OidcProviderRecord, SignInClient
from sts.identity import WebIdentity


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """One sign-in that was begun: what its answer must fit.

    ``state`` ties the response to the browser that asked, ``nonce`` the ID token to this request, and ``code_verifier``
    the code to whoever asked for it. ``forced``: the provider must have the person sign in anew.
    """

    redirect_uri: str
    state: str = field(repr=False)
    nonce: str = field(repr=False)
    code_verifier: str = field(repr=False)
    login_hint: str = ""
    forced: bool = False


@dataclass(frozen=True, slots=True)
class SignInResult:
    """Who somebody is, and the refresh token with which the provider is asked again; empty where it gave none."""

    identity: WebIdentity
    refresh_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class LogoutToken:
    """A verified logout token: whose sessions end, or which one of them; it counts once until ``usable_until``."""

    id: str
    subject: str
    session_index: str | None
    usable_until: datetime


class RelyingParty(Protocol):
    """A client of the providers of one kind; each method is told which provider, and the time where it matters."""

    def authorization_url(self, provider: OidcProviderRecord, request: AuthorizationRequest) -> str:
        """Return where to send a browser that is to sign in."""
        ...

    def check_issuer(self, provider: OidcProviderRecord, issuer: str | None) -> None:
        """Raise InvalidIdentityToken where the response, by its ``iss``, is not this provider's (RFC 9207)."""
        ...

    def redeem_code(
        self, provider: OidcProviderRecord, code: str, request: AuthorizationRequest, now: datetime
    ) -> SignInResult:
        """Return who signed in; raise InvalidIdentityToken, ExpiredTokenException, IDPCommunicationError."""
        ...

    def refresh(
        self, provider: OidcProviderRecord, identity: WebIdentity, refresh_token: str, now: datetime
    ) -> SignInResult | None:
        """Return the same person as the provider knows them now, or None where it refuses the refresh token."""
        ...

    def logout_url(self, provider: OidcProviderRecord, return_to: str) -> str | None:
        """Return where to send somebody who signed out here to sign out there too, where there is such a place."""
        ...


@runtime_checkable
class BackChannelLogout(Protocol):
    """A client of providers that sign people out by a request of their own."""

    def verify_logout_token(self, provider: OidcProviderRecord, text: str, now: datetime) -> LogoutToken:
        """Return what a logout token says; raise InvalidIdentityToken, ExpiredTokenException."""
        ...


def sign_in_client(provider: OidcProviderRecord) -> SignInClient:
    """Return our registration at a provider; callers have seen that there is one."""
    if provider.sign_in is None:
        raise InternalFailure("An internal error occurred.", log="a provider without a client for sign-in")
    return provider.sign_in


def authorization_url(endpoint: str, client: SignInClient, request: AuthorizationRequest) -> str:
    """Return the authorization request (Core, section 3.1.2.1) with a PKCE challenge (RFC 7636, section 4.3)."""
    optional = {"login_hint": request.login_hint} if request.login_hint else {}
    if request.forced:
        optional |= {"prompt": "login", "max_age": "0"}
    url: str = prepare_grant_uri(
        endpoint,
        client.client_id,
        "code",
        redirect_uri=request.redirect_uri,
        scope=client.scopes,
        state=request.state,
        nonce=request.nonce,
        code_challenge=create_s256_code_challenge(request.code_verifier),
        code_challenge_method="S256",  # never "plain": whoever reads the request must not learn the verifier
        **optional,
    )
    return url


def check_token_type(response: Mapping[str, object]) -> None:
    """Raise IDPCommunicationError where an access token is not to be used as a bearer token (RFC 6749, section 7.1).

    Some providers leave the type out although section 5.1 requires it.
    """
    token_type = response.get("token_type")
    if token_type is not None and str(token_type).casefold() != "bearer":
        raise IDPCommunicationError("The provider's answer cannot be read.", log=f"token_type {token_type!s:.40}")
