"""Short names for User-Agent headers, such as "Firefox on Windows".

They help people to tell their own browsers apart; they prove nothing, for a client can send any header.
"""

from typing import Final

from flask_babel import gettext as _

# A part of the header in lower case, and the name of the program. The first match counts: most browsers also name the
# browsers that they are compatible with.
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
_LONGEST: Final = 40  # characters shown of a program that is not in the table


def client_name(user_agent: str) -> str:
    """Return the program that a User-Agent header names, and its system if known, in the reader's language."""
    program = _match(user_agent, _PROGRAMS) or user_agent.partition(" ")[0][:_LONGEST]
    if not program:
        return str(_("unknown"))
    system = _match(user_agent, _SYSTEMS)
    return str(_("%(program)s on %(system)s", program=program, system=system)) if system else program


def _match(user_agent: str, table: tuple[tuple[str, str], ...]) -> str:
    lower_case = user_agent.casefold()
    return next((name for part, name in table if part in lower_case), "")
