"""Makes what an installation needs before it can start, and leaves alone what is there already."""

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
    """What was made, or was there already: each thing with a word on which of the two."""

    settings: Settings
    made: Mapping[str, str]


def install(config: Path | None, environ: Mapping[str, str]) -> InstallResult:
    """Make the data folder, the master key, the database and the first sealing key; raise SettingsError, NotStarted."""
    made: dict[str, str] = {}
    # Read once with any key, to learn where the real one belongs.
    anyone = {MASTER_KEY_VARIABLE: base64.b64encode(bytes(MASTER_KEY_BYTES)).decode()}
    where = Settings.read(config, {**anyone, **environ})
    try:
        made[f"data folder {where.data_dir}"] = _folder(where.data_dir)
        if MASTER_KEY_VARIABLE not in environ:
            made[f"master key {where.master_key_file}"] = _master_key(where.master_key_file)
    except OSError as error:
        raise StartupError(f"{error.filename} cannot be made: {error.strerror}") from error
    settings = Settings.read(config, environ)
    with closing(open_store(settings)) as store:
        made["database"] = "at the present schema"
        made["sealing key"] = _sealing_key(store, Vault(settings.master_key))
    return InstallResult(settings, made)


def _folder(folder: Path) -> str:
    if folder.is_dir():
        return "kept"
    folder.mkdir(parents=True, mode=0o700)
    return "made"


def _master_key(file: Path) -> str:
    """Make the key under another name first: a half-written key must never be taken for one."""
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
    return "made"


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
        return "made: " + sealing_keys.rotate(tx, vault, now=now(), random=random)
