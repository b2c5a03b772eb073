"""The choice of a role by somebody who is signed in, the credentials they get, and the way out."""

import json
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

from flask import Blueprint, Response, request

from broker.credential_formats import process_form
from broker.web.browser_sessions import BrowserSession
from broker.web.site import Site
from iam.errors import ServiceError, ServiceUnavailable, ValidationError
from iam.records import RoleRecord
from sts.identity import Vouched

_SHORTEST_ARN, _LONGEST_ARN = 20, 2048  # STS API reference, AssumeRoleWithSAML, RoleArn
Leave = Callable[[Vouched], Response | None]
Renew = Callable[[BrowserSession], Vouched | None]


class Door(NamedTuple):
    """A way to sign in: what it is called, and where it begins."""

    name: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Portal:
    """The pages of somebody who is signed in; ``doors`` are the ways to get there."""

    site: Site
    doors: Callable[[], tuple[Door, ...]]

    def blueprint(self, leave: Leave, renew: Renew) -> Blueprint:
        """Return the routes.

        ``leave`` leads from here to the provider's own logout. ``renew`` tells who somebody is by now, before they get
        credentials: None where their provider knows them no more.
        """
        made = Blueprint("portal", __name__)
        made.get("/portal")(self.show)

        @made.post("/portal")
        def take() -> Response:
            return self._take(renew)

        @made.post("/sign-out")
        def sign_out() -> Response:
            return self._sign_out(leave)

        return made

    # --- pages --------------------------------------------------------------------------------------------------------

    def show(self) -> Response:
        """Show the roles, or the ways to sign in."""
        session = self.site.session()
        if session is None:
            return self._nobody()
        roles = self.roles(session.identity)
        if self.site.wants_json:
            return self.site.json(self.listed(session.identity, roles) | {"form_token": session.form_token})
        hidden = {"form_token": session.form_token}
        return self.choice(session.identity, roles, action=self.site.at("/portal"), hidden=hidden, signed_in=True)

    def _take(self, renew: Renew) -> Response:
        """Answer with credentials of the role that was chosen."""
        session = self.site.session()
        if session is None:
            return self._nobody()
        self.site.check_form(session)
        identity = renew(session)
        if identity is None:
            self.site.sessions.end(session)
            return self._nobody()
        return self.taken(identity, request.form.get("roleIndex", ""), proof=False)

    def _sign_out(self, leave: Leave) -> Response:
        """End the session here, whatever comes of the way to the identity provider's own logout."""
        site = self.site
        session = site.session()
        if session is None:
            return self.signed_out()
        site.check_form(session)
        site.sessions.end(session)
        identity = site.exchange.identity = session.identity
        site.record("SignOut", identity.account_id, provider=identity.provider)
        response = leave(identity) or self.signed_out()
        site.drop_session(response)
        return response

    def _nobody(self) -> Response:
        """Return the page of somebody who is not signed in."""
        doors = self.doors()
        if self.site.wants_json:
            told = {one.name: self.site.at(one.address) for one in doors}
            return self.site.json({"code": "NotSignedIn", "doors": told}, 401)
        return self.site.page("doors.html", code=401 if request.method == "POST" else 200, doors=doors)

    def signed_out(self, *, everywhere: bool = True) -> Response:
        """Return the page of somebody who has just been signed out."""
        response = self.site.page("signed_out.html", everywhere=everywhere)
        self.site.drop_session(response)
        return response

    # --- roles --------------------------------------------------------------------------------------------------------

    def roles(self, identity: Vouched) -> tuple[RoleRecord, ...]:
        """Return the roles that a person may take; raise InvalidIdentityToken."""
        return self.site.gate.open_roles(self.site.exchange, identity)

    def listed(self, identity: Vouched, roles: tuple[RoleRecord, ...]) -> dict[str, Any]:
        """Return the roles as programs read them."""
        return {
            "subject": identity.subject,
            "provider": identity.provider,
            "roles": [
                {
                    "account_id": role.account_id,
                    "role_arn": role.arn,
                    "name": role.name,
                    "max_session_duration": role.max_session,
                }
                for role in roles
            ],
        }

    def choice(
        self,
        identity: Vouched,
        roles: tuple[RoleRecord, ...],
        *,
        action: str,
        hidden: Mapping[str, str],
        signed_in: bool = False,
    ) -> Response:
        """Return the page on which a role is chosen, which programs that pick roles from such pages can read too."""
        accounts = [
            (self._account(account_id), list(found)) for account_id, found in groupby(roles, lambda one: one.account_id)
        ]
        told = {"roles_accounts": {name: [role.arn for role in found] for name, found in accounts}}
        return self.site.page(
            "roles.html",
            identity=identity,
            accounts=accounts,
            action=action,
            hidden=hidden,
            signed_in=signed_in,
            data=b64encode(json.dumps(told).encode()).decode(),
        )

    def _account(self, account_id: str) -> str:
        account = self.site.store.account(account_id)
        return f"{account.alias} ({account_id})" if account and account.alias else account_id

    def taken(self, identity: Vouched, role_arn: str, *, proof: bool) -> Response:
        """Return credentials of a role, or why not; ``proof``: the assertion has not been used up yet."""
        site = self.site
        if not _SHORTEST_ARN <= len(role_arn) <= _LONGEST_ARN:
            raise ValidationError("roleIndex must be the ARN of a role")
        try:
            result = site.gate.take_role(site.exchange, identity, role_arn, proof=proof)
        except ServiceError as error:
            return site.refused(site.gate.record(site.exchange, error))
        credentials = process_form(result["Credentials"])
        if site.wants_json:
            return site.json(credentials)
        response = site.page("credentials.html", credentials=credentials, text=json.dumps(credentials, indent=2))
        if proof:
            with suppress(ServiceUnavailable):  # the credentials are there, whoever wants another role signs in again
                if site.session() is None:  # an answer that nobody had asked for takes nobody's place
                    token, _ = site.sessions.open(identity)
                    site.set_session(response, token)
        return response
