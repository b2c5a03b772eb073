"""The roles of somebody who is signed in, the credentials of the one that they choose, and the way out."""

import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from broker.web.core.brand import length_of_time
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
from sts.identity import IamIdentity, Identity
from sts.operations.caller import ROOT_MAX, TOKEN_DEFAULT
from sts.trust import demanded_tags

_SHORTEST_ARN, _LONGEST_ARN = 20, 2048  # STS API reference, AssumeRoleWithSAML, RoleArn
_RECENT: Final = 5
_GROUPS_TOLD: Final = 50
_LONGEST_TAG: Final = 256  # characters: STS API reference, Tag
_LONGEST_POLICY: Final = 10_000  # characters that a form may bring; the STS takes fewer
_UNMARKED: Final = RoleUsage(pinned=False, taken=None)
_NO_SCOPE_DOWN: Final = ScopeDown()

ProviderLogout = Callable[[Identity], Response | None]
RefreshIdentity = Callable[[BrowserSession], Identity | None]


@dataclass(frozen=True, slots=True)
class RoleRow:
    """One role in the list; ``running`` is when credentials of it that are still good expire, in milliseconds."""

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
        """Return what a search looks through."""
        return f"{self.name} {self.account} {self.description} {self.arn}".lower()


class FormattedCredentials(NamedTuple):
    """Credentials in one format; ``beside`` says in the same words where programs find us, which is no secret."""

    key: str
    title: str
    text: str
    endpoint_text: str


