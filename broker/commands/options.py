"""Which installation a command is about (``--config FILE`` or ``--data DIR``), and which file it reads."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from broker.config.settings import CONFIG_VARIABLE, Settings

F = TypeVar("F", bound=Callable[..., Any])

DATA_VARIABLE = "FEDGATE_DATA_DIR"
# What `init` and `demo` write into the data folder.
CONFIG_FILE, DEMO_FILE = "fedgate.toml", "demo.toml"
_DEFAULT_FOLDER = "fedgate-data"

_config = click.option(
    "--config", type=click.Path(path_type=Path, dir_okay=False), help="The installation's settings file."
)
_data = click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="The installation's data folder.")


def read_text(file: Path) -> str:
    """Return what stands in a file, or comes in where it is ``-``; raise ClickException where that is no text."""
    try:
        found = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return found.decode()
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise click.ClickException(f"{file}: the file is not UTF-8") from error


def read_text_argument(name: str) -> str:
    """Return the text of the file of a name, as the type of an argument."""
    return read_text(Path(name))


def installation_options(command: F) -> F:
    """Add ``--config`` and ``--data`` to a command."""
    return _config(_data(command))


def find_settings_file(config: Path | None, data: Path | None) -> tuple[Path | None, dict[str, str]]:
    """Return the settings file, if there is one, and the environment in which to read it."""
    environ = dict(os.environ)
    if data is not None:
        environ[DATA_VARIABLE] = str(data.absolute())
    if config is None and CONFIG_VARIABLE not in environ:
        config = _file_in(Path(environ.get(DATA_VARIABLE, _DEFAULT_FOLDER)))
    return config, environ


def load_settings(config: Path | None, data: Path | None) -> Settings:
    """Return the settings of the chosen installation; raise SettingsError."""
    file, environ = find_settings_file(config, data)
    return Settings.read(file, environ)


def _file_in(folder: Path) -> Path | None:
    return next((folder / name for name in (CONFIG_FILE, DEMO_FILE) if (folder / name).is_file()), None)
