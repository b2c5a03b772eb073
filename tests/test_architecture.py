"""The rules of the structure, read from the syntax trees: one direction of imports, and pure files that stay pure."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {"iam": {"iam"}, "sts": {"iam", "sts"}, "broker": {"iam", "sts", "broker"}}
PURE = [
    "iam/arn.py",
    "iam/clock.py",
    "iam/distinguished_names.py",
    "iam/errors.py",
    "iam/principal.py",
    "iam/revocation.py",
    "iam/limits.py",
    "iam/params.py",
    "iam/percent_encoding.py",
    "iam/credentials/totp.py",
    "iam/store/vault.py",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "iam" / "policy").rglob("*.py")),
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "iam" / "saml").glob("*.py")),
    "sts/identity.py",
    "sts/lineage.py",
    "sts/trust.py",
    "sts/federation/saml.py",
    "sts/mint.py",
    "sts/token.py",
    "sts/sigv4.py",
    "sts/payload.py",
    "sts/presented_signature.py",
    "sts/denials.py",
    "broker/api/query.py",
    "broker/sessions/browser_keys.py",
    "broker/api/constraints.py",
    "broker/api/http.py",
    "broker/api/shape.py",
    "broker/authz/resign.py",
    "broker/authz/resource.py",
    "broker/authz/s3/context_keys.py",
    "broker/authz/s3/copy_source.py",
    "broker/authz/s3/headers.py",
    "broker/authz/s3/operations.py",
    "broker/authz/s3/query.py",
    "broker/authz/s3/target.py",
    "broker/providers/ldap/filters.py",
    "broker/providers/ldap/bind_errors.py",
    "broker/providers/saml/addresses.py",
    "broker/providers/saml/encryption.py",
    "broker/providers/authentication_age.py",
    "broker/providers/saml/assertion_checks.py",
    "broker/providers/saml/response_checks.py",
    "broker/providers/saml/response_parts.py",
    "broker/providers/saml/signature_checks.py",
    "broker/providers/saml/logout.py",
    "broker/providers/saml/messages.py",
]
# And whoever says so in its docstring does nothing impure itself.
SAYS_SO = re.compile(r"(^|\s)Pure\.(\s|$)")
PURE_BY_DOCSTRING = sorted(
    str(path.relative_to(ROOT))
    for package in ("iam", "sts", "broker")
    for path in (ROOT / package).rglob("*.py")
    if SAYS_SO.search(ast.get_docstring(ast.parse(path.read_text())) or "")
)
# What makes a file impure: I/O, clock, entropy, logging, frameworks.
IMPURE = {
    "alembic", "botocore", "flask", "gevent", "gunicorn", "http", "io", "ldap3", "logging", "os", "pathlib", "random",
    "redis", "secrets", "shutil", "socket", "sqlalchemy", "subprocess", "tempfile", "threading", "time",
    "urllib.request", "uuid",
}  # fmt: skip
CLOCKS = {("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today")}
CONVERSIONS = {"timestamp", "fromtimestamp", "utcfromtimestamp", "strftime", "strptime", "isoformat", "fromisoformat"}
BUILTIN_IO = {"open", "print", "input"}


def modules() -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""


def parse(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text())


@pytest.mark.parametrize("file", modules())
def test_imports_point_only_inwards(file):
    package = file.split("/")[0]
    ours = {name.split(".")[0] for name in imported(parse(file))} & MAY_IMPORT.keys()
    assert ours <= MAY_IMPORT[package]


@pytest.mark.parametrize("file", [file for file in modules() if file.startswith("broker/config/")])
def test_the_settings_know_no_page_and_no_service(file):
    ours = {name for name in imported(parse(file)) if name.split(".")[0] in MAY_IMPORT}
    # A directory's section becomes its provider's own configuration, which knows its rules.
    # A resource's becomes what the authorizer reads requests by, with the rules of its routes and its policy.
    allowed = {
        "broker.authz.resource",
        "broker.authz.http_api.routes",
        "broker.providers.ldap.config",
        "iam.arn",
        "iam.distinguished_names",
        "iam.errors",
        "iam.limits",
        "iam.policy.document",
        "iam.policy.policy_set",
    }
    assert {name for name in ours if not f"{name}.".startswith("broker.config.")} <= allowed


@pytest.mark.parametrize("file", sorted({*PURE, *PURE_BY_DOCSTRING}))
def test_pure_files_import_nothing_impure(file):
    names = set(imported(parse(file)))
    impure = {name for name in names for bad in IMPURE if name == bad or name.startswith(bad + ".")}
    assert not impure


@pytest.mark.parametrize("file", PURE)
def test_pure_files_import_only_pure_files_of_ours(file):
    ours = {name for name in imported(parse(file)) if name.split(".")[0] in MAY_IMPORT}
    files = {name.replace(".", "/") + ".py" for name in ours}
    assert files <= set(PURE)


@pytest.mark.parametrize("file", sorted({*PURE, *PURE_BY_DOCSTRING}))
def test_pure_files_read_no_clock_and_no_file(file):
    for node in ast.walk(parse(file)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in BUILTIN_IO, f"line {node.lineno}"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in CLOCKS, f"line {node.lineno}"


def test_only_one_module_reads_the_clock_and_makes_chance():
    readers = set()
    for file in modules():
        for node in ast.walk(parse(file)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                pair = (node.value.id, node.attr)
                if pair in CLOCKS or pair[0] == "secrets":
                    readers.add(file)
    assert readers == {"broker/wiring/clock_and_random.py"}


def test_only_the_model_imports_botocore_and_the_command_that_is_a_client_itself():
    importers = {file for file in modules() if any(name.split(".")[0] == "botocore" for name in imported(parse(file)))}
    assert importers == {"broker/api/model.py", "broker/commands/federation/aws_credentials.py"}


def converts_time(node: ast.AST) -> bool:
    """Return whether a node is a conversion of time written out: a call, a factor of 1000, a format of a date."""
    match node:
        case ast.Call(func=ast.Attribute(attr=name)):
            return name in CONVERSIONS
        case ast.BinOp(op=ast.Mult() | ast.Div() | ast.FloorDiv(), right=ast.Constant(value=1000)):
            return True
        case ast.FormattedValue(format_spec=ast.JoinedStr(values=[ast.Constant(value=str(spec)), *_])):
            return "%Y" in spec
    return False


def test_time_is_converted_by_the_clock_module_only():
    found = {
        f"{file}:{node.lineno}"
        for file in modules()
        if file != "iam/clock.py"
        for node in ast.walk(parse(file))
        if converts_time(node)
    }
    assert not found


@pytest.mark.parametrize(
    "code", ["int(now.timestamp())", "seconds * 1000", "ms // 1000", "f'{until:%Y-%m-%d}'", "date.isoformat()"]
)
def test_a_conversion_of_time_is_recognized(code):
    assert any(converts_time(node) for node in ast.walk(ast.parse(code)))


# --- no cycles --------------------------------------------------------------------------------------------------------


def imported_modules(file: str) -> set[str]:
    """Return the files of ours that a file imports: modules, or packages where it takes something of theirs."""
    names = set()
    for node in ast.walk(parse(file)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            submodules = {alias.name for alias in node.names if file_of(f"{node.module}.{alias.name}")}
            names |= {f"{node.module}.{name}" for name in submodules}
            names |= {node.module} if len(submodules) < len(node.names) else set()
    return {found for name in names if (found := file_of(name))}


def file_of(module: str) -> str | None:
    """Return the file of one of our modules or packages, or None for any other name."""
    path = module.replace(".", "/")
    candidates = (f"{path}.py", f"{path}/__init__.py")
    return next((one for one in candidates if path.partition("/")[0] in MAY_IMPORT and (ROOT / one).exists()), None)


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """Return the nodes that are left when all are taken away, again and again, that import none of those left."""
    left = dict(graph)
    while leaves := [node for node, imports in left.items() if not imports & left.keys() - {node}]:
        for node in leaves:
            del left[node]
    return sorted(left)


IMPORTS = {file: imported_modules(file) for file in modules()}


def test_modules_import_each_other_in_no_circle():
    assert not cycle(IMPORTS)


def test_a_circle_is_recognized():
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]


def test_nothing_else_in_iam_imports_its_operations():
    """What the operations share with the pages lies below them: credentials, tags, records."""
    importers = {
        file
        for file, imports in IMPORTS.items()
        if file.startswith("iam/") and not file.startswith("iam/operations/")
        if any(one.startswith("iam/operations/") for one in imports)
    }
    assert not importers


def package(file: str) -> str:
    """Return the folder of a file; a file beside the packages of ``iam`` or ``sts`` stands for itself."""
    folder = file.rpartition("/")[0]
    return file if folder in MAY_IMPORT else "/".join(file.split("/")[:2])


@pytest.mark.parametrize("root", ["iam", "sts"])
def test_packages_import_each_other_in_no_circle(root):
    graph: dict[str, set[str]] = {}
    for file, imports in IMPORTS.items():
        if file.startswith(f"{root}/"):
            graph.setdefault(package(file), set()).update(package(one) for one in imports)
    assert not cycle(graph)
