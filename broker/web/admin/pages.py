"""/admin: accounts, security findings, roles, users and identity providers, for administrators.

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
from iam.inventory.known_providers import DirectoryAccounts
from iam.inventory.pagination import Page, PageRequest, paginate
from iam.inventory.providers import OidcProvider, SamlProvider, oidc_providers, saml_providers
from iam.inventory.roles import Role, roles
from iam.inventory.security_findings import SecurityFinding, concerns
from iam.inventory.users import User, users

_LONGEST: Final = 200  # characters of a search


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminPages:
    """The administration pages; ``directories`` are the configured directories."""

    site: Site
    admin_access: AdminAccess
    directories: Mapping[str, LdapProvider]
    jwks_cache: JwksCache
    monotonic: Callable[[], float]

    def blueprint(self) -> Blueprint:
        """Return the routes; none of them changes anything."""
        blueprint = Blueprint("admin", __name__)
        blueprint.get("/admin")(self.overview)
        blueprint.get("/admin/roles")(self.roles)
        blueprint.get("/admin/users")(self.users)
        blueprint.get("/admin/providers")(self.providers)
        return blueprint

    def _require_scope(self, page: str) -> tuple[BrowserSession, PageRequest]:
        """Return the session and the requested page of its accounts, recorded; raise NotSignedIn, AccessDenied."""
        session = self.site.current_session.require()
        found = self.admin_access.require_accounts(session)
        query = request.args.get("q", "").replace("\0", "")[:_LONGEST]
        self.admin_access.record_view(session, page, query=query)
        return session, PageRequest.of(found, query, request.args.get("page", ""))

    def _page(self, template: str, session: BrowserSession, scope: PageRequest, **values: Any) -> Response:  # noqa: ANN401 - as Responses.render
        with self.site.store.read() as tx:
            account_names = names(tx, scope.accounts)
        return self.site.responses.render(
            template, session=session, administrator=True, query=scope.query, names=account_names, **values
        )

    def _directory_accounts(self) -> DirectoryAccounts:
        return {name: one.config.accounts for name, one in self.directories.items()}

    # --- overview -----------------------------------------------------------------------------------------------------

    def overview(self) -> Response:
        """Show the accounts and their security findings."""
        session, scope = self._require_scope("overview")
        with self.site.store.read() as tx:
            account_page = accounts(tx, PageRequest(scope.accounts, scope.query))
            findings = concerns(tx, scope.accounts, self._directory_accounts(), self.site.request_state.now)
            account_names = names(tx, scope.accounts)
        shown = paginate(findings, scope, lambda finding: f"{finding.text} {account_names.get(finding.account_id, '')}")
        finding_texts = [
            (finding, describe_finding(finding, account_names, self.site.public_url)) for finding in shown.rows
        ]
        if wants_json():
            warnings = [_concern_json(finding, text) for finding, text in finding_texts]
            return self._json(shown, "warnings", warnings, accounts=[asdict(account) for account in account_page.rows])
        return self._page(
            "admin/overview.html", session, scope, accounts=account_page, concerns=shown, words=finding_texts
        )

    # --- roles --------------------------------------------------------------------------------------------------------

    def roles(self) -> Response:
        """Show the roles with their trusted entities and last use."""
        session, scope = self._require_scope("roles")
        with self.site.store.read() as tx:
            page = roles(tx, scope, self._directory_accounts())
        used, stale = self._role_usage(page)
        if wants_json():
            return self._json(page, "roles", [_role_json(role, used.get(role.id)) for role in page.rows])
        shown = [
            (role, trust_statements(role), used.get(role.id), last_used(role, used.get(role.id))) for role in page.rows
        ]
        return self._page("admin/roles.html", session, scope, listing=page, shown=shown, stale=stale)

    def _role_usage(self, page: Page[Role]) -> tuple[Mapping[str, RoleUse], bool]:
        """Return the current use of these roles, and whether it is unavailable."""
        account_ids = sorted({role.account_id for role in page.rows})
        try:
            return uses(self.site.gate.sessions, account_ids, to_milliseconds(self.site.request_state.now)), False
        except RedisError:
            return {}, True

    # --- users --------------------------------------------------------------------------------------------------------

    def users(self) -> Response:
        """Show the users with their credentials and last activity."""
        session, scope = self._require_scope("users")
        with self.site.store.read() as tx:
            page = users(tx, scope)
        if wants_json():
            return self._json(page, "users", [_user_json(user) for user in page.rows])
        now = to_milliseconds(self.site.request_state.now)
        return self._page("admin/users.html", session, scope, listing=page, now=now)

    # --- providers ----------------------------------------------------------------------------------------------------

    def providers(self) -> Response:
        """Show directories with their status, and the SAML and OpenID Connect providers."""
        session, scope = self._require_scope("providers")
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
        """Return the status of an issuer's keys in this process's cache; never fetches them."""
        return self.jwks_cache.status(provider.issuer) or self.jwks_cache.status(f"{provider.issuer}/")

    def _json(self, page: Page[Any], name: str, rows: list[Any], **more: object) -> Response:
        return self.site.responses.json(
            {name: rows, "found": page.found, "page": page.page, "pages": page.pages, **more}
        )


# --- as JSON ----------------------------------------------------------------------------------------------------------


def _concern_json(finding: SecurityFinding, text: FindingText) -> dict[str, Any]:
    return asdict(finding) | {"what": text.what, "todo": text.remedy, "command": text.command}


def _role_json(role: Role, use: RoleUse | None) -> dict[str, Any]:
    return {
        "arn": role.arn,
        "account_id": role.account_id,
        "description": role.description,
        "max_session_duration": role.max_session,
        "created": role.created,
        "last_used": last_used(role, use),
        "running_sessions": use.running if use else 0,
        "nobody_can_assume": role.unassumable,
        "trust_policy": role.document,
        "findings": [str(finding) for finding in role.findings],
    }


def last_used(role: Role, use: RoleUse | None) -> int | None:
    """Return when a role was last used, in milliseconds, or None if that is unknown."""
    return max((role.taken or 0, use.last if use else 0)) or None


def _user_json(user: User) -> dict[str, Any]:
    keys = [
        {"ending": key.id_suffix, "active": key.active, "created": key.created, "last_used": key.last_used}
        for key in user.keys
    ]
    return {
        "arn": user.arn,
        "account_id": user.account_id,
        "created": user.created,
        "groups": user.groups,
        "has_password": user.has_password,
        "password_last_used": user.password_last_used,
        "access_keys": keys,
        "second_factors": [{"kind": f.kind, "name": f.name, "last_used": f.last_used} for f in user.factors],
        "last_activity": user.last_activity,
    }


def _directory_json(health: DirectoryHealth, urls: tuple[str, ...] | None) -> dict[str, Any]:
    status = {"name": health.name, "state": health.state, "error": health.error, "milliseconds": health.took}
    return status | ({"urls": urls} if urls else {})


def _saml_json(provider: SamlProvider) -> dict[str, Any]:
    certificates = [
        {
            "subject": certificate.subject,
            "fingerprint": certificate.fingerprint,
            "until": iso8601_exact(certificate.until),
        }
        for certificate in provider.certificates
    ]
    return {
        "arn": provider.arn,
        "entity_id": provider.entity_id,
        "certificates": certificates,
        "updated": provider.updated,
        "refresh_at": provider.refresh_at,
        "metadata_url": provider.metadata_url,
        "error": provider.error,
        "door": provider.door,
    }


def _oidc_json(provider: OidcProvider, keys: JwksStatus | None) -> dict[str, Any]:
    return {
        "arn": provider.arn,
        "issuer": provider.issuer,
        "client_ids": provider.client_ids,
        "door": provider.door,
        "keys": asdict(keys) if keys else None,
    }
