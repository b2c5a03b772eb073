"""The session that a web identity token requests, and its condition keys for a trust policy.

Pure. Source: IAM User Guide, "Pass session tags in AWS STS" (AssumeRoleWithWebIdentity), "Monitor and control actions
taken with assumed roles" (source identity) and "Available keys for AWS OIDC federation".
"""

from collections.abc import Mapping
from typing import Any, TypeGuard

from iam.errors import InvalidIdentityToken
from iam.policy.strict_json import Number
from sts.federation.saml import MOST_TAGS, SESSION_NAME, TAG_KEY, TAG_VALUE, names_memberships
from sts.identity import WebIdentity

TAGS = "https://aws.amazon.com/tags"
SOURCE_IDENTITY = "https://aws.amazon.com/source_identity"
_FLAT = f"{TAGS}/principal_tags/"
_FLAT_TRANSITIVE = f"{TAGS}/transitive_tag_keys"
# Claims for which AWS documents a condition key of its own stay with the session, for the policies of resources.
_SESSION_CLAIMS, _SESSION_CLAIMS_OF_ACCESS_TOKENS = ("aud", "sub", "amr"), ("aud", "app_id", "id", "user_id")
_MAX_SESSION_CLAIM = 255  # characters; a subject has at most as many (OpenID Connect Core, section 2)


def claim_values(claims: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the claims that a policy can use, as texts: strings, numbers, booleans, and lists of them.

    Raise InvalidIdentityToken where two names differ only in case: condition keys have no case, so that a claim which
    the person may choose could stand in for one that the issuer verified. Raise it too where the memberships of a
    person are not all in the claims.
    """
    if len({name.lower() for name in claims}) != len(claims):
        raise InvalidIdentityToken("The token has claims whose names differ in case alone")
    _check_memberships(claims)
    values_by_claim: dict[str, tuple[str, ...]] = {}
    for name, value in claims.items():
        texts = map(_text, _listed(value))
        values = tuple(text for text in texts if text is not None)
        if values:
            values_by_claim[name] = values
    return values_by_claim


def _check_memberships(claims: Mapping[str, Any]) -> None:
    """Raise InvalidIdentityToken where groups are left out of the claims, or one of them cannot be read.

    A Deny for a group that is missing would not hold (THREATS J12).
    Entra ID leaves out the groups of people who are in more than 200: ``_claim_names`` (OpenID Connect Core, section
    5.6.2) or ``hasgroups`` then says where to ask for them ("Configure group claims", groups overage claim).
    """
    elsewhere = claims.get("_claim_names")
    left_out = [name for name in elsewhere if name not in claims] if isinstance(elsewhere, dict) else []
    if claims.get("hasgroups") in (True, "true") and "groups" not in claims:
        left_out.append("groups")
    for name in filter(names_memberships, left_out):
        raise InvalidIdentityToken(
            f"The token leaves out the claim {name[:200]}: the person is in too many groups for it."
            " Let the provider send only groups that are assigned to the application."
        )
    for name in filter(names_memberships, claims):
        if any(_text(value) is None for value in _listed(claims[name]) if value is not None):
            raise InvalidIdentityToken(f"The claim {name[:200]} has a value that cannot be read")


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _text(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str) else None


def source_identity(claims: Mapping[str, Any]) -> str | None:
    """Return the source identity of a token; raise InvalidIdentityToken."""
    value = claims.get(SOURCE_IDENTITY)
    if value is None:
        return None
    if not _is_text(value) or not SESSION_NAME.fullmatch(value) or value.lower().startswith("aws:"):
        raise InvalidIdentityToken('Source Identity must match [a-zA-Z_0-9+=,.@-]{2,64} and not begin with "aws:"')
    return value


def session_tags(claims: Mapping[str, Any]) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Return the tags and the transitive tag keys, from nested or flat claims; raise InvalidIdentityToken."""
    nested = claims.get(TAGS, {})
    if not isinstance(nested, dict):
        raise InvalidIdentityToken(f"The claim {TAGS} must be an object")
    principal = nested.get("principal_tags", {})
    if not isinstance(principal, dict):
        raise InvalidIdentityToken("principal_tags must be an object")
    flat = {name.removeprefix(_FLAT): value for name, value in claims.items() if name.startswith(_FLAT)}
    values = principal | flat
    tags = tuple((key, _tag(key, value)) for key, value in values.items())
    if len(tags) > MOST_TAGS:
        raise InvalidIdentityToken(f"The token has more than {MOST_TAGS} principal tags")
    if len({key.lower() for key, _ in tags}) != len(tags):
        raise InvalidIdentityToken("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
    transitive = nested.get("transitive_tag_keys", claims.get(_FLAT_TRANSITIVE, []))
    keys = transitive if isinstance(transitive, list) else [transitive]
    if not all(_is_text(key) and key in values for key in keys):
        raise InvalidIdentityToken("The specified transitive tag key must be included in the requested tags.")
    return tags, tuple(dict.fromkeys(keys))


def _tag(key: str, value: object) -> str:
    values: list[object] = value if isinstance(value, list) else [value]
    if key.lower().startswith("aws:"):
        raise InvalidIdentityToken("Tag keys that begin with aws: are reserved for internal use.")
    text = values[0] if len(values) == 1 else None
    if not _is_text(text) or not TAG_KEY.fullmatch(key) or not TAG_VALUE.fullmatch(text):
        raise InvalidIdentityToken(f"The principal tag {key[:128]} must be a tag with one value")
    return text


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and not isinstance(value, Number)


def web_keys(identity: WebIdentity) -> dict[str, tuple[str, ...]]:
    """Return the condition keys of a verified person or program, names in lower case.

    ``aud`` is the client that the token was issued to (``azp`` where the token has it), ``oaud`` its audience. These
    and ``sub`` are the verified values, and replace claims of the same names.
    """
    prefix = identity.key_prefix.lower()
    keys = {f"{prefix}:{name.lower()}": values for name, values in identity.attributes.items()}
    if identity.audiences:
        keys[f"{prefix}:oaud"] = identity.audiences
        keys[f"{prefix}:aud"] = (identity.audience,)
        keys[f"{prefix}:sub"] = (identity.subject,)
    return keys


def session_claims(identity: WebIdentity) -> dict[str, str]:
    """Return the condition keys that stay with the session: those with one value, which is not too long for a token."""
    keys = web_keys(identity)
    names = _SESSION_CLAIMS if identity.audiences else _SESSION_CLAIMS_OF_ACCESS_TOKENS
    prefix = identity.key_prefix.lower()
    values_by_key = {f"{prefix}:{name}": keys.get(f"{prefix}:{name}", ()) for name in names}
    return {
        key: values[0]
        for key, values in values_by_key.items()
        if len(values) == 1 and len(values[0]) <= _MAX_SESSION_CLAIM
    }
