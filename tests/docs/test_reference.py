"""What the documentation states about the code is what the code says; what it links to is there."""

import ast
import base64
import json
import re
import tomllib
from pathlib import Path

import pytest
from support import reference_pages as pages

from broker.api.errors import STATUS
from broker.commands.policy.cases import read_cases
from broker.config.reference import describe_settings
from broker.config.settings import Settings
from iam.policy.document import Policy, PolicyKind
from sts.federation.saml import KEYS

ROOT, DOCS = pages.ROOT, pages.DOCS
MARKDOWN = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
HOW_TO_WRITE = "run: python tests/support/reference_pages.py"
LONGEST_LINE = 120


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(path: Path) -> str:
    """Return a page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def first_cells(text: str) -> list[str]:
    """Return the first cell of each row of each table, where it is code."""
    return re.findall(r"^\| `([^`]+)`", text, flags=re.MULTILINE)


def blocks(language: str) -> list[tuple[str, str]]:
    """Return page and text of each code block of a language."""
    return [
        (f"{name_of(path)}:{number}", text)
        for path in MARKDOWN
        for number, text in enumerate(
            re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        )
    ]


# --- tables that the code states --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("page", "part"), [(page, part) for page, parts in pages.PAGES.items() for part in parts])
def test_the_page_says_what_the_code_says(page, part):
    assert pages.written(page, part) == pages.PAGES[page][part](), HOW_TO_WRITE


def test_every_operation_that_is_built_is_listed_once_and_is_in_the_model():
    listed = first_cells((DOCS / "reference/api.md").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(name for _, built in pages.SERVICES.values() for name in built)
    assert set(listed) <= {one.name for one in pages.model.load_models().operations()}


def test_the_readme_counts_the_operations_of_iam_right():
    count = pages.operations("iam").partition(" operations")[0]
    assert f"{count} operations" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_error_code_has_a_status_and_every_status_a_code():
    assert {one.code for one in pages.error_classes()} == STATUS.keys()


def test_every_setting_is_on_its_page_and_nothing_else_is():
    text = (DOCS / "reference/settings.md").read_text(encoding="utf-8")
    listed = [
        (section, key)
        for section, body in re.findall(r"^## `?\[([^\]]+)\]`?$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        for key in first_cells(body)
    ]
    assert sorted(listed) == sorted((one.section, one.key) for one in describe_settings())


@pytest.mark.parametrize("setting", list(describe_settings()), ids=lambda one: f"{one.section}.{one.key}")
def test_a_setting_is_shown_with_its_variable_and_its_description(setting):
    text = (DOCS / "reference/settings.md").read_text(encoding="utf-8")
    row = next(
        (line for line in text.splitlines() if line.startswith(f"| `{setting.key}`") and setting.variable in line), ""
    )
    assert setting.description.replace("\\", "") in row.replace("\\", "")


def test_every_dependency_has_its_reason_and_nothing_else_has():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    names = [re.match(r"[A-Za-z0-9_.-]+(\[\w+\])?", one)[0] for one in wanted]
    assert sorted(first_cells((DOCS / "dependencies.md").read_text(encoding="utf-8"))) == sorted(names)


def test_every_condition_key_that_the_code_fills_in_is_on_its_page_and_nothing_else_is():
    listed = {re.sub(r"<.*", "", key).lower() for key in first_cells(text_of("reference/condition-keys.md"))}
    assert listed == set(keys_in_the_code())


def text_of(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def keys_in_the_code() -> set[str]:
    """Return the condition keys that stand in the code: they are written in lower case, unlike actions."""
    sources = [
        *(ROOT / "sts").rglob("*.py"),
        *(ROOT / "broker/api").rglob("*.py"),
        *(ROOT / "iam/operations").rglob("*.py"),
    ]
    texts = {
        node.value
        for path in sources
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    key = re.compile(r"(aws|iam|sts|ldap|saml):[a-z/_-]*")
    of_attributes = {f"saml:{name}" for name in KEYS.values()}
    return ({text for text in texts if key.fullmatch(text)} | of_attributes) - {"aws:", "saml:", "sts:"}  # prefixes


def test_the_audit_page_has_every_member_of_a_real_record(installation, root):
    account_id, credentials = root
    installation.call("GetCallerIdentity", credentials)
    installation.call("ListUsers", None)
    written = installation.settings.audit_dir.glob("*.jsonl")
    records = [json.loads(line) for path in written for line in path.read_text().splitlines()]
    assert {record["recipientAccountId"] for record in records} == {account_id, None}
    members = set().union(*records)
    listed = set(first_cells(text_of("reference/audit-record.md").partition("## Members")[2].partition("\n## ")[0]))
    assert listed - members == {"additionalEventData", "resources", "sharedEventID"}
    assert members <= listed


# --- examples ---------------------------------------------------------------------------------------------------------


CASES = [(where, text) for where, text in blocks("toml") if "[[cases]]" in text]


@pytest.mark.parametrize(("where", "text"), CASES)
def test_an_example_of_cases_can_be_read(where, text, tmp_path):
    for name in re.findall(r'"(\w+\.json)"', text):
        (tmp_path / name).write_text(
            '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}'
        )
    file = tmp_path / "policies.toml"
    file.write_text(text)
    assert len(list(read_cases(file))) > 2, where


@pytest.mark.parametrize(("where", "text"), [one for one in blocks("toml") if one not in CASES])
def test_an_example_of_settings_can_be_used(where, text, tmp_path):
    file = tmp_path / "fedgate.toml"
    file.write_text(text)
    for name in ("ldap-password", "store-secret"):
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_text("secret\n")
    key = base64.b64encode(bytes(32)).decode()
    assert Settings.read(file, {"FEDGATE_MASTER_KEY": key}), where


@pytest.mark.parametrize(("where", "text"), blocks("json"))
def test_an_example_in_json_is_json_and_a_policy_is_one(where, text):
    found = json.loads(text)
    if "Effect" in found:
        found = {"Version": "2012-10-17", "Statement": found}
    if "Statement" in found:
        kinds = {(False, True): PolicyKind.IDENTITY, (True, True): PolicyKind.RESOURCE, (True, False): PolicyKind.TRUST}
        kind = kinds['"Principal"' in text, '"Resource"' in text]
        assert Policy.parse(json.dumps(found), kind).statements, where


def test_there_are_examples_of_settings_and_of_both_kinds_of_policy():
    assert len(blocks("toml")) > 3
    policies = [text for _, text in blocks("json") if '"Effect"' in text]
    assert any('"Principal"' in text for text in policies)
    assert any('"Resource"' in text for text in policies)


# --- pages ------------------------------------------------------------------------------------------------------------


def links(path: Path) -> list[str]:
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", prose(path)) if not re.match(r"[a-z]+:", link)]


@pytest.mark.parametrize("path", MARKDOWN, ids=name_of)
def test_every_link_leads_somewhere(path):
    assert [link for link in links(path) if not leads_somewhere(path, link)] == []


def leads_somewhere(path: Path, link: str) -> bool:
    file, _, anchor = link.partition("#")
    target = path.parent / file if file else path
    if not target.exists():
        return False
    return not anchor or anchor in map(slug, re.findall(r"^#+ (.+)$", prose(target), re.MULTILINE))


def slug(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_every_page_can_be_reached_from_the_index():
    reached, fresh = set(), {DOCS / "README.md"}
    while fresh:
        reached |= fresh
        found = {(path.parent / link.partition("#")[0]).resolve() for path in fresh for link in links(path)}
        fresh = {path for path in found if path.suffix == ".md" and DOCS in path.parents} - reached
    assert sorted(map(name_of, set(DOCS.rglob("*.md")) - reached)) == []


# Decisions keep the form in which they were taken.
@pytest.mark.parametrize("path", [path for path in MARKDOWN if path.parent.name != "decisions"], ids=name_of)
def test_no_line_of_prose_is_too_long(path):
    lines = prose(path).splitlines()
    assert [line for line in lines if len(line) > LONGEST_LINE and not line.startswith(("|", "* ["))] == []


COMMANDS = dict(pages.walk("fedgate", pages.main))
GROUPS = {words.rpartition(" ")[0] for words in COMMANDS}
# Where a command can begin: a line, a prompt, a substitution, a path, a setting, after variables or the image's alias.
CALLS = re.compile(r"(?:^|\$ |\$\(|/bin/|= |[A-Z]=\S+ |^fg (?:-p \S+ )?)fedgate((?: [^\s`|&;)\"']+)+)", re.MULTILINE)


def calls(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    code = re.findall(r"^```(?:sh|bash|console|ini|)\n(.*?)^```$|`(fedgate [^`]+)`", text, re.MULTILINE | re.DOTALL)
    return [found for block, inline in code for found in CALLS.findall(block or inline)]


@pytest.mark.parametrize("path", MARKDOWN, ids=name_of)
def test_every_command_that_a_page_calls_exists_and_so_do_its_options(path):
    assert [call for call in calls(path) if not can_be_called(call.split())] == []


def can_be_called(words: list[str]) -> bool:
    if words[0] in {"--help", "-h"}:
        return True
    for length in (3, 2, 1):
        command = COMMANDS.get(" ".join(["fedgate", *words[:length]]))
        if command is not None:
            options = {name for one in command.params for name in one.opts} | {"--help"}
            return all(word in options for word in words[length:] if re.match(r"--?[a-z]", word))
    return f"fedgate {words[0]}" in GROUPS and len(words) == 1


def test_the_check_of_calls_would_notice_a_wrong_one():
    assert can_be_called(["audit", "tail", "-f"])
    assert not can_be_called(["audit", "tails"])
    assert not can_be_called(["audit", "tail", "--colour"])
    assert not can_be_called(["interpret"])
