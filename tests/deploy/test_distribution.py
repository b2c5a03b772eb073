"""The distributions: what they hold, and that the wheel alone, in a fresh environment, starts a trial."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from support.broker_process import client, running_demo, sign_in
from support.servers import HANG

ROOT = Path(__file__).parents[2]
PACKAGES = ("broker", "sts", "iam")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel that was built from it."""
    source = tmp_path_factory.mktemp("source")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (ROOT / "pyproject.toml", ROOT / "README.md", *ROOT.glob("LICENSE*")):
        shutil.copy(file, source)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", source / "dist", source)
    return source / "dist"


@pytest.fixture(scope="session")
def wheel(dist: Path) -> Path:
    return next(dist.glob("*.whl"))


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=5 * HANG, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def source_files() -> set[str]:
    """Return the files of the packages, as paths from the root."""
    files = {path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file()}
    return {str(path.relative_to(ROOT)) for path in files if path.suffix not in (".pyc", ".mo")}


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == source_files()


def test_the_source_distribution_holds_them_too(dist):
    with tarfile.open(next(dist.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert source_files() | {"pyproject.toml", "README.md"} <= names


def test_its_metadata_name_the_license_and_the_supported_versions_of_python(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata.get_all("Classifier") == project["classifiers"]
    versions = [name.rpartition(" ")[2] for name in project["classifiers"] if "Python :: 3." in name]
    assert f"PYTHONS := {' '.join(versions)}\n" in (ROOT / "Makefile").read_text()


@pytest.fixture
def fresh(tmp_path: Path, wheel: Path) -> Path:
    """The programs of an environment that has the wheel; it finds what the wheel requires in that of the tests."""
    venv.create(tmp_path / "venv")
    bin_ = tmp_path / "venv" / "bin"
    run(*PIP, "--python", bin_ / "python", "install", "--no-index", "--no-deps", wheel)
    site = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    # One folder on the path, after its own: the .pth files in it, such as that of the checkout, are not read.
    (site / "requirements.pth").write_text(sysconfig.get_path("purelib") + os.linesep)
    return bin_


def test_the_wheel_alone_starts_a_trial_lets_people_sign_in_and_stops(fresh, tmp_path):
    where = run(fresh / "python", "-c", "import broker; print(broker.__file__)", cwd=tmp_path)
    assert Path(where).is_relative_to(tmp_path / "venv")
    with running_demo(tmp_path / "demo", fedgate=str(fresh / "fedgate")) as demo:
        users = {user["name"]: user for user in demo.facts["directory"]["users"]}
        role = next(role for role in demo.facts["roles"] if set(role["trusted_groups"]) & set(users["bob"]["groups"]))
        answer = sign_in(demo.endpoint, "bob", role=role["arn"], password=users["bob"]["password"])
        assert answer.status == 200, answer.body
        arn = client("sts", demo.endpoint, answer.credentials).get_caller_identity()["Arn"]
        assert arn.endswith(f":assumed-role/{role['arn'].rpartition('/')[2]}/bob")
        demo.process.terminate()
        assert demo.process.wait(HANG) == 0
    assert b"Traceback" not in (tmp_path / "demo" / "demo.log").read_bytes()
