"""/admin: accounts and what to look after, roles, users and identity providers, for whoever may read all of them.

Everything is limited to the accounts that somebody administers. Of the directories, which belong to no account, every
administrator sees name and state, and whoever administers all accounts the address as well.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from flask import Blueprint, Response, request
from redis.exceptions import RedisError

from broker.providers.ldap.provider import LdapProvider
from broker.providers.oidc.key_sets import JwksCache, JwksStatus
from broker.runtime.directory_health import DirectoryHealth, check_directories
from broker.sessions.browser import BrowserSession
from broker.sessions.role_usage import RoleUse, uses
from broker.web.admin.access import AdminAccess
from broker.web.admin.wording import FindingText, describe_finding, trust_statements
from broker.web.core.responses import wants_json
from broker.web.core.site import Site
from iam.clock import iso8601_exact, to_milliseconds
from iam.inventory.accounts import accounts, names
from iam.inventory.pagination import Page, PageRequest, paginate
from iam.inventory.providers import OidcProvider, SamlProvider, oidc_providers, saml_providers
from iam.inventory.roles import Role, roles
from iam.inventory.security_findings import SecurityFinding, concerns
from iam.inventory.users import User, users

_LONGEST: Final = 200  # characters of a search


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminPages:
    """The pages of those who administer; ``directories`` are those that are configured."""

    site: Site
    admin_access: AdminAccess
    directories: Mapping[str, LdapProvider]
    jwks_cache: JwksCache
    monotonic: Callable[[], float]

    def blueprint(self) -> Blueprint:
        """Return the routes; none of them changes anything."""
        made = Blueprint("admin", __name__)
        made.get("/admin")(self.overview)
        made.get("/admin/roles")(self.roles)
        made.get("/admin/users")(self.users)
        made.get("/admin/providers")(self.providers)
        return made

    def _require_scope(self) -> tuple[BrowserSession, PageRequest]:
        """Return who asks, and for what of the accounts that they may see; raise NotSignedIn, AccessDenied."""
        session = self.site.current_session.require()
        found = self.admin_access.require_accounts(session)
        query = request.args.get("q", "").replace("\0", "")[:_LONGEST]
        return session, PageRequest.of(found, query, request.args.get("page", ""))

    def _page(self, template: str, session: BrowserSession, scope: PageRequest, **values: Any) -> Response:  # noqa: ANN401 - as Site.render
        with self.site.store.read() as tx:
            called = names(tx, scope.accounts)
        return self.site.responses.render(
            template, session=session, administrator=True, query=scope.query, names=called, **values
        )

    # --- overview -----------------------------------------------------------------------------------------------------

    def overview(self) -> Response:
        """Show the accounts, and what to look after in them."""
        session, scope = self._require_scope()
        with self.site.store.read() as tx:
            found = accounts(tx, PageRequest(scope.accounts, scope.query))
            worries = concerns(tx, scope.accounts, self.directories, self.site.request_state.now)
            called = names(tx, scope.accounts)
        shown = paginate(worries, scope, lambda one: f"{one.text} {called.get(one.account_id, '')}")
        words = [(one, describe_finding(one, called)) for one in shown.rows]
        if wants_json():
            warnings = [_concern_json(one, words) for one, words in words]
            return self._json(shown, "warnings", warnings, accounts=[asdict(one) for one in found.rows])
        return self._page("admin/overview.html", session, scope, accounts=found, concerns=shown, words=words)

    # --- roles --------------------------------------------------------------------------------------------------------

    def roles(self) -> Response:
        """Show the roles, whom each lets in, and when it was last used."""
        session, scope = self._require_scope()
        with self.site.store.read() as tx:
            found = roles(tx, scope, self.directories)
        used, stale = self._role_usage(found)
        if wants_json():
            return self._json(found, "roles", [_role_json(one, used.get(one.id)) for one in found.rows])
        shown = [(one, trust_statements(one), used.get(one.id), last_used(one, used.get(one.id))) for one in found.rows]
        return self._page("admin/roles.html", session, scope, listing=found, shown=shown, stale=stale)

    def _role_usage(self, found: Page[Role]) -> tuple[Mapping[str, RoleUse], bool]:
        """Return who uses these roles just now, and whether that cannot be told."""
        wanted = sorted({one.account_id for one in found.rows})
        try:
            return uses(self.site.gate.sessions, wanted, to_milliseconds(self.site.request_state.now)), False
        except RedisError:
            return {}, True

    # --- users --------------------------------------------------------------------------------------------------------

    def users(self) -> Response:
        """Show the users, with what they prove themselves and when they last did."""
        session, scope = self._require_scope()
        with self.site.store.read() as tx:
            found = users(tx, scope)
        if wants_json():
            return self._json(found, "users", [_user_json(one) for one in found.rows])
        now = to_milliseconds(self.site.request_state.now)
        return self._page("admin/users.html", session, scope, listing=found, now=now)

    # --- providers ----------------------------------------------------------------------------------------------------

    def providers(self) -> Response:
        """Show who proves people: directories and whether they answer, SAML and OpenID Connect providers."""
        session, scope = self._require_scope()
        states = check_directories(self.directories, self.monotonic)
        operator = self.admin_access.is_operator(session)
        urls = {name: one.config.urls for name, one in self.directories.items()} if operator else {}
        with self.site.store.read() as tx:
            saml, oidc = saml_providers(tx, scope), oidc_providers(tx, scope)
        known = {one.arn: self._cached_keys(one) for one in oidc.rows}
        if wants_json():
            directories = [_directory_json(one, urls.get(one.name)) for one in states]
            issuers = [_oidc_json(one, known[one.arn]) for one in oidc.rows]
            return self.site.responses.json(
                {"directories": directories, "saml": [_saml_json(one) for one in saml.rows], "oidc": issuers}
            )
        shown: dict[str, Any] = {"states": states, "urls": urls, "saml": saml, "oidc": oidc, "known": known}
        longer: Page[Any] = saml if saml.pages >= oidc.pages else oidc
        now = self.site.request_state.now
        return self._page("admin/providers.html", session, scope, listing=longer, now=now, **shown)

    def _cached_keys(self, provider: OidcProvider) -> JwksStatus | None:
        """Return what this process knows of an issuer's keys; nobody is asked for them."""
        return self.jwks_cache.status(provider.issuer) or self.jwks_cache.status(f"{provider.issuer}/")

    def _json(self, page: Page[Any], name: str, rows: list[Any], **more: object) -> Response:
        return self.site.responses.json(
            {name: rows, "found": page.found, "page": page.page, "pages": page.pages, **more}
        )


