"""The parts of the documentation that the code states: tables of operations, error codes, commands, settings.

Each stands in its page between two marks. ``python tests/support/reference_pages.py`` writes them; a test compares.
"""

import functools
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

from broker.api import model
from broker.api.errors import is_sender_fault, status
from broker.authz.s3.context_keys import KEYS, REQUEST_TAGS
from broker.authz.s3.operations import (
    ANY_VALUE,
    COPY_SOURCE,
    KNOWN_SUBRESOURCES,
    OPERATIONS,
    PLAIN,
    REFUSED,
    SAME_REQUEST,
)
from broker.authz.s3.operations import Level as S3Level
from broker.authz.s3.requests import BUCKET_HEADERS, OBJECT_HEADERS
from broker.cli import main
from broker.config.reference import describe_settings
from iam import errors
from iam.operations import OPERATIONS as IAM
from iam.policy.lint.findings import Level
from iam.policy.lint.policies import CHECKS, MISSING_VERSION, PROVIDER_FINDINGS
from iam.policy.managed import load
from sts.operations import OPERATIONS as STS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
WIDTH = 120
SERVICES = {"sts": ("STS", STS), "iam": ("IAM", IAM)}


def operations(service: str) -> str:
    """Every operation of one service that is built, and how it is authenticated.

    Those that are not built depend on the service model at hand: a new botocore may bring more, and no page is wrong.
    """
    _, built = SERVICES[service]
    found = sorted(
        (one for one in model.load_models().operations() if one.service == service), key=lambda one: one.name
    )
    rows = [f"| `{one.name}` | {_proof(one)} |" for one in found if one.name in built]
    return "\n".join([f"{len(rows)} operations are built.", "", "| operation | proof |", "|---|---|", *rows])


def _proof(operation) -> str:
    return "in the request" if operation.unsigned else "signature"


def error_codes() -> str:
    """Every error code, its HTTP status, whose fault it is, and what it means."""
    rows = [
        f"| `{one.code}` | {status(_made(one))} | {_fault(one)} | {_sentence(one)} |"
        for one in sorted(error_classes(), key=lambda one: one.code)
    ]
    return "\n".join(["| code | status | fault | meaning |", "|---|---|---|---|", *rows])


def error_classes() -> list[type[errors.ServiceError]]:
    found = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.ServiceError)]
    # A kind of an error that has no code of its own is its base class to whoever calls.
    return [one for one in found if one is not errors.ServiceError and "code" in vars(one)]


def _made(kind):
    return kind("", retry_after=1) if kind is errors.Throttling else kind("")


def _fault(kind) -> str:
    return "Sender" if is_sender_fault(_made(kind)) else "Receiver"


def _sentence(kind) -> str:
    # What follows a semicolon speaks of the class's members, which no user sees.
    return _one_line(kind.__doc__.split(";")[0].rstrip(".")) + "."


def _one_line(text: str) -> str:
    return " ".join(text.split())


def commands() -> str:
    """Every command of ``fedgate`` with its arguments and options."""
    return "\n\n".join(_command(path, command) for path, command in walk("fedgate", main))


