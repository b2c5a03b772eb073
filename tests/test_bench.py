"""The benchmarks find what they import from the packages and from the tests' support."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

BENCH = Path(__file__).parent.parent / "bench"
OURS = {"broker", "sts", "iam", "support"}


def imports(script: str) -> Iterator[tuple[str, str]]:
    """Yield the modules of ours that a script imports, with each name that it takes from them."""
    for node in ast.walk(ast.parse((BENCH / script).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in OURS:
            yield from ((node.module, alias.name) for alias in node.names)


def test_bare_names_of_other_modules_are_other_benchmarks():
    helpers = {path.stem for path in (Path(__file__).parent / "support").glob("*.py")}
    for path in BENCH.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.module not in helpers, f"{path.name}: import support.{node.module}"


@pytest.mark.parametrize("script", sorted(path.name for path in BENCH.glob("*.py")))
def test_a_benchmark_imports_what_exists(script):
    for module, name in imports(script):
        assert hasattr(importlib.import_module(module), name), f"{module}.{name}"
