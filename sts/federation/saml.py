"""The session that a SAML assertion requests, and its condition keys for a trust policy.

Pure. Source: IAM User Guide, "Configure SAML assertions for the authentication response" (attributes, and which of them
become condition keys) and "IAM and AWS STS condition context keys"; STS API reference, "AssumeRoleWithSAML".
"""

import hashlib
import re
from base64 import b64encode
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from iam.arn import parse_arn
from iam.errors import InvalidIdentityToken
from sts.identity import SamlIdentity
from sts.trust import session_name

ATTRIBUTES = "https://aws.amazon.com/SAML/Attributes/"
_TAG = f"{ATTRIBUTES}PrincipalTag:"
_NAME_ID_FORMATS = "urn:oasis:names:tc:SAML:2.0:nameid-format:"
SESSION_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_SECONDS = re.compile(r"[0-9]{3,5}", re.ASCII)
_MIN_SECONDS, _MAX_SECONDS = 900, 43_200
# [\p{L}\p{Z}\p{N}_.:/=+\-@]: STS API reference, "Tag".
TAG_KEY = re.compile(r"(?:[\w.:/=+\-@]|[^\S\t-\r\x1c-\x1f\x85]){1,128}")
TAG_VALUE = re.compile(r"(?:[\w.:/=+\-@]|[^\S\t-\r\x1c-\x1f\x85]){0,256}")
MOST_TAGS = 50
# isMemberOf and eduPersonEntitlement are known by their numbers too; "wids" are roles in Entra ID.
_MEMBERSHIPS = re.compile(
    r"group|role|member|entitlement|affiliation|(?<![^:/.])(?:wids|teams?|orgs)(?![^:/.])"
    r"|1\.3\.6\.1\.4\.1\.5923\.1\.(?:5\.1\.1|1\.1\.(?:1|5|7|9))\b",
    re.IGNORECASE,
)
_HOST = re.compile(r"https?://[^/]*", re.IGNORECASE)

_EDU_PERSON = "urn:oid:1.3.6.1.4.1.5923.1.1.1."
_EDU_ORG = "urn:oid:1.3.6.1.4.1.5923.1.2.1."
_CLAIMS = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/"
# "Mapping SAML attributes to AWS trust policy context keys".
KEYS: Mapping[str, str] = MappingProxyType(
    {
        f"{_EDU_PERSON}1": "edupersonaffiliation",
        f"{_EDU_PERSON}2": "edupersonnickname",
        f"{_EDU_PERSON}3": "edupersonorgdn",
        f"{_EDU_PERSON}4": "edupersonorgunitdn",
        f"{_EDU_PERSON}5": "edupersonprimaryaffiliation",
        f"{_EDU_PERSON}6": "edupersonprincipalname",
        f"{_EDU_PERSON}7": "edupersonentitlement",
        f"{_EDU_PERSON}8": "edupersonprimaryorgunitdn",
        f"{_EDU_PERSON}9": "edupersonscopedaffiliation",
        f"{_EDU_PERSON}10": "edupersontargetedid",
        f"{_EDU_PERSON}11": "edupersonassurance",
        f"{_EDU_ORG}2": "eduorghomepageuri",
        f"{_EDU_ORG}3": "eduorgidentityauthnpolicyuri",
        f"{_EDU_ORG}4": "eduorglegalname",
        f"{_EDU_ORG}5": "eduorgsuperioruri",
        f"{_EDU_ORG}6": "eduorgwhitepagesuri",
        "urn:oid:2.5.4.3": "cn",
        f"{_CLAIMS}name": "name",
        "http://schemas.xmlsoap.org/claims/CommonName": "commonname",
        f"{_CLAIMS}givenname": "givenname",
        f"{_CLAIMS}surname": "surname",
        f"{_CLAIMS}emailaddress": "mail",
        "http://schemas.microsoft.com/ws/2008/06/identity/claims/primarygroupsid": "primarygroupsid",
        "2.5.4.3": "commonname",
        "2.5.4.4": "surname",
        "2.5.4.42": "givenname",
        "2.5.4.45": "x500uniqueidentifier",
        "0.9.2342.19200300.100.1.1": "uid",
        "0.9.2342.19200300.100.1.3": "mail",
        "0.9.2342.19200300.100.1.45": "organizationstatus",
    }
)


class RequestedSession(NamedTuple):
    """The session that the identity provider requests; ``seconds`` is None where the assertion has no duration."""

    name: str
    seconds: int | None
    tags: tuple[Mapping[str, str], ...]
    transitive: tuple[str, ...]
    source_identity: str | None

    def parameters(self) -> dict[str, Any]:
        """Return tags and source identity in the form of API parameters."""
        parameters: dict[str, Any] = {"Tags": self.tags} if self.tags else {}
        parameters |= {"TransitiveTagKeys": self.transitive} if self.transitive else {}
        return parameters | ({"SourceIdentity": self.source_identity} if self.source_identity else {})


def role_pairs(identity: SamlIdentity) -> tuple[tuple[str, str], ...]:
    """Return role and provider ARN of each Role value; AWS accepts them in either order."""
    pairs = []
    for value in identity.attributes.get(f"{ATTRIBUTES}Role", ()):
        parts = [part.strip() for part in value.split(",")]
        kinds = [_kind(part) for part in parts]
        if sorted(kinds) == ["role", "saml-provider"]:
            pairs.append((parts[kinds.index("role")], parts[kinds.index("saml-provider")]))
    return tuple(dict.fromkeys(pairs))


def names_roles(identity: SamlIdentity) -> bool:
    """Return whether the assertion has a Role attribute, even one without a valid value."""
    return f"{ATTRIBUTES}Role" in identity.attributes