def walk(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """Yield every command that does something, with the words that call it."""
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        assert inner is not None, name
        yield from walk(f"{path} {name}", inner)


def _command(path: str, command: click.Command) -> str:
    arguments = [one for one in command.params if isinstance(one, click.Argument)]
    usage = " ".join([path, *(_argument(one) for one in arguments), "[OPTIONS]"])
    paragraphs = [one if one.startswith("    ") else _filled(one) for one in _paragraphs(command.help or "")]
    rows = [_option(one) for one in command.params if isinstance(one, click.Option)]
    table = ["\n".join(["| option | meaning |", "|---|---|", *rows])] if rows else []
    return "\n\n".join([f"## {path}", f"```\n{usage}\n```", *paragraphs, *table])


def _paragraphs(text: str) -> list[str]:
    return re.split(r"\n\s*\n", inspect.cleandoc(text))


def _filled(text: str) -> str:
    return textwrap.fill(_one_line(text), WIDTH, break_long_words=False, break_on_hyphens=False)


def _argument(one: click.Argument) -> str:
    name = (one.name or "").upper()
    name = f"{name.removesuffix('S')}..." if one.nargs < 0 else name
    return name if one.required else f"[{name}]"


def _option(one: click.Option) -> str:
    value = "" if one.is_flag else " " + _metavar(one)
    names = ", ".join(f"`{name}{value}`" for name in sorted(one.opts, key=len, reverse=True))
    told = [_one_line(one.help or "").replace("|", "\\|")]
    if one.show_default and isinstance(one.default, str | int | float | Path) and one.default is not False:
        told.append(f"Default: `{one.default}`.")
    if one.envvar:
        told.append(f"Environment: `{one.envvar}`.")
    return f"| {names} | {' '.join(filter(None, told))} |"


def _metavar(one: click.Option) -> str:
    if isinstance(one.type, click.Choice):
        return "\\|".join(map(str, one.type.choices))
    if one.metavar:
        return one.metavar.replace("|", "\\|")
    names = {"path": "PATH", "filename": "FILE", "integer": "N", "integer range": "N"}
    return names.get(one.type.name, one.type.name.upper())


def decisions() -> str:
    """Every decision record, by its title."""
    return "\n".join(f"* [{_title(path)}](decisions/{path.name})" for path in sorted((DOCS / "decisions").glob("*.md")))


def _title(path: Path) -> str:
    return path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def findings() -> str:
    """Every finding about a policy, the gravest first."""
    order = list(Level)
    found = sorted(CHECKS.items(), key=lambda one: (order.index(one[1].level), one[0]))
    rows = [f"| `{code}` | {check.level} | {check.what} |" for code, check in found]
    version = f"| `{MISSING_VERSION}` | ERROR or WARNING | The older language; an error where a variable is meant. |"
    providers = [f"| `{code}` | {level} | {what} |" for code, (level, what) in PROVIDER_FINDINGS.items()]
    return "\n".join(["| code | level | what |", "|---|---|---|", *rows, version, *providers])


def managed_policies() -> str:
    """Every AWS-managed policy, by name."""
    found = sorted(load().values(), key=lambda one: one.name.lower())
    rows = [f"| `{one.name}` | `{one.path}` | {one.version} | {_cell(one.description)} |" for one in found]
    return "\n".join(
        [f"{len(rows)} policies.", "", "| name | path | version | description |", "|---|---|---|---|", *rows]
    )


def _cell(text: str) -> str:
    return _one_line(text).replace("|", "\\|")


def settings(section: str) -> str:
    """Every setting of one section, with its default and its environment variable."""
    rows = [
        f"| `{one.key}` | {_default(one.default)} | `{one.variable}` | {_cell(one.description)} |"
        for one in describe_settings()
        if one.section == section
    ]
    return "\n".join(["| key | default | variable | what it does |", "|---|---|---|---|", *rows])


def _default(text: str) -> str:
    return f"`{_cell(text)}`" if text else ""


_S3_PATHS = {S3Level.SERVICE: "/", S3Level.BUCKET: "/b", S3Level.OBJECT: "/b/k"}


def s3_operations() -> str:
    """Every operation of S3 that can pass: how a request names it, and the actions that it needs."""
    rows = [
        f"| {one.name} | {_s3_request(one)} | {_s3_actions(one)} | {_s3_fallback(one)} |"
        for one in sorted(OPERATIONS.values(), key=lambda one: one.name)
    ]
    rows += [f"| {older} | the request of {newer}, by its older name | | |" for older, newer in SAME_REQUEST.items()]
    return "\n".join(["| operation | request | actions | with a backend also |", "|---|---|---|---|", *rows])


def _s3_request(one) -> str:
    names = {name: value for name, value in one.names.items() if name != COPY_SOURCE}
    parts = (f"{name}={'...' if value == ANY_VALUE else value}" if value else name for name, value in names.items())
    query = "?" + "&".join(parts) if names else ""
    header = f" with `{COPY_SOURCE}`" if COPY_SOURCE in one.names else ""
    return f"`{one.method} {_S3_PATHS[one.level]}{query}`{header}"


def _s3_actions(one) -> str:
    own = [*([one.action] if one.action else []), *one.also]
    versions = [*([one.version_action] if one.version_action else []), *(f"{action}Version" for action in one.also)]
    has_versions = versions and "versionId" in one.optional
    told = [_s3_names(own), f"with `versionId`: {_s3_names(versions)}" if has_versions else ""]
    told.append("on every key: `s3:DeleteObject`, `s3:DeleteObjectVersion`" if not own else "")
    told.append(f"on every object: {_s3_names(one.on_every_object)}" if one.on_every_object else "")
    return "; ".join(filter(None, told))


def _s3_names(actions) -> str:
    return ", ".join(f"`s3:{action}`" for action in actions)


def _s3_fallback(one) -> str:
    plain = PLAIN.get((one.level, one.method))
    needed = plain is not None and one.subresource and one.subresource not in KNOWN_SUBRESOURCES
    return _s3_names([plain.action]) if needed else ""


def refused_s3_operations() -> str:
    """Every operation of S3 that never passes, and why."""
    rows = [f"| {name} | {reason} |" for name, reason in sorted(REFUSED.items())]
    return "\n".join(["| operation | why |", "|---|---|", *rows])


def s3_headers() -> str:
    """Every header that needs an action of its own."""
    objects = {name: (action,) for name, action in OBJECT_HEADERS.items()}
    objects["x-amz-bypass-governance-retention"] = ("BypassGovernanceRetention",)
    rows = [
        f"| `{name}` | {_s3_names(objects.get(name, ()))} | {_s3_names(BUCKET_HEADERS.get(name, ()))} |"
        for name in sorted({*objects, *BUCKET_HEADERS})
    ]
    return "\n".join(["| header | on an object | of a new bucket |", "|---|---|---|", *rows])


def s3_condition_keys() -> str:
    """Every condition key of S3 that a request can carry, and the actions that have it."""
    by_key: dict[str, list[str]] = {}
    for action, names in KEYS.items():
        for name in names:
            by_key.setdefault(f"s3:{name}", []).append(action)
    by_key["s3:RequestObjectTag/<key>"] = by_key["s3:RequestObjectTagKeys"] = sorted(REQUEST_TAGS)
    by_key["s3:ObjectCreationOperation"] = ["PutObject"]
    rows = [f"| `{key}` | {_s3_names(sorted(actions))} |" for key, actions in sorted(by_key.items())]
    return "\n".join(["| key | actions |", "|---|---|", *rows, "| `s3:x-amz-content-sha256` | all |"])


PAGES = {
    "README.md": {"decisions": decisions},
    "reference/api.md": {
        "sts": lambda: operations("sts"),
        "iam": lambda: operations("iam"),
    },
    "reference/errors.md": {"errors": error_codes},
    "reference/policy-language.md": {"findings": findings},
    "reference/managed-policies.md": {"managed policies": managed_policies},
    "reference/cli.md": {"commands": commands},
    "reference/s3-authorization.md": {
        "s3 operations": s3_operations,
        "refused s3 operations": refused_s3_operations,
        "s3 headers": s3_headers,
        "s3 condition keys": s3_condition_keys,
    },
    "reference/settings.md": {
        f"settings of {section}": functools.partial(settings, section)
        for section in dict.fromkeys(one.section for one in describe_settings())
    },
}


def marks(name: str) -> tuple[str, str]:
    return f"<!-- {name}: written by tests/support/reference_pages.py -->\n\n", f"\n\n<!-- end of {name} -->"


def written(page: str, name: str) -> str:
    """Return what stands between the marks of a page."""
    begin, end = marks(name)
    _, found, rest = (DOCS / page).read_text(encoding="utf-8").partition(begin)
    inner, ended, _ = rest.partition(end)
    assert found, f"{page} lacks the mark {begin.strip()}"
    assert ended, f"{page} lacks the mark {end.strip()}"
    return inner


def write() -> None:
    for page, parts in PAGES.items():
        text = (DOCS / page).read_text(encoding="utf-8")
        for name, make in parts.items():
            begin, end = marks(name)
            before, _, rest = text.partition(begin.strip())
            _, _, after = rest.partition(end.strip())
            text = before + begin + make() + end + after
        (DOCS / page).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
    sys.stdout.write("written: " + ", ".join(PAGES) + "\n")
