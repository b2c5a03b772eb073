"""Home-realm discovery: the directory or identity provider for a user name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from broker.providers.ldap.provider import LdapProvider
from iam.arn import parse_arn


class LoginOption(NamedTuple):
    """A sign-in option of an identity provider: its name, start URL and provider ARN."""

    name: str
    address: str
    provider: str = ""


class Realm(NamedTuple):
    """A domain whose users sign in with an identity provider."""

    domain: str
    login_option: LoginOption


@dataclass(frozen=True, slots=True)
class HomeRealms:
    """Maps user names to directories and identity providers; ``realms`` has the provider ARN of each domain.

    ``login_options`` are what the sign-in page shows, and ``by_arn`` finds a provider that it may not show. Both know
    only what the operator has configured and ARNs: a name that an account gives to its provider leads nowhere.
    """

    directories: Mapping[str, LdapProvider]
    login_options: Callable[[], tuple[LoginOption, ...]]
    by_arn: Callable[[str], LoginOption | None]
    realms: Mapping[str, str]

    def realm(self, username: str) -> Realm | None:
        """Return the realm of the user name's domain, if there is one."""
        domain = _domain(username)
        arn = self.realms.get(domain, "")
        login_option = self.by_arn(arn) if arn else None
        return Realm(domain, login_option) if login_option else None

    def find_login_option(self, name: str) -> LoginOption | None:
        """Return the provider with this ARN, or the only one that the operator has given this name."""
        if name.isprintable() and parse_arn(name) is not None:
            return self.by_arn(name)
        named = [option for option in self.login_options() if name and option.name.casefold() == name.casefold()]
        return named[0] if len(named) == 1 else None

    def directories_of(self, username: str) -> tuple[str, ...]:
        """Return the possible directories: those of the name's domain, else those without domains, else all."""
        of_domain = tuple(
            name for name, provider in self.directories.items() if provider.strip_login_domain(username) != username
        )
        without = tuple(name for name, provider in self.directories.items() if not provider.config.login_domains)
        return of_domain or (without if len(without) == 1 else tuple(self.directories))

    def directory(self, username: str, chosen: str) -> str | None:
        """Return the directory to use: the only possible one, or the chosen one of several."""
        candidates = self.directories_of(username)
        if len(candidates) == 1:
            return candidates[0]
        return chosen if chosen in candidates else None


def _domain(username: str) -> str:
    r"""Return the domain of ``name@domain`` and of ``DOMAIN\name``, or nothing."""
    before, slash, _name = username.partition("\\")
    after = username.rpartition("@")[2] if "@" in username else ""
    return (before if slash else after).casefold()
