"""/security: the second factors and recovery codes of the signed-in user.

Whatever takes a factor away or makes new codes asks for a second factor of the last five minutes: a session that
somebody else got hold of loses its owner nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, request
from flask_babel import gettext as _
from sqlalchemy import Connection

from broker.sessions.browser import BrowserSession
from broker.web.admin.access import AdminAccess
from broker.web.core.form_fields import form_field
from broker.web.core.responses import wants_json
from broker.web.core.site import Site
from broker.web.login.completion import LoginCompletion
from broker.web.mfa.enrolment import codes_page
from broker.web.mfa.subject import has_fresh_mfa
from iam.credentials import factors
from iam.credentials.factors import TOTP, Factor
from iam.errors import AccessDenied, DeleteConflict, NoSuchEntity, ServiceError
from sts.identity import Identity

SECURITY_PATH = "/security"
_LONGEST_ID = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityPage:
    """The page for second factors and recovery codes."""

    site: Site
    completion: LoginCompletion
    admin_access: AdminAccess

    def blueprint(self) -> Blueprint:
        """Return the routes."""
        blueprint = Blueprint("security", __name__)
        blueprint.get(SECURITY_PATH)(self.show)
        blueprint.post(f"{SECURITY_PATH}/remove")(self.remove)
        blueprint.post(f"{SECURITY_PATH}/codes")(self.new_codes)
        return blueprint

    # --- showing ------------------------------------------------------------------------------------------------------

    def show(self) -> Response:
        """Show the factors; ``?remove=`` and ``?codes=`` ask for confirmation, after a recent second factor."""
        session = self.site.current_session.require()
        removing, renewing = request.args.get("remove", ""), "codes" in request.args
        if removing or renewing:
            detour = self._redirect_to_mfa(session, {"remove": removing} if removing else {"codes": "new"})
            if detour is not None:
                return detour
        factors, codes_left = self._factors(session.identity)
        if wants_json():
            return self.site.responses.json(_factors_json(factors, codes_left))
        return self._page(session, factors, codes_left, removing=removing, renewing=renewing and bool(factors))

    def _page(
        self, session: BrowserSession, held: Sequence[Factor], left: int, *, removing: str, renewing: bool
    ) -> Response:
        must = self.completion.requires_mfa(session.identity)
        return self.site.responses.render(
            "account/security.html",
            session=session,
            administrator=self.admin_access.is_administrator(session),
            held=held,
            left=left,
            must=must,
            removable=len(held) > 1 or not must,
            removing=next((factor for factor in held if factor.id == removing), None),
            renewing=renewing,
            password=self._has_password(session.identity),
        )

    def _has_password(self, identity: Identity) -> bool:
        """Return whether somebody's password is known here or in a directory; others' providers have it."""
        return self.site.gate.kinds.of(identity).is_principal or bool(identity.directory)

    def _factors(self, identity: Identity) -> tuple[Sequence[Factor], int]:
        with self.site.store.read() as tx:
            return factors.factors_of(tx, identity.person), factors.recovery_codes_left(tx, identity.person)

    def _redirect_to_mfa(self, session: BrowserSession, query: dict[str, str]) -> Response | None:
        """Redirect to the second-factor page and back if the last verification is too old."""
        if has_fresh_mfa(session, self.site.request_state.now):
            return None
        back = f"{SECURITY_PATH}?{urlencode(query)}"
        return self.site.responses.redirect_to_page(f"/mfa?{urlencode({'to': back})}")

    # --- changing -----------------------------------------------------------------------------------------------------

    def remove(self) -> Response:
        """Remove a factor."""
        session, factor_id = self.site.current_session.check_csrf(), form_field("factor", _LONGEST_ID)
        detour = self._redirect_to_mfa(session, {"remove": factor_id})
        if detour is not None:
            return detour
        try:
            self._remove_factor(session, factor_id)
        except ServiceError as error:
            account_id = session.identity.account_id
            self.site.audit.record_failure("RemoveSecondFactor", account_id, error, factor=factor_id)
            raise
        return self.site.responses.redirect_to_page(SECURITY_PATH)

    def _remove_factor(self, session: BrowserSession, factor_id: str) -> None:
        """Remove a factor and record it; raise DeleteConflict, NoSuchEntity.

        Other sessions in which a second factor was given end with it.
        """
        identity = session.identity
        with self.site.transaction(session) as tx:
            held = factors.factors_of(tx, identity.person)
            factor = next((candidate for candidate in held if candidate.id == factor_id), None)
            if factor is None:
                raise NoSuchEntity(_("Second factor not found."))
            if len(held) == 1 and self.completion.requires_mfa(identity):
                raise DeleteConflict(_("A second factor is required. Add another one first."))
            self._check_removal_allowed(tx, identity, factor)
            factors.remove_factor(tx, identity.person, factor_id)
            details = {"kind": factor.kind, "factorName": factor.name, "factor": factor_id}
            self.site.audit.record("RemoveSecondFactor", identity.account_id, **details)
            remaining = factors.factor_versions(tx, identity.person)
        self.site.sessions.update(replace(session, mfa_factors=remaining))

    def _check_removal_allowed(self, tx: Connection, identity: Identity, factor: Factor) -> None:
        """Raise AccessDenied where a user may not remove this factor by the IAM API either."""
        site = self.site
        site.own_permissions.require_operation(tx, site.request_state, identity, "DeactivateMFADevice", {})
        if factor.kind == TOTP:
            device = {"SerialNumber": factor.id}
            site.own_permissions.require_operation(tx, site.request_state, identity, "DeleteVirtualMFADevice", device)

    def new_codes(self) -> Response:
        """Replace the recovery codes and show the new ones once."""
        site, session = self.site, self.site.current_session.check_csrf()
        detour = self._redirect_to_mfa(session, {"codes": "new"})
        if detour is not None:
            return detour
        identity = session.identity
        with site.transaction(session) as tx:
            if not factors.factors_of(tx, identity.person):
                raise AccessDenied(_("Add a second factor before you create recovery codes."))
            # The API has no recovery codes: they do what another MFA device would.
            site.own_permissions.require_operation(tx, site.request_state, identity, "EnableMFADevice", {})
            codes = factors.replace_recovery_codes(tx, identity.person, site.request_state.now, site.gate.random)
            site.audit.record("NewRecoveryCodes", identity.account_id, recoveryCodes=len(codes))
        return codes_page(site, codes, SECURITY_PATH)


def _factors_json(factors: Sequence[Factor], codes_left: int) -> dict[str, Any]:
    rows = [
        {
            "id": factor.id,
            "kind": factor.kind,
            "name": factor.name,
            "created": factor.created,
            "last_used": factor.last_used,
        }
        for factor in factors
    ]
    return {"factors": rows, "recovery_codes_left": codes_left}
