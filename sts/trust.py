"""The principal, condition keys and session name of an identity, for the trust policy of a role.

Pure. Do not change these names, which stored trust policies use: a directory is the principal
``{"Federated": "arn:aws:iam::<account>:ldap-provider/<directory>"}``, and its attributes and groups are ``ldap:*``
condition keys.
"""

import hashlib
import re
from collections.abc import Iterable

from iam.arn import iam_arn, parse_arn
from iam.policy.document import Policy
from iam.principal import Principal, PrincipalKind
from sts.identity import Identity

# AssumeRole API reference, RoleSessionName: 2 to 64 of these characters.
_NOT_IN_A_SESSION_NAME = re.compile(r"[^\w+=,.@-]", re.ASCII)
_MIN_LENGTH, _MAX_LENGTH = 2, 64
# 80 bits of the person's digest. Nobody can search for a subject that has the mark of another person, not even where
# people choose their own subjects, such as the NameIDs and ``sub`` claims of providers with self-registration.
_MARK_DIGITS = 20
_MARKED = re.compile(rf".*-[0-9a-f]{{{_MARK_DIGITS}}}", re.DOTALL)


def session_name(login_name: str, person: str) -> str:
    """Return the RoleSessionName of a person (``provider|subject``): the login name, where it can be one as it is.

    In any other name, other characters become ``-`` and what is too long is cut; a mark, which is derived from the
    person, follows, so that no two people have one ARN. A login name that ends as a mark does gets one too: nobody can
    bear the marked name of somebody else.
    """
    readable = _NOT_IN_A_SESSION_NAME.sub("-", login_name)
    if readable == login_name and _MIN_LENGTH <= len(readable) <= _MAX_LENGTH and not _MARKED.fullmatch(readable):
        return readable
    mark = hashlib.sha256(person.encode("utf-8", "surrogatepass")).hexdigest()[:_MARK_DIGITS]
    return f"{readable[: _MAX_LENGTH - 1 - _MARK_DIGITS]}-{mark}"


def federated_principal(identity: Identity, account_id: str) -> Principal:
    """Return the principal of an identity, by the provider's ARN in an account."""
    kind, _, name = identity.provider.partition("/")
    provider = identity.provider if parse_arn(identity.provider) else iam_arn(account_id, kind, name)
    return Principal(
        PrincipalKind.FEDERATED, account_id, provider, f"{provider}:{identity.subject}", name=identity.name
    )


def ldap_keys(identity: Identity) -> dict[str, tuple[str, ...]]:
    """Return the condition keys of a directory identity, names in lower case."""
    keys = {f"ldap:{name.lower()}": values for name, values in identity.attributes.items()}
    keys["ldap:username"] = (identity.name,)
    keys["ldap:sub"] = (identity.subject,)
    keys["ldap:groups"] = identity.groups
    keys["ldap:group-names"] = identity.group_names
    return {name: values for name, values in keys.items() if values}


def asks_for_mfa(trust: Iterable[Policy]) -> bool:
    """Return whether any condition of a trust policy is about MFA."""
    return any(
        condition.key in _MFA_KEYS
        for policy in trust
        for statement in policy.statements
        for condition in statement.conditions
    )


def demanded_tags(trust: Iterable[Policy]) -> tuple[str, ...]:
    """Return the session tags in the conditions of a trust policy's Allow statements, such as a ticket or a reason."""
    names = (
        condition.name[len(_REQUEST_TAG) :]
        for policy in trust
        for statement in policy.statements
        if not statement.denies
        for condition in statement.conditions
        if condition.key.startswith(_REQUEST_TAG)
    )
    return tuple({name.lower(): name for name in names}.values())


_REQUEST_TAG = "aws:requesttag/"
_MFA_KEYS = frozenset({"aws:multifactorauthpresent", "aws:multifactorauthage"})
