"""Sign-in in the browser through OpenID Connect providers: code flow with PKCE, state and nonce, and logout.

Source: OpenID Connect Core, section 3.1; RFC 7636; RFC 9207; RP-Initiated Logout; Back-Channel Logout. Authlib writes
the requests; every answer is read by the same strict verifier as tokens at the STS (THREATS F). A person is issuer and
subject, never a mail address.
"""

import hashlib
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hmac import compare_digest
from typing import Any
from urllib.parse import quote, urlencode

from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from flask import Blueprint, Response, abort, request
from sqlalchemy import select

from broker.providers.oidc.github import GitHub
from broker.providers.oidc.key_sets import NO_KEY, JwksCache
from broker.providers.oidc.token import ExpectedToken, Token, check_claims, parse_token, verify_signature
from broker.runtime.fetch import Fetcher, FetchError
from broker.sessions.browser import BrowserSession, IdpRequest
from broker.web.core.site import Site
from broker.web.login.completion import LoginCompletion, return_to
from broker.web.login.home_realms import LoginOption
from broker.web.login.login_page import remember_login_option
from broker.web.portal.portal import Portal
from iam.arn import iam_arn
from iam.clock import to_seconds
from iam.errors import (
    ExpiredTokenException,
    IDPCommunicationError,
    IDPRejectedClaim,
    InternalFailure,
    InvalidIdentityToken,
    ServiceError,
)
from iam.policy.strict_json import Number, load
from iam.saml.metadata import is_redirect_target
from iam.store.records import OidcProviderRecord, SignInClient
from iam.store.schema import oidc_provider, sign_in_client
from iam.store.store import Store
from iam.store.vault import Vault
from sts.federation.web_identity import claim_values, session_tags, source_identity
from sts.identity import Identity, WebIdentity
from sts.store.single_use import SingleUse

_LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
_NAME_CLAIMS = ("preferred_username", "email", "sub")  # of which the first that is there names a session
_LONGEST_HINT = 256
_LONGEST = 4096  # characters of a parameter that comes back
# What a token says of itself and of the sign-in, which UserInfo does not repeat.
_TOKEN_CLAIMS = frozenset({
    "iss", "sub", "aud", "azp", "exp", "iat", "nbf", "jti", "sid", "nonce", "at_hash", "auth_time", "acr", "amr",
})  # fmt: skip
_GITHUB = "https://github.com"
_LOGOUT_WITHIN = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcPages:
    """The relying party of every OpenID Connect provider that has a client for sign-in."""

    site: Site
    completion: LoginCompletion
    portal: Portal
    jwks_cache: JwksCache
    fetcher: Fetcher
    single_use: SingleUse
    skew: timedelta
    vault: Vault
    github: GitHub

    def blueprint(self) -> Blueprint:
        """Return the routes."""
        made = Blueprint("oidc", __name__, url_prefix="/oidc/<provider_id>")
        made.get("/login")(self.login)
        made.get("/callback")(self._record_failures("OidcSignIn", self.callback))
        made.get("/signed-out")(self.signed_out)
        made.post("/logout")(self._record_failures("OidcSignOut", self.logout))
        return made

    def _record_failures(self, event: str, page: Callable[[OidcProviderRecord], Response]) -> Callable[[str], Response]:
        """Return the view of a page: what it refuses is recorded, once, as a failure of this event."""

        def view(provider_id: str) -> Response:
            provider = self._provider(provider_id)
            with self.site.audit.record_failures(event, provider.account_id, provider=provider.arn):
                return page(provider)

        view.__name__ = event
        return view

    def _provider(self, provider_id: str) -> OidcProviderRecord:
        columns = oidc_provider.c
        with self.site.store.read() as tx:
            row = tx.execute(select(columns.account_id, columns.url).where(columns.id == provider_id)).one_or_none()
        arn = iam_arn(row.account_id, "oidc-provider/", row.url, "") if row is not None else ""
        found = self.site.store.oidc_provider(arn) if arn else None
        if found is None or found.sign_in is None:
            abort(404)
        return found

    # --- signing in ---------------------------------------------------------------------------------------------------

    def login(self, provider_id: str) -> Response:
        """Send the browser to the provider, with a request that only this browser's answer fits."""
        site, provider = self.site, self._provider(provider_id)
        client = _client(provider)
        door = self._authorization_endpoint(provider)
        browser = site.cookies.browser_token() or site.sessions.new_token()
        state, nonce, verifier = (site.sessions.new_token() for _ in range(3))
        begun = IdpRequest(
            provider.arn,
            site.sessions.hash_browser_cookie(browser),
            state,
            return_to(request.args.get("to")),
            nonce,
            verifier,
        )
        site.sessions.save_idp_request(state, begun)
        hint = request.args.get("login_hint", "")[:_LONGEST_HINT]
        address = prepare_grant_uri(
            door,
            client.client_id,
            "code",
            redirect_uri=self._url(provider, "callback"),
            scope=client.scopes,
            state=state,
            nonce=nonce,
            code_challenge=create_s256_code_challenge(verifier),
            code_challenge_method="S256",
            **({"login_hint": hint} if hint else {}),
        )
        response = site.responses.redirect(str(address))
        site.cookies.set_browser(response, browser)
        remember_login_option(site, response, request.path)
        return response

    def callback(self, provider: OidcProviderRecord) -> Response:
        """Take the provider's answer."""
        site = self.site
        issuer, metadata = (_GITHUB, {}) if _is_github(provider) else self._discover(provider)
        told = {name: request.args.getlist(name) for name in ("code", "state", "iss", "error", "error_description")}
        if any(len(values) > 1 or len("".join(values)) > _LONGEST for values in told.values()):
            raise InvalidIdentityToken("The provider's answer has a parameter twice, or one that is too long.")
        given = {name: values[0] for name, values in told.items() if values}
        begun = self._find_request(provider, given.get("state", ""))
        if given.get("iss", "" if _wants_issuer(metadata) else issuer) != issuer:  # RFC 9207, section 2.4
            raise InvalidIdentityToken("The answer is of another provider than the one that was asked.")
        if not site.sessions.consume_idp_request(begun.relay_state):
            raise InvalidIdentityToken("The request was answered before.")
        if "error" in given or "code" not in given:
            reason = given.get("error_description") or given.get("error") or "no code"
            raise IDPRejectedClaim(f"The provider answered: {reason[:200]}")
        identity, refresh_state = self._redeem_code(provider, issuer, metadata, given["code"], begun)
        site.request_state.identity = identity
        roles = self.portal.choices(identity).open
        site.audit.record("OidcSignIn", identity.account_id, provider=identity.provider)
        told = self.portal.roles_json(identity, roles)
        return self.completion.complete_login(identity, begun.return_to, refresh_state=refresh_state, told=told)

    def _find_request(self, provider: OidcProviderRecord, state: str) -> IdpRequest:
        """Return the sign-in that an answer belongs to: of this provider, and begun in this very browser."""
        begun, browser = (
            self.site.sessions.find_idp_request(state) if state else None,
            self.site.cookies.browser_token(),
        )
        if (
            begun is None
            or browser is None
            or not begun.nonce
            or begun.provider != provider.arn
            or begun.browser != self.site.sessions.hash_browser_cookie(browser)
        ):
            raise InvalidIdentityToken(
                "This sign-in was not begun in this browser, or too long ago. Begin again at the sign-in page."
            )
        return begun

    def _redeem_code(
        self, provider: OidcProviderRecord, issuer: str, metadata: Mapping[str, object], code: str, begun: IdpRequest
    ) -> tuple[WebIdentity, str]:
        """Trade the code for tokens, and believe what they say once it is verified; return what renews it as well."""
        client, now = _client(provider), self.site.request_state.now
        if _is_github(provider):
            return self._github_identity(provider, client, code, begun), ""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._url(provider, "callback"),
            "code_verifier": begun.verifier,
        }
        answer = self._request_tokens(provider, metadata, form)
        text, access = answer.get("id_token"), answer.get("access_token")
        if not _is_text(text):
            raise IDPCommunicationError("The provider gave no ID token.")
        token = self._verify_token(str(text), issuer, client.client_id, now)
        nonce = token.claims.get("nonce")
        if not _is_text(nonce) or not compare_digest(str(nonce).encode(), begun.nonce.encode()):
            raise InvalidIdentityToken("The ID token answers another request: its nonce is not ours.")
        claims = dict(token.claims)
        if _is_text(access):
            _check_hash(str(text), str(access), claims.get("at_hash"))
            claims = self._userinfo(metadata, str(access), token.subject) | claims
        return self._make_identity(provider, token, claims), self._seal_refresh_token(provider, answer)

    # --- who somebody is by now ---------------------------------------------------------------------------------------

    def refresh_identity(self, session: BrowserSession) -> Identity | None:
        """Ask the provider again, where it gave a refresh token; return None where it knows the person no more.

        Groups that were taken away since the sign-in then give no more credentials. Without a refresh token, what was
        said at the sign-in stands until the session ends.
        """
        identity = session.identity
        if not session.refresh_state or not isinstance(identity, WebIdentity):
            return identity
        provider = self.site.store.oidc_provider(identity.provider)
        if provider is None or provider.sign_in is None:
            return None
        issuer, metadata = self._discover(provider)
        refresh = self.vault.open(b64decode(session.refresh_state), provider.id).decode()
        try:
            answer = self._request_tokens(provider, metadata, {"grant_type": "refresh_token", "refresh_token": refresh})
        except InvalidIdentityToken:
            return None
        made = self._refreshed_identity(provider, issuer, metadata, identity, answer)
        refresh_state = self._seal_refresh_token(provider, answer) or session.refresh_state
        self.site.sessions.update(replace(session, identity=made, refresh_state=refresh_state))
        return made

    def _refreshed_identity(
        self,
        provider: OidcProviderRecord,
        issuer: str,
        metadata: Mapping[str, object],
        identity: WebIdentity,
        answer: Mapping[str, object],
    ) -> WebIdentity:
        """Return the same person, with what the provider says now (Core, section 12.2)."""
        text, access = answer.get("id_token"), answer.get("access_token")
        if not _is_text(access):
            raise IDPCommunicationError("The provider's answer cannot be read.", log="no access token")
        claims = self._userinfo(metadata, str(access), identity.subject)
        if not _is_text(text):
            # What UserInfo does not say any more counts no more: it may be the group that was taken away.
            kept = {name: values for name, values in identity.attributes.items() if name in _TOKEN_CLAIMS}
            return replace(identity, attributes=claim_values(claims) | kept) if claims else identity
        token = self._verify_token(str(text), issuer, _client(provider).client_id, self.site.request_state.now)
        if token.subject != identity.subject:
            raise InvalidIdentityToken("The ID token is of somebody else than before.")
        return self._make_identity(provider, token, claims | dict(token.claims))

    def _seal_refresh_token(self, provider: OidcProviderRecord, answer: Mapping[str, object]) -> str:
        """Return the refresh token of an answer as it may lie in Redis, or nothing."""
        refresh = answer.get("refresh_token")
        if not _is_text(refresh):
            return ""
        return b64encode(self.vault.seal(str(refresh).encode(), provider.id, self.site.gate.random)).decode()

    def _github_identity(
        self, provider: OidcProviderRecord, client: SignInClient, code: str, begun: IdpRequest
    ) -> WebIdentity:
        form = {
            "client_id": client.client_id,
            "client_secret": client.secret or "",
            "code": code,
            "redirect_uri": self._url(provider, "callback"),
            "code_verifier": begun.verifier,
        }
        claims = self.github.claims(form)
        return WebIdentity(
            provider=provider.arn,
            subject=claims["sub"],
            name=claims["preferred_username"],
            authenticated_at=self.site.request_state.now,
            attributes=claim_values(claims),
            account_id=provider.account_id,
            provider_id=provider.id,
            issuer=_GITHUB,
            key_prefix=provider.url,
            audience=client.client_id,
            audiences=(client.client_id,),
        )

    def _authorization_endpoint(self, provider: OidcProviderRecord) -> str:
        """Return where a browser is sent."""
        if _is_github(provider):
            return self.github.authorization_endpoint
        return _endpoint(self._discover(provider)[1], "authorization_endpoint")

    def _request_tokens(
        self, provider: OidcProviderRecord, metadata: Mapping[str, object], given: Mapping[str, str]
    ) -> Mapping[str, object]:
        """Return what the token endpoint gives for a code or a refresh token."""
        client, form = _client(provider), dict(given)
        headers = {}
        methods = metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if client.secret is None:
            form["client_id"] = client.client_id
        elif isinstance(methods, list) and "client_secret_basic" not in methods and "client_secret_post" in methods:
            form |= {"client_id": client.client_id, "client_secret": client.secret}
        else:  # RFC 6749, section 2.3.1: both are form-encoded first
            pair = f"{quote(client.client_id, safe='')}:{quote(client.secret, safe='')}"
            headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        try:
            return _parse_object(self.fetcher.post(_endpoint(metadata, "token_endpoint"), form, **headers))
        except FetchError as error:
            if error.status in range(400, 500):
                raise InvalidIdentityToken("The provider refused the code.", log=f"status {error.status}") from error
            raise IDPCommunicationError("The provider cannot be asked now. Try again later.", log=str(error)) from error

    def _userinfo(self, metadata: Mapping[str, object], access: str, subject: str) -> dict[str, Any]:
        """Return what UserInfo adds: the ID token's own claims win (Core, section 5.3.2)."""
        if "userinfo_endpoint" not in metadata:
            return {}
        try:
            found = _parse_object(
                self.fetcher.get(_endpoint(metadata, "userinfo_endpoint"), Authorization=f"Bearer {access}")
            )
        except FetchError as error:
            raise IDPCommunicationError("The provider cannot be asked now. Try again later.", log=str(error)) from error
        if found.get("sub") != subject:
            raise InvalidIdentityToken("UserInfo is of somebody else than the ID token.")
        return dict(found)

    def _verify_token(self, text: str, issuer: str, client_id: str, now: datetime, *, logout: bool = False) -> Token:
        said = parse_token(text, logout=logout)
        if said.issuer != issuer:
            raise InvalidIdentityToken("The token is of another issuer.")
        keys = self.jwks_cache.keys(issuer)
        if not verify_signature(said, keys) and not verify_signature(said, self.jwks_cache.refetch(issuer, keys)):
            raise InvalidIdentityToken(NO_KEY)
        if logout and "exp" not in said.claims:  # Back-Channel Logout 1.0 did not ask for it until its last errata
            until = Number(to_seconds(now + _LOGOUT_WITHIN))
            said = replace(said, claims={**said.claims, "exp": until})
        return check_claims(said, ExpectedToken(clients=(client_id,), now=now, skew=self.skew))

    def _make_identity(self, provider: OidcProviderRecord, token: Token, claims: Mapping[str, Any]) -> WebIdentity:
        tags, transitive = session_tags(claims)
        index = claims.get("sid")
        name = next(str(claims[one]) for one in _NAME_CLAIMS if _is_text(claims.get(one)) and claims[one])
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
            session_index=str(index) if _is_text(index) else None,
        )

    # --- signing out --------------------------------------------------------------------------------------------------

    def provider_logout(self, found: WebIdentity) -> Response | None:
        """Return the way to the provider's logout for somebody already signed out here, if it has one."""
        provider = self.site.store.oidc_provider(found.provider)
        if provider is None or provider.sign_in is None or _is_github(provider):
            return None
        try:
            _, metadata = self._discover(provider)
            address = _endpoint(metadata, "end_session_endpoint")
        except ServiceError:  # signed out here all the same
            return None
        query = {
            "client_id": provider.sign_in.client_id,
            "post_logout_redirect_uri": self._url(provider, "signed-out"),
        }
        joint = "&" if "?" in address else "?"
        return self.site.responses.render("provider_logout.html", address=f"{address}{joint}{urlencode(query)}")

    def signed_out(self, provider_id: str) -> Response:
        """Tell somebody who comes back from the provider's logout."""
        self._provider(provider_id)
        return self.portal.signed_out()

    def logout(self, provider: OidcProviderRecord) -> Response:
        """Take a logout token from the provider itself, and end the sessions that it names."""
        texts = request.form.getlist("logout_token")
        if len(texts) != 1:
            raise InvalidIdentityToken("The request must have one logout_token")
        site = self.site
        issuer, _ = self._discover(provider)
        token = self._verify_token(texts[0], issuer, _client(provider).client_id, site.request_state.now, logout=True)
        events, jti, index = token.claims.get("events"), token.claims.get("jti"), token.claims.get("sid")
        if not isinstance(events, dict) or _LOGOUT_EVENT not in events or "nonce" in token.claims or not _is_text(jti):
            raise InvalidIdentityToken("The token is no logout token")
        if site.request_state.now - token.issued_at > _LOGOUT_WITHIN:
            raise ExpiredTokenException("The logout token is too old")
        indexes = (str(index),) if _is_text(index) else ()
        meant = site.sessions.keys_of(provider.arn, token.subject, indexes)
        until = token.issued_at + _LOGOUT_WITHIN + self.skew
        if not self.single_use.consume("oidc-logout", f"{provider.arn}|{jti}", until, site.request_state.now):
            raise InvalidIdentityToken("The logout token has been used before")
        ended = site.sessions.end_all(provider.arn, token.subject, meant)
        site.audit.record("OidcSignOut", provider.account_id, provider=provider.arn, subject=token.subject, ended=ended)
        return site.responses.add_security_headers(Response("", 200, content_type="text/plain; charset=utf-8"))

    # --- small parts --------------------------------------------------------------------------------------------------

    def _discover(self, provider: OidcProviderRecord) -> tuple[str, Mapping[str, object]]:
        """Return how the provider calls itself, with or without a slash at the end, and what it says of itself."""
        plain = f"https://{provider.url}"
        try:
            return plain, self.jwks_cache.discovery_document(plain)
        except IDPCommunicationError:
            return f"{plain}/", self.jwks_cache.discovery_document(f"{plain}/")

    def _url(self, provider: OidcProviderRecord, page: str) -> str:
        return f"{self.site.public_url}/oidc/{provider.id}/{page}"


