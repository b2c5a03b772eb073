"""Nothing in the packages is used by tests alone.

A name counts as used where any module, template, script or deployment file mentions it outside its own definition.
So a dead name can hide behind a living one of the same name, but no living name is called dead.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
MODULES = sorted(path for package in ("broker", "sts", "iam") for path in (ROOT / package).rglob("*.py"))
# Files that use names without being Python modules of the packages.
USERS = [
    *(ROOT / "broker").rglob("*.html"),
    *(ROOT / "bench").rglob("*.py"),
    *(path for path in (ROOT / "deploy").rglob("*") if path.is_file()),
    ROOT / "pyproject.toml",
    ROOT / "tests" / "support" / "reference_pages.py",
]
# Frameworks call these by name: methods that a base class of theirs declares, and what a table finds by its name.
CALLED_BY_FRAMEWORKS = {
    "broker/cli.py": {"format_commands", "invoke"},
    "broker/demo/reports.py": {"log_request"},
    "broker/demo/directory.py": {"connection_made", "data_received"},
    "broker/runtime/worker.py": {"handle_error", "handle_exit", "handle_request"},
    "broker/web/i18n/languages.py": {"get_translations"},
    "broker/commands/shell_output.py": {"make_context"},
    "broker/web/core/utf8.py": {"form_data_parser_class", "parameter_storage_class"},
}
# Texts that are listed to be translated, and what applications of users import.
KEPT = {
    "broker/authz/middleware.py": {"FedgateASGI"},
    "broker/web/i18n/messages.py": {"MESSAGES", "LABELS"},
}


def uses(tree: ast.AST) -> Counter[str]:
    """Return how often each name is read, also in short texts, which name methods and fields."""
    found: Counter[str] = Counter()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Load()) | ast.Attribute(attr=name) | ast.keyword(arg=str(name)):
                found[name] += 1
            case ast.alias(name=name, asname=str()):
                found[name] += 1
            case ast.Constant(value=str(text)) if len(text) < 60:
                found.update(re.findall(r"\w+", text))
            case _:
                pass
    return found


def definitions(body: list[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    """Yield the functions, classes, constants, methods and fields of a module."""
    for node in body:
        match node:
            case ast.FunctionDef(name=name) if not is_registered(node):
                yield name, node
            case ast.ClassDef(name=name):
                yield name, node
                yield from definitions(node.body)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                yield name, node


def is_registered(function: ast.FunctionDef) -> bool:
    """Return whether a decorator hands the function to a framework, such as a route or a command."""
    own = re.compile(r"(property|staticmethod|classmethod|cached_property|cache|lru_cache|contextmanager|functools\.)")
    return any(not own.match(ast.unparse(decorator)) for decorator in function.decorator_list)


def dead_names() -> Iterator[str]:
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in MODULES}
    total: Counter[str] = Counter()
    for tree in trees.values():
        total += uses(tree)
    words = {word for path in USERS for word in re.findall(r"\w+", path.read_text(encoding="utf-8"))}
    for path, tree in trees.items():
        file = str(path.relative_to(ROOT))
        if "migrations" in file:
            continue
        for name, node in definitions(tree.body):
            used = total[name] - uses(node)[name] > 0 or name in words or name.startswith("__")
            if not used and name not in CALLED_BY_FRAMEWORKS.get(file, set()) | KEPT.get(file, set()):
                yield f"{file}:{node.lineno} {name}"


def test_every_name_is_used_by_more_than_tests():
    assert list(dead_names()) == []
