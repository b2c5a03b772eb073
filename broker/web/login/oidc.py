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
from broker.providers.oidc.key_sets import NO_KEY, KeySets
from broker.providers.oidc.token import Expected, Token, check, read, verify
from broker.runtime.fetch import Fetcher, NotFetched
from broker.sessions.browser import Begun, BrowserSession
from broker.web.core.site import Site
from broker.web.login.completion import Entrance, return_to
from broker.web.login.home_realms import Door
from broker.web.login.login_page import remember
from broker.web.portal.portal import Portal
from iam.arn import iam_arn
from iam.errors import (
    ExpiredTokenException,
    IDPCommunicationError,
    IDPRejectedClaim,
    InternalFailure,
    InvalidIdentityToken,
    ServiceError,
)
from iam.policy.strict_json import Number, load
from iam.saml.metadata import is_address
from iam.store.records import OidcProviderRecord, SignInClient
from iam.store.schema import oidc_provider, sign_in_client
from iam.store.store import Store
from iam.store.vault import Vault
from sts.federation.web_identity import claim_values, session_tags, source_identity
from sts.identity import Identity, WebIdentity
from sts.store.single_use import SingleUse

_LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
_NAMES = ("preferred_username", "email", "sub")  # of which the first that is there names a session
_LONGEST_HINT = 256
_LONGEST = 4096  # characters of a parameter that comes back
# What a token says of itself and of the sign-in, which UserInfo does not repeat.
_OF_THE_TOKEN = frozenset({
    "iss", "sub", "aud", "azp", "exp", "iat", "nbf", "jti", "sid", "nonce", "at_hash", "auth_time", "acr", "amr",
})  # fmt: skip
_GITHUB = "https://github.com"
_LOGOUT_WITHIN = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcPages:
    """The relying party of every OpenID Connect provider that has a client for sign-in."""

    site: Site
    entrance: Entrance
    portal: Portal
    key_sets: KeySets
    fetcher: Fetcher
    single_use: SingleUse
    skew: timedelta
    vault: Vault
    github: GitHub

    def blueprint(self) -> Blueprint:
        """Return the routes."""
        made = Blueprint("oidc", __name__, url_prefix="/oidc/<provider_id>")
        made.get("/login")(self.login)
        made.get("/callback")(self._recorded("OidcSignIn", self.callback))
        made.get("/signed-out")(self.signed_out)
        made.post("/logout")(self._recorded("OidcSignOut", self.logout))
        return made

    def _recorded(self, event: str, page: Callable[[OidcProviderRecord], Response]) -> Callable[[str], Response]:
        """Return the view of a page: what it refuses is recorded, once, as a failure of this event."""

        def view(provider_id: str) -> Response:
            provider = self._provider(provider_id)
            with self.site.recording(event, provider.account_id, provider=provider.arn):
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
        door = self._door(provider)
        browser = site.browser() or site.sessions.new_token()
        state, nonce, verifier = (site.sessions.new_token() for _ in range(3))
        begun = Begun(
            provider.arn,
            site.sessions.browser_of(browser),
            state,
            return_to(request.args.get("to")),
            nonce,
            verifier,
        )
        site.sessions.begin(state, begun)
        hint = request.args.get("login_hint", "")[:_LONGEST_HINT]
        address = prepare_grant_uri(
            door,
            client.client_id,
            "code",
            redirect_uri=self._here(provider, "callback"),
            scope=client.scopes,
            state=state,
            nonce=nonce,
            code_challenge=create_s256_code_challenge(verifier),
            code_challenge_method="S256",
            **({"login_hint": hint} if hint else {}),
        )
        response = site.found(str(address))
        site.set_browser(response, browser)
        remember(site, response, request.path)
        return response

    def callback(self, provider: OidcProviderRecord) -> Response:
        """Take the provider's answer."""
        site = self.site
        issuer, about = (_GITHUB, {}) if _is_github(provider) else self._about(provider)
        told = {name: request.args.getlist(name) for name in ("code", "state", "iss", "error", "error_description")}
        if any(len(values) > 1 or len("".join(values)) > _LONGEST for values in told.values()):
            raise InvalidIdentityToken("The provider's answer has a parameter twice, or one that is too long.")
        given = {name: values[0] for name, values in told.items() if values}
        begun = self._begun(provider, given.get("state", ""))
        if given.get("iss", "" if _wants_issuer(about) else issuer) != issuer:  # RFC 9207, section 2.4
            raise InvalidIdentityToken("The answer is of another provider than the one that was asked.")
        if not site.sessions.finish(begun.relay_state):
            raise InvalidIdentityToken("The request was answered before.")
        if "error" in given or "code" not in given:
            reason = given.get("error_description") or given.get("error") or "no code"
            raise IDPRejectedClaim(f"The provider answered: {reason[:200]}")
        identity, renewal = self._identity(provider, issuer, about, given["code"], begun)
        site.exchange.identity = identity
        roles = self.portal.choices(identity).open
        site.record("OidcSignIn", identity.account_id, provider=identity.provider)
        told = self.portal.listed(identity, roles)
        return self.entrance.admit(identity, begun.return_to, renewal=renewal, told=told)

    def _begun(self, provider: OidcProviderRecord, state: str) -> Begun:
        """Return the sign-in that an answer belongs to: of this provider, and begun in this very browser."""
        begun, browser = self.site.sessions.begun(state) if state else None, self.site.browser()
        if (
            begun is None
            or browser is None
            or not begun.nonce
            or begun.provider != provider.arn
            or begun.browser != self.site.sessions.browser_of(browser)
        ):
            raise InvalidIdentityToken(
                "This sign-in was not begun in this browser, or too long ago. Begin again at the sign-in page."
            )
        return begun

    def _identity(
        self, provider: OidcProviderRecord, issuer: str, about: Mapping[str, object], code: str, begun: Begun
    ) -> tuple[WebIdentity, str]:
        """Trade the code for tokens, and believe what they say once it is verified; return what renews it as well."""
        client, now = _client(provider), self.site.exchange.now
        if _is_github(provider):
            return self._by_github(provider, client, code, begun), ""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._here(provider, "callback"),
            "code_verifier": begun.verifier,
        }
        answer = self._traded(provider, about, form)
        text, access = answer.get("id_token"), answer.get("access_token")
        if not _is_text(text):
            raise IDPCommunicationError("The provider gave no ID token.")
        token = self._verified(str(text), issuer, client.client_id, now)
        nonce = token.claims.get("nonce")
        if not _is_text(nonce) or not compare_digest(str(nonce).encode(), begun.nonce.encode()):
            raise InvalidIdentityToken("The ID token answers another request: its nonce is not ours.")
        claims = dict(token.claims)
        if _is_text(access):
            _check_hash(str(text), str(access), claims.get("at_hash"))
            claims = self._userinfo(about, str(access), token.subject) | claims
        return self._made(provider, token, claims), self._sealed(provider, answer)

    # --- who somebody is by now ---------------------------------------------------------------------------------------

    def renew(self, session: BrowserSession) -> Identity | None:
        """Ask the provider again, where it gave a refresh token; return None where it knows the person no more.

        Groups that were taken away since the sign-in then give no more credentials. Without a refresh token, what was
        said at the sign-in stands until the session ends.
        """
        identity = session.identity
        if not session.renewal or not isinstance(identity, WebIdentity):
            return identity
        provider = self.site.store.oidc_provider(identity.provider)
        if provider is None or provider.sign_in is None:
            return None
        issuer, about = self._about(provider)
        refresh = self.vault.open(b64decode(session.renewal), provider.id).decode()
        try:
            answer = self._traded(provider, about, {"grant_type": "refresh_token", "refresh_token": refresh})
        except InvalidIdentityToken:
            return None
        made = self._renewed(provider, issuer, about, identity, answer)
        renewal = self._sealed(provider, answer) or session.renewal
        self.site.sessions.renew(replace(session, identity=made, renewal=renewal))
        return made

    def _renewed(
        self,
        provider: OidcProviderRecord,
        issuer: str,
        about: Mapping[str, object],
        identity: WebIdentity,
        answer: Mapping[str, object],
    ) -> WebIdentity:
        """Return the same person, with what the provider says now (Core, section 12.2)."""
        text, access = answer.get("id_token"), answer.get("access_token")
        if not _is_text(access):
            raise IDPCommunicationError("The provider's answer cannot be read.", log="no access token")
        claims = self._userinfo(about, str(access), identity.subject)
        if not _is_text(text):
            # What UserInfo does not say any more counts no more: it may be the group that was taken away.
            kept = {name: values for name, values in identity.attributes.items() if name in _OF_THE_TOKEN}
            return replace(identity, attributes=claim_values(claims) | kept) if claims else identity
        token = self._verified(str(text), issuer, _client(provider).client_id, self.site.exchange.now)
        if token.subject != identity.subject:
            raise InvalidIdentityToken("The ID token is of somebody else than before.")
        return self._made(provider, token, claims | dict(token.claims))

    def _sealed(self, provider: OidcProviderRecord, answer: Mapping[str, object]) -> str:
        """Return the refresh token of an answer as it may lie in Redis, or nothing."""
        refresh = answer.get("refresh_token")
        if not _is_text(refresh):
            return ""
        return b64encode(self.vault.seal(str(refresh).encode(), provider.id, self.site.gate.random)).decode()

    def _by_github(self, provider: OidcProviderRecord, client: SignInClient, code: str, begun: Begun) -> WebIdentity:
        form = {
            "client_id": client.client_id,
            "client_secret": client.secret or "",
            "code": code,
            "redirect_uri": self._here(provider, "callback"),
            "code_verifier": begun.verifier,
        }
        claims = self.github.claims(form)
        return WebIdentity(
            provider=provider.arn,
            subject=claims["sub"],
            name=claims["preferred_username"],
            authenticated_at=self.site.exchange.now,
            attributes=claim_values(claims),
            account_id=provider.account_id,
            provider_id=provider.id,
            issuer=_GITHUB,
            key_prefix=provider.url,
            audience=client.client_id,
            audiences=(client.client_id,),
        )

    def _door(self, provider: OidcProviderRecord) -> str:
        """Return where a browser is sent."""
        if _is_github(provider):
            return self.github.authorization_endpoint
        return _endpoint(self._about(provider)[1], "authorization_endpoint")

    def _traded(
        self, provider: OidcProviderRecord, about: Mapping[str, object], given: Mapping[str, str]
    ) -> Mapping[str, object]:
        """Return what the token endpoint gives for a code or a refresh token."""
        client, form = _client(provider), dict(given)
        headers = {}
        methods = about.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if client.secret is None:
            form["client_id"] = client.client_id
        elif isinstance(methods, list) and "client_secret_basic" not in methods and "client_secret_post" in methods:
            form |= {"client_id": client.client_id, "client_secret": client.secret}
        else:  # RFC 6749, section 2.3.1: both are form-encoded first
            pair = f"{quote(client.client_id, safe='')}:{quote(client.secret, safe='')}"
            headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        try:
            return _object(self.fetcher.post(_endpoint(about, "token_endpoint"), form, **headers))
        except NotFetched as error:
            if error.status in range(400, 500):
                raise InvalidIdentityToken("The provider refused the code.", log=f"status {error.status}") from error
            raise IDPCommunicationError("The provider cannot be asked now. Try again later.", log=str(error)) from error

    def _userinfo(self, about: Mapping[str, object], access: str, subject: str) -> dict[str, Any]:
        """Return what UserInfo adds: the ID token's own claims win (Core, section 5.3.2)."""
        if "userinfo_endpoint" not in about:
            return {}
        try:
            found = _object(self.fetcher.get(_endpoint(about, "userinfo_endpoint"), Authorization=f"Bearer {access}"))
        except NotFetched as error:
            raise IDPCommunicationError("The provider cannot be asked now. Try again later.", log=str(error)) from error
        if found.get("sub") != subject:
            raise InvalidIdentityToken("UserInfo is of somebody else than the ID token.")
        return dict(found)

    def _verified(self, text: str, issuer: str, client_id: str, now: datetime, *, logout: bool = False) -> Token:
        said = read(text, logout=logout)
        if said.issuer != issuer:
            raise InvalidIdentityToken("The token is of another issuer.")
        keys = self.key_sets.keys(issuer)
        if not verify(said, keys) and not verify(said, self.key_sets.newer(issuer, keys)):
            raise InvalidIdentityToken(NO_KEY)
        if logout and "exp" not in said.claims:  # Back-Channel Logout 1.0 did not ask for it until its last errata
            until = Number(int((now + _LOGOUT_WITHIN).timestamp()))
            said = replace(said, claims={**said.claims, "exp": until})
        return check(said, Expected(clients=(client_id,), now=now, skew=self.skew))

    def _made(self, provider: OidcProviderRecord, token: Token, claims: Mapping[str, Any]) -> WebIdentity:
        tags, transitive = session_tags(claims)
        index = claims.get("sid")
        name = next(str(claims[one]) for one in _NAMES if _is_text(claims.get(one)) and claims[one])
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

    def leave(self, found: WebIdentity) -> Response | None:
        """Return the way to the provider's logout for somebody already signed out here, if it has one."""
        provider = self.site.store.oidc_provider(found.provider)
        if provider is None or provider.sign_in is None or _is_github(provider):
            return None
        try:
            _, about = self._about(provider)
            address = _endpoint(about, "end_session_endpoint")
        except ServiceError:  # signed out here all the same
            return None
        query = {
            "client_id": provider.sign_in.client_id,
            "post_logout_redirect_uri": self._here(provider, "signed-out"),
        }
        joint = "&" if "?" in address else "?"
        return self.site.page("leave.html", address=f"{address}{joint}{urlencode(query)}")

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
        issuer, _ = self._about(provider)
        token = self._verified(texts[0], issuer, _client(provider).client_id, site.exchange.now, logout=True)
        events, jti, index = token.claims.get("events"), token.claims.get("jti"), token.claims.get("sid")
        if not isinstance(events, dict) or _LOGOUT_EVENT not in events or "nonce" in token.claims or not _is_text(jti):
            raise InvalidIdentityToken("The token is no logout token")
        if site.exchange.now - token.issued_at > _LOGOUT_WITHIN:
            raise ExpiredTokenException("The logout token is too old")
        indexes = (str(index),) if _is_text(index) else ()
        meant = site.sessions.of(provider.arn, token.subject, indexes)
        until = token.issued_at + _LOGOUT_WITHIN + self.skew
        if not self.single_use.spend("oidc-logout", f"{provider.arn}|{jti}", until, site.exchange.now):
            raise InvalidIdentityToken("The logout token has been used before")
        ended = site.sessions.end_all(provider.arn, token.subject, meant)
        site.record("OidcSignOut", provider.account_id, provider=provider.arn, subject=token.subject, ended=ended)
        return site.guarded(Response("", 200, content_type="text/plain; charset=utf-8"))

    # --- small parts --------------------------------------------------------------------------------------------------

    def _about(self, provider: OidcProviderRecord) -> tuple[str, Mapping[str, object]]:
        """Return how the provider calls itself, with or without a slash at the end, and what it says of itself."""
        plain = f"https://{provider.url}"
        try:
            return plain, self.key_sets.about(plain)
        except IDPCommunicationError:
            return f"{plain}/", self.key_sets.about(f"{plain}/")

    def _here(self, provider: OidcProviderRecord, page: str) -> str:
        return f"{self.site.public_url}/oidc/{provider.id}/{page}"


