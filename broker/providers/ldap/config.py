"""The settings of an LDAP directory, and the rules that they keep."""

import re
from dataclasses import dataclass, field
from typing import Final

from broker.providers.ldap.connection import Address
from iam.arn import ACCOUNT_ID

_SAFE_URL: Final = re.compile(r"https://\S|http://(localhost|127\.[0-9.]+|\[::1\])([:/]|\Z)")
_NAME: Final = re.compile(r"[\w._-]{1,128}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class LdapConfig:
    r"""The settings of one directory: how to reach it and how to find people and groups in it.

    ``urls`` are ``ldap://host:port``, ``ldaps://host:port`` or ``ldapi://%2Fpath``, tried in order; beyond loopback
    ``ldap`` needs ``start_tls``. ``ca_file`` is a PEM bundle (empty: the system's). An empty ``bind_dn`` searches
    anonymously.

    ``user_filter`` holds ``{username}``. ``login_domains`` are the domains whose ``DOMAIN\name`` and ``name@domain``
    mean plain ``name``, or the entry whose userPrincipalName is ``name@domain``; every name also goes into the filter
    as typed. With an empty ``id_attribute``, the id is the first of objectGUID, entryUUID, ipaUniqueID and nsUniqueId
    that the entry has.

    Groups are the values of ``member_of_attribute`` (empty: not read) and, where ``group_base`` is set, the entries
    that ``group_filter`` finds; it holds ``{dn}`` or ``{username}``. ``nested_groups`` follows the groups of groups in
    the same two ways. Active Directory does that by itself with ``(member:1.2.840.113556.1.4.1941:={dn})`` as
    ``group_filter``.

    ``attributes`` are copied into the Identity. ``accounts`` are those whose roles may trust the directory (empty: all;
    then whoever names no role gets one of the first account only).

    Timeouts are in seconds, ``receive_timeout`` for a whole response. ``pool_size`` is how many idle connections of
    each of the two kinds are kept, ``max_in_flight`` how many may be in use at once.

    ``password_change`` lets people change their password through Fedgate, unless ``password_change_url`` is the page
    where they do it instead.
    """

    name: str
    urls: tuple[str, ...]
    user_base: str
    bind_dn: str = ""
    bind_password: str = field(default="", repr=False)
    user_filter: str = "(&(objectClass=person)(uid={username}))"
    username_attribute: str = "uid"
    id_attribute: str = ""
    login_domains: tuple[str, ...] = ()
    member_of_attribute: str = "memberOf"
    group_base: str = ""
    group_filter: str = ""
    nested_groups: bool = False
    attributes: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    start_tls: bool = False
    ca_file: str = ""
    insecure_skip_tls_verify: bool = False
    connect_timeout: float = 3.0
    receive_timeout: float = 5.0
    pool_size: int = 8
    max_in_flight: int = 128
    password_change: bool = True
    password_change_url: str = ""

    def __post_init__(self) -> None:
        addresses = [Address.parse(url) for url in self.urls]
        errors = {
            "name: letters, digits and ._- only": not _NAME.fullmatch(self.name),
            "urls: at least one": not addresses,
            "urls: ldap:// beyond this machine needs start_tls = true, or use ldaps://": any(
                address.scheme == "ldap" and not address.local and not self.start_tls for address in addresses
            ),
            "accounts: account ids of twelve digits": not all(map(ACCOUNT_ID.fullmatch, self.accounts)),
            "user_filter: needs {username}": "{username}" not in self.user_filter,
            "group_filter: needs {dn} or {username}": bool(self.group_base)
            and "{dn}" not in self.group_filter
            and "{username}" not in self.group_filter,
            "bind_password: needed with bind_dn": bool(self.bind_dn) != bool(self.bind_password),
            "password_change_url: must begin with https:// (http:// on this machine only)": bool(
                self.password_change_url
            )
            and not _SAFE_URL.match(self.password_change_url),
            "time-outs and pool sizes: above zero": min(
                self.connect_timeout, self.receive_timeout, self.pool_size, self.max_in_flight
            )
            <= 0,
        }
        for message, applies in errors.items():
            if applies:
                raise ValueError(f"directory {self.name!r}: {message}")

    @property
    def changes_passwords(self) -> bool:
        """Whether people may change their password through Fedgate."""
        return self.password_change and not self.password_change_url

    @property
    def provider(self) -> str:
        """The value of Identity.provider for people of this directory."""
        return f"ldap-provider/{self.name}"
