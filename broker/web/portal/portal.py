"""/portal: the roles of a signed-in user, credentials for the chosen role, and sign-out."""

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

from flask import Blueprint, Response, request
from flask_babel import gettext as _
from redis.exceptions import RedisError

from broker.doors.credential_formats import FORMATS, Target, process_form
from broker.sessions.browser import BrowserSession
from broker.signin.role_access import AvailableRoles
from broker.web.admin.access import AdminAccess
from broker.web.branding.branding import length_of_time
from broker.web.core.form_fields import form_field
from broker.web.core.responses import wants_json
from broker.web.core.site import Site
from broker.web.login.completion import HOME
from broker.web.portal.scope_down import DURATIONS, ScopeDown
from iam.arn import root_arn
from iam.clock import to_milliseconds
from iam.errors import (
    AccessDenied,
    MalformedPolicyDocument,
    NotSignedIn,
    ServiceError,
    ValidationError,
)
from iam.inventory.pagination import PageRequest, paginate
from iam.policy.lint import Finding
from iam.store import pinned_roles
from iam.store.pinned_roles import RoleUsage
from iam.store.records import RoleRecord
from sts.identity import Identity
from sts.operations.caller import ROOT_MAX, TOKEN_DEFAULT
from sts.trust import demanded_tags

_SHORTEST_ARN, _LONGEST_ARN = 20, 2048  # STS API reference, AssumeRoleWithSAML, RoleArn
_RECENT: Final = 5
_GROUPS_TOLD: Final = 50
_LONGEST_TAG: Final = 256  # characters: STS API reference, Tag
_LONGEST_POLICY: Final = 10_000  # characters that a form may bring; the STS takes fewer
_UNMARKED: Final = RoleUsage(pinned=False, taken=None)
_NO_SCOPE_DOWN: Final = ScopeDown()


@dataclass(frozen=True, slots=True)
class RoleRow:
    """One role in the list; ``running`` is when its valid credentials expire, in milliseconds."""

    arn: str
    name: str
    account: str
    account_id: str
    description: str
    max_session: int
    mark: RoleUsage
    running: int | None
    mfa: bool = False
    reason: bool = False

    @property
    def text(self) -> str:
        """Return the text that a search matches."""
        return f"{self.name} {self.account} {self.description} {self.arn}".lower()


