"""The names by which a directory is asked for somebody: as typed, without the domain, as userPrincipalName. Pure."""

from broker.providers.ldap.config import LdapConfig
from broker.providers.ldap.filters import escape_filter_value
from iam.saslprep import spellings


def strip_login_domain(config: LdapConfig, username: str) -> str:
    """Return a name without its domain, where that is one of ``login_domains``."""
    domains = {domain.casefold() for domain in config.login_domains}
    domain, slash, name = username.partition("\\")
    if slash and domain.casefold() in domains:
        return name
    name, at, domain = username.rpartition("@")
    return name if at and domain.casefold() in domains else username


def name_filter(config: LdapConfig, username: str) -> str:
    """Return the filter for a name without its domain, as typed, and as userPrincipalName.

    The part of a userPrincipalName before the ``@`` need not be the sAMAccountName. One search for all of them, so that
    two entries are found to be two, and nobody is taken for somebody else.
    """
    stripped, template = strip_login_domain(config, username), config.user_filter
    names = dict.fromkeys((*spellings(stripped), *spellings(username)))
    filters = [template.replace("{username}", escape_filter_value(name)) for name in names]
    if stripped != username and "@" in username:
        anybody = template.replace("{username}", "*")
        filters.append(f"(&{anybody}(userPrincipalName={escape_filter_value(spellings(username)[0])}))")
    return filters[0] if len(filters) == 1 else f"(|{''.join(filters)})"
