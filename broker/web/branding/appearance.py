"""How the pages look for one organisation: name, logo, colours and links, from the settings."""

import re
from dataclasses import dataclass
from pathlib import Path

from broker.config.checks import COLOUR, LOGO_TYPES


@dataclass(frozen=True, slots=True, kw_only=True)
class Appearance:
    """The settings of the looks; a link that is not set is empty."""

    organisation: str = "Fedgate"
    logo_file: str = ""
    colours: tuple[str, ...] = ()
    help_url: str = ""
    status_url: str = ""
    privacy_url: str = ""
    notice: str = ""

    def stylesheet(self) -> str:
        """Return the style sheet that overrides our colours with the organisation's."""
        lines = [_property(match) for match in map(COLOUR.fullmatch, self.colours) if match]
        return ":root {\n" + "".join(f"  {line}\n" for line in lines) + "}\n"

    def logo(self) -> tuple[bytes, str] | None:
        """Return the bytes and the media type of the logo, or None without one; raise OSError."""
        if not self.logo_file:
            return None
        file = Path(self.logo_file)
        return file.read_bytes(), LOGO_TYPES[file.suffix]


def _property(colour: re.Match[str]) -> str:
    light, dark = colour["light"], colour["dark"] or colour["light"]
    return f"--{colour['name']}: light-dark({light}, {dark});"