class FormattedCredentials(NamedTuple):
    """Credentials in one format, with the address of the service where they are valid."""

    key: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class RoleListing:
    """The roles to show: one page of the search results, and the pinned and recent roles."""

    rows: Sequence[RoleRow]
    marked: Sequence[RoleRow]
    found: int
    page: int
    pages: int
    query: str
    stale: bool

    @property
    def accounts(self) -> list[tuple[str, list[RoleRow]]]:
        """Return the rows of this page by account."""
        return [(account, list(rows)) for account, rows in groupby(self.rows, lambda row: row.account)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Portal:
    """The portal pages; ``other_roles``: users may see roles that trust their provider but not them."""

    site: Site
    admin_access: AdminAccess
    other_roles: bool

    def blueprint(self) -> Blueprint:
        """Return the routes."""
        blueprint = Blueprint("portal", __name__)
        blueprint.get("/portal")(self.show)
        blueprint.post("/portal/pin", endpoint="pin")(lambda: self._pin(pinned=True))
        blueprint.post("/portal/unpin", endpoint="unpin")(lambda: self._pin(pinned=False))
        blueprint.post("/portal", endpoint="take")(self._handle_take)
        blueprint.post("/sign-out", endpoint="sign_out")(self._sign_out)
        return blueprint

    # --- roles --------------------------------------------------------------------------------------------------------

    def show(self) -> Response:
        """Show the roles."""
        return self._render_roles(self.site.current_session.require(), request.args.get("role", ""))

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
        if not rows:
            site.audit.record("NoRoleOpen", identity.account_id, groups=list(identity.group_names[:_GROUPS_TOLD]))
        scope = PageRequest.of((), request.args.get("q", ""), request.args.get("page", ""))
        listing = _listing(rows, scope, stale=stale)
        return site.responses.render(
            "portal/roles.html",
            code=code,
            session=session,
            administrator=self.admin_access.is_administrator(session),
            listing=listing,
            chosen=_preselected(listing, chosen),
            asked=any(row.arn == chosen for row in rows),
            other=len(choices.closed) if self.other_roles else 0,
            groups=identity.group_names,
            durations=_offered_durations(listing),
            can_scope_down=any(":role/" in row.arn for row in listing.rows),
            scope_down=scope_down,
            findings=findings,
            told=told,
            reference=site.reference,
            data=_machine_readable(rows),
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
        rows = [_row(role, self.account(role.account_id)) for role in roles]
        accounts = [(account, list(account_rows)) for account, account_rows in groupby(rows, lambda row: row.account)]
        return self.site.responses.render(
            "portal/role_choice.html",
            identity=identity,
            accounts=accounts,
            action=action,
            hidden=hidden,
            data=_machine_readable(rows),
        )

    def _rows(self, identity: Identity, choices: AvailableRoles) -> tuple[list[RoleRow], bool]:
        """Return the rows by account and name, and whether running sessions are unavailable."""
        with self.site.store.read() as tx:
            marks = pinned_roles.role_usage_of(tx, identity.person)
        roles = choices.open + choices.after_mfa + choices.after_tags
        running, stale = self._latest_expiries(identity, {role.account_id for role in roles})
        mfa, reason = {role.id for role in choices.after_mfa}, {role.id for role in choices.after_tags}
        account = cache(self.account)  # a thousand roles are of a few accounts
        rows = [
            _row(
                role,
                account(role.account_id),
                marks.get(role.id, _UNMARKED),
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
            account = self.account(identity.account_id)
            description = _("Your own permissions, without a role")
            longest = ROOT_MAX if identity.is_root else TOKEN_DEFAULT
            yield RoleRow(arn, identity.name, account, identity.account_id, description, longest, _UNMARKED, None)

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

    def account(self, account_id: str) -> str:
        """Return an account's alias and ID for display."""
        account = self.site.store.account(account_id)
        return f"{account.alias} ({account_id})" if account and account.alias else account_id

    def _pin(self, *, pinned: bool) -> Response:
        """Pin or unpin a role."""
        session = self.site.current_session.check_csrf()
        role = self.site.store.role(form_field("role", _LONGEST_ARN))
        if role is not None:
            with self.site.store.write(bump_revision=False) as tx:
                pinned_roles.set_pinned(tx, session.identity.person, role.id, pinned=pinned)
        return self.site.responses.redirect_to_page(HOME)

    # --- credentials --------------------------------------------------------------------------------------------------

    def _handle_take(self) -> Response:
        """Return credentials for the chosen role."""
        site, session = self.site, self.site.current_session.check_csrf()
        role_arn = form_field("roleIndex", 2 * _LONGEST_ARN)
        refreshed = site.current_session.refresh_identity(session)
        if refreshed is None:
            site.sessions.end(session)
            raise NotSignedIn("You are not signed in.")
        identity = refreshed.identity
        choices = self.choices(identity)
        tagged = next((role for role in choices.after_tags if role.arn == role_arn), None)
        if role_arn in {role.arn for role in choices.after_mfa}:
            back = urlencode({"role": role_arn})
            return site.responses.redirect_to_page(f"/mfa?{urlencode({'to': f'{HOME}?{back}'})}")
        scope_down = ScopeDown(
            form_field("seconds", 10),
            form_field("narrow", 10),
            form_field("policy", _LONGEST_POLICY),
            tuple((tag, form_field(f"tag-{tag}", _LONGEST_TAG).strip()) for tag in _demanded_tags(tagged)),
        )
        try:
            if "check" in request.form:
                return self._render_roles(session, role_arn, scope_down, findings=scope_down.findings)
            if tagged is not None and not all(value for _tag, value in scope_down.tags):
                return self._render_reason_form(session, tagged, scope_down)
            return self.issue_credentials(identity, role_arn, session=session, sts_parameters=scope_down.parameters)
        except (ValidationError, MalformedPolicyDocument) as error:
            if wants_json():
                raise
            return self._render_roles(session, role_arn, scope_down, told=self._error_text(error, role_arn), code=400)
        except AccessDenied:
            if tagged is None or wants_json():
                raise
            return self._render_reason_form(
                session, tagged, scope_down, told=_("The role does not accept this value. Check how it is written.")
            )

    def _error_text(self, error: ServiceError, role_arn: str) -> str:
        """Return the message for an STS error."""
        role = self.site.store.role(role_arn)
        if role is not None and "MaxSessionDuration" in error.message:
            return str(
                _("The maximum session duration of this role is %(time)s.", time=length_of_time(role.max_session))
            )
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
            account=self.account(role.account_id),
            scope_down=asked,
            told=told,
            reference=site.reference,
        )

    def issue_credentials(
        self,
        identity: Identity,
        role_arn: str,
        *,
        session: BrowserSession | None = None,
        sts_parameters: Mapping[str, Any] | None = None,
    ) -> Response:
        """Return credentials for a role, or an error; without a session, the proof is consumed here."""
        site = self.site
        if not _SHORTEST_ARN <= len(role_arn) <= _LONGEST_ARN:
            raise ValidationError("roleIndex must be the ARN of a role")
        try:
            result = site.role_access.assume_role(
                site.request_state, identity, role_arn, proof=session is None, session_limits=dict(sts_parameters or {})
            )
        except ServiceError as error:
            raise site.gate.record_refusal(site.request_state, error) from error
        credentials = process_form(result["Credentials"])
        if wants_json():
            return site.responses.json(credentials)
        return self._render_credentials(identity, role_arn, credentials, session)

    def _render_credentials(
        self, identity: Identity, role_arn: str, credentials: dict[str, Any], session: BrowserSession | None
    ) -> Response:
        site = self.site
        role = site.store.role(role_arn)
        if role is not None:
            with (
                suppress(ServiceError),
                site.store.write(bump_revision=False) as tx,
            ):  # the credentials are there all the same
                pinned_roles.record_role_use(tx, identity.person, role.id, site.request_state.now)
        profile = role.name if role else identity.name
        return site.responses.render(
            "portal/credentials.html",
            session=session,
            administrator=session is not None and self.admin_access.is_administrator(session),
            role=profile,
            role_arn=role_arn,
            account=self.account(role.account_id if role else identity.account_id),
            identity=identity,
            credentials=credentials,
            endpoint=site.public_url,
            formats=_format_credentials(credentials, profile, site.public_url),
        )

    # --- out ----------------------------------------------------------------------------------------------------------

    def _sign_out(self) -> Response:
        """End the session, whether or not the logout at the identity provider succeeds."""
        site = self.site
        session = site.current_session.find()
        if session is None:
            return self.signed_out()
        site.csrf.check_token(session)
        site.sessions.end(session)
        identity = site.request_state.identity = session.identity
        site.audit.record("SignOut", identity.account_id, provider=identity.provider)
        response = self._provider_logout(identity) or self.signed_out()
        site.cookies.clear_session(response)
        return response

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
        response = self.site.responses.render("login/signed_out.html", everywhere=everywhere)
        self.site.cookies.clear_session(response)
        return response


def _demanded_tags(role: RoleRecord | None) -> tuple[str, ...]:
    return demanded_tags(role.trust) if role else ()


def _format_credentials(credentials: Mapping[str, Any], profile: str, endpoint: str) -> list[FormattedCredentials]:
    """Return the credentials and the address of this service in every format."""
    target = Target(profile, endpoint)
    return [FormattedCredentials(key, one.title, one.text(credentials, target)) for key, one in FORMATS.items()]


# --- the list -----------------------------------------------------------------------------------------------------


def _row(
    role: RoleRecord,
    account: str,
    mark: RoleUsage = _UNMARKED,
    running: int | None = None,
    *,
    mfa: bool = False,
    reason: bool = False,
) -> RoleRow:
    description, longest = role.description, role.max_session
    return RoleRow(role.arn, role.name, account, role.account_id, description, longest, mark, running, mfa, reason)


def _listing(rows: Sequence[RoleRow], scope: PageRequest, *, stale: bool) -> RoleListing:
    page = paginate(rows, scope, lambda row: row.text)
    marked = [] if scope.words or page.page > 1 else _pinned_and_recent(rows)
    return RoleListing(page.rows, marked, page.found, page.page, page.pages, page.query, stale)


def _offered_durations(listing: RoleListing) -> list[int]:
    """Return the session durations that at least one role in the list allows."""
    longest = max((row.max_session for row in (*listing.rows, *listing.marked)), default=0)
    return [seconds for seconds in DURATIONS if seconds <= longest]


def _pinned_and_recent(rows: Sequence[RoleRow]) -> list[RoleRow]:
    """Return the pinned roles, then the most recently used ones."""
    pinned = [row for row in rows if row.mark.pinned]
    taken = [row for row in rows if row.mark.taken and not row.mark.pinned]
    recent = sorted(taken, key=lambda row: row.mark.taken or 0, reverse=True)
    return pinned + recent[:_RECENT]


def _preselected(listing: RoleListing, wish: str) -> str:
    """Return the preselected role: the requested one, else the first pinned or recent one, else the first."""
    rows = [*listing.marked, *listing.rows]
    wished = [row.arn for row in rows if row.arn == wish]
    return next(iter([*wished, *(row.arn for row in rows)]), "")


def _machine_readable(rows: Sequence[RoleRow]) -> str:
    """Return the roles by account in the format that command-line SAML clients expect."""
    accounts: dict[str, list[str]] = {}
    for row in rows:
        accounts.setdefault(row.account, []).append(row.arn)
    return b64encode(json.dumps({"roles_accounts": accounts}).encode()).decode()
