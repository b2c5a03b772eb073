"""The settings of the demo directory, as Fedgate connects to it."""

from pathlib import Path

from broker.demo.people import BASE, SERVICE, service_password
from broker.providers.ldap.config import LdapConfig


def demo_config(ldif: Path, url: str, name: str = "demo") -> LdapConfig:
    """Return the settings of the directory that serves this file at this URL; raise OSError, ValueError."""
    return LdapConfig(
        name=name,
        urls=(url,),
        bind_dn=SERVICE,
        bind_password=service_password(ldif),
        user_base=f"ou=people,{BASE}",
        group_base=f"ou=groups,{BASE}",
        group_filter="(&(objectClass=groupOfNames)(member={dn}))",
        member_of_attribute="",
        nested_groups=True,
        attributes=("cn", "mail", "departmentNumber", "title", "employeeNumber"),
    )
