"""Builds all pages, and the site that they share."""

import time
from dataclasses import dataclass

from broker.audit.search import AuditSearch
from broker.authz.resource_table import ResourceTable
from broker.authz.sign_in.service_sign_in import ServiceSignIn
from broker.config.settings import Settings
from broker.sessions.revocation import SessionRevocation
from broker.signin.built_in import SignIns
from broker.web.account.password import Passwords
from broker.web.account.security import SecurityPage
from broker.web.account.sessions import OwnSessions
from broker.web.admin.access import AdminAccess
from broker.web.admin.audit import AuditPages
from broker.web.admin.operators import Operators
from broker.web.admin.pages import AdminPages
from broker.web.admin.sessions import AdminSessions
from broker.web.core.site import Site
from broker.web.login.completion import LoginCompletion
from broker.web.portal.credentials import CredentialsPage
from broker.web.portal.portal import Portal
from broker.web.portal.role_explanation import RoleExplanationPages
from broker.web.portal.service import ServicePages
from broker.wiring.login_pages import LoginPages, build_login_pages
from broker.wiring.providers import Providers
from broker.wiring.site import build_forms, build_revocation
from broker.wiring.storage import Storage


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountPages:
    """The pages on which people see and change what is theirs."""

    passwords: Passwords
    security: SecurityPage
    sessions: OwnSessions


@dataclass(frozen=True, slots=True, kw_only=True)
class RolePages:
    """The pages on which people take roles, and see why they can or cannot."""

    portal: Portal
    explanation: RoleExplanationPages
    service: ServicePages


@dataclass(frozen=True, slots=True, kw_only=True)
class AdministrationPages:
    """The pages of administrators."""

    accounts: AdminPages
    sessions: AdminSessions
    audit: AuditPages


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """All pages, and what they share."""

    site: Site
    login: LoginPages
    account: AccountPages
    roles: RolePages
    administration: AdministrationPages


def build_pages(
    settings: Settings,
    storage: Storage,
    providers: Providers,
    sign_ins: SignIns,
    site: Site,
    service_sign_in: ServiceSignIn,
) -> Pages:
    """Return the pages of all areas, on the site that they share."""
    access = AdminAccess(site=site, operators=Operators.of(settings.pages_operators))
    revocation = build_revocation(storage, site)
    completion = LoginCompletion(site=site)
    roles = RolePages(
        portal=Portal(
            site=site,
            admin_access=access,
            credentials=CredentialsPage(site=site, admin_access=access),
            other_roles=settings.pages_other_roles,
        ),
        explanation=RoleExplanationPages(site=site, admin_access=access, other_roles=settings.pages_other_roles),
        service=_build_service_pages(settings, access, service_sign_in),
    )
    login = build_login_pages(settings, storage, providers, sign_ins, completion, roles.portal)
    return Pages(
        site=site,
        login=login,
        account=AccountPages(
            passwords=Passwords(
                site=site,
                completion=completion,
                forms=build_forms(storage, site),
                ldap=sign_ins.ldap,
                iam_password=sign_ins.iam_password,
            ),
            security=SecurityPage(site=site, completion=completion, admin_access=access),
            sessions=OwnSessions(site=site, admin_access=access, revocation=revocation),
        ),
        roles=roles,
        administration=_build_administration_pages(settings, storage, providers, access, revocation),
    )


def _build_service_pages(settings: Settings, access: AdminAccess, sign_in: ServiceSignIn) -> ServicePages:
    return ServicePages(
        site=access.site,
        admin_access=access,
        other_roles=settings.pages_other_roles,
        resources=ResourceTable(settings.resources),
        starts=sign_in.starts,
        addresses=sign_in.addresses,
        service_sessions=sign_in.service_sessions,
    )


def _build_administration_pages(
    settings: Settings, storage: Storage, providers: Providers, access: AdminAccess, revocation: SessionRevocation
) -> AdministrationPages:
    return AdministrationPages(
        accounts=AdminPages(
            site=access.site,
            admin_access=access,
            directories=providers.directories,
            jwks_cache=providers.jwks_cache,
            monotonic=time.monotonic,
        ),
        sessions=AdminSessions(site=access.site, admin_access=access, revocation=revocation),
        audit=AuditPages(
            site=access.site,
            admin_access=access,
            search=AuditSearch(
                folder=settings.audit_dir, pause=lambda: time.sleep(0), unlogged=storage.reconciliation.unlogged_lines
            ),
        ),
    )