def login_options(store: Store, most: int = 20) -> tuple[LoginOption, ...]:
    """Return the providers through which people sign in, up to so many."""
    joined = sign_in_client.join(oidc_provider, oidc_provider.c.id == sign_in_client.c.provider_id)
    names = (sign_in_client.c.name, oidc_provider.c.id, oidc_provider.c.account_id, oidc_provider.c.url)
    columns = select(*names).select_from(joined)
    with store.read() as tx:
        rows = tx.execute(columns.order_by(sign_in_client.c.name).limit(most)).all()
    return tuple(
        LoginOption(row.name, f"/oidc/{row.id}/login", iam_arn(row.account_id, "oidc-provider/", row.url, ""))
        for row in rows
    )


def _client(provider: OidcProviderRecord) -> SignInClient:
    if provider.sign_in is None:
        raise InternalFailure("An internal error occurred.", log="a provider without a client for sign-in")
    return provider.sign_in


def _is_github(provider: OidcProviderRecord) -> bool:
    return provider.sign_in is not None and provider.sign_in.kind == "github"


def _wants_issuer(metadata: Mapping[str, object]) -> bool:
    return metadata.get("authorization_response_iss_parameter_supported") is True


def _endpoint(metadata: Mapping[str, object], name: str) -> str:
    address = metadata.get(name)
    if not isinstance(address, str) or not address.startswith("https://") or not is_redirect_target(address):
        raise IDPCommunicationError(f"The provider's documents have no {name}.")
    return address


def _check_hash(id_token: str, access_token: str, told: object) -> None:
    """Raise InvalidIdentityToken where at_hash is there and not that of the access token (Core, section 3.1.3.6)."""
    if told is None:
        return
    algorithm = parse_token(id_token).algorithm
    kinds = {"256": hashlib.sha256, "384": hashlib.sha384}
    digest = kinds.get(algorithm[2:], hashlib.sha512)(access_token.encode()).digest()
    half = urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
    if told != half:
        raise InvalidIdentityToken("The access token is not that of the ID token.")


def _parse_object(data: bytes) -> Mapping[str, object]:
    try:
        found = load(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise IDPCommunicationError("The provider's answer cannot be read.", log="not JSON") from error
    if not isinstance(found, dict):
        raise IDPCommunicationError("The provider's answer cannot be read.", log="no JSON object")
    return found


def _is_text(value: object) -> bool:
    return isinstance(value, str) and not isinstance(value, Number)
