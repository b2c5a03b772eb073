"""/portal: the roles of a signed-in user, and credentials for the chosen role."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import groupby
from typing import Any, Final
from urllib.parse import urlencode

from flask import Blueprint, Response, request
from flask_babel import gettext as _
from redis.exceptions import RedisError

from broker.api.errors import status
from broker.sessions.browser import BrowserSession
from broker.signin.role_access import AvailableRoles
from broker.web.admin.access import AdminAccess
from broker.web.branding.branding import length_of_time
from broker.web.core.form_fields import form_field
from broker.web.core.responses import wants_json
from broker.web.core.site import Site
from broker.web.portal.credentials import CredentialsPage
from broker.web.portal.role_list import (
    UNMARKED,
    RoleRow,
    account_label,
    lengths,
    list_roles,
    longest_offered,
    machine_readable,
    make_row,
)
from broker.web.portal.scope_down import (
    DURATIONS,
    LONGEST,
    LONGEST_ARN,
    OWN_POLICY,
    ScopeDown,
    address_of,
    json_error,
    query_of,
)
from iam.arn import root_arn
from iam.clock import to_milliseconds
from iam.errors import (
    AccessDenied,
    MalformedPolicyDocument,
    NotSignedIn,
    ServiceError,
    ServiceUnavailable,
    Throttling,
    ValidationError,
)
from iam.inventory.pagination import PageRequest
from iam.policy.lint.findings import Finding
from iam.store import pinned_roles
from iam.store.records import RoleRecord
from sts.identity import Identity
from sts.operations.caller import ROOT_MAX, TOKEN_DEFAULT
from sts.operations.roles import ROLE_DEFAULT
from sts.trust import demanded_tags

_GROUPS_TOLD: Final = 50
_NO_SCOPE_DOWN: Final = ScopeDown()


@dataclass(frozen=True, slots=True, kw_only=True)
class Portal:
    """The portal pages; ``other_roles``: users may see roles that trust their provider but not them."""

    site: Site
    admin_access: AdminAccess
    credentials: CredentialsPage
    other_roles: bool

    def blueprint(self) -> Blueprint:
        """Return the routes."""
        blueprint = Blueprint("portal", __name__)
        blueprint.get("/portal")(self.show)
        blueprint.post("/portal/pin", endpoint="pin")(lambda: self._pin(pinned=True))
        blueprint.post("/portal/unpin", endpoint="unpin")(lambda: self._pin(pinned=False))
        blueprint.post("/portal", endpoint="take")(self._handle_take)
        return blueprint

    # --- roles --------------------------------------------------------------------------------------------------------

    def show(self) -> Response:
        """Show the roles."""
        session = self.site.current_session.require()
        return self._render_roles(session, request.args.get("role", ""), ScopeDown.from_query(request.args))

    def _render_roles(
        self,
        session: BrowserSession,
        chosen: str,
        scope_down: ScopeDown = _NO_SCOPE_DOWN,
        *,
        findings: tuple[Finding, ...] | None = None,
        told: str = "",
        code: int = 200,
    ) -> Response:
        site, identity = self.site, session.identity
        choices = self.choices(identity)
        if wants_json():
            return site.responses.json(self.roles_json(identity, choices.open) | {"form_token": session.form_token})
        rows, stale = self._rows(identity, choices)
        if not rows and not told:
            site.audit.record("NoRoleOpen", identity.account_id, groups=list(identity.group_names[:_GROUPS_TOLD]))
        scope = PageRequest.of((), request.args.get("q", ""), request.args.get("page", ""))
        listing = list_roles(rows, scope, chosen, stale=stale)
        return site.responses.render(
            "portal/roles.html",
            code=code,
            session=session,
            administrator=self.admin_access.is_administrator(session),
            listing=listing,
            other=len(choices.closed) if self.other_roles else 0,
            groups=identity.group_names,
            lengths=[(seconds, _length_text(seconds)) for seconds in lengths(listing)],
            offered=longest_offered(listing),
            length=_selected_length(scope_down, longest_offered(listing)),
            can_scope_down=bool(scope_down.query) or any(row.is_role for row in listing.all_rows),
            scope_down=scope_down,
            findings=findings,
            told=told,
            reference=site.reference,
            data=machine_readable(rows),
            kept=_kept(chosen, scope_down),
        )

    def choices(self, identity: Identity) -> AvailableRoles:
        """Return the roles that an identity could assume; raise InvalidIdentityToken."""
        return self.site.available_roles(identity)

    def roles_json(self, identity: Identity, roles: Sequence[RoleRecord]) -> dict[str, Any]:
        """Return the roles as JSON data."""
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

    def render_role_choice(
        self, identity: Identity, roles: Sequence[RoleRecord], *, action: str, hidden: Mapping[str, str]
    ) -> Response:
        """Return the role selection page without a session, which command-line SAML clients can also read."""
        rows = [make_row(role, account_label(self.site.store, role.account_id)) for role in roles]
        accounts = [(account, list(account_rows)) for account, account_rows in groupby(rows, lambda row: row.account)]
        return self.site.responses.render(
            "portal/role_choice.html",
            identity=identity,
            accounts=accounts,
            action=action,
            hidden=hidden,
            data=machine_readable(rows),
        )

    def _rows(self, identity: Identity, choices: AvailableRoles) -> tuple[list[RoleRow], bool]:
        """Return the rows by account and name, and whether running sessions are unavailable."""
        with self.site.store.read() as tx:
            marks = pinned_roles.role_usage_of(tx, identity.person)
        roles = choices.open + choices.after_mfa + choices.after_tags
        running, stale = self._latest_expiries(identity, {role.account_id for role in roles})
        mfa, reason = {role.id for role in choices.after_mfa}, {role.id for role in choices.after_tags}
        account = cache(partial(account_label, self.site.store))  # a thousand roles are of a few accounts
        rows = [
            make_row(
                role,
                account(role.account_id),
                marks.get(role.id, UNMARKED),
                running.get(role.id),
                mfa=role.id in mfa,
                reason=role.id in reason,
            )
            for role in roles
        ]
        rows.sort(key=lambda row: (row.account.casefold(), row.name.casefold()))
        return [*self._own_row(identity), *rows], stale

    def _own_row(self, identity: Identity) -> Iterator[RoleRow]:
        """Yield the row for an IAM user's or root user's own permissions."""
        if self.site.gate.kinds.of(identity).is_principal:
            arn = self.own_arn(identity)
            account = account_label(self.site.store, identity.account_id)
            description = _("Your own permissions, without a role")
            longest = self._longest(identity, arn)
            yield RoleRow(arn, identity.name, account, identity.account_id, description, longest, UNMARKED, None)

    def own_arn(self, identity: Identity) -> str:
        """Return the ARN of an IAM user or root user."""
        user = None if identity.is_root else self.site.store.user(identity.subject)
        return user.arn if user else root_arn(identity.account_id)

    def _latest_expiries(self, identity: Identity, accounts: set[str]) -> tuple[dict[str, int], bool]:
        """Return when a person's newest credentials of each role expire, by the role's unique ID."""
        now_ms, expiries = to_milliseconds(self.site.request_state.now), dict[str, int]()
        try:
            for account_id in accounts:
                for session in self.site.gate.sessions.of_person(account_id, identity.person, now_ms):
                    expiries[session.entity_id] = max(session.expires_at, expiries.get(session.entity_id, 0))
        except RedisError:
            return expiries, True
        return expiries, False

    def _pin(self, *, pinned: bool) -> Response:
        """Pin or unpin a role; only what the person could take can be pinned."""
        session = self.site.current_session.check_csrf()
        role = self.site.store.role(form_field("role", LONGEST_ARN))
        if role is not None and (not pinned or role.id in self.choices(session.identity).offered_ids):
            with self.site.store.write(bump_revision=False) as tx:
                pinned_roles.set_pinned(tx, session.identity.person, role.id, pinned=pinned)
        return self.site.responses.redirect_to_page(self._address_after_pin())

    def _address_after_pin(self) -> str:
        """Return the address of the page with the restrictions that were chosen before a role was pinned."""
        return address_of(form_field("roleIndex", LONGEST_ARN), ScopeDown.from_form())

    # --- credentials --------------------------------------------------------------------------------------------------

    def _handle_take(self) -> Response:
        """Return credentials for the chosen role; after an error, the roles again with what was chosen."""
        site, session = self.site, self.site.current_session.check_csrf()
        role_arn = form_field("roleIndex", 2 * LONGEST_ARN)
        refreshed = site.current_session.refresh_identity(session)
        if refreshed is None:
            site.sessions.end(session)
            raise NotSignedIn("You are not signed in.")
        try:
            return self._take(session, refreshed.identity, role_arn)
        except ServiceError as error:
            if wants_json():
                raise
            return self._render_refusal(session, role_arn, site.audit.record_refusal(error))

    def _take(self, session: BrowserSession, identity: Identity, role_arn: str) -> Response:
        """Return credentials, or the page that asks for what the role requires first."""
        choices = self.choices(identity)
        tagged = next((role for role in choices.after_tags if role.arn == role_arn), None)
        scope_down = ScopeDown.from_form(_demanded_tags(tagged))
        if "check" in request.form:
            return self._render_roles(session, role_arn, scope_down, findings=scope_down.findings)
        limits = scope_down.parameters(
            self._longest(identity, role_arn)
        )  # first: a mistake is told before a second factor is asked for
        if role_arn in {role.arn for role in choices.after_mfa}:
            back = urlencode({"to": address_of(role_arn, scope_down)})
            return self.site.responses.redirect_to_page(f"/mfa?{back}")
        if tagged is not None:
            return self._take_with_tags(session, identity, tagged, scope_down)
        return self.credentials.issue(identity, role_arn, session=session, sts_parameters=limits)

    def _longest(self, identity: Identity, role_arn: str) -> int:
        """Return the length in seconds that a role, or a user's own session, has at most."""
        role = self.site.store.role(role_arn)
        own = ROOT_MAX if identity.is_root else TOKEN_DEFAULT
        return own if role is None else role.max_session

    def _take_with_tags(
        self, session: BrowserSession, identity: Identity, role: RoleRecord, scope_down: ScopeDown
    ) -> Response:
        """Return credentials of a role that requires session tags, or the form for these."""
        if not all(value for _tag, value in scope_down.tags):
            return self._render_reason_form(session, role, scope_down)
        try:
            return self.credentials.issue(
                identity, role.arn, session=session, sts_parameters=scope_down.parameters(role.max_session)
            )
        except AccessDenied:
            if wants_json():
                raise
            told = _("The role does not accept this value. Check how it is written.")
            return self._render_reason_form(session, role, scope_down, told=told)

    def _render_refusal(self, session: BrowserSession, role_arn: str, error: ServiceError) -> Response:
        """Return the roles with the posted choice and what is wrong with it."""
        told, code = self._error_text(error, role_arn), status(error)
        try:
            scope_down = ScopeDown.from_form()
        except ValidationError:  # no form of ours sends this; less than chosen is never taken for more
            scope_down = ScopeDown(narrow=OWN_POLICY)
        response = self._render_roles(session, role_arn, scope_down, told=told, code=code)
        if isinstance(error, Throttling | ServiceUnavailable):
            response.headers["Retry-After"] = str(error.retry_after)
        return response

    def _error_text(self, error: ServiceError, role_arn: str) -> str:
        """Return the message for an error."""
        role = self.site.store.role(role_arn)
        if role is not None and "MaxSessionDuration" in error.message:
            return str(
                _("The maximum session duration of this role is %(time)s.", time=length_of_time(role.max_session))
            )
        place = json_error(request.form.get("policy", "")) if isinstance(error, MalformedPolicyDocument) else None
        if place is not None:
            line, column = place
            return str(_("The policy is not valid JSON: line %(line)d, column %(column)d.", line=line, column=column))
        return str(_(error.message))

    def _render_reason_form(
        self, session: BrowserSession, role: RoleRecord, asked: ScopeDown, told: str = ""
    ) -> Response:
        """Return the form for the session tags that a role requires, such as a ticket."""
        site = self.site
        return site.responses.render(
            "portal/session_tags.html",
            code=403 if told else 200,
            session=session,
            administrator=self.admin_access.is_administrator(session),
            role=role,
            account=account_label(self.site.store, role.account_id),
            scope_down=asked,
            told=told,
            reference=site.reference,
            kept=query_of(role.arn, asked),
        )


def _length_text(seconds: int) -> str:
    text = length_of_time(seconds)
    return str(_("%(time)s (default)", time=text)) if seconds == ROLE_DEFAULT else text


def _selected_length(scope_down: ScopeDown, longest: int) -> int:
    """Return the seconds to select: those that were chosen if they are offered; 0 for as long as the role allows."""
    if scope_down.seconds == LONGEST:
        return 0
    chosen = int(scope_down.seconds) if scope_down.seconds in map(str, DURATIONS) else ROLE_DEFAULT
    return chosen if chosen <= longest else ROLE_DEFAULT


def _demanded_tags(role: RoleRecord | None) -> tuple[str, ...]:
    return demanded_tags(role.trust) if role else ()


def _kept(role_arn: str, scope_down: ScopeDown) -> dict[str, str]:
    """Return what the language links keep: of the address, or of the posted form."""
    if request.method == "POST":
        return query_of(role_arn, scope_down)
    return {name: value for name, value in request.args.items() if name != "lang"}
