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
from broker.providers.saml.provider import Reader, alive, identity
from broker.providers.saml.service_keys import ServiceKeys
from broker.sessions.browser import Begun
from broker.web.core.site import Site
from broker.web.login.completion import Entrance, return_to
from broker.web.login.home_realms import Door
from broker.web.login.login_page import remember
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
    entrance: Entrance
    portal: Portal
    reader: Reader
    keys: ServiceKeys

    def blueprint(self) -> Blueprint:
        """Return the routes."""
        made = Blueprint("saml", __name__, url_prefix="/saml/<account_id>/<name>")
        made.get("/metadata")(self.metadata)
        made.get("/login")(self.login)
        made.post("/acs")(self._recorded("SamlSignIn", self.acs))
        made.route("/slo", methods=["GET", "POST"], endpoint="slo")(self._recorded("SamlSignOut", self.slo))
        return made

    def _recorded(self, event: str, page: Callable[[SamlProviderRecord], Response]) -> Callable[[str, str], Response]:
        """Return the view of a page: what it refuses is recorded, once, as a failure of this event."""

        def view(account_id: str, name: str) -> Response:
            provider = self._provider(account_id, name)
            with self.site.recording(event, provider.account_id, provider=provider.arn):
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
        here = self.reader.addresses(self._provider(account_id, name))
        text = messages.metadata(here, self.keys.signing(), self.keys.certificates(), self.site.exchange.now)
        return Response(text, content_type=_METADATA, headers={"Cache-Control": "max-age=3600"})

    def login(self, account_id: str, name: str) -> Response:
        """Send the browser to the identity provider, with a request that only this browser's answer fits."""
        provider = self._provider(account_id, name)
        site, now = self.site, self.site.exchange.now
        alive(provider, now)
        door = messages.binding_of(provider.metadata.sign_in)
        if door is None:
            raise InvalidIdentityToken("The identity provider's metadata has no address for sign-in.")
        browser = site.browser() or site.sessions.new_token()
        message_id, relay_state = self._new_id(), site.sessions.new_token()
        begun = Begun(
            provider.arn,
            site.sessions.browser_of(browser),
            relay_state,
            return_to(request.args.get("to")),
        )
        site.sessions.begin(message_id, begun)
        here = self.reader.addresses(provider)
        message = messages.sign_in_request(here, door[1], message_id, now, relay_state)
        response = self._sent(message, door[0])
        site.set_browser(response, browser)
        remember(site, response, request.path)
        return response

    def acs(self, provider: SamlProviderRecord) -> Response:
        """Take an identity provider's answer."""
        texts = request.form.getlist("SAMLResponse")
        if len(texts) != 1:
            raise InvalidIdentityToken("The request must have one SAMLResponse")
        expected = self.reader.at_acs(provider, self.site.exchange.now)
        found, assertion = identity(provider, texts[0], expected)
        self.site.exchange.identity = found
        if assertion.in_response_to is not None:
            return self._answered(found, assertion.in_response_to)
        if not provider.idp_initiated:
            raise InvalidIdentityToken("This sign-in was not begun here. Begin at the sign-in page.")
        return self._unasked(found, texts[0])

    def _answered(self, found: SamlIdentity, message_id: str) -> Response:
        """Open a session: the answer fits a request of this very browser."""
        site = self.site
        begun = site.sessions.begun(message_id)
        browser = site.browser()
        if (
            begun is None
            or browser is None
            or begun.provider != found.provider
            or begun.browser != site.sessions.browser_of(browser)
            or begun.relay_state != request.form.get("RelayState")
        ):
            raise InvalidIdentityToken(
                "This sign-in was not begun in this browser, or too long ago. Begin again at the sign-in page.",
                log=f"InResponseTo {message_id[:100]}",
            )
        roles = self.portal.choices(found).open  # first: what cannot lead to a role opens no session
        if not site.sessions.finish(message_id):
            raise InvalidIdentityToken("The request was answered before.")
        if found.session_until is not None and found.session_until <= site.exchange.now:
            raise ExpiredTokenException("Token has expired", log="SessionNotOnOrAfter: over, within the clocks' skew")
        site.gate.saml.spend(found, site.exchange.now)
        site.record("SamlSignIn", found.account_id, provider=found.provider)
        return self.entrance.admit(found, begun.return_to, told=self.portal.listed(found, roles))

    def _unasked(self, found: SamlIdentity, text: str) -> Response:
        """Show the roles of an answer that nobody had asked for, or take the one that is chosen."""
        site = self.site
        chosen = request.form.get("roleIndex")
        if not chosen:
            roles = self.portal.choices(found).open
            site.record("SamlRoles", found.account_id, provider=found.provider)
            if site.wants_json:
                return site.json(self.portal.listed(found, roles))
            return self.portal.choice(found, roles, action=site.at(request.path), hidden={"SAMLResponse": text})
        site.check_origin()  # a form of another site may show roles; what is chosen there is nobody's choice
        response = self.portal.taken(found, chosen)
        if not site.wants_json and not self.entrance.demands(found):  # whoever must give a second factor signs in
            self._open(response, found)
        return response

    def _open(self, response: Response, found: SamlIdentity) -> None:
        """Begin a session beside credentials that were just given; they are there whatever comes of it."""
        with suppress(ServiceUnavailable):  # whoever wants another role signs in again
            if self.site.session() is None:  # an answer that nobody had asked for takes nobody's place
                self.site.open(response, found)

    # --- signing out --------------------------------------------------------------------------------------------------

    def slo(self, provider: SamlProviderRecord) -> Response:
        """Take a message of single logout: a request to sign somebody out, or the answer to one of ours."""
        alive(provider, self.site.exchange.now)
        expected = self.reader.at_logout(provider, self.site.exchange.now)
        if request.method == "GET":
            found, relay_state = logout.from_query(self.site.exchange.request.query, expected)
        else:
            texts = [(kind, request.form.getlist(kind)) for kind in (logout.REQUEST, logout.ANSWER)]
            given = [(kind, values[0]) for kind, values in texts if len(values) == 1]
            if len(given) != 1:
                raise InvalidIdentityToken("The request must have either SAMLRequest or SAMLResponse")
            found = logout.from_form(*given[0], expected)
            relay_state = request.form.get("RelayState")
        if isinstance(found, logout.LogoutAnswer):
            return self._signed_out(found)
        return self._sign_out(provider, found, relay_state)

    def _sign_out(self, provider: SamlProviderRecord, asked: logout.LogoutRequest, relay_state: str | None) -> Response:
        """End the sessions that an identity provider wants to end, and tell it so."""
        site, now = self.site, self.site.exchange.now
        meant = site.sessions.of(provider.arn, asked.subject, asked.indexes)  # while Redis is away, nothing is used up
        if not site.gate.saml.spend_logout(f"{provider.arn}|{asked.id}", asked.usable_until, now):
            raise InvalidIdentityToken("The logout message has been used before")
        ended = site.sessions.end_all(provider.arn, asked.subject, meant)
        site.record("SamlSignOut", provider.account_id, provider=provider.arn, subject=asked.subject, ended=ended)
        door = messages.binding_of(provider.metadata.sign_out)
        if door is None:
            return self.portal.signed_out()
        binding, address = door
        address = provider.metadata.sign_out_answer.get(binding, address)
        here = self.reader.addresses(provider)
        relayed = relay_state[:_MOST_RELAYED] if relay_state else None
        answer = messages.sign_out_answer(
            here, address, self._new_id(), now, in_response_to=asked.id, relay_state=relayed
        )
        return self._sent(answer, binding)

    def _signed_out(self, answer: logout.LogoutAnswer) -> Response:
        """Tell a person, signed out here before they left for the identity provider, what it answered."""
        if not self.site.sessions.finish(answer.in_response_to):
            raise InvalidIdentityToken("You are signed out here. The identity provider's answer fits no request.")
        return self.portal.signed_out(everywhere=answer.success)

    def leave(self, found: SamlIdentity) -> Response | None:
        """Return the way to the identity provider's logout for somebody already signed out here, if it has one."""
        site = self.site
        provider = site.store.saml_provider(found.provider)
        door = messages.binding_of(provider.metadata.sign_out) if provider is not None else None
        if provider is None or door is None:
            return None
        message_id = self._new_id()
        site.sessions.begin(message_id, Begun(provider.arn, "", message_id))
        who = found.subject, found.name_format, found.session_index
        here = self.reader.addresses(provider)
        message = messages.sign_out_request(here, door[1], message_id, site.exchange.now, who)
        if door[0] != REDIRECT:
            return self._sent(message, door[0])
        # By a page and not by a redirect: browsers hold the redirects of a form to the page's form-action, wherever the
        # identity provider then leads.
        return site.page("leave.html", address=messages.redirect(message, self.keys.signing()))

    # --- small parts --------------------------------------------------------------------------------------------------

    def _new_id(self) -> str:
        return f"_{self.site.gate.random(20).hex()}"

    def _sent(self, message: Message, binding: str) -> Response:
        """Return the answer with which the browser carries a message: a redirect, or a page with a form."""
        key = self.keys.signing()
        if binding == REDIRECT:
            return self.site.found(messages.redirect(message, key))
        fields = messages.form(message, key)
        # The identity provider may lead on to another host, which browsers would hold to form-action.
        return self.site.page("forward.html", forms_to="*", address=message.address, fields=fields)


def doors(store: Store, most: int = 20) -> tuple[Door, ...]:
    """Return the identity providers through which people sign in, up to so many."""
    with store.read() as tx:
        rows = tx.execute(
            select(saml_provider.c.account_id, saml_provider.c.name)
            .order_by(saml_provider.c.name_key, saml_provider.c.account_id)
            .limit(most)
        ).all()
    return tuple(
        Door(
            f"{row.name} ({row.account_id})",
            f"/saml/{row.account_id}/{row.name}/login",
            iam_arn(row.account_id, _KIND, row.name, ""),
        )
        for row in rows
    )
