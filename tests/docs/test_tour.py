"""The tour in the README and the tutorial, command by command in a real shell, and every line that they promise."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.servers import HANG, running_program

pytestmark = pytest.mark.server

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
ADDRESS, REPORTS = "http://127.0.0.1:8080", "http://localhost:8081"
# What each run makes anew.
FRESH = (
    (re.compile(r"\b(ASIA|AROA)[A-Z0-9]{16,17}\b"), r"\1..."),
    (re.compile(r'"(SecretAccessKey|SessionToken|RequestId)": "[^"]+"'), r'"\1": "..."'),
    (re.compile(r'"Expiration": [0-9]{10}\b'), '"Expiration": 0'),
    (re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"), "TIME"),
    (re.compile(r"(command line  )\S+"), r"\1SOMEBODY"),
    (re.compile(r"^Reference: [0-9a-f]{8}$", re.MULTILINE), "Reference: ..."),
    (re.compile(r"http://127\.0\.0\.1:\d+"), "ADDRESS"),
)
# The other worker learns of a change, and the directory of a saved file, within a second.
CHANGES = re.compile(r"aws iam (create|put)-|cat >> ")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Step:
    """Commands, and what they print; None where the page does not say."""

    commands: str
    prints: str | None = None


def steps(page: str) -> Iterator[Step]:
    """Yield what a reader does with the page, up to where it speaks of an installation of one's own."""
    text = (ROOT / page).read_text(encoding="utf-8").partition("## Your own installation")[0]
    for found in BLOCK.finditer(text):
        yield from in_block(found[1], found[2], text[: found.start()].rstrip().rpartition("\n")[2])


def in_block(language: str, body: str, before: str) -> Iterator[Step]:
    """Yield the steps of one block; the line before it names the file that it is to be written to."""
    file = re.search(r"Write `([a-z.]+)`:$", before)
    if language == "json" and file:
        yield Step(f"cat > {file[1]} <<'END'\n{body}END")
    elif body.startswith("dn: "):
        yield Step(f"cat >> fedgate-data/people.ldif <<'END'\n\n{body}END")
    elif language == "sh" and not body.startswith("make "):
        yield Step(body.replace("pip install", ": pip install"))
    elif language == "console":
        for command, prints in re.findall(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", body, re.MULTILINE):
            yield Step(command, prints)


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A demonstration in a folder of its own; gives by documented address the one that it has here."""
    command = [sys.executable, "-m", "broker.cli", "demo", "--data", "fedgate-data", "--bind", "127.0.0.1:0", "--json"]
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    with running_program(command, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, text=True) as process:
        facts = json.loads(process.stdout.readline())
        yield {ADDRESS: facts["endpoint"], REPORTS: facts["reports_url"]}


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial/first-credentials.md"])
def test_a_reader_sees_what_the_page_says(page, demo, tmp_path):
    told = list(steps(page))
    assert sum(step.prints is not None for step in told) > 5
    environ = {
        "HOME": str(tmp_path),
        "PATH": f"{BIN}:/usr/bin:/bin",
        "FEDGATE_ENDPOINT": demo[ADDRESS],
        "FEDGATE_PASSWORD": "ledger-balances-42",  # for the one command that asks
    }
    script = "exec 2>&1\n" + "\n".join(map(run, told))
    for documented, here in demo.items():
        script = script.replace(documented, here)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=10 * HANG,
        check=True,
    )
    seen = done.stdout.split("\x1e\n")
    for step, printed in zip(told, seen, strict=False):
        text, _, status = printed.rpartition("\x1f")
        if step.prints is None:
            assert status == "0\n", (step.commands, text)
        else:
            assert comparable(step, text) == comparable(step, step.prints)
    assert len(seen) == len(told) + 1


def run(step: Step) -> str:
    pause = "sleep 1.2\n" if CHANGES.search(step.commands) else ""
    return f"{step.commands}\nprintf '\\037%s\\n' $?\n{pause}printf '\\036\\n'"


def comparable(step: Step, text: str) -> list[str]:
    for fresh, instead in FRESH:
        text = fresh.sub(instead, text)
    lines = text.splitlines()
    # Two workers' records of one second come in either order.
    return sorted(lines) if "audit tail" in step.commands else lines