def _kind(text: str) -> str:
    arn = parse_arn(text)
    return arn.resource.partition("/")[0] if arn is not None and arn.service == "iam" else ""


def requested_session(identity: SamlIdentity) -> RequestedSession:
    """Return the session that the attributes request; raise InvalidIdentityToken."""
    tags = _tags(identity)
    transitive = tuple(dict.fromkeys(identity.attributes.get(f"{ATTRIBUTES}TransitiveTagKeys", ())))
    if not set(transitive) <= {tag["Key"] for tag in tags}:
        raise InvalidIdentityToken("TransitiveTagKeys in AuthnResponse must name keys of PrincipalTag attributes")
    return RequestedSession(_session_name(identity), _seconds(identity), tags, transitive, _source_identity(identity))


def _session_name(identity: SamlIdentity) -> str:
    name = _single(identity, "RoleSessionName")
    if name is None:
        if identity.map_by_trust and not names_roles(identity):
            return session_name(identity.subject, identity.person)
        raise InvalidIdentityToken("RoleSessionName is required in AuthnResponse")
    if not SESSION_NAME.fullmatch(name):
        raise InvalidIdentityToken("RoleSessionName in AuthnResponse must match [a-zA-Z_0-9+=,.@-]{2,64}")
    return name


def _seconds(identity: SamlIdentity) -> int | None:
    text = _single(identity, "SessionDuration")
    if text is None:
        return None
    if not _SECONDS.fullmatch(text) or not _MIN_SECONDS <= int(text) <= _MAX_SECONDS:
        raise InvalidIdentityToken(
            f"SessionDuration in AuthnResponse must be a number of seconds from {_MIN_SECONDS} to {_MAX_SECONDS}"
        )
    return int(text)


def _source_identity(identity: SamlIdentity) -> str | None:
    text = _single(identity, "SourceIdentity")
    if text is not None and (not SESSION_NAME.fullmatch(text) or text.lower().startswith("aws:")):
        raise InvalidIdentityToken('Source Identity must match [a-zA-Z_0-9+=,.@-]{2,64} and not begin with "aws:"')
    return text


def _tags(identity: SamlIdentity) -> tuple[Mapping[str, str], ...]:
    names = [name for name in identity.attributes if name.startswith(_TAG)]
    keys = [name.removeprefix(_TAG) for name in names]
    if len({key.lower() for key in keys}) != len(keys):
        raise InvalidIdentityToken("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
    if len(keys) > MOST_TAGS:
        raise InvalidIdentityToken(f"AuthnResponse has more than {MOST_TAGS} PrincipalTag attributes")
    return tuple(_tag(key, identity.attributes[name]) for key, name in zip(keys, names, strict=True))


def _tag(key: str, values: tuple[str, ...]) -> Mapping[str, str]:
    if key.lower().startswith("aws:"):
        raise InvalidIdentityToken("Tag keys that begin with aws: are reserved for internal use.")
    if not TAG_KEY.fullmatch(key) or len(values) != 1 or not TAG_VALUE.fullmatch(values[0]):
        raise InvalidIdentityToken(f"PrincipalTag:{key[:128]} in AuthnResponse must be a tag with one value")
    return {"Key": key, "Value": values[0]}


def _single(identity: SamlIdentity, name: str) -> str | None:
    values = identity.attributes.get(f"{ATTRIBUTES}{name}", ())
    if len(values) > 1:
        raise InvalidIdentityToken(f"{name} in AuthnResponse must have one value")
    return values[0] if values else None


def name_qualifier(identity: SamlIdentity) -> str:
    """Return saml:namequalifier, which makes a subject unique among all providers: the hash that AWS documents."""
    text = f"{identity.issuer}{identity.account_id}/{identity.provider_name}"
    return b64encode(hashlib.sha1(text.encode(), usedforsecurity=False).digest()).decode("ascii")


def subject_type(identity: SamlIdentity) -> str:
    """Return the format of the subject without the prefix of SAML 2.0, such as ``persistent``."""
    return identity.name_format.removeprefix(_NAME_ID_FORMATS)


def session_claims(identity: SamlIdentity) -> dict[str, str]:
    """Return the condition keys that stay with the session ("saml:namequalifier, saml:sub, saml:sub_type")."""
    return {
        "saml:sub": identity.subject,
        "saml:sub_type": subject_type(identity),
        "saml:namequalifier": name_qualifier(identity),
    }


def saml_keys(identity: SamlIdentity) -> dict[str, tuple[str, ...]]:
    """Return the condition keys of a proved person, names in lower case.

    Every attribute is there as ``saml:attribute/<Name>``; those of AWS's tables also bear the names they have there.
    """
    keys: dict[str, tuple[str, ...]] = {}
    for name, values in identity.attributes.items():
        if values:
            attribute_key = f"saml:attribute/{name.lower()}"
            # Condition keys have no case, so the values of names that differ only in case are combined.
            keys[attribute_key] = keys.get(attribute_key, ()) + values
            if name in KEYS:
                keys.setdefault(f"saml:{KEYS[name]}", values)  # "only one claim will be mapped"
    keys |= {key: (value,) for key, value in session_claims(identity).items()}
    return keys | {
        "saml:aud": (identity.recipient,),
        "saml:iss": (identity.issuer,),
        "saml:doc": (f"{identity.account_id}/{identity.provider_name}",),
    }


def names_memberships(name: str) -> bool:
    """Return whether policies tell members from others by an attribute or a claim of this name.

    The name may have a prefix, as ``cognito:groups`` has; the host in a URL says nothing about what the URL names.
    """
    return _MEMBERSHIPS.search(_HOST.sub("", name, count=1)) is not None
