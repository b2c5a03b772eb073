"""The pages that explain the structure and the threats name what exists, and all that the code cites."""

import re

import pytest
from support.reference_pages import DOCS, ROOT

THREATS = (DOCS / "explanation/threat-model.md").read_text(encoding="utf-8")
ARCHITECTURE = (DOCS / "explanation/architecture.md").read_text(encoding="utf-8")
ROWS = set(re.findall(r"^\| ([A-J]\d{2}) \|", THREATS, re.MULTILINE))
SOURCES = sorted(path for folder in ("broker", "sts", "iam", "tests") for path in (ROOT / folder).rglob("*.py"))
MAP = re.search(r"^```\n(iam/.*?)^```$", ARCHITECTURE, re.MULTILINE | re.DOTALL)
PATHS = sorted(set(re.findall(r"`((?:broker|sts|iam|tests)/[\w/.]+)`", ARCHITECTURE)))


def packages() -> list[str]:
    """Return the folders that hold modules, two levels deep."""
    folders = {path.parent.relative_to(ROOT) for path in SOURCES if path.parts[len(ROOT.parts)] != "tests"}
    return sorted({str(folder) for folder in folders if len(folder.parts) == 2})


def test_every_threat_that_code_or_a_test_cites_is_in_the_threat_model():
    cited = {row for path in SOURCES for row in re.findall(r"THREATS ([A-J]\d{2})\b", path.read_text(encoding="utf-8"))}
    assert cited
    assert cited <= ROWS


def test_a_threat_has_one_row():
    rows = re.findall(r"^\| ([A-J]\d{2}) \|", THREATS, re.MULTILINE)
    assert len(rows) == len(set(rows))


@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_the_architecture_names_exists(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize("package", packages())
def test_the_map_of_packages_has_every_package(package):
    top, name = package.split("/")
    part = re.search(rf"^{top}/.*?(?=^\w|\Z)", MAP[1], re.MULTILINE | re.DOTALL)
    assert re.search(rf"\b{name}/", part[0])