@dataclass(frozen=True, slots=True)
class RoleListing:
    """What the page of roles shows: those that a search found, a page of them, and those that stand first."""

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
        return [(account, list(rows)) for account, rows in groupby(self.rows, lambda one: one.account)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Portal:
    """The pages of somebody who is signed in; ``other_roles``: people may see which roles trust only their provider."""

    site: Site
    admin_access: AdminAccess
    other_roles: bool

    def blueprint(self, provider_logout: ProviderLogout, refresh_identity: RefreshIdentity) -> Blueprint:
        """Return the routes.

        ``leave`` leads from here to the provider's own logout. ``renew`` tells who somebody is by now, before they get
        credentials: None where their provider knows them no more.
        """
        made = Blueprint("portal", __name__)
        made.get("/portal")(self.show)
        made.post("/portal/pin", endpoint="pin")(lambda: self._pin(pinned=True))
        made.post("/portal/unpin", endpoint="unpin")(lambda: self._pin(pinned=False))

        @made.post("/portal")
        def take() -> Response:
            return self._handle_take(refresh_identity)

        @made.post("/sign-out")
        def sign_out() -> Response:
            return self._sign_out(provider_logout)

        return made

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
        """Return the roles that could be a person's; raise InvalidIdentityToken."""
        return self.site.available_roles(identity)

    def roles_json(self, identity: Identity, roles: Sequence[RoleRecord]) -> dict[str, Any]:
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

    def render_role_choice(
        self, identity: Identity, roles: Sequence[RoleRecord], *, action: str, hidden: Mapping[str, str]
    ) -> Response:
        """Return the page on which somebody without a session chooses; programs that pick roles can read it too."""
        rows = [_row(role, self.account(role.account_id)) for role in roles]
        accounts = [(account, list(found)) for account, found in groupby(rows, lambda one: one.account)]
        return self.site.responses.render(
            "portal/role_choice.html",
            identity=identity,
            accounts=accounts,
            action=action,
            hidden=hidden,
            data=_machine_readable(rows),
        )

    def _rows(self, identity: Identity, choices: AvailableRoles) -> tuple[list[RoleRow], bool]:
        """Return the rows by account and name, and whether what runs could not be asked for."""
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
        rows.sort(key=lambda one: (one.account.casefold(), one.name.casefold()))
        return [*self._own_row(identity), *rows], stale

    def _own_row(self, identity: Identity) -> Iterator[RoleRow]:
        """Yield the row of a user or owner, who can have a session of their own."""
        if isinstance(identity, IamIdentity):
            arn = self.own_arn(identity)
            account = self.account(identity.account_id)
            about = _("Your own permissions, without a role")
            longest = ROOT_MAX if identity.is_root else TOKEN_DEFAULT
            yield RoleRow(arn, identity.name, account, identity.account_id, about, longest, _UNMARKED, None)

    def own_arn(self, identity: IamIdentity) -> str:
        """Return the ARN of a user or owner."""
        user = None if identity.is_root else self.site.store.user(identity.subject)
        return user.arn if user else root_arn(identity.account_id)

    def _latest_expiries(self, identity: Identity, accounts: set[str]) -> tuple[dict[str, int], bool]:
        """Return until when each role's newest credentials of a person are good, by the role's unique id."""
        now_ms, found = to_milliseconds(self.site.request_state.now), dict[str, int]()
        try:
            for account_id in accounts:
                for one in self.site.gate.sessions.of_person(account_id, identity.person, now_ms):
                    found[one.entity_id] = max(one.expires_at, found.get(one.entity_id, 0))
        except RedisError:
            return found, True
        return found, False

    def account(self, account_id: str) -> str:
        """Return an account's alias and id, as pages write it."""
        account = self.site.store.account(account_id)
        return f"{account.alias} ({account_id})" if account and account.alias else account_id

    def _pin(self, *, pinned: bool) -> Response:
        """Let a role stand first, or no longer."""
        session = self.site.current_session.check_csrf()
        role = self.site.store.role(form_field("role", _LONGEST_ARN))
        if role is not None:
            with self.site.store.write(bump_revision=False) as tx:
                pinned_roles.set_pinned(tx, session.identity.person, role.id, pinned=pinned)
        return self.site.responses.redirect_to_page(HOME)

    # --- credentials --------------------------------------------------------------------------------------------------

    def _handle_take(self, refresh_identity: RefreshIdentity) -> Response:
        """Answer with credentials of the role that was chosen."""
        site, session = self.site, self.site.current_session.check_csrf()
        chosen = form_field("roleIndex", 2 * _LONGEST_ARN)
        identity = refresh_identity(session)
        if identity is None:
            site.sessions.end(session)
            raise NotSignedIn("You are not signed in.")
        choices = self.choices(identity)
        tagged = next((role for role in choices.after_tags if role.arn == chosen), None)
        if chosen in {role.arn for role in choices.after_mfa}:
            back = urlencode({"role": chosen})
            return site.responses.redirect_to_page(f"/mfa?{urlencode({'to': f'{HOME}?{back}'})}")
        asked = ScopeDown(
            form_field("seconds", 10),
            form_field("narrow", 10),
            form_field("policy", _LONGEST_POLICY),
            tuple((tag, form_field(f"tag-{tag}", _LONGEST_TAG).strip()) for tag in _demanded_tags(tagged)),
        )
        try:
            if "check" in request.form:
                return self._render_roles(session, chosen, asked, findings=asked.findings)
            if tagged is not None and not all(value for _tag, value in asked.tags):
                return self._render_reason_form(session, tagged, asked)
            return self.issue_credentials(identity, chosen, session=session, sts_parameters=asked.parameters)
        except (ValidationError, MalformedPolicyDocument) as error:
            if wants_json():
                raise
            return self._render_roles(session, chosen, asked, told=self._error_text(error, chosen), code=400)
        except AccessDenied:
            if tagged is None or wants_json():
                raise
            return self._render_reason_form(
                session, tagged, asked, told=_("The role does not accept this value. Check how it is written.")
            )

    def _error_text(self, error: ServiceError, role_arn: str) -> str:
        """Return what an error of the STS says to people."""
        role = self.site.store.role(role_arn)
        if role is not None and "MaxSessionDuration" in error.message:
            return str(
                _("The maximum session duration of this role is %(time)s.", time=length_of_time(role.max_session))
            )
        return str(_(error.message))

    def _render_reason_form(
        self, session: BrowserSession, role: RoleRecord, asked: ScopeDown, told: str = ""
    ) -> Response:
        """Ask for what a role wants to know in session tags, such as a ticket."""
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
        """Return credentials of a role, or why not; without a session, what proved the person is not used up yet."""
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

    def _sign_out(self, provider_logout: ProviderLogout) -> Response:
        """End the session here, whatever comes of the way to the identity provider's own logout."""
        site = self.site
        session = site.current_session.find()
        if session is None:
            return self.signed_out()
        site.csrf.check_token(session)
        site.sessions.end(session)
        identity = site.request_state.identity = session.identity
        site.audit.record("SignOut", identity.account_id, provider=identity.provider)
        response = provider_logout(identity) or self.signed_out()
        site.cookies.clear_session(response)
        return response

    def signed_out(self, *, everywhere: bool = True) -> Response:
        """Return the page of somebody who has just been signed out."""
        response = self.site.responses.render("login/signed_out.html", everywhere=everywhere)
        self.site.cookies.clear_session(response)
        return response


def _demanded_tags(role: RoleRecord | None) -> tuple[str, ...]:
    return demanded_tags(role.trust) if role else ()


# What is read from a file, or asks for more than keys, is told the address as well.
_WITH_ADDRESS: Final = frozenset({"file", "terraform"})


def _format_credentials(credentials: Mapping[str, Any], profile: str, endpoint: str) -> list[FormattedCredentials]:
    """Return the credentials in every format; the address beside them where the format is that of the AWS CLI."""
    found = []
    for key, one in FORMATS.items():
        plain, whole = one.text(credentials, Target(profile)), one.text(credentials, Target(profile, endpoint))
        endpoint_text = "" if key in _WITH_ADDRESS else whole.removeprefix(plain)
        found.append(FormattedCredentials(key, one.title, whole if key in _WITH_ADDRESS else plain, endpoint_text))
    return found


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
    about, longest = role.description, role.max_session
    return RoleRow(role.arn, role.name, account, role.account_id, about, longest, mark, running, mfa, reason)


def _listing(rows: Sequence[RoleRow], scope: PageRequest, *, stale: bool) -> RoleListing:
    page = paginate(rows, scope, lambda row: row.text)
    marked = [] if scope.words or page.page > 1 else _pinned_and_recent(rows)
    return RoleListing(page.rows, marked, page.found, page.page, page.pages, page.query, stale)


def _offered_durations(listing: RoleListing) -> list[int]:
    """Return the lengths that one of the roles in the list allows."""
    longest = max((row.max_session for row in (*listing.rows, *listing.marked)), default=0)
    return [seconds for seconds in DURATIONS if seconds <= longest]


def _pinned_and_recent(rows: Sequence[RoleRow]) -> list[RoleRow]:
    """Return the pinned roles, then the ones taken last."""
    pinned = [row for row in rows if row.mark.pinned]
    taken = [row for row in rows if row.mark.taken and not row.mark.pinned]
    recent = sorted(taken, key=lambda row: row.mark.taken or 0, reverse=True)
    return pinned + recent[:_RECENT]


def _preselected(listing: RoleListing, wish: str) -> str:
    """Return the role that Enter takes: the one wished for, the one that stands first, or the first of all."""
    rows = [*listing.marked, *listing.rows]
    wished = [row.arn for row in rows if row.arn == wish]
    return next(iter([*wished, *(row.arn for row in rows)]), "")


def _machine_readable(rows: Sequence[RoleRow]) -> str:
    """Return the roles by account as programs that pick roles from such pages expect them."""
    accounts: dict[str, list[str]] = {}
    for row in rows:
        accounts.setdefault(row.account, []).append(row.arn)
    return b64encode(json.dumps({"roles_accounts": accounts}).encode()).decode()
