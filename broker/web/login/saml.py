"""The pages of our SAML service provider: metadata, the way to the identity provider and back, and single logout.

Source: SAML 2.0 Profiles, sections 4.1 and 4.4. A response to a request of ours opens a session in the browser that
sent the request. An unsolicited response, where its provider may send one, shows the roles without consuming the
assertion: programs list the roles first and then call the STS. Choosing a role on the page consumes it.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, abort, request
from sqlalchemy import Column, Row, select

from broker.providers.authentication_age import AuthenticationTooOld
from broker.providers.saml import logout, messages
from broker.providers.saml.messages import Message
from broker.providers.saml.provider import SamlServiceProvider, require_valid_metadata, verify_response
from broker.providers.saml.service_keys import ServiceKeys
from broker.providers.saml.signed_metadata import SignedMetadata
from broker.signin.saml import SamlSignIn
from broker.web.core.responses import wants_json
from broker.web.core.site import Site
from broker.web.login.completion import LoginCompletion, return_to
from broker.web.login.home_realms import LoginOption
from broker.web.login.login_page import remember_login_option
from broker.web.login.login_starts import IdpRequest, LoginStart, LoginStarts
from broker.web.login.sign_out import SignOut
from broker.web.portal.portal import Portal
from iam.arn import ACCOUNT_ID, iam_arn, parse_arn
from iam.errors import (
    ExpiredTokenException,
    InvalidIdentityToken,
    ServiceUnavailable,
)
from iam.saml.metadata import REDIRECT
from iam.store.records import SamlProviderRecord
from iam.store.schema import saml_provider
from iam.store.store import Store
from sts.identity import SamlIdentity

_ARN_PREFIX = "saml-provider/"
_MAX_RELAY_STATE = 1024  # characters of the identity provider's RelayState, which goes back to it in our answer
_METADATA = "application/samlmetadata+xml"
_OPTION_COLUMNS: tuple[Column[Any], ...] = (saml_provider.c.id, saml_provider.c.account_id, saml_provider.c.name)
_SHOWN_COLUMNS: tuple[Column[Any], ...] = (*_OPTION_COLUMNS, saml_provider.c.sign_in_name)


@dataclass(frozen=True, slots=True, kw_only=True)
class SamlPages:
    """The service provider of every SAML identity provider."""

    site: Site
    completion: LoginCompletion
    portal: Portal
    sign_out: SignOut
    sign_in: SamlSignIn
    service_provider: SamlServiceProvider
    keys: ServiceKeys
    signed_metadata: SignedMetadata
    login_starts: LoginStarts

    def blueprint(self) -> Blueprint:
        """Return the routes."""
        made = Blueprint("saml", __name__, url_prefix="/saml")
        made.get("/<provider_id>/login")(self.login_by_id)
        made.get("/<account_id>/<name>/metadata")(self.metadata)
        made.get("/<account_id>/<name>/login")(self.login)
        made.post("/<account_id>/<name>/acs")(self._record_failures("SamlSignIn", self.acs))
        slo = self._record_failures("SamlSignOut", self.slo)
        made.route("/<account_id>/<name>/slo", methods=["GET", "POST"], endpoint="slo")(slo)
        return made

    def _record_failures(
        self, event: str, page: Callable[[SamlProviderRecord], Response]
    ) -> Callable[[str, str], Response]:
        """Return the view of a page whose errors are recorded, once, as failures of this event."""

        def view(account_id: str, name: str) -> Response:
            provider = self._provider(account_id, name)
            with self.site.audit.record_failures(event, provider.account_id, provider=provider.arn):
                return page(provider)

        view.__name__ = event
        return view

    def _provider(self, account_id: str, name: str) -> SamlProviderRecord:
        """Return the provider, or answer 404 where there is none."""
        provider = None
        if ACCOUNT_ID.fullmatch(account_id):
            provider = self.site.store.saml_provider(iam_arn(account_id, _ARN_PREFIX, name, ""))
        if provider is None:
            abort(404)
        return provider

    # --- signing in ---------------------------------------------------------------------------------------------------

    def metadata(self, account_id: str, name: str) -> Response:
        """Answer with our signed metadata, for the administrator of the identity provider."""
        urls = self.service_provider.addresses(self._provider(account_id, name))
        keys, now = self.keys, self.site.request_state.now
        text = self.signed_metadata.document(urls, keys.signing_key(), keys.certificates(), now)
        return Response(text, content_type=_METADATA, headers={"Cache-Control": "max-age=3600"})

    def login(self, account_id: str, name: str) -> Response:
        """Send the browser to the identity provider with this name in an account."""
        return self._start_login(self._provider(account_id, name), request.args.get("to"))

    def login_by_id(self, provider_id: str) -> Response:
        """Send the browser to the identity provider with this unique id, which says nothing of its account."""
        columns = saml_provider.c
        with self.site.store.read() as tx:
            row = tx.execute(select(columns.account_id, columns.name).where(columns.id == provider_id)).one_or_none()
        if row is None:
            abort(404)
        return self._start_login(self._provider(row.account_id, row.name), request.args.get("to"))

    def _start_login(self, provider: SamlProviderRecord, to: str | None, *, forced: bool = False) -> Response:
        """Send the browser to the identity provider, with a request that only this browser's answer fits.

        ``forced``: the identity provider must have the person sign in anew.
        """
        site, now = self.site, self.site.request_state.now
        require_valid_metadata(provider, now)
        endpoint = messages.choose_binding(provider.metadata.sign_in)
        if endpoint is None:
            raise InvalidIdentityToken("The identity provider's metadata has no address for sign-in.")
        binding, address = endpoint
        message_id, relay_state = self._new_id(), site.sessions.new_token()
        urls = self.service_provider.addresses(provider)
        message = messages.authn_request(urls, address, message_id, now, relay_state, force_authn=forced)
        response = self._send(message, binding)
        self.login_starts.save(message_id, IdpRequest(provider.arn, relay_state, return_to(to), forced=forced))
        remember_login_option(site, response, _login_path(provider.id))
        return response

    def acs(self, provider: SamlProviderRecord) -> Response:
        """Take an identity provider's response (Assertion Consumer Service)."""
        texts = request.form.getlist("SAMLResponse")
        if len(texts) != 1:
            raise InvalidIdentityToken("The request must have one SAMLResponse")
        expected = self.service_provider.expected_at_acs(provider, self.site.request_state.now)
        try:
            identity, assertion = verify_response(provider, texts[0], expected)
        except AuthenticationTooOld as error:
            return self._sign_in_anew(provider, error)
        self.site.request_state.identity = identity
        if assertion.in_response_to is not None:
            return self._complete_sp_initiated(identity, assertion.in_response_to)
        if not provider.idp_initiated:
            raise InvalidIdentityToken("This sign-in was not started here. Start at the sign-in page.")
        return self._handle_idp_initiated(identity, texts[0])

    def _sign_in_anew(self, provider: SamlProviderRecord, error: AuthenticationTooOld) -> Response:
        """Ask the identity provider once to have a person sign in anew, who signed in there too long ago.

        Raises the error where that was asked already, or where the response is not to a request of this browser: only
        our own request may be followed by another.
        """
        if error.in_response_to is None:
            raise error
        start = self._find_start(provider.arn, error.in_response_to)
        self.login_starts.remove(start)
        if not self.login_starts.consume(start) or start.request.forced:
            raise error
        self.site.audit.record_failure("SamlSignIn", provider.account_id, error, provider=provider.arn)
        return self._start_login(provider, start.request.return_to, forced=True)

    def _complete_sp_initiated(self, identity: SamlIdentity, message_id: str) -> Response:
        """Open a session for the response to a request of this very browser."""
        site = self.site
        start = self._find_start(identity.provider, message_id)
        roles = self.portal.choices(identity).open  # first: what cannot lead to a role opens no session
        if not self.login_starts.consume(start):
            raise InvalidIdentityToken("This sign-in request was already used.")
        if identity.session_until is not None and identity.session_until <= site.request_state.now:
            raise ExpiredTokenException("Token has expired", log="SessionNotOnOrAfter: over, within the clocks' skew")
        self.sign_in.consume(site.request_state, identity)
        site.audit.record("SamlSignIn", identity.account_id, provider=identity.provider)
        roles_json = self.portal.roles_json(identity, roles)
        self.login_starts.remove(start)
        return self.completion.complete_login(identity, start.request.return_to, told=roles_json)

    def _find_start(self, provider_arn: str, message_id: str) -> LoginStart:
        """Return the sign-in that a response belongs to; raise InvalidIdentityToken.

        A response that another browser asked for would sign its victim in as somebody else (login CSRF).
        """
        start = self.login_starts.find(message_id)
        if (
            start is None
            or start.request.provider != provider_arn
            or start.request.relay_state != request.form.get("RelayState")
        ):
            raise InvalidIdentityToken(
                "This sign-in was not started in this browser, or it has expired. Start again at the sign-in page.",
                log=f"InResponseTo {message_id[:100]}",
            )
        return start

    def _handle_idp_initiated(self, identity: SamlIdentity, text: str) -> Response:
        """Show the roles of an unsolicited response, or give credentials of the role that was chosen."""
        site = self.site
        # Here nobody can be asked for it: whoever must give a second factor starts at the sign-in page.
        site.gate.second_factor.check(identity, None)
        chosen = request.form.get("roleIndex")
        if not chosen:
            roles = self.portal.choices(identity).open
            site.audit.record("SamlRoles", identity.account_id, provider=identity.provider)
            if wants_json():
                return site.responses.json(self.portal.roles_json(identity, roles))
            return self.portal.render_role_choice(
                identity, roles, action=site.responses.url_path(request.path), hidden={"SAMLResponse": text}
            )
        # The identity provider's own form may show the roles; a form of another site must not choose one.
        site.csrf.check_origin()
        response = self.portal.credentials.issue(identity, chosen)
        if not wants_json() and not self.completion.requires_mfa(identity):  # a session needs the second factor first
            self._start_session(response, identity)
        return response

    def _start_session(self, response: Response, identity: SamlIdentity) -> None:
        """Start a session beside the credentials of this response, which are given even if that fails."""
        with suppress(ServiceUnavailable):  # whoever wants another role signs in again
            # Never in place of another session: anybody can have a browser post an unsolicited response (login CSRF).
            if self.site.current_session.find() is None:
                self.site.current_session.start(response, identity)

    # --- signing out --------------------------------------------------------------------------------------------------

    def slo(self, provider: SamlProviderRecord) -> Response:
        """Take a message of single logout: a request to sign somebody out, or the response to one of ours."""
        require_valid_metadata(provider, self.site.request_state.now)
        expected = self.service_provider.expected_at_logout(provider, self.site.request_state.now)
        if request.method == "GET":
            # As it was sent: the signature covers the sender's own encoding of it.
            message, relay_state = logout.parse_redirect(self.site.request_state.request.query, expected)
        else:
            message = logout.parse_post({name: request.form.getlist(name) for name in request.form}, expected)
            relay_state = request.form.get("RelayState")
        if isinstance(message, logout.LogoutResponse):
            return self._handle_logout_response(provider, message)
        return self._handle_logout_request(provider, message, relay_state)

    def _handle_logout_request(
        self, provider: SamlProviderRecord, message: logout.LogoutRequest, relay_state: str | None
    ) -> Response:
        """End the sessions that an identity provider names, and send it a response."""
        site, subject = self.site, message.subject
        # First: while Redis is away this raises, and the message is not used up.
        site.sessions.keys_of(provider.arn, subject, message.indexes)
        proof = f"{provider.arn}|{message.id}"
        if not self.sign_in.consume_logout_message(proof, message.usable_until, site.request_state.now):
            raise InvalidIdentityToken("The logout message has been used before")
        ended = site.sessions.end_of_person(provider.arn, subject, message.indexes)
        site.audit.record("SamlSignOut", provider.account_id, provider=provider.arn, subject=subject, ended=ended)
        return self._answer_logout(provider, message.id, relay_state[:_MAX_RELAY_STATE] if relay_state else None)

    def _answer_logout(self, provider: SamlProviderRecord, in_response_to: str, relay_state: str | None) -> Response:
        """Send the browser back with a LogoutResponse, or show a page where the metadata has no address for one."""
        endpoint = messages.choose_binding(provider.metadata.sign_out)
        if endpoint is None:
            return self.sign_out.signed_out()
        binding, address = endpoint
        response = messages.logout_response(
            self.service_provider.addresses(provider),
            provider.metadata.sign_out_answer.get(binding, address),  # Metadata, section 2.2.2: ResponseLocation
            self._new_id(),
            self.site.request_state.now,
            in_response_to=in_response_to,
            relay_state=relay_state,
        )
        return self._send(response, binding)

    def _handle_logout_response(self, provider: SamlProviderRecord, message: logout.LogoutResponse) -> Response:
        """Tell a person, who was signed out here before, whether the identity provider signed them out too."""
        if not self.site.sessions.consume_logout_request(message.in_response_to, provider.arn):
            raise InvalidIdentityToken("You are signed out here. The identity provider's answer fits no request.")
        return self.sign_out.signed_out(everywhere=message.success)

    # --- small parts --------------------------------------------------------------------------------------------------

    def _new_id(self) -> str:
        return f"_{self.site.gate.random(20).hex()}"

    def _send(self, message: Message, binding: str) -> Response:
        """Return the answer with which the browser carries a message: a redirect, or a page with a form."""
        key = self.keys.signing_key()
        if binding == REDIRECT:
            return self.site.responses.redirect(messages.redirect_url(message, key))
        fields = messages.post_fields(message, key)
        # Any host: browsers apply form-action to redirects too, and the identity provider may lead on to another host.
        return self.site.responses.render("login/saml_post.html", forms_to="*", address=message.address, fields=fields)


