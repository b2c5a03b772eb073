"""The pages of our SAML service provider: metadata, the way to the identity provider and back, and single logout.

Source: SAML 2.0 Profiles, sections 4.1 and 4.4. An answer to a request of ours opens a session in the browser that
asked. An answer that nobody asked for, where its provider may give one, shows the roles without using the assertion up:
programs list first and then go to the STS; whoever chooses a role there spends it.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from flask import Blueprint, Response, abort, request
from sqlalchemy import select

from broker.providers.saml import logout, messages
from broker.providers.saml.messages import Message
from broker.providers.saml.provider import SamlServiceProvider, require_valid_metadata, verify_response
from broker.providers.saml.service_keys import ServiceKeys
from broker.sessions.browser import IdpRequest
from broker.web.core.responses import wants_json
from broker.web.core.site import Site
from broker.web.login.completion import LoginCompletion, return_to
from broker.web.login.home_realms import LoginOption
from broker.web.login.login_page import remember_login_option
from broker.web.portal.portal import Portal
from iam.arn import ACCOUNT_ID, iam_arn
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

_KIND = "saml-provider/"
_MOST_RELAYED = 1024  # characters of a RelayState that is not ours
_METADATA = "application/samlmetadata+xml"


@dataclass(frozen=True, slots=True, kw_only=True)
class SamlPages:
    """The service provider of every SAML identity provider."""

    site: Site
    completion: LoginCompletion
    portal: Portal
    service_provider: SamlServiceProvider
    keys: ServiceKeys

    def blueprint(self) -> Blueprint:
        """Return the routes."""
        made = Blueprint("saml", __name__, url_prefix="/saml/<account_id>/<name>")
        made.get("/metadata")(self.metadata)
        made.get("/login")(self.login)
        made.post("/acs")(self._record_failures("SamlSignIn", self.acs))
        made.route("/slo", methods=["GET", "POST"], endpoint="slo")(self._record_failures("SamlSignOut", self.slo))
        return made

    def _record_failures(
        self, event: str, page: Callable[[SamlProviderRecord], Response]
    ) -> Callable[[str, str], Response]:
        """Return the view of a page: what it refuses is recorded, once, as a failure of this event."""

        def view(account_id: str, name: str) -> Response:
            provider = self._provider(account_id, name)
            with self.site.audit.record_failures(event, provider.account_id, provider=provider.arn):
                return page(provider)

        view.__name__ = event
        return view

    def _provider(self, account_id: str, name: str) -> SamlProviderRecord:
        found = None
        if ACCOUNT_ID.fullmatch(account_id):
            found = self.site.store.saml_provider(iam_arn(account_id, _KIND, name, ""))
        if found is None:
            abort(404)
        return found

    # --- signing in ---------------------------------------------------------------------------------------------------

    def metadata(self, account_id: str, name: str) -> Response:
        """Answer with the signed metadata that an identity provider's administrator wants."""
        here = self.service_provider.addresses(self._provider(account_id, name))
        text = messages.metadata(here, self.keys.signing_key(), self.keys.certificates(), self.site.request_state.now)
        return Response(text, content_type=_METADATA, headers={"Cache-Control": "max-age=3600"})

    def login(self, account_id: str, name: str) -> Response:
        """Send the browser to the identity provider, with a request that only this browser's answer fits."""
        provider = self._provider(account_id, name)
        site, now = self.site, self.site.request_state.now
        require_valid_metadata(provider, now)
        door = messages.choose_binding(provider.metadata.sign_in)
        if door is None:
            raise InvalidIdentityToken("The identity provider's metadata has no address for sign-in.")
        browser = site.cookies.browser_token() or site.sessions.new_token()
        message_id, relay_state = self._new_id(), site.sessions.new_token()
        begun = IdpRequest(
            provider.arn,
            site.sessions.hash_browser_cookie(browser),
            relay_state,
            return_to(request.args.get("to")),
        )
        site.sessions.save_idp_request(message_id, begun)
        here = self.service_provider.addresses(provider)
        message = messages.authn_request(here, door[1], message_id, now, relay_state)
        response = self._send(message, door[0])
        site.cookies.set_browser(response, browser)
        remember_login_option(site, response, request.path)
        return response

    def acs(self, provider: SamlProviderRecord) -> Response:
        """Take an identity provider's answer."""
        texts = request.form.getlist("SAMLResponse")
        if len(texts) != 1:
            raise InvalidIdentityToken("The request must have one SAMLResponse")
        expected = self.service_provider.expected_at_acs(provider, self.site.request_state.now)
        found, assertion = verify_response(provider, texts[0], expected)
        self.site.request_state.identity = found
        if assertion.in_response_to is not None:
            return self._complete_sp_initiated(found, assertion.in_response_to)
        if not provider.idp_initiated:
            raise InvalidIdentityToken("This sign-in was not begun here. Begin at the sign-in page.")
        return self._handle_idp_initiated(found, texts[0])

    def _complete_sp_initiated(self, found: SamlIdentity, message_id: str) -> Response:
        """Open a session: the answer fits a request of this very browser."""
        site = self.site
        begun = site.sessions.find_idp_request(message_id)
        browser = site.cookies.browser_token()
        if (
            begun is None
            or browser is None
            or begun.provider != found.provider
            or begun.browser != site.sessions.hash_browser_cookie(browser)
            or begun.relay_state != request.form.get("RelayState")
        ):
            raise InvalidIdentityToken(
                "This sign-in was not begun in this browser, or too long ago. Begin again at the sign-in page.",
                log=f"InResponseTo {message_id[:100]}",
            )
        roles = self.portal.choices(found).open  # first: what cannot lead to a role opens no session
        if not site.sessions.consume_idp_request(message_id):
            raise InvalidIdentityToken("The request was answered before.")
        if found.session_until is not None and found.session_until <= site.request_state.now:
            raise ExpiredTokenException("Token has expired", log="SessionNotOnOrAfter: over, within the clocks' skew")
        site.gate.saml.consume(found, site.request_state.now)
        site.audit.record("SamlSignIn", found.account_id, provider=found.provider)
        return self.completion.complete_login(found, begun.return_to, told=self.portal.roles_json(found, roles))

    def _handle_idp_initiated(self, found: SamlIdentity, text: str) -> Response:
        """Show the roles of an answer that nobody had asked for, or take the one that is chosen."""
        site = self.site
        chosen = request.form.get("roleIndex")
        if not chosen:
            roles = self.portal.choices(found).open
            site.audit.record("SamlRoles", found.account_id, provider=found.provider)
            if wants_json():
                return site.responses.json(self.portal.roles_json(found, roles))
            return self.portal.render_role_choice(
                found, roles, action=site.responses.url_path(request.path), hidden={"SAMLResponse": text}
            )
        site.csrf.check_origin()  # a form of another site may show roles; what is chosen there is nobody's choice
        response = self.portal.issue_credentials(found, chosen)
        if not wants_json() and not self.completion.requires_mfa(found):  # whoever must give a second factor signs in
            self._start_session(response, found)
        return response

    def _start_session(self, response: Response, found: SamlIdentity) -> None:
        """Begin a session beside credentials that were just given; they are there whatever comes of it."""
        with suppress(ServiceUnavailable):  # whoever wants another role signs in again
            if self.site.current_session.find() is None:  # an answer that nobody had asked for takes nobody's place
                self.site.current_session.start(response, found)

    # --- signing out --------------------------------------------------------------------------------------------------

    def slo(self, provider: SamlProviderRecord) -> Response:
        """Take a message of single logout: a request to sign somebody out, or the answer to one of ours."""
        require_valid_metadata(provider, self.site.request_state.now)
        expected = self.service_provider.expected_at_logout(provider, self.site.request_state.now)
        if request.method == "GET":
            found, relay_state = logout.parse_redirect(self.site.request_state.request.query, expected)
        else:
            texts = [(kind, request.form.getlist(kind)) for kind in (logout.REQUEST, logout.ANSWER)]
            given = [(kind, values[0]) for kind, values in texts if len(values) == 1]
            if len(given) != 1:
                raise InvalidIdentityToken("The request must have either SAMLRequest or SAMLResponse")
            found = logout.parse_post(*given[0], expected)
            relay_state = request.form.get("RelayState")
        if isinstance(found, logout.LogoutResponse):
            return self._handle_logout_response(found)
        return self._handle_logout_request(provider, found, relay_state)

    def _handle_logout_request(
        self, provider: SamlProviderRecord, asked: logout.LogoutRequest, relay_state: str | None
    ) -> Response:
        """End the sessions that an identity provider wants to end, and tell it so."""
        site, now = self.site, self.site.request_state.now
        meant = site.sessions.keys_of(
            provider.arn, asked.subject, asked.indexes
        )  # while Redis is away, nothing is used up
        if not site.gate.saml.consume_logout_message(f"{provider.arn}|{asked.id}", asked.usable_until, now):
            raise InvalidIdentityToken("The logout message has been used before")
        ended = site.sessions.end_all(provider.arn, asked.subject, meant)
        site.audit.record("SamlSignOut", provider.account_id, provider=provider.arn, subject=asked.subject, ended=ended)
        door = messages.choose_binding(provider.metadata.sign_out)
        if door is None:
            return self.portal.signed_out()
        binding, address = door
        address = provider.metadata.sign_out_answer.get(binding, address)
        here = self.service_provider.addresses(provider)
        relayed = relay_state[:_MOST_RELAYED] if relay_state else None
        answer = messages.logout_response(
            here, address, self._new_id(), now, in_response_to=asked.id, relay_state=relayed
        )
        return self._send(answer, binding)

    def _handle_logout_response(self, answer: logout.LogoutResponse) -> Response:
        """Tell a person, signed out here before they left for the identity provider, what it answered."""
        if not self.site.sessions.consume_idp_request(answer.in_response_to):
            raise InvalidIdentityToken("You are signed out here. The identity provider's answer fits no request.")
        return self.portal.signed_out(everywhere=answer.success)

    def provider_logout(self, found: SamlIdentity) -> Response | None:
        """Return the way to the identity provider's logout for somebody already signed out here, if it has one."""
        site = self.site
        provider = site.store.saml_provider(found.provider)
        door = messages.choose_binding(provider.metadata.sign_out) if provider is not None else None
        if provider is None or door is None:
            return None
        message_id = self._new_id()
        site.sessions.save_idp_request(message_id, IdpRequest(provider.arn, "", message_id))
        who = found.subject, found.name_format, found.session_index
        here = self.service_provider.addresses(provider)
        message = messages.logout_request(here, door[1], message_id, site.request_state.now, who)
        if door[0] != REDIRECT:
            return self._send(message, door[0])
        # By a page and not by a redirect: browsers hold the redirects of a form to the page's form-action, wherever the
        # identity provider then leads.
        return site.responses.render(
            "provider_logout.html", address=messages.redirect_url(message, self.keys.signing_key())
        )

    # --- small parts --------------------------------------------------------------------------------------------------

    def _new_id(self) -> str:
        return f"_{self.site.gate.random(20).hex()}"

    def _send(self, message: Message, binding: str) -> Response:
        """Return the answer with which the browser carries a message: a redirect, or a page with a form."""
        key = self.keys.signing_key()
        if binding == REDIRECT:
            return self.site.responses.redirect(messages.redirect_url(message, key))
        fields = messages.post_fields(message, key)
        # The identity provider may lead on to another host, which browsers would hold to form-action.
        return self.site.responses.render("saml_post.html", forms_to="*", address=message.address, fields=fields)


def login_options(store: Store, most: int = 20) -> tuple[LoginOption, ...]:
    """Return the identity providers through which people sign in, up to so many."""
    with store.read() as tx:
        rows = tx.execute(
            select(saml_provider.c.account_id, saml_provider.c.name)
            .order_by(saml_provider.c.name_key, saml_provider.c.account_id)
            .limit(most)
        ).all()
    return tuple(
        LoginOption(
            f"{row.name} ({row.account_id})",
            f"/saml/{row.account_id}/{row.name}/login",
            iam_arn(row.account_id, _KIND, row.name, ""),
        )
        for row in rows
    )
