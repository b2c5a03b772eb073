"""Which installation a command is about: ``--config FILE`` or ``--data DIR``."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from broker.settings import CONFIG_VARIABLE, Settings

F = TypeVar("F", bound=Callable[..., Any])

DATA_VARIABLE = "FEDGATE_DATA_DIR"
# What `init` and `demo` write into the data folder.
CONFIG_FILE, DEMO_FILE = "fedgate.toml", "demo.toml"
_DEFAULT_FOLDER = "fedgate-data"

_config = click.option(
    "--config", type=click.Path(path_type=Path, dir_okay=False), help="The installation's settings file."
)
_data = click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="The installation's data folder.")


def installation_options(command: F) -> F:
    """Add ``--config`` and ``--data`` to a command."""
    return _config(_data(command))


def locate(config: Path | None, data: Path | None) -> tuple[Path | None, dict[str, str]]:
    """Return the settings file, if there is one, and the environment in which to read it."""
    environ = dict(os.environ)
    if data is not None:
        environ[DATA_VARIABLE] = str(data.absolute())
    if config is None and CONFIG_VARIABLE not in environ:
        config = _file_in(Path(environ.get(DATA_VARIABLE, _DEFAULT_FOLDER)))
    return config, environ


def settings_of(config: Path | None, data: Path | None) -> Settings:
    """Return the settings of the chosen installation; raise SettingsError."""
    file, environ = locate(config, data)
    return Settings.read(file, environ)


def _file_in(folder: Path) -> Path | None:
    return next((folder / name for name in (CONFIG_FILE, DEMO_FILE) if (folder / name).is_file()), None)
