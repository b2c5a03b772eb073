"""The vendor of a directory, where it changes the meaning of results or the form of requests."""

from enum import Enum
from typing import Final

from broker.providers.ldap.connection import BASE, LdapConnection

# MS-ADTS 3.1.1.3.4.3.1: LDAP_CAP_ACTIVE_DIRECTORY_OID.
_ACTIVE_DIRECTORY: Final = b"1.2.840.113556.1.4.800"
_OPENLDAP: Final = b"openldaprootdse"
_ATTRIBUTES: Final = ("objectClass", "supportedCapabilities")


class DirectoryVendor(Enum):
    """The vendors that differ from the standards; any other directory is expected to follow them and no more."""

    ACTIVE_DIRECTORY = "Active Directory"
    OPENLDAP = "OpenLDAP"
    OTHER = "other"


def detect_vendor(connection: LdapConnection) -> DirectoryVendor:
    """Return the vendor that the server's root DSE (RFC 4512 5.1) shows; raise LdapConnectionError."""
    result = connection.search("", "(objectClass=*)", _ATTRIBUTES, limit=1, scope=BASE)
    attributes = result.entries[0].attributes if result.entries else {}
    if _ACTIVE_DIRECTORY in attributes.get("supportedcapabilities", ()):
        return DirectoryVendor.ACTIVE_DIRECTORY
    classes = {name.lower() for name in attributes.get("objectclass", ())}
    return DirectoryVendor.OPENLDAP if _OPENLDAP in classes else DirectoryVendor.OTHER
