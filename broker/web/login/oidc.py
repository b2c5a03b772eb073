"""The pages of sign-in through OpenID Connect providers and GitHub: to the provider, back from it, and logout.

What is asked of a provider and what is believed of its answer is the business of its client (broker.providers.oidc).
Here an answer is tied to the browser that began the sign-in, and becomes a session.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, abort, request
from sqlalchemy import Row, Select, select

from broker.providers.authentication_age import AuthenticationTooOld
from broker.providers.oidc.relying_party import (
    AuthorizationRequest,
    BackChannelLogout,
    RelyingParty,
    sign_in_client,
)
from broker.sessions.web_identity_refresh import WebIdentityRefresh
from broker.web.core.site import Site
from broker.web.login.completion import LoginCompletion, return_to
from broker.web.login.home_realms import LoginOption
from broker.web.login.login_page import remember_login_option
from broker.web.login.login_starts import IdpRequest, LoginStart, LoginStarts
from broker.web.login.sign_out import SignOut
from broker.web.portal.portal import Portal
from iam.arn import iam_arn, parse_arn
from iam.errors import IDPRejectedClaim, InvalidIdentityToken
from iam.store import schema
from iam.store.records import OidcProviderRecord
from iam.store.schema import oidc_provider
from iam.store.store import Store
from sts.store.single_use import SingleUse

_ARN_PREFIX = "oidc-provider/"
_LOGOUT_PROOF = "oidc-logout"  # the kind of proof that counts once
_RESPONSE_PARAMETERS = ("code", "state", "iss", "error", "error_description")
_MAX_PARAMETER = 4096  # characters of a parameter of the response; codes of Entra ID have some 1500
_MAX_LOGIN_HINT = 256
_MAX_ERROR = 200  # characters of a provider's error that a page repeats


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcPages:
    """The pages of every provider that has a client for sign-in; ``clients`` are by kind of provider."""

    site: Site
    completion: LoginCompletion
    portal: Portal
    sign_out: SignOut
    clients: Mapping[str, RelyingParty]
    refresh: WebIdentityRefresh
    single_use: SingleUse
    login_starts: LoginStarts

    def blueprint(self) -> Blueprint:
        """Return the routes."""
        made = Blueprint("oidc", __name__, url_prefix="/oidc/<provider_id>")
        made.get("/login")(self.login)
        made.get("/callback")(self._record_failures("OidcSignIn", self.callback))
        made.get("/signed-out")(self.signed_out)
        made.post("/logout")(self._record_failures("OidcSignOut", self.logout))
        return made

    def _record_failures(self, event: str, page: Callable[[OidcProviderRecord], Response]) -> Callable[[str], Response]:
        """Return the view of a page whose errors are recorded, once, as failures of this event."""

        def view(provider_id: str) -> Response:
            provider = self._provider(provider_id)
            with self.site.audit.record_failures(event, provider.account_id, provider=provider.arn):
                return page(provider)

        view.__name__ = event
        return view

    def _provider(self, provider_id: str) -> OidcProviderRecord:
        """Return the provider, or answer 404 where nobody signs in through it."""
        columns = oidc_provider.c
        with self.site.store.read() as tx:
            row = tx.execute(select(columns.account_id, columns.url).where(columns.id == provider_id)).one_or_none()
        arn = iam_arn(row.account_id, _ARN_PREFIX, row.url, "") if row is not None else ""
        provider = self.site.store.oidc_provider(arn) if arn else None
        if provider is None or provider.sign_in is None:
            abort(404)
        return provider

    def _client(self, provider: OidcProviderRecord) -> RelyingParty:
        return self.clients[sign_in_client(provider).kind]

    # --- signing in ---------------------------------------------------------------------------------------------------

    def login(self, provider_id: str) -> Response:
        """Send the browser to the provider, with a request that only this browser's answer fits."""
        provider, hint = self._provider(provider_id), request.args.get("login_hint", "")[:_MAX_LOGIN_HINT]
        return self._start_login(provider, request.args.get("to"), login_hint=hint)

    def _start_login(
        self, provider: OidcProviderRecord, to: str | None, *, login_hint: str = "", forced: bool = False
    ) -> Response:
        """Send the browser to the provider; ``forced``: it must have the person sign in anew."""
        pending = self._new_request(provider, to, forced=forced)
        asked = self._authorization_request(provider, pending, login_hint)
        response = self.site.responses.redirect(self._client(provider).authorization_url(provider, asked))
        self.login_starts.save(pending.relay_state, pending)
        remember_login_option(self.site, response, f"/oidc/{provider.id}/login")
        return response

    def callback(self, provider: OidcProviderRecord) -> Response:
        """Take the provider's authorization response (OpenID Connect Core, section 3.1.2.5) and sign the person in."""
        site, client = self.site, self._client(provider)
        parameters = _response_parameters()
        start = self._find_start(provider, parameters.get("state", ""))
        pending = start.request
        client.check_issuer(provider, parameters.get("iss"))
        self.login_starts.remove(start)
        code = _code(parameters)
        asked = self._authorization_request(provider, pending)
        try:
            result = client.redeem_code(provider, code, asked, site.request_state.now)
        except AuthenticationTooOld as error:
            return self._sign_in_anew(provider, start, error)
        identity = site.request_state.identity = result.identity
        if not self.login_starts.consume(start):  # after the provider has vouched: strangers have nothing stored
            raise InvalidIdentityToken("This sign-in request was already used.")
        roles = self.portal.choices(identity).open
        site.audit.record("OidcSignIn", identity.account_id, provider=identity.provider)
        return self.completion.complete_login(
            identity,
            pending.return_to,
            refresh_state=self.refresh.refresh_state(provider, result),
            told=self.portal.roles_json(identity, roles),
        )

    def _sign_in_anew(self, provider: OidcProviderRecord, start: LoginStart, error: AuthenticationTooOld) -> Response:
        """Ask the provider once to have a person sign in anew; raise the error where that was asked already."""
        if not self.login_starts.consume(start) or start.request.forced:
            raise error
        self.site.audit.record_failure("OidcSignIn", provider.account_id, error, provider=provider.arn)
        return self._start_login(provider, start.request.return_to, forced=True)

    def _new_request(self, provider: OidcProviderRecord, to: str | None, *, forced: bool) -> IdpRequest:
        state, nonce, code_verifier = (self.site.sessions.new_token() for _ in range(3))
        return IdpRequest(provider.arn, state, return_to(to), nonce, code_verifier, forced)

    def _authorization_request(
        self, provider: OidcProviderRecord, pending: IdpRequest, login_hint: str = ""
    ) -> AuthorizationRequest:
        redirect_uri = self._url(provider, "callback")
        return AuthorizationRequest(
            redirect_uri, pending.relay_state, pending.nonce, pending.verifier, login_hint, pending.forced
        )

    def _find_start(self, provider: OidcProviderRecord, state: str) -> LoginStart:
        """Return the sign-in that a response belongs to: of this provider, and begun in this very browser.

        Otherwise somebody could have another person's browser sign in as themselves (RFC 6819, section 4.4.1.8), or
        bring one provider's code to another (section 4.4.1.13).
        """
        start = self.login_starts.find(state) if state else None
        if start is None or not start.request.nonce or start.request.provider != provider.arn:
            raise InvalidIdentityToken(
                "This sign-in was not started in this browser, or it has expired. Start again at the sign-in page."
            )
        return start

    # --- signing out --------------------------------------------------------------------------------------------------

    def signed_out(self, provider_id: str) -> Response:
        """Answer somebody who comes back from the provider's logout."""
        self._provider(provider_id)
        return self.sign_out.signed_out()

    def logout(self, provider: OidcProviderRecord) -> Response:
        """Take a logout token from the provider itself, and end the sessions that it names (Back-Channel Logout)."""
        texts = request.form.getlist("logout_token")
        if len(texts) != 1:
            raise InvalidIdentityToken("The request must have one logout_token")
        client = self._client(provider)
        if not isinstance(client, BackChannelLogout):
            raise InvalidIdentityToken("This provider sends no logout tokens.")
        site, now = self.site, self.site.request_state.now
        token = client.verify_logout_token(provider, texts[0], now)
        indexes = (token.session_index,) if token.session_index is not None else ()
        # First: while Redis is away this raises, and the token is not used up.
        site.sessions.keys_of(provider.arn, token.subject, indexes)
        if not self.single_use.consume(_LOGOUT_PROOF, f"{provider.arn}|{token.id}", token.usable_until, now):
            raise InvalidIdentityToken("The logout token has been used before")
        ended = site.sessions.end_of_person(provider.arn, token.subject, indexes)
        site.audit.record("OidcSignOut", provider.account_id, provider=provider.arn, subject=token.subject, ended=ended)
        return site.responses.add_security_headers(Response("", 200, content_type="text/plain; charset=utf-8"))

    def _url(self, provider: OidcProviderRecord, page: str) -> str:
        return f"{self.site.public_url}/oidc/{provider.id}/{page}"


