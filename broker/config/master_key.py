"""The master key: 32 bytes that seal secrets at rest, from a private file or from the environment."""

import base64
import binascii
from pathlib import Path
from typing import Final

from broker.config.source import Problem, SettingsReader
from broker.config.text_file import read_secret_file

MASTER_KEY_VARIABLE: Final = "FEDGATE_MASTER_KEY"
MASTER_KEY_BYTES: Final = 32


def parse_master_key(text: str) -> bytes:
    """Return the key that is written in base64; raise ValueError."""
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except binascii.Error as error:
        raise ValueError("is not base64") from error
    if len(key) != MASTER_KEY_BYTES:
        raise ValueError(f"holds {len(key)} bytes, not {MASTER_KEY_BYTES}")
    return key


def read_master_key(source: SettingsReader, file: Path, variable: str | None) -> bytes:
    """Return the key of the environment variable, else of the file; note a problem and return b"" without one."""
    try:
        return _parse_variable_or_file(file, variable)
    except FileNotFoundError:
        remedy = f"{file} does not exist: `fedgate init` makes it, or set {MASTER_KEY_VARIABLE}"
    except OSError as error:
        remedy = f"{file} cannot be read: {error.strerror}"
    except ValueError as error:
        remedy = str(error)
    if variable is not None:
        source.problems.append(Problem("environment", MASTER_KEY_VARIABLE, remedy))
    else:
        source.refuse(("keys", "master_key_file"), remedy)
    return b""


def _parse_variable_or_file(file: Path, variable: str | None) -> bytes:
    if variable is not None:
        return parse_master_key(variable)
    return parse_master_key(read_secret_file(file))
