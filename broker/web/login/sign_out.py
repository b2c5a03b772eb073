"""/sign-out: end the session of this browser, here and at the identity provider, and offer to end the credentials.

Credentials that were taken before stay valid after a sign-out, as in AWS. Whoever has just signed out may end them for
some minutes: a sealed cookie says who that was, also after the way to the identity provider's logout and back.
"""

import json
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final, NamedTuple

from flask import Blueprint, Response
from sqlalchemy import Connection

from broker.audit.record import console_event_record
from broker.sessions.revocation import PERSON, RevocationTarget, SessionRevocation
from broker.sessions.revocation_permissions import own_permission
from broker.web.core.sealed_fields import SealedFields
from broker.web.core.site import Site
from broker.web.i18n.languages import gettext_noop
from iam.credentials.person_id import iam_subject
from iam.errors import ValidationError
from sts.identity import IamIdentity, Identity

OFFER_LIFETIME: Final = timedelta(minutes=10)
_OFFER: Final = "left"  # the cookie of whoever has just signed out
_OWNER: Final = "browser"
_EXPIRED: Final = gettext_noop("This page was open too long. Sign in, and end your credentials on the Sessions page.")


class Offer(NamedTuple):
    """Whose credentials may be ended; ``person`` is PROVIDER|SUBJECT, and people of a directory have no account."""

    account_id: str
    person: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignOut:
    """Signs people out; ``offers`` seals who may end their credentials afterwards."""

    site: Site
    revocation: SessionRevocation
    offers: SealedFields

    def blueprint(self) -> Blueprint:
        """Return the routes."""
        blueprint = Blueprint("sign_out", __name__)
        blueprint.post("/sign-out")(self.sign_out)
        blueprint.post("/sign-out/credentials")(self.end_credentials)
        return blueprint

    def sign_out(self) -> Response:
        """End the session, whether or not the logout at the identity provider succeeds."""
        site = self.site
        session = site.current_session.find()
        if session is None:
            return self.signed_out()
        site.csrf.check_token(session)
        site.sessions.end(session)
        identity = site.request_state.identity = session.identity
        site.audit.record("SignOut", identity.account_id, provider=identity.provider)
        response = self._provider_logout(identity) or self._page(everywhere=True, offered=True)
        site.cookies.clear_session(response)
        self._remember(response, identity)
        return response

    def _remember(self, response: Response, identity: Identity) -> None:
        """Let this browser end the person's credentials for some minutes."""
        secret = json.dumps([identity.account_id, identity.person, identity.name]).encode()
        sealed = self.offers.seal(secret, _OWNER, self.site.request_state.now)
        self.site.cookies.set_token(response, _OFFER, sealed, same_site="Lax")

    def _provider_logout(self, identity: Identity) -> Response | None:
        """Return a page that leads to the logout of the provider, where it has one."""
        site = self.site
        logout = site.gate.kinds.of(identity).broker.provider_logout(identity, site.request_state.now)
        if logout is None:
            return None
        if logout.fields is None:
            # By a page and not by a redirect: browsers hold the redirects of a form to the page's form-action, wherever
            # the provider then leads.
            return site.responses.render("login/provider_logout.html", address=logout.url)
        # The identity provider may lead on to another host, which browsers would hold to form-action.
        return site.responses.render("login/saml_post.html", forms_to="*", address=logout.url, fields=logout.fields)

    def signed_out(self, *, everywhere: bool = True) -> Response:
        """Return the signed-out page."""
        return self._page(everywhere=everywhere, offered=self._offer() is not None)

    def _page(self, *, everywhere: bool, offered: bool) -> Response:
        response = self.site.responses.render("login/signed_out.html", everywhere=everywhere, offered=offered)
        self.site.cookies.clear_session(response)
        return response

    def end_credentials(self) -> Response:
        """Revoke all credentials and browser sessions of whoever has just signed out; raise ValidationError."""
        site = self.site
        site.csrf.check_origin()
        offer = self._offer()
        if offer is None:
            raise ValidationError(_EXPIRED)
        record = partial(console_event_record, site.request_state)
        target = RevocationTarget(PERSON, offer.person, offer.account_id)
        self.revocation.revoke(target, record, authorize=partial(self._check_not_denied, offer))
        response = site.responses.render("account/all_sessions_ended.html")
        site.cookies.clear(response, _OFFER)
        return response

    def _check_not_denied(self, offer: Offer, tx: Connection) -> None:
        """Raise AccessDenied where a policy denies a user to end sessions of their own, as on the Sessions page."""
        site, now = self.site, self.site.request_state.now
        user_id = iam_subject(offer.person)
        with site.store.reading_from(tx):
            ask = own_permission(offer.person, offer.account_id, site.store)
        if ask is None or user_id is None:
            return
        identity = IamIdentity("iam", user_id, offer.name, now, account_id=offer.account_id)
        site.request_state.identity = identity
        site.own_permissions.require(tx, site.request_state, identity, ask, unless_denied=True)

    def _offer(self) -> Offer | None:
        """Return whose credentials this browser may end, or None."""
        opened = self.offers.open(self.site.cookies.preference(_OFFER), _OWNER, self.site.request_state.now)
        return None if opened is None else Offer(*json.loads(opened.secret))
