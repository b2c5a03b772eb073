"""The kinds of identity that Fedgate knows: directories, SAML, web identities, and the users and owners of accounts."""

from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from broker.audit import user_identity
from broker.sessions.refresh import DirectoryRefresh
from broker.sessions.validity import ProviderValidity
from broker.sessions.web_identity_refresh import WebIdentityRefresh
from broker.signin.iam_password import IamPasswordSignIn
from broker.signin.kinds import BrokerIdentityKind
from broker.signin.ldap import LdapSignIn
from broker.signin.logout import SamlLogout, WebIdentityLogout
from broker.signin.saml import SamlSignIn
from broker.signin.web_identity import WebIdentitySignIn
from iam.store.store import Store
from sts import identity_kinds


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIns:
    """What proves identities."""

    ldap: LdapSignIn
    saml: SamlSignIn
    web_identity: WebIdentitySignIn
    iam_password: IamPasswordSignIn


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """What refreshes identities, and signs them out at their providers."""

    directory_refresh: DirectoryRefresh
    web_identity_refresh: WebIdentityRefresh
    saml_logout: SamlLogout
    web_identity_logout: WebIdentityLogout


def built_in_kinds(
    sign_ins: SignIns, signed_in: SignedIn, store: Store, directories: Container[str]
) -> tuple[BrokerIdentityKind[Any], ...]:
    """Return the broker's half of each kind; the halves of the STS are `sts.identity_kinds.STS_IDENTITY_KINDS`."""
    validity = ProviderValidity(store)
    return (
        BrokerIdentityKind(
            name=identity_kinds.LDAP.name,
            authenticate=sign_ins.ldap.authenticate,
            user_identity=user_identity.directory_person,
            is_valid=lambda identity, now: (
                identity.directory in directories and validity.is_directory_valid(identity, now)
            ),
            refresh=signed_in.directory_refresh,
            asks_for_enrolled_mfa=True,
        ),
        BrokerIdentityKind(
            name=identity_kinds.SAML.name,
            authenticate=sign_ins.saml.authenticate,
            consume=sign_ins.saml.consume,
            user_identity=user_identity.saml_user,
            audit_details=user_identity.saml_details,
            is_valid=validity.is_saml_valid,
            provider_logout=signed_in.saml_logout,
        ),
        BrokerIdentityKind(
            name=identity_kinds.WEB_IDENTITY.name,
            authenticate=sign_ins.web_identity.authenticate,
            consume=sign_ins.web_identity.consume,
            user_identity=user_identity.web_identity_user,
            is_valid=validity.is_web_identity_valid,
            refresh=signed_in.web_identity_refresh,
            provider_logout=signed_in.web_identity_logout,
        ),
        BrokerIdentityKind(
            name=identity_kinds.IAM.name,
            user_identity=user_identity.iam_user,
            is_valid=validity.is_iam_valid,
            asks_for_enrolled_mfa=True,
        ),
    )