def _login_path(provider_id: str) -> str:
    return f"/saml/{provider_id}/login"


def login_options(store: Store) -> tuple[LoginOption, ...]:
    """Return the identity providers that the operator has put on the sign-in page, by the names given to them there.

    What an account creates, names or deletes never changes the page for other people.
    """
    columns = saml_provider.c
    shown = select(*_SHOWN_COLUMNS).where(columns.sign_in_name.is_not(None))
    with store.read() as tx:
        rows = tx.execute(shown.order_by(columns.sign_in_name, columns.id)).all()
    return tuple(_login_option(row, row.sign_in_name) for row in rows)


def find_login_option(store: Store, arn: str) -> LoginOption | None:
    """Return the identity provider with this ARN, whether or not the sign-in page shows it."""
    parts = parse_arn(arn)
    if parts is None or not parts.resource.startswith(_ARN_PREFIX):
        return None
    shown = [option for option in login_options(store) if option.provider == arn]
    if shown:
        return shown[0]
    columns, name = saml_provider.c, parts.resource[len(_ARN_PREFIX) :]
    named = (columns.account_id == parts.account, columns.name_key == name.lower(), columns.name == name)
    with store.read() as tx:
        row = tx.execute(select(*_OPTION_COLUMNS).where(*named)).one_or_none()
    option = _login_option(row, row.name) if row is not None else None
    return option if option is not None and option.provider == arn else None


def _login_option(row: Row[Any], name: str) -> LoginOption:
    return LoginOption(name, _login_path(row.id), iam_arn(row.account_id, _ARN_PREFIX, row.name, ""))
