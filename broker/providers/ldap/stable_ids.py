"""The stable id of a person, as each kind of directory stores it: read from an entry, and as a search filter.

A name can be deleted and given to somebody else, an id cannot (THREATS E11).
"""

from typing import Final
from uuid import UUID

from broker.providers.ldap.connection import Entry
from broker.providers.ldap.filters import escape_filter_value
from broker.providers.ldap.groups import text_values

_STABLE_IDS: Final = ("objectGUID", "entryUUID", "ipaUniqueID", "nsUniqueId")
_GUID: Final = "objectguid"
_OCTETS: Final = 16  # of a GUID


def stable_id_attributes(configured: str) -> tuple[str, ...]:
    """Return the attributes that may hold the id: the configured one, or the usual ones in order of preference."""
    return (configured,) if configured else _STABLE_IDS


def stable_id(entry: Entry, configured: str) -> str:
    """Return the id of an entry, or an empty text."""
    for attribute in stable_id_attributes(configured):
        values = entry.attributes.get(attribute.lower(), ())
        if values and attribute.lower() == _GUID and len(values[0]) == _OCTETS:
            return str(UUID(bytes_le=values[0]))
        if values:
            return next(iter(text_values(entry, attribute)), "")
    return ""


def stable_id_filter(subject: str, configured: str) -> str:
    """Return the filter that finds an entry by its id.

    An attribute that the server does not know, or a value that the attribute cannot have, matches no entry (RFC 4511
    4.5.1.7).
    """
    return (
        f"(|{''.join(f'({attribute}={_value(attribute, subject)})' for attribute in stable_id_attributes(configured))})"
    )


def _value(attribute: str, subject: str) -> str:
    if attribute.lower() != _GUID:
        return escape_filter_value(subject)
    try:
        return "".join(f"\\{octet:02x}" for octet in UUID(subject).bytes_le)
    except ValueError:
        return escape_filter_value(subject)
