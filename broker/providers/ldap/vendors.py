"""Which kind of directory this is, as far as that changes what its answers mean or how it is asked."""

from enum import Enum
from typing import Final

from broker.providers.ldap.connection import BASE, LdapConnection

# MS-ADTS 3.1.1.3.4.3.1: LDAP_CAP_ACTIVE_DIRECTORY_OID.
_ACTIVE_DIRECTORY: Final = b"1.2.840.113556.1.4.800"
_OPENLDAP: Final = b"openldaprootdse"
_ASKED: Final = ("objectClass", "supportedCapabilities")


class DirectoryVendor(Enum):
    """The kinds that differ; whatever does not say which it is keeps to the standards and promises no more."""

    ACTIVE_DIRECTORY = "Active Directory"
    OPENLDAP = "OpenLDAP"
    OTHER = "other"


def detect_vendor(connection: LdapConnection) -> DirectoryVendor:
    """Return what the server's root DSE (RFC 4512 5.1) says that it is; raises Broken."""
    found = connection.search("", "(objectClass=*)", _ASKED, limit=1, scope=BASE)
    attributes = found.entries[0].attributes if found.entries else {}
    if _ACTIVE_DIRECTORY in attributes.get("supportedcapabilities", ()):
        return DirectoryVendor.ACTIVE_DIRECTORY
    classes = {name.lower() for name in attributes.get("objectclass", ())}
    return DirectoryVendor.OPENLDAP if _OPENLDAP in classes else DirectoryVendor.OTHER
