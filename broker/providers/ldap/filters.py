"""Search filters: escaping that keeps a value one literal value.

Pure. THREATS E02: a user name such as ``*)(uid=*`` must not become a part of the filter.
"""

import string
from typing import Final

_SAFE: Final = frozenset((string.ascii_letters + string.digits + "._@-=,").encode())


def escape_filter_value(value: str) -> str:
    r"""Return a value as it is written inside a search filter (RFC 4515 section 3).

    All but letters, digits and a few harmless characters become ``\xx``: a list of what is safe cannot miss a character
    that some server's parser treats as special (THREATS E02).
    """
    return "".join(chr(byte) if byte in _SAFE else f"\\{byte:02x}" for byte in value.encode())
