"""/service/NAME: sign in to a service behind Fedgate, and go back there with a code.

The person takes the role of the setting ``browser`` by the same operation and decision as on the portal, and nobody is
shown its credentials. The code leads to a host of the settings and to no other.
"""

from dataclasses import dataclass
from urllib.parse import urlencode

from flask import Blueprint, Response, abort, request
from flask_babel import gettext as _

from broker.api.errors import status
from broker.authz.resource import Resource
from broker.authz.resource_table import ResourceTable
from broker.authz.sign_in.addresses import DIRECT, SIGNED_OUT, ServiceAddresses, normal_host
from broker.authz.sign_in.starts import SignInStart, SignInStarts
from broker.sessions.browser import BrowserSession
from broker.sessions.service import ServiceSession, ServiceSessions
from broker.web.admin.access import AdminAccess
from broker.web.core.responses import HOME
from broker.web.core.site import Site
from broker.web.i18n.languages import gettext_noop
from iam.errors import AccessDenied, NotSignedIn, ServiceError
from sts.identity import Identity
from sts.mint import Credentials

NEEDS_MORE = gettext_noop(
    "The role of this application requires information that cannot be entered when signing in to it. Contact your help"
    " desk."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePages:
    """The page through which people come to services."""

    site: Site
    admin_access: AdminAccess
    other_roles: bool
    resources: ResourceTable
    starts: SignInStarts
    addresses: ServiceAddresses
    service_sessions: ServiceSessions

    def blueprint(self) -> Blueprint:
        """Return the routes."""
        blueprint = Blueprint("service", __name__)
        blueprint.get("/service/<name>")(self.show)
        return blueprint

    def show(self, name: str) -> Response:
        """Send a person who is signed in back to the service; others sign in first, and come here again."""
        resource = self.resources.named(name)
        if resource is None or not resource.browser:
            abort(404)
        if SIGNED_OUT in request.args:
            return self._signed_out(resource)
        state = request.args.get("state", "")
        start = self._start(resource, state)
        if start is None:
            return self._interrupted(resource)
        session = self.site.current_session.find()
        if session is None and DIRECT in request.args:
            return self.site.responses.redirect_to_page(_address(resource, state))
        if session is None:
            raise NotSignedIn("You are not signed in.")
        return self._enter(resource, start, state, session)

    def _start(self, resource: Resource, state: str) -> SignInStart | None:
        """Return where a sign-in began, if the host still is one of the resource."""
        opened = self.starts.open(resource.name, state, self.site.request_state.now)
        if opened is None:
            return None
        host = opened.start.host
        return opened.start if host == normal_host(host) and self.resources.find(host) is resource else None

    # --- taking the role ----------------------------------------------------------------------------------------------

    def _enter(self, resource: Resource, start: SignInStart, state: str, session: BrowserSession) -> Response:
        """Return the way back with a code, or what is in the way."""
        identity = self._renewed_identity(session)
        try:
            if self._asks_for_mfa(identity, resource.browser):
                return self.site.responses.redirect_to_page(_second_factor_address(resource, state))
            taken = ServiceSession(session.key, self._take(identity, resource.browser))
        except ServiceError as error:
            return self._refused(resource, state, session, self.site.audit.record_refusal(error))
        code = self.service_sessions.issue_code(resource.name, state, taken)
        return self._lead_back(resource, self.addresses.callback(start.host, code, state))

    def _renewed_identity(self, session: BrowserSession) -> Identity:
        """Return the identity as its provider gives it now, as before all credentials; raise NotSignedIn."""
        renewed = self.site.current_session.refresh_identity(session)
        if renewed is None:
            self.site.sessions.end(session)
            raise NotSignedIn("You are not signed in.")
        return renewed.identity

    def _asks_for_mfa(self, identity: Identity, role_arn: str) -> bool:
        """Return whether a second factor comes first; raise AccessDenied where the role asks for session tags."""
        choices = self.site.available_roles(identity)
        if role_arn in {role.arn for role in choices.after_tags}:
            raise AccessDenied(NEEDS_MORE)
        return role_arn in {role.arn for role in choices.after_mfa}

    def _take(self, identity: Identity, role_arn: str) -> Credentials:
        """Return the credentials of a session of the role, as long as the role allows; raise ServiceError."""
        site, role = self.site, self.site.store.role(role_arn)
        limits = {} if role is None else {"DurationSeconds": role.max_session}
        try:
            result = site.role_access.assume_role(
                site.request_state, identity, role_arn, proof=False, session_limits=limits
            )
        except ServiceError as error:
            raise site.gate.record_refusal(site.request_state, error) from error
        made = result["Credentials"]
        return Credentials(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"], made["Expiration"])

    # --- answering ----------------------------------------------------------------------------------------------------

    def _lead_back(self, resource: Resource, address: str) -> Response:
        """Return the way back to the service.

        After a sign-in by a page, since browsers hold the redirects of a form to the page's form-action, which is this
        site.
        """
        if DIRECT in request.args:
            return self.site.responses.redirect(address)
        return self.site.responses.render("portal/service_entry.html", resource=resource, address=address)

    def _refused(self, resource: Resource, state: str, session: BrowserSession, error: ServiceError) -> Response:
        return self.site.responses.render(
            "portal/service_refused.html",
            code=status(error),
            session=session,
            administrator=self.admin_access.is_administrator(session),
            resource=resource,
            message=_(error.message),
            reference=self.site.reference,
            explained=self._is_explained(session, resource.browser),
            to=_address(resource, state),
        )

    def _is_explained(self, session: BrowserSession, role_arn: str) -> bool:
        """Return whether the person may see why a role is not theirs."""
        try:
            choices = self.site.available_roles(session.identity)
        except ServiceError:
            return False
        seen = (*choices.after_mfa, *choices.after_tags, *(choices.closed if self.other_roles else ()))
        return role_arn in {role.arn for role in seen}

    def _interrupted(self, resource: Resource) -> Response:
        return self.site.responses.render(
            "portal/service_interrupted.html", code=400, resource=resource, back=self._first_page(resource)
        )

    def _signed_out(self, resource: Resource) -> Response:
        """Say that a person has signed out, where that is true."""
        if self.site.current_session.find() is not None:
            return self.site.responses.redirect_to_page(HOME)
        return self.site.responses.render(
            "portal/service_signed_out.html", resource=resource, back=self._first_page(resource)
        )

    def _first_page(self, resource: Resource) -> str:
        """Return the address of the resource; empty where it has host names of buckets alone."""
        host = next((host for host in resource.hosts if not host.startswith("*.")), "")
        return f"{self.addresses.origin(host)}/" if host else ""


def _address(resource: Resource, state: str) -> str:
    return f"/service/{resource.name}?{urlencode({'state': state})}"


def _second_factor_address(resource: Resource, state: str) -> str:
    return f"/mfa?{urlencode({'to': _address(resource, state)})}"
