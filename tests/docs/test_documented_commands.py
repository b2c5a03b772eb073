"""Every documented command of the AWS CLI and of boto3 is directed to Fedgate: without an address it calls Amazon."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
# Call of a service by the AWS CLI; `fedgate aws-credentials` and `aws login` are none.
CALL = re.compile(r"(?<![\w./-])aws (iam|sts|s3|ec2|configure)\b")
# What directs a whole shell, for one service or all.
DIRECTS = re.compile(r"fedgate (?:env|login)\b.*(?:\)\"|\| source|\| Invoke-Expression)|AWS_ENDPOINT_URL_(STS|IAM)[=:]")
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
