"""Change a password in the demo directory: the request of RFC 3062, and the changed line of the LDIF file."""

import base64
import re
from dataclasses import dataclass, field
from typing import Any, Final

from ldaptor.protocols import pureber, pureldap

from broker.demo.people import read_ldif

PASSWORD_MODIFY: Final = pureldap.LDAPPasswordModifyRequest.oid
# draft-behera-ldap-password-policy-10 section 6.2: the control, and changeAfterReset (2) in it.
PASSWORD_POLICY: Final = b"1.3.6.1.4.1.42.2.27.8.5.1"
CHANGE_AFTER_RESET: Final = (PASSWORD_POLICY, False, bytes.fromhex("3003810102"))

_DECODER: Final = pureldap.LDAPBERDecoderContext_LDAPPasswordModifyRequest(fallback=pureber.BERDecoderContext())
_REPLACED: Final = ("userpassword:", "pwdreset:")
# RFC 2849, SAFE-STRING: values that need no base64.
_SAFE: Final = re.compile(r"[!-9;=-~][!-~]*(?: [!-~]+)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class PasswordModify:
    """The request of RFC 3062; absent parts are empty."""

    identity: bytes = b""
    old: bytes = field(default=b"", repr=False)
    new: bytes = field(default=b"", repr=False)

    @classmethod
    def decode(cls, value: bytes | None) -> "PasswordModify":
        """Return the decoded request value; raise whatever ldaptor's decoder raises for malformed BER."""
        parts: Any = pureber.berDecodeObject(_DECODER, value)[0] if value else ()
        values = {type(part): bytes(part.value) for part in parts}
        return cls(
            values.get(pureldap.LDAPPasswordModifyRequest_userIdentity, b""),
            values.get(pureldap.LDAPPasswordModifyRequest_oldPasswd, b""),
            values.get(pureldap.LDAPPasswordModifyRequest_newPasswd, b""),
        )


def with_password(text: str, dn: str, password: bytes) -> str:
    """Return an LDIF text in which one entry has this password and no ``pwdReset``; raise ValueError."""
    blocks = text.split("\n\n")
    return "\n\n".join(_with_new_password(block, password) if _is_of(block, dn) else block for block in blocks)


def _is_of(block: str, dn: str) -> bool:
    return any(entry.dn.casefold() == dn.casefold() for entry in read_ldif(block))


def _with_new_password(block: str, password: bytes) -> str:
    lines = block.replace("\n ", "").splitlines()
    other_lines = [line for line in lines if not line.lower().startswith(_REPLACED)]
    return "\n".join([*other_lines, _line(password)]) + ("\n" if block.endswith("\n") else "")


def _line(password: bytes) -> str:
    text = password.decode(errors="replace")
    if _SAFE.fullmatch(text):
        return f"userPassword: {text}"
    return f"userPassword:: {base64.b64encode(password).decode()}"