# --- as JSON ----------------------------------------------------------------------------------------------------------


def _concern_json(one: SecurityFinding, words: FindingText) -> dict[str, Any]:
    return asdict(one) | {"what": words.what, "todo": words.remedy, "command": words.command}


def _role_json(one: Role, use: RoleUse | None) -> dict[str, Any]:
    return {
        "arn": one.arn,
        "account_id": one.account_id,
        "description": one.description,
        "max_session_duration": one.max_session,
        "created": one.created,
        "last_used": last_used(one, use),
        "running_sessions": use.running if use else 0,
        "nobody_can_assume": one.unassumable,
        "trust_policy": one.document,
        "findings": [str(finding) for finding in one.findings],
    }


def last_used(role: Role, use: RoleUse | None) -> int | None:
    """Return when a role was last used as far as anybody knows, in milliseconds."""
    return max((role.taken or 0, use.last if use else 0)) or None


def _user_json(one: User) -> dict[str, Any]:
    keys = [
        {"ending": key.id_suffix, "active": key.active, "created": key.created, "last_used": key.last_used}
        for key in one.keys
    ]
    return {
        "arn": one.arn,
        "account_id": one.account_id,
        "created": one.created,
        "groups": one.groups,
        "has_password": one.has_password,
        "password_last_used": one.password_last_used,
        "access_keys": keys,
        "second_factors": [{"kind": f.kind, "name": f.name, "last_used": f.last_used} for f in one.factors],
        "last_activity": one.last_activity,
    }


def _directory_json(one: DirectoryHealth, urls: tuple[str, ...] | None) -> dict[str, Any]:
    told_of = {"name": one.name, "state": one.state, "error": one.error, "milliseconds": one.took}
    return told_of | ({"urls": urls} if urls else {})


def _saml_json(one: SamlProvider) -> dict[str, Any]:
    certificates = [
        {"subject": c.subject, "fingerprint": c.fingerprint, "until": iso8601_exact(c.until)} for c in one.certificates
    ]
    return {
        "arn": one.arn,
        "entity_id": one.entity_id,
        "certificates": certificates,
        "updated": one.updated,
        "refresh_at": one.refresh_at,
        "metadata_url": one.metadata_url,
        "error": one.error,
        "door": one.door,
    }


def _oidc_json(one: OidcProvider, known: JwksStatus | None) -> dict[str, Any]:
    return {
        "arn": one.arn,
        "issuer": one.issuer,
        "client_ids": one.client_ids,
        "door": one.door,
        "keys": asdict(known) if known else None,
    }
