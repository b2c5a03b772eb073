"""How the pages look for one organisation: name, logo, colours and links, from the settings."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# The custom properties of fedgate.css that an organisation may set.
VARIABLES: Final = ("accent", "on-accent", "ink", "paper", "surface", "line")
COLOUR: Final = re.compile(
    r"(?P<name>[a-z-]+)=(?P<light>#(?:[0-9a-fA-F]{3}){1,2})(?:/(?P<dark>#(?:[0-9a-fA-F]{3}){1,2}))?"
)
LINKS: Final = ("https://", "http://", "mailto:", "/")
LARGEST_LOGO: Final = 200_000  # bytes
LOGOS: Final = {".svg": "image/svg+xml", ".png": "image/png", ".webp": "image/webp"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Appearance:
    """What an operator says about the looks; links are empty where there are none."""

    organisation: str = "Fedgate"
    logo_file: str = ""
    colours: tuple[str, ...] = ()
    help_url: str = ""
    status_url: str = ""
    privacy_url: str = ""
    notice: str = ""

    def stylesheet(self) -> str:
        """Return the style sheet that sets the organisation's colours over ours."""
        lines = [_property(found) for found in map(COLOUR.fullmatch, self.colours) if found]
        return ":root {\n" + "".join(f"  {line}\n" for line in lines) + "}\n"

    def logo(self) -> tuple[bytes, str] | None:
        """Return the logo's bytes and type, or None; raise OSError where the file has gone."""
        if not self.logo_file:
            return None
        file = Path(self.logo_file)
        return file.read_bytes(), LOGOS[file.suffix]


# --- what is refused --------------------------------------------------------------------------------------------------


def logo_remedy(file: str) -> str:
    """Return what is wrong with a logo, or nothing."""
    if not file:
        return ""
    path = Path(file)
    if path.suffix not in LOGOS:
        return "must be a file that ends in " + ", ".join(LOGOS)
    try:
        size = len(path.read_bytes())
    except OSError as error:
        return f"{file} cannot be read: {error.strerror}"
    return f"{file} has {size} bytes: every page shows it, so it may have {LARGEST_LOGO}" if size > LARGEST_LOGO else ""


def colours_remedy(colours: tuple[str, ...]) -> str:
    """Return what is wrong with the colours, or nothing."""
    for text in colours:
        found = COLOUR.fullmatch(text)
        if found is None or found["name"] not in VARIABLES:
            return f"{text} is not NAME=#LIGHT or NAME=#LIGHT/#DARK, NAME being one of {', '.join(VARIABLES)}"
    return ""


def link_remedy(url: str) -> str:
    """Return what is wrong with a link, or nothing."""
    right = not url or (url.startswith(LINKS) and url.isprintable() and " " not in url)
    return "" if right else "must begin with " + ", ".join(LINKS)


def _property(found: re.Match[str]) -> str:
    light, dark = found["light"], found["dark"] or found["light"]
    return f"--{found['name']}: light-dark({light}, {dark});"
