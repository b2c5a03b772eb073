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


def _property(found: re.Match[str]) -> str:
    light, dark = found["light"], found["dark"] or found["light"]
    return f"--{found['name']}: light-dark({light}, {dark});"
