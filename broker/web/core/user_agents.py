"""What a User-Agent header means to a person: "Firefox on Windows" rather than sixty characters of it.

A hint for telling one's own browsers apart, and no proof of anything: everybody writes there what they like.
"""

from typing import Final

from flask_babel import gettext as _

# What stands in the header, in small letters, and what it is called. The first that fits counts: most browsers name
# those that they want to pass for as well.
_PROGRAMS: Final = (
    ("edg", "Edge"),
    ("opr/", "Opera"),
    ("samsungbrowser/", "Samsung Internet"),
    ("firefox/", "Firefox"),
    ("fxios/", "Firefox"),
    ("crios/", "Chrome"),
    ("chrome/", "Chrome"),
    ("chromium/", "Chromium"),
    ("safari/", "Safari"),
    ("aws-cli/", "AWS CLI"),
    ("terraform/", "Terraform"),
    ("boto3/", "boto3"),
    ("aws-sdk-", "AWS SDK"),
    ("curl/", "curl"),
)
_SYSTEMS: Final = (
    ("iphone", "iPhone"),
    ("ipad", "iPad"),
    ("android", "Android"),
    ("windows", "Windows"),
    ("macintosh", "macOS"),
    ("macos", "macOS"),
    ("darwin", "macOS"),
    ("cros ", "ChromeOS"),
    ("linux", "Linux"),
)
_LONGEST: Final = 40  # characters of a program that nobody here has heard of


def client_name(user_agent: str) -> str:
    """Return what a User-Agent header names: a program, and its system where that is known, in the language read."""
    program = _match(user_agent, _PROGRAMS) or user_agent.partition(" ")[0][:_LONGEST]
    if not program:
        return str(_("unknown"))
    system = _match(user_agent, _SYSTEMS)
    return str(_("%(program)s on %(system)s", program=program, system=system)) if system else program


def _match(user_agent: str, table: tuple[tuple[str, str], ...]) -> str:
    small = user_agent.casefold()
    return next((name for mark, name in table if mark in small), "")
