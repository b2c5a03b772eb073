"""The verified identity of a person or program, which every provider returns and trust policies are evaluated with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Final

from iam.errors import ServiceUnavailable
from sts.lineage import Lineage

_NONE: Mapping[str, tuple[str, ...]] = MappingProxyType({})
_DIRECTORY: Final = "ldap-provider/"
_NO_LINEAGE: Final = Lineage()


@dataclass(frozen=True, slots=True)
class Identity:
    """A person or program that a provider has just verified.

    ``provider`` is kind and name, such as ``ldap-provider/corp``. ``subject`` is the provider's stable id (objectGUID,
    entryUUID, NameID, ``sub``): it is never given to somebody else, as a name may be. ``name`` is the login name as the
    provider writes it, not as it was typed (THREATS E10). ``groups`` are distinguished names in the form of
    ``normalize_dn``, or claim values; ``group_names`` are their short names, in the same order. ``authenticated_at`` is
    aware and in UTC. ``account_id`` is empty for a directory, which the roles of every account may trust.
    ``session_until`` is the latest end of sessions that begin with this identity, and ``session_index`` is the
    provider's id of its own session. ``lineage`` is what a browser session of the identity sealed when it began; the
    sessions of roles taken in it fall with it. For a token of our own issuer, ``lineage`` and ``session_id`` are those
    of the session that asked for the token. ``password_version`` is what the provider shows of the password that was
    judged, and ``password_mark`` what was stored here when somebody last changed it here: sessions end where either is
    no longer the same.
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
    lineage: Lineage = _NO_LINEAGE
    session_id: str = ""
    password_version: str = field(default="", repr=False)
    password_mark: str = field(default="", repr=False)

    @property
    def person(self) -> str:
        """Return the id by which the sessions of a person are stored and revoked: ``provider|subject``."""
        return f"{self.provider}|{self.subject}"

    @property
    def directory(self) -> str:
        """Return the name of the directory that proved the identity; empty where another provider did."""
        return self.provider.removeprefix(_DIRECTORY) if self.provider.startswith(_DIRECTORY) else ""

    @property
    def provider_in_settings(self) -> str:
        """Return the provider as settings name it: a directory by its name alone, others as policies do."""
        return self.directory or self.provider

    @property
    def is_root(self) -> bool:
        """Return whether this is the owner of an account."""
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class IamIdentity(Identity):
    """An IAM user, or the root user of an account, verified by a password on the sign-in page.

    ``provider`` is ``iam``; ``subject`` is the user's unique id, or for root the account's id.
    """

    account_id: str

    @property
    def is_root(self) -> bool:
        """Return whether this is the root user of the account."""
        return self.subject == self.account_id


@dataclass(frozen=True, slots=True, kw_only=True)
class SamlIdentity(Identity):
    """A person whom a SAML identity provider has just verified.

    ``provider`` is the ARN of the provider, because its name is unique only in its account; ``provider_id`` is
    never given to another one. ``subject`` is the NameID and ``name_format`` its format; ``attributes`` are those
    of the assertion, by Name. ``assertion`` is issuer and id of the assertion, which was issued at ``issued_at``
    and can be used once until ``usable_until`` (THREATS D19). ``map_by_trust`` is a setting of the provider:
    whether people without Role attributes may assume the roles whose trust policies admit them.
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
    issued_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WebIdentity(Identity):
    """A person or program whom a web identity provider has just verified, by a token.

    ``provider`` is the ARN of the provider in the role's account, ``issuer`` its name in the token or the service, and
    ``key_prefix`` the prefix of its condition keys. ``attributes`` are the claims, by name; ``audience`` is the client
    that the token was issued to, and ``audiences`` the token's own audience claim, empty for an access token. ``token``
    identifies a token that can be used once, until ``usable_until`` (THREATS C30).
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


# Reasons that end when a person who knows the old password sets a new one.
_CHANGEABLE: Final = frozenset({"password expired", "password must be changed"})


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a provider refused a sign-in, for the audit log: clients get one message for every reason (THREATS E08, E09).

    ``reason`` is one of a provider's short list; ``detail`` is the directory's message, without secrets.
    ``counts_as_failure`` says that a password was tried and was wrong, so that a lockout counts it.
    ``password_correct`` says that the password was right nevertheless, so that its sender may learn the reason.
    ``no_change_possible`` says that the directory does not admit this person even to change the password.
    """

    reason: str
    detail: str = ""
    counts_as_failure: bool = True
    password_correct: bool = False
    no_change_possible: bool = False

    @property
    def changeable(self) -> bool:
        """Return whether a new password is all that is missing, and this person can set one."""
        return self.password_correct and not self.no_change_possible and self.reason in _CHANGEABLE


class ProviderUnavailable(ServiceUnavailable):
    """The provider did not respond, so the person is neither verified nor refused.

    ``security`` marks an outage that may be an attack, such as a certificate that does not verify; ``retry_after`` is
    in seconds.
    """

    retry_after = 5

    def __init__(self, log: str, *, security: bool = False) -> None:
        super().__init__("The identity provider cannot be reached. Try again later.", log=log)
        self.security = security
