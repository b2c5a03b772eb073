"""Builds the site that all pages share, and what pages of several areas are built from."""

import time

from broker.config.settings import Settings
from broker.sessions.revocation import SessionListing, SessionRevocation
from broker.sessions.validity import SessionValidity
from broker.web.branding.appearance import Appearance
from broker.web.core.cookies import Cookies
from broker.web.core.csrf import CsrfProtection
from broker.web.core.current_session import CurrentSession
from broker.web.core.forms import Forms
from broker.web.core.page_audit import PageAudit
from broker.web.core.request_states import RequestStates
from broker.web.core.responses import Responses
from broker.web.core.site import Site
from broker.web.core.urls import is_https
from broker.wiring.api import Api
from broker.wiring.clock_and_random import random
from broker.wiring.storage import Storage


def build_site(settings: Settings, storage: Storage, api: Api) -> Site:
    """Return what all pages share."""
    sessions, validity = storage.browser_sessions, SessionValidity(storage.store, api.gate.kinds)
    requests = RequestStates(api.gate, api.trusted_proxies)
    cookies = Cookies(is_https(settings.public_url))
    csrf = CsrfProtection(settings.public_url)
    audit = PageAudit(storage.audit, requests, cookies, storage.browser_sessions)
    return Site(
        gate=api.gate,
        sessions=sessions,
        session_validity=validity,
        public_url=settings.public_url,
        maintenance=settings.pages_maintenance,
        requests=requests,
        cookies=cookies,
        csrf=csrf,
        audit=audit,
        current_session=CurrentSession(
            sessions=sessions,
            validity=validity,
            cookies=cookies,
            csrf=csrf,
            requests=requests,
            audit=audit,
            maintenance=settings.pages_maintenance,
        ),
        responses=Responses(
            public_url=settings.public_url, appearance=build_appearance(settings), cookies=cookies, requests=requests
        ),
    )


def build_appearance(settings: Settings) -> Appearance:
    """Return how the pages look."""
    return Appearance(
        organisation=settings.pages_organisation,
        logo_file=settings.pages_logo_file,
        colours=settings.pages_colours,
        help_url=settings.pages_help_url,
        status_url=settings.pages_status_url,
        privacy_url=settings.pages_privacy_url,
        notice=settings.pages_notice,
    )


def build_forms(storage: Storage, site: Site) -> Forms:
    """Return the forms that take a password or a code."""
    return Forms(site=site, vault=storage.vault, pause=time.sleep)


def build_revocation(storage: Storage, site: Site) -> SessionRevocation:
    """Return the lists of sessions, and what ends them."""
    listing = SessionListing(store=storage.store, live_sessions=storage.live_sessions, now=site.gate.now)
    return SessionRevocation(
        store=storage.store,
        listing=listing,
        browser_sessions=site.sessions,
        audit=storage.audit,
        now=site.gate.now,
        random=random,
    )
