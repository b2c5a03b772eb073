"""Every event that a page records is in the reference of the audit record, and no other."""

import ast
from collections.abc import Iterator
from pathlib import Path

from support.reference_pages import DOCS, ROOT

RECORDING = {"record", "record_failure", "record_failures"}
# Recorded in a form of their own, by the name that a kind of identity gives, or by one that the search knows too.
BESIDES = {
    "ConsoleLogin",
    "DirectoryLookUp",
    "OidcRefresh",
    "DirectorySignIn",
    "RevokeSessions",
    "ChangePassword",
    "TokenExchange",
}
BESIDES |= {"GetAccountAuthorizationDetails", "SearchAudit"}


def constants(tree: ast.Module) -> dict[str, str]:
    """Return the names of a module that stand for a text."""
    found = {}
    for node in tree.body:
        target = (
            node.target
            if isinstance(node, ast.AnnAssign)
            else node.targets[0]
            if isinstance(node, ast.Assign)
            else None
        )
        if isinstance(target, ast.Name) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            found[target.id] = node.value.value
    return found


def recorded(file: Path) -> Iterator[str]:
    tree = ast.parse(file.read_text())
    known = constants(tree)
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in RECORDING
            and node.args
        ):
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value
            elif isinstance(first, ast.Name) and first.id in known:
                yield known[first.id]


def test_what_pages_record_is_in_the_reference():
    text = (DOCS / "reference" / "audit-record.md").read_text(encoding="utf-8")
    section = text.partition("## What pages record")[2]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    listed = {name.strip(" `") for cell in cells for name in cell.split(",")}
    events = {name for file in (ROOT / "broker").rglob("*.py") for name in recorded(file)}
    assert listed == events | BESIDES | {"PageRequest"}