def login_options(store: Store) -> tuple[LoginOption, ...]:
    """Return the providers through which people sign in, by the names that the operator has given to them."""
    clients = schema.sign_in_client.c
    with store.read() as tx:
        rows = tx.execute(_sign_in_providers().order_by(clients.name, clients.provider_id)).all()
    return tuple(map(_login_option, rows))


def find_login_option(store: Store, arn: str) -> LoginOption | None:
    """Return the provider with this ARN, if people sign in through it."""
    parts = parse_arn(arn)
    if parts is None or not parts.resource.startswith(_ARN_PREFIX):
        return None
    columns = oidc_provider.c
    named = (columns.account_id == parts.account, columns.url == parts.resource[len(_ARN_PREFIX) :])
    with store.read() as tx:
        row = tx.execute(_sign_in_providers().where(*named)).one_or_none()
    option = _login_option(row) if row is not None else None
    return option if option is not None and option.provider == arn else None


def _sign_in_providers() -> Select[Any]:
    clients, providers = schema.sign_in_client, oidc_provider
    joined = clients.join(providers, providers.c.id == clients.c.provider_id)
    return select(clients.c.name, providers.c.id, providers.c.account_id, providers.c.url).select_from(joined)


def _login_option(row: Row[Any]) -> LoginOption:
    return LoginOption(row.name, f"/oidc/{row.id}/login", iam_arn(row.account_id, _ARN_PREFIX, row.url, ""))


def _response_parameters() -> dict[str, str]:
    """Return the parameters of an authorization response, each of which may come once (RFC 6749, section 3.1)."""
    given = {name: request.args.getlist(name) for name in _RESPONSE_PARAMETERS}
    if any(len(values) > 1 or len("".join(values)) > _MAX_PARAMETER for values in given.values()):
        raise InvalidIdentityToken("The provider's answer has a parameter twice, or one that is too long.")
    return {name: values[0] for name, values in given.items() if values}


def _code(parameters: Mapping[str, str]) -> str:
    """Return the code; raise IDPRejectedClaim with what the provider says instead (Core, section 3.1.2.6)."""
    if "error" in parameters or "code" not in parameters:
        reason = parameters.get("error_description") or parameters.get("error") or "no code"
        raise IDPRejectedClaim(f"The provider answered: {reason[:_MAX_ERROR]}")
    return parameters["code"]
