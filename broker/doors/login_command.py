"""The command that signs in from a terminal with the choices of a page, in the words of each shell."""

import re
from dataclasses import dataclass
from typing import Final

# How each shell runs what `fedgate login` prints. Formats that are read by no shell have no command.
_TAKING: Final = {
    "bash": 'eval "$({command})"',
    "fish": "{command} --format fish | source",
    "powershell": "{command} --format powershell | Invoke-Expression",
    "cmd": "for /f \"delims=\" %i in ('{command} --format cmd') do @%i",
    "terraform": 'eval "$({command} --format terraform)"',
}
# What means nothing to any of these shells, as a word of its own and inside double quotes.
_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:-]*")
_QUOTABLE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:+=,@\[\] -]*")


@dataclass(frozen=True, slots=True)
class LoginCommand:
    """A sign-in with a directory password; ``seconds`` is the length of the session, None for the service's own."""

    user: str
    role_arn: str
    endpoint: str
    seconds: int | None = None
    read_only: bool = False

    def text(self, key: str) -> str:
        """Return the command in the words of the shell of a format; nothing where it could be read as another one."""
        values = (self.user, self.endpoint, self.role_arn)
        if key not in _TAKING or not all(map(_QUOTABLE.fullmatch, values)):
            return ""
        user, endpoint, role = (value if _WORD.fullmatch(value) else f'"{value}"' for value in values)
        words = ["fedgate login", user, "--endpoint", endpoint, "--role", role]
        words += ["--duration", str(self.seconds)] if self.seconds else []
        words += ["--read-only"] if self.read_only else []
        return _TAKING[key].format(command=" ".join(words))