def doors(store: Store, most: int = 20) -> tuple[Door, ...]:
    """Return the providers through which people sign in, up to so many."""
    joined = sign_in_client.join(oidc_provider, oidc_provider.c.id == sign_in_client.c.provider_id)
    names = (sign_in_client.c.name, oidc_provider.c.id, oidc_provider.c.account_id, oidc_provider.c.url)
    columns = select(*names).select_from(joined)
    with store.read() as tx:
        rows = tx.execute(columns.order_by(sign_in_client.c.name).limit(most)).all()
    return tuple(
        Door(row.name, f"/oidc/{row.id}/login", iam_arn(row.account_id, "oidc-provider/", row.url, "")) for row in rows
    )


def _client(provider: OidcProviderRecord) -> SignInClient:
    if provider.sign_in is None:
        raise InternalFailure("An internal error occurred.", log="a provider without a client for sign-in")
    return provider.sign_in


def _is_github(provider: OidcProviderRecord) -> bool:
    return provider.sign_in is not None and provider.sign_in.kind == "github"


def _wants_issuer(about: Mapping[str, object]) -> bool:
    return about.get("authorization_response_iss_parameter_supported") is True


def _endpoint(about: Mapping[str, object], name: str) -> str:
    address = about.get(name)
    if not isinstance(address, str) or not address.startswith("https://") or not is_address(address):
        raise IDPCommunicationError(f"The provider's documents have no {name}.")
    return address


def _check_hash(id_token: str, access_token: str, told: object) -> None:
    """Raise InvalidIdentityToken where at_hash is there and not that of the access token (Core, section 3.1.3.6)."""
    if told is None:
        return
    algorithm = read(id_token).algorithm
    kinds = {"256": hashlib.sha256, "384": hashlib.sha384}
    digest = kinds.get(algorithm[2:], hashlib.sha512)(access_token.encode()).digest()
    half = urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
    if told != half:
        raise InvalidIdentityToken("The access token is not that of the ID token.")


def _object(data: bytes) -> Mapping[str, object]:
    try:
        found = load(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise IDPCommunicationError("The provider's answer cannot be read.", log="not JSON") from error
    if not isinstance(found, dict):
        raise IDPCommunicationError("The provider's answer cannot be read.", log="no JSON object")
    return found


def _is_text(value: object) -> bool:
    return isinstance(value, str) and not isinstance(value, Number)
