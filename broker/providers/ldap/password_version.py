"""What a directory shows of the version of a password: whether it is still the one that a person signed in with."""

from typing import Final

from broker.providers.ldap.connection import Entry
from broker.providers.ldap.groups import text_values
from iam.credentials.password_version import version_of_texts

# When the password was last set. Servers return operational attributes to those who name them (RFC 4511 4.5.1.8); an
# attribute that a server does not know is no error.
PASSWORD_VERSION_ATTRIBUTES: Final = (
    "pwdLastSet",  # MS-ADA3 2.175
    "pwdChangedTime",  # draft-behera-ldap-password-policy-10 5.3.2
    "pwdUpdateTime",  # 389 Directory Server, with passwordTrackUpdateTime
    "krbLastPwdChange",  # FreeIPA
    "shadowLastChange",  # RFC 2307 2.2, in days
    "sambaPwdLastSet",
)


def password_version(entry: Entry) -> str:
    """Return the version of the password of an entry; empty where the directory shows nothing of it."""
    return version_of_texts(
        f"{name}={value}" for name in PASSWORD_VERSION_ATTRIBUTES for value in text_values(entry, name)
    )
