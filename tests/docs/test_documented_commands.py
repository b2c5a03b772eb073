"""Every documented command of the AWS CLI and of boto3 is directed to Fedgate: without an address it calls Amazon."""

import math
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from botocore import xform_name
from botocore.session import Session

from broker.cli import main

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
# Call of a service by the AWS CLI; `fedgate aws-credentials` and `aws login` are none.
CALL = re.compile(r"(?<![\w./-])aws (iam|sts|s3|ec2|configure)\b")
# What directs a whole shell, for one service or all.
DIRECTS = re.compile(
    r"fedgate (?:env|login|account create .*--env)\b.*(?:\)\"|\| source|\| Invoke-Expression)"
    r"|AWS_ENDPOINT_URL_(STS|IAM|S3)[=:]"
)
BOTO3 = re.compile(r"boto3\.(?:client|Session|resource)\(")


def commands(body: str) -> list[str]:
    """Return the commands of a block, with continued lines joined."""
    return re.sub(r"\\\n\s*", " ", body).splitlines()


def astray(text: str) -> Iterator[str]:
    """Yield the commands of a page that would call Amazon when somebody follows the page from its beginning."""
    directed: set[str] = set()
    for _indent, language, body in BLOCK.findall(text):
        if language in {"yaml", "toml"}:  # the variables of a job stand anywhere in it
            directed_here = {found[1].lower() for found in DIRECTS.finditer(body) if found[1]}
            yield from (line for line in commands(body) for call in CALL.finditer(line) if call[1] not in directed_here)
            continue
        for line in commands(body):
            directed |= directed_by(line)
            for call in CALL.finditer(line):
                if "--endpoint-url" not in line and call[1] not in directed:
                    yield line
        if BOTO3.search(body) and "endpoint_url" not in body and not directed:
            yield body


def directed_by(line: str) -> set[str]:
    """Return the services whose calls a line directs to Fedgate from there on."""
    found = [match[1] for match in DIRECTS.finditer(line)]
    return {"iam", "sts"} if None in found else {name.lower() for name in found}


@pytest.mark.parametrize("name", NAMES)
def test_no_command_calls_amazon(name):
    assert list(astray((ROOT / name).read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_page_that_mentions_a_command_says_how_to_direct_it(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    mentioned = [code for code in re.findall(r"`([^`\n]+)`", BLOCK.sub("", text)) if CALL.match(code)]
    assert not mentioned or "--endpoint-url" in text or DIRECTS.search(text), mentioned


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_directs_two_services_and_not_all(name):
    blocks = [body for _, _, body in BLOCK.findall((ROOT / name).read_text(encoding="utf-8")) if "[profile" in body]
    for body in blocks:
        for section in re.split(r"^(?=\[)", body, flags=re.MULTILINE):
            if section.startswith("[profile") and "fedgate aws-credentials" not in section:
                assert re.search(r"^services = ", section, re.MULTILINE), section
                assert not re.search(r"^endpoint_url", section, re.MULTILINE), section


def documented(program: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each documented command of a program: the page and its words."""
    for name in NAMES:
        for _indent, language, body in BLOCK.findall((ROOT / name).read_text(encoding="utf-8")):
            lines = commands(body) if language in {"sh", "console", "yaml", "ini"} else []
            for line in lines:
                if language != "console" or line.startswith("$ "):
                    yield from ((name, words) for words in calls_in(line, program))


def calls_in(line: str, program: str) -> Iterator[list[str]]:
    """Yield the words after each call of a program in a line of a shell."""
    for call in re.finditer(rf"(?<![\w./-]){program} ((?:'[^']*'|\"[^\"]*\"|\\.|[^|;&()>#'\"]|(?<=\S)#)*)", line):
        if BEGINS.search(line[: call.start()]):
            yield shlex.split(re.sub(r"\s#.*", "", call[1]))


# What stands before a command: nothing, a prompt, another command, a variable, or the setting of a profile.
BEGINS = re.compile(r"(?:^|[$(|;&'-]|\w=\S*|fedgate_container|credential_process =)\s*$")


def is_option(word: str) -> bool:
    return word.startswith("-") and len(word) > 1


def click_problem(words: list[str]) -> str:
    """Return what is wrong with the words after `fedgate`."""
    command: click.Command | None = main
    while isinstance(command, click.Group):
        command = command.get_command(click.Context(command), words[0]) if words else command
        if command is None or not words:
            return f"no command {words[:1]}"
        words = words[1:]
    options = {name: one for one in command.params if isinstance(one, click.Option) for name in one.opts}
    values, rest = [], iter(words)
    for word in rest:
        if word == "--":
            values += rest
            break
        option = options.get(word.partition("=")[0])
        if not is_option(word):
            values.append(word)
        elif option is None and word not in {"-h", "--help"}:
            return f"no option {word}"
        elif option is not None and not option.is_flag and "=" not in word:
            next(rest)
    arguments = [one for one in command.params if isinstance(one, click.Argument)]
    most = math.inf if any(one.nargs < 0 for one in arguments) else len(arguments)
    least = sum(one.required for one in arguments)
    return "" if least <= len(values) <= most else f"{len(values)} arguments"


@pytest.mark.parametrize(("name", "words"), list(documented("fedgate")))
def test_every_documented_command_of_fedgate_exists(name, words):
    del name
    assert click_problem(words) == ""


# The commands of the AWS CLI's own for files; the operations of S3 are under `aws s3api`.
FILE_COMMANDS = {"cp", "ls", "mb", "mv", "presign", "rb", "rm", "sync"}
GLOBAL_OPTIONS = {"--endpoint-url", "--region", "--profile", "--query", "--output", "--no-cli-pager"}


@pytest.mark.parametrize(("name", "words"), list(documented("aws")))
def test_every_documented_command_of_the_aws_cli_exists(name, words):
    del name
    if words[0] == "s3":
        assert words[1] in FILE_COMMANDS
        return
    model = Session().get_service_model(words[0])
    operations = {xform_name(one, "-"): one for one in model.operation_names}
    assert words[1] in operations
    members = model.operation_model(operations[words[1]]).input_shape
    known = GLOBAL_OPTIONS | {f"--{xform_name(one, '-')}" for one in (members.members if members else ())}
    known |= {f"--no-{xform_name(one, '-')}" for one in (members.members if members else ())}
    assert {word.partition("=")[0] for word in words[2:] if is_option(word)} <= known


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("```sh\naws iam list-users\n```\n", 1),
        ("```sh\nexport AWS_ENDPOINT_URL_STS=https://a.example\naws iam list-users\n```\n", 1),
        ('```sh\naws iam list-users\neval "$(fedgate env)"\naws iam list-users\n```\n', 1),
        ("```sh\naws iam list-users \\\n  --endpoint-url https://a.example\n```\n", 0),
        ('```console\n$ eval "$(FEDGATE_PASSWORD=x fedgate login carol)"\n$ aws sts get-caller-identity\n```\n', 0),
        ("```sh\nfedgate login carol\n```\n\n```sh\naws sts get-caller-identity\n```\n", 1),
        ("  ```yaml\n  - aws sts get-caller-identity\n  - {name: AWS_ENDPOINT_URL_STS, value: x}\n  ```\n", 1),
        ('```python\nboto3.client("sts")\n```\n', 1),
    ],
)
def test_a_command_without_an_address_is_found(text, found):
    assert len(list(astray(text))) == found
