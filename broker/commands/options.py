"""Options that name the installation (``--config FILE`` or ``--data DIR``), and arguments that name files."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from broker.config.settings import CONFIG_VARIABLE, Settings
from broker.config.text_file import NotText, decode_text

F = TypeVar("F", bound=Callable[..., Any])

DATA_VARIABLE = "FEDGATE_DATA_DIR"
# The settings files that `init` and `demo` write into the data folder.
CONFIG_FILE, DEMO_FILE = "fedgate.toml", "demo.toml"
_DEFAULT_FOLDER = "fedgate-data"

_config = click.option(
    "--config", type=click.Path(path_type=Path, dir_okay=False), help="Settings file of the installation."
)
_data = click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False), help="Data folder of the installation."
)


def read_text(file: Path) -> str:
    """Return the text of a file, or of standard input for ``-``; raise ClickException where it is not UTF-8 text."""
    try:
        content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return decode_text(content)
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from error
    except NotText as error:
        raise click.ClickException(f"{file} {error}") from error


def read_text_argument(name: str) -> str:
    """Return the text of the file that an argument names; use it as the type of that argument."""
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


def installed_settings_file(config: Path | None, data: Path | None) -> Path | None:
    """Return the settings file of the chosen installation, or None where there is none on this machine."""
    file, environ = find_settings_file(config, data)
    named = environ.get(CONFIG_VARIABLE)
    return Path(named) if file is None and named else file


def load_settings(config: Path | None, data: Path | None) -> Settings:
    """Return the settings of the chosen installation; raise SettingsError."""
    file, environ = find_settings_file(config, data)
    return Settings.read(file, environ)


def _file_in(folder: Path) -> Path | None:
    return next((folder / name for name in (CONFIG_FILE, DEMO_FILE) if (folder / name).is_file()), None)
