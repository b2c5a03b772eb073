"""Builds the pages of somebody who is signing in."""

from dataclasses import dataclass
from datetime import timedelta

from broker.config.settings import Settings
from broker.providers.saml.signed_metadata import SignedMetadata
from broker.signin.built_in import SignIns
from broker.signin.saml import SamlSignIn
from broker.web.core.site import Site
from broker.web.login import oidc, saml
from broker.web.login.account import AccountLogin
from broker.web.login.completion import LoginCompletion
from broker.web.login.home_realms import HomeRealms
from broker.web.login.login_page import Login
from broker.web.login.login_starts import LIFETIME_SECONDS, LoginStarts
from broker.web.login.oidc import OidcPages
from broker.web.login.saml import SamlPages
from broker.web.login.sign_out import OFFER_LIFETIME, SignOut
from broker.web.mfa.enrolment import Enrolment
from broker.web.mfa.passkeys import CHALLENGE_SECONDS, Passkeys
from broker.web.mfa.second_factor import SecondFactor
from broker.web.portal.portal import Portal
from broker.wiring.providers import Providers
from broker.wiring.sign_ins import build_web_identity_refresh
from broker.wiring.site import build_forms, build_revocation
from broker.wiring.storage import Storage, build_sealed_fields

_SEED_LIFETIME = timedelta(hours=1)  # between the page that shows a TOTP seed and the first code


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginPages:
    """The pages of somebody who is signing in."""

    login: Login
    accounts: AccountLogin
    saml: SamlPages
    oidc: OidcPages
    second_factor: SecondFactor
    sign_out: SignOut
    enrolment: Enrolment


@dataclass(frozen=True, slots=True)
class _Redirects:
    """What the pages have in common that lead to an identity provider and back."""

    completion: LoginCompletion
    portal: Portal
    sign_out: SignOut
    login_starts: LoginStarts


def build_login_pages(
    settings: Settings,
    storage: Storage,
    providers: Providers,
    sign_ins: SignIns,
    completion: LoginCompletion,
    portal: Portal,
) -> LoginPages:
    """Return the pages of signing in and out, with those of second factors."""
    site, passkeys, forms = completion.site, _build_passkeys(settings, storage), build_forms(storage, completion.site)
    sign_out = _build_sign_out(storage, site)
    redirects = _Redirects(completion, portal, sign_out, _build_login_starts(storage, site))
    return LoginPages(
        login=Login(
            site=site,
            completion=completion,
            forms=forms,
            ldap=sign_ins.ldap,
            home_realms=_build_home_realms(settings, storage, providers),
            identifier_first=settings.pages_identifier_first,
        ),
        accounts=AccountLogin(site=site, completion=completion, forms=forms, sign_in=sign_ins.iam_password),
        saml=_build_saml_pages(providers, sign_ins.saml, redirects),
        oidc=_build_oidc_pages(storage, providers, redirects),
        sign_out=sign_out,
        second_factor=SecondFactor(site=site, completion=completion, forms=forms, passkeys=passkeys),
        enrolment=Enrolment(
            site=site,
            completion=completion,
            forms=forms,
            passkeys=passkeys,
            seeds=build_sealed_fields(storage, "totp-seed", _SEED_LIFETIME),
        ),
    )


def _build_sign_out(storage: Storage, site: Site) -> SignOut:
    offers = build_sealed_fields(storage, "sign-out", OFFER_LIFETIME)
    return SignOut(site=site, revocation=build_revocation(storage, site), offers=offers)


def _build_login_starts(storage: Storage, site: Site) -> LoginStarts:
    return LoginStarts(
        cookies=site.cookies,
        requests=site.requests,
        sealed=build_sealed_fields(storage, "login-start", timedelta(seconds=LIFETIME_SECONDS)),
    )


def _build_saml_pages(providers: Providers, sign_in: SamlSignIn, redirects: _Redirects) -> SamlPages:
    return SamlPages(
        site=redirects.completion.site,
        completion=redirects.completion,
        portal=redirects.portal,
        sign_out=redirects.sign_out,
        sign_in=sign_in,
        service_provider=providers.saml_service_provider,
        keys=providers.saml_keys,
        signed_metadata=SignedMetadata(),
        login_starts=redirects.login_starts,
    )


def _build_oidc_pages(storage: Storage, providers: Providers, redirects: _Redirects) -> OidcPages:
    return OidcPages(
        site=redirects.completion.site,
        completion=redirects.completion,
        portal=redirects.portal,
        sign_out=redirects.sign_out,
        clients=providers.sign_in_clients,
        refresh=build_web_identity_refresh(storage, providers),
        single_use=storage.single_use,
        login_starts=redirects.login_starts,
    )


def _build_home_realms(settings: Settings, storage: Storage, providers: Providers) -> HomeRealms:
    store = storage.store
    return HomeRealms(
        providers.directories,
        lambda: (*saml.login_options(store), *oidc.login_options(store)),
        lambda arn: saml.find_login_option(store, arn) or oidc.find_login_option(store, arn),
        dict(_parse_realm(text) for text in settings.pages_realms),
    )


def _parse_realm(text: str) -> tuple[str, str]:
    """Return the domain and the provider of a DOMAIN=PROVIDER setting."""
    domain, _, provider = text.partition("=")
    return domain.casefold(), provider


def _build_passkeys(settings: Settings, storage: Storage) -> Passkeys:
    return Passkeys(
        public_url=settings.public_url,
        organisation=settings.pages_organisation,
        challenges=build_sealed_fields(storage, "passkey", timedelta(seconds=CHALLENGE_SECONDS)),
    )
