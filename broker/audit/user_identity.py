"""The userIdentity of whoever a provider has proved, for each kind of identity.

Source: CloudTrail User Guide, "CloudTrail userIdentity element". ``sessionContext.person`` is in the form that
`fedgate sessions revoke --person` takes.
"""

from broker.audit.envelope import Record
from iam.arn import root_arn
from sts.federation.saml import name_qualifier
from sts.identity import IamIdentity, Identity, SamlIdentity, WebIdentity


def directory_person(identity: Identity) -> Record:
    """Return the userIdentity of a person of a directory."""
    return {
        "type": "DirectoryUser",
        "principalId": f"{identity.provider}:{identity.subject}",
        "userName": identity.name,
        "identityProvider": identity.provider,
        "sessionContext": {"person": identity.person},
    }


def saml_user(identity: SamlIdentity) -> Record:
    """Return the userIdentity of a person whom a SAML identity provider authenticated."""
    return {
        "type": "SAMLUser",
        "principalId": f"{name_qualifier(identity)}:{identity.subject}",
        "userName": identity.subject,
        "identityProvider": identity.issuer,
        "sessionContext": {"person": identity.person},
    }


def saml_details(identity: SamlIdentity) -> Record:
    """Return what else is recorded of a SAML identity: the issuer and the id of its assertion."""
    return {"assertion": identity.assertion}


def web_identity_user(identity: WebIdentity) -> Record:
    """Return the userIdentity of a person or program with a web identity."""
    return {
        "type": "WebIdentityUser",
        "principalId": f"{identity.key_prefix}:{identity.audience}:{identity.subject}",
        "userName": identity.subject,
        "identityProvider": identity.issuer,
        "sessionContext": {"person": identity.person},
    }


def iam_user(identity: IamIdentity) -> Record:
    """Return the userIdentity of a user or the owner of an account, signed in with a password."""
    named = {"arn": root_arn(identity.account_id)} if identity.is_root else {"userName": identity.name}
    return {
        "type": "Root" if identity.is_root else "IAMUser",
        "principalId": identity.subject,
        "accountId": identity.account_id,
        **named,
        "sessionContext": {"person": identity.person},
    }
