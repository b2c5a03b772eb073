"""Who the outside says you are; the one thing that every provider returns and that trust decisions read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Final

from iam.errors import ServiceUnavailable

_NONE: Mapping[str, tuple[str, ...]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Identity:
    """One person or program, just proved by one provider.

    ``provider`` is kind and name, such as ``ldap-provider/corp``. ``subject`` is the provider's stable id (objectGUID,
    entryUUID, NameID, ``sub``): it never passes to somebody else, as a name may. ``name`` is the login name as the
    provider writes it, not as it was typed. ``groups`` are distinguished names as ``normalise_dn`` spells them, or
    claim values; ``group_names`` are their short names, in the same order. ``authenticated_at`` is aware and in UTC.
    ``account_id`` is empty for a directory, which the roles of every account may trust. ``session_until`` ends whatever
    begins with the proof, and ``session_index`` is what the provider calls the session.
    """

    provider: str
    subject: str
    name: str
    authenticated_at: datetime
    groups: tuple[str, ...] = ()
    group_names: tuple[str, ...] = ()
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _NONE)
    account_id: str = ""
    session_until: datetime | None = None
    session_index: str | None = None

    @property
    def person(self) -> str:
        """Return the one name under which everything of a person is kept and revoked: ``provider|subject``."""
        return f"{self.provider}|{self.subject}"


@dataclass(frozen=True, slots=True, kw_only=True)
class IamIdentity(Identity):
    """A user of an account, or its owner, proved by a password on the sign-in page.

    ``provider`` is ``iam``; ``subject`` is the user's unique id, or for the owner the account's id.
    """

    account_id: str

    @property
    def is_root(self) -> bool:
        """Return whether this is the account's owner."""
        return self.subject == self.account_id


@dataclass(frozen=True, slots=True, kw_only=True)
class SamlIdentity(Identity):
    """A person whom a SAML identity provider has just vouched for.

    ``provider`` is the ARN of the provider, for its name is unique in its account alone; ``provider_id``
    never passes to another one. ``subject`` is the NameID and
    ``name_format`` its format; ``attributes`` are those of the assertion, by Name. ``assertion`` is issuer and id of
    the proof, which counts once until ``usable_until``. ``session_until`` ends whatever begins with it. What is asked
    of the provider's people, ``map_by_trust`` says: whether those without Role attributes may have a role.
    """

    account_id: str
    provider_id: str
    provider_name: str
    issuer: str
    recipient: str
    name_format: str
    assertion: str
    usable_until: datetime
    map_by_trust: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WebIdentity(Identity):
    """A person or program whom a web identity provider has just vouched for, by a token.

    ``provider`` is the ARN of the provider as policies of the role's account name it, ``issuer`` what the token or the
    service calls it and ``key_prefix`` what condition keys begin with. ``attributes`` are the claims, by name;
    ``audience`` is the client that the token was issued to, and ``audiences`` what the
    token says of it; an access token says nothing. ``token`` names it where it counts once, until
    ``usable_until``.
    """

    account_id: str
    provider_id: str = ""
    issuer: str
    key_prefix: str
    audience: str
    audiences: tuple[str, ...] = ()
    source_identity: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    transitive: tuple[str, ...] = ()
    token: str | None = None
    usable_until: datetime | None = None


FederatedIdentity = SamlIdentity | WebIdentity  # who comes from elsewhere, and leaves for there


# What a person can mend who still knows the old password.
_CHANGEABLE: Final = frozenset({"password expired", "password must be changed"})


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a provider proved nobody: for the audit log, since a caller reads one sentence for every reason.

    ``reason`` is one of a provider's short list; ``detail`` is what the directory said, free of secrets. ``counted``
    says whether a password was really tried and was wrong, so that a lockout should count it. ``proved`` says that the
    password was right all the same: whoever sent it may be told the reason. ``final`` says that the directory lets this
    person in for nothing any more, not even to change the password.
    """

    reason: str
    detail: str = ""
    counts_as_failure: bool = True
    password_correct: bool = False
    no_change_possible: bool = False

    @property
    def changeable(self) -> bool:
        """Say whether a new password is all that is missing and the directory may take one from this person."""
        return self.password_correct and not self.no_change_possible and self.reason in _CHANGEABLE


class ProviderUnavailable(ServiceUnavailable):
    """The provider could not be asked, so nobody was proved and nobody refused.

    ``security`` marks an outage that may be an attack, such as a certificate that does not verify; ``retry_after`` is
    in seconds.
    """

    retry_after = 5

    def __init__(self, log: str, *, security: bool = False) -> None:
        super().__init__("The identity provider cannot be reached. Try again later.", log=log)
        self.security = security
