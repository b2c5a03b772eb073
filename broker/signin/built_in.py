"""The kinds of identity that Fedgate knows: directories, SAML, web identities, and the users and owners of accounts."""

from dataclasses import dataclass
from typing import Any

from broker.signin.kinds import BrokerIdentityKind
from broker.signin.ldap import LdapSignIn
from broker.signin.saml import SamlSignIn
from broker.signin.web_identity import WebIdentitySignIn
from sts import identity_kinds


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIns:
    """What proves identities."""

    ldap: LdapSignIn
    saml: SamlSignIn
    web_identity: WebIdentitySignIn


def built_in_kinds(sign_ins: SignIns) -> tuple[BrokerIdentityKind[Any], ...]:
    """Return the broker's half of each kind; the halves of the STS are `sts.identity_kinds.STS_IDENTITY_KINDS`."""
    return (
        BrokerIdentityKind(
            name=identity_kinds.LDAP.name,
            authenticate=sign_ins.ldap.authenticate,
        ),
        BrokerIdentityKind(
            name=identity_kinds.SAML.name,
            authenticate=sign_ins.saml.authenticate,
            consume=sign_ins.saml.consume,
        ),
        BrokerIdentityKind(
            name=identity_kinds.WEB_IDENTITY.name,
            authenticate=sign_ins.web_identity.authenticate,
            consume=sign_ins.web_identity.consume,
        ),
        BrokerIdentityKind(
            name=identity_kinds.IAM.name,
        ),
    )
