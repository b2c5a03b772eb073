"""Creates what an installation needs before it can start; existing files and keys are kept."""

import base64
import os
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from broker.config.master_key import MASTER_KEY_BYTES, MASTER_KEY_VARIABLE
from broker.config.settings import Settings
from broker.runtime.processes import StartupError
from broker.wiring import now, open_store, random
from iam.store.store import Store
from iam.store.vault import Vault
from sts.store import sealing_keys


@dataclass(frozen=True, slots=True)
class InstallResult:
    """The settings, and for each part of the installation whether it was created or kept."""

    settings: Settings
    created: Mapping[str, str]


def install(config: Path | None, environ: Mapping[str, str]) -> InstallResult:
    """Create data folder, master key, database and the first sealing key; raise SettingsError, StartupError."""
    created: dict[str, str] = {}
    # The first reading needs any key: the settings say where the real one is stored.
    placeholder = {MASTER_KEY_VARIABLE: base64.b64encode(bytes(MASTER_KEY_BYTES)).decode()}
    located = Settings.read(config, {**placeholder, **environ})
    try:
        created[f"data folder {located.data_dir}"] = _folder(located.data_dir)
        if MASTER_KEY_VARIABLE not in environ:
            created[f"master key {located.master_key_file}"] = _master_key(located.master_key_file)
    except OSError as error:
        raise StartupError(f"{error.filename} cannot be created: {error.strerror}") from error
    settings = Settings.read(config, environ)
    with closing(open_store(settings)) as store:
        created["database"] = "at the current schema"
        created["sealing key"] = _sealing_key(store, Vault(settings.master_key))
    return InstallResult(settings, created)


def _folder(folder: Path) -> str:
    if folder.is_dir():
        return "kept"
    folder.mkdir(parents=True, mode=0o700)
    return "created"


def _master_key(file: Path) -> str:
    """Create the master key under another name first, so that no process can read a half-written key."""
    if file.exists():
        return "kept"
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = file.with_name(f".{file.name}.{random(4).hex()}")
    fresh.touch(mode=0o600, exist_ok=False)
    with fresh.open("wb") as out:
        out.write(base64.b64encode(random(MASTER_KEY_BYTES)) + b"\n")
        out.flush()
        os.fsync(out.fileno())
    try:
        os.link(fresh, file)  # unlike rename, it fails where another process was quicker
    except FileExistsError:
        return "kept"
    finally:
        fresh.unlink()
    _flush_folder(file.parent)
    return "created"


def _flush_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _sealing_key(store: Store, vault: Vault) -> str:
    with store.write() as tx:
        if sealing_keys.load(tx, vault):
            return "kept"
        return "created: " + sealing_keys.rotate(tx, vault, now=now(), random=random)
