"""Percent-encoded text (RFC 3986, section 2.1). Pure."""

import re

_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")


def has_bad_escape(text: str) -> bool:
    """Return whether a percent sign in a text begins no escape: programs decode such a text differently."""
    return "%" in text and _BAD_ESCAPE.search(text) is not None
