"""Home-realm discovery: which directory, or which identity provider, the people of a name belong to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from broker.providers.ldap.provider import LdapProvider
from iam.arn import parse_arn


class LoginOption(NamedTuple):
    """A way to sign in elsewhere: what it is called, where it begins, and the ARN of the provider behind it."""

    name: str
    address: str
    provider: str = ""


class Realm(NamedTuple):
    """A domain whose people sign in through a door."""

    domain: str
    login_option: LoginOption


@dataclass(frozen=True, slots=True)
class HomeRealms:
    """Knows the directories and the doors; ``realms`` has the ARN of the provider of each domain's people."""

    directories: Mapping[str, LdapProvider]
    login_options: Callable[[], tuple[LoginOption, ...]]
    realms: Mapping[str, str]

    def realm(self, username: str) -> Realm | None:
        """Return the door for people of the name's domain."""
        domain = _domain(username)
        arn = self.realms.get(domain, "")
        login_option = next((one for one in self.login_options() if arn and one.provider == arn), None)
        return Realm(domain, login_option) if login_option else None

    def find_login_option(self, name: str) -> LoginOption | None:
        """Return the door that a link names: by its name, or its provider's ARN or short name."""
        found = (one for one in self.login_options() if name and name.casefold() in _names(one))
        return next(found, None)

    def directories_of(self, username: str) -> tuple[str, ...]:
        """Return the directories that may be meant: those of the name's domain, else the one without, else all."""
        of_domain = tuple(
            name for name, one in self.directories.items() if one.strip_login_domain(username) != username
        )
        without = tuple(name for name, one in self.directories.items() if not one.config.login_domains)
        return of_domain or (without if len(without) == 1 else tuple(self.directories))

    def directory(self, username: str, chosen: str) -> str | None:
        """Return the directory to ask: the only one that may be meant, or the one that was chosen of several."""
        meant = self.directories_of(username)
        if len(meant) == 1:
            return meant[0]
        return chosen if chosen in meant else None


def _domain(username: str) -> str:
    r"""Return the domain of ``name@domain`` and of ``DOMAIN\name``, or nothing."""
    before, slash, _name = username.partition("\\")
    after = username.rpartition("@")[2] if "@" in username else ""
    return (before if slash else after).casefold()


def _names(login_option: LoginOption) -> set[str]:
    arn = parse_arn(login_option.provider)
    short = arn.resource.partition("/")[2] if arn else ""
    return {login_option.name.casefold(), login_option.provider.casefold(), short.casefold()}
