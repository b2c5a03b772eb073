"""``fedgate policy test``: compares what policies decide with the decisions that cases expect."""

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import yaml

from broker.commands.options import installation_options, load_settings, read_text
from broker.commands.output import escape_unprintable, json_option, print_json
from broker.commands.policy.explain import format_decision
from broker.commands.policy.lint import guess_policy_kind
from broker.wiring import now, open_store
from iam.clock import iso8601_exact
from iam.errors import InvalidInput, MalformedPolicyDocument, NoSuchEntity
from iam.operations.request_context import (
    AuthorizationRequest,
    SimulatedRequester,
    account_in_arn,
    build_request,
    every_request_keys,
    principal_keys,
    simulated_permission,
)
from iam.policy.decide import DecisionType, Layers, decide
from iam.policy.document import Policy, PolicyKind
from iam.policy.policy_set import PolicySet
from iam.principal import principal_from_arn
from sts.hypothetical_request import HypotheticalRequest, RequestSimulator

_EXPECTED = {
    "allow": (DecisionType.ALLOWED,),
    "deny": (DecisionType.EXPLICIT_DENY, DecisionType.IMPLICIT_DENY),
    "explicit-deny": (DecisionType.EXPLICIT_DENY,),
    "implicit-deny": (DecisionType.IMPLICIT_DENY,),
}
_LAYERS = {
    "identity": PolicyKind.IDENTITY,
    "boundary": PolicyKind.BOUNDARY,
    "session": PolicyKind.SESSION,
    "guardrails": PolicyKind.GUARDRAIL,
    "resource": None,  # a resource's policy or a role's trust policy: its elements tell
}
_OF_A_FILE = frozenset({"policies", "cases"})
_OF_A_CASE = frozenset({"name", "principal", "action", "resource", "context", "expect", "policies"})


class _Malformed(click.ClickException):
    """A file of cases that cannot be read; the text says where."""


@dataclass(frozen=True, slots=True)
class Case:
    """One request of a file and its expected decision; ``layers`` is None where the installation's policies apply."""

    name: str
    principal: str
    action: str
    resource: str
    keys: Mapping[str, tuple[str, ...]]
    expect: str
    layers: Layers | None


@click.group("policy")
def policy() -> None:
    """Test policies by cases."""


@policy.command("test")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False, exists=True))
@installation_options
@json_option
def test(files: tuple[Path, ...], config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """Evaluate the cases of TOML or YAML FILES, and list those whose decision is not the expected one.

    A case has a principal, action, resource and context, and expects allow, deny, explicit-deny or implicit-deny. If a
    file contains policies, only they apply and no installation is needed; otherwise the installation's policies apply.
    Exit status: 1 where a case fails.
    """
    cases = [(file, case) for file in files for case in _some_cases(file)]
    with ExitStack() as stack:
        asker = None
        if any(case.layers is None for _, case in cases):
            store = open_store(load_settings(config, data))
            stack.callback(store.close)
            asker = RequestSimulator(store, now())
        outcomes = [(file, case, _question(case, asker)) for file, case in cases]
    failed = [one for one in outcomes if not _passes(*one[1:])]
    if as_json:
        print_json([_outcome(*one) for one in outcomes])
    else:
        for file, case, asked in failed:
            click.echo(escape_unprintable(f"FAILED {file}: {case.name}: expected {case.expect}"))
            for line in format_decision(asked):
                click.echo(escape_unprintable(f"    {line}"))
        click.echo(f"{len(outcomes) - len(failed)} passed, {len(failed)} failed")
    if failed:
        raise SystemExit(1)


def _some_cases(file: Path) -> list[Case]:
    found = list(read_cases(file))
    if not found:  # a file that tests nothing must not look like one that passes
        raise _Malformed(f"{file}: there are no cases")
    return found


def _question(case: Case, asker: RequestSimulator | None) -> HypotheticalRequest:
    if case.layers is not None:
        return HypotheticalRequest(*_request_for_own_policies(case, case.layers), lambda _key: True)
    if asker is None:
        raise click.ClickException("No installation was opened.")
    try:
        return asker.build(case.principal, case.action, case.resource, case.keys)
    except (InvalidInput, NoSuchEntity) as error:
        raise _Malformed(f"{case.name}: {error}") from error


def _request_for_own_policies(case: Case, layers: Layers) -> AuthorizationRequest:
    """Return the request of a case whose policies are all in its file; the case's own keys replace what is known."""
    principal = principal_from_arn(case.principal)
    requester = SimulatedRequester(principal, layers, principal_keys(principal))
    owner = account_in_arn(case.resource) or principal.account_id
    permission = simulated_permission(case.resource, layers.resource, owner, case.keys)
    return build_request(requester, permission, case.action, every_request_keys(now()))


def _passes(case: Case, asked: HypotheticalRequest) -> bool:
    return asked.decision() in _EXPECTED[case.expect]


def _outcome(file: Path, case: Case, asked: HypotheticalRequest) -> dict[str, Any]:
    return {
        "file": str(file),
        "name": case.name,
        "expect": case.expect,
        "decision": asked.decision().value,
        "layer": "" if asked.rule else decide(asked.context, asked.layers).layer,
        "passed": _passes(case, asked),
    }


# --- reading cases ----------------------------------------------------------------------------------------------------


def read_cases(file: Path) -> Iterator[Case]:
    """Yield the cases of a TOML or YAML file; an action or resource that is a list makes several of one."""
    document = _load_file(file)
    _check_known_keys(document, _OF_A_FILE, str(file))
    for number, found in enumerate(_list(document.get("cases")), 1):
        place = f"{file}: case {number}"
        if not isinstance(found, dict):
            raise _Malformed(f"{place}: a case is a table")
        _check_known_keys(found, _OF_A_CASE, place)
        missing = {"principal", "action", "expect"} - found.keys()
        if missing:
            raise _Malformed(f"{place}: {', '.join(sorted(missing))} is missing")
        if not isinstance(found["expect"], str) or found["expect"] not in _EXPECTED:
            raise _Malformed(f"{place}: expect is one of {', '.join(_EXPECTED)}")
        policies = {**_table(document, "policies", place), **_table(found, "policies", place)}
        yield from _cases(file, place, found, policies)


def _cases(file: Path, place: str, found: Mapping[str, Any], policies: Mapping[str, Any]) -> Iterator[Case]:
    keys = {name.lower(): tuple(map(_text, _list(value))) for name, value in _table(found, "context", place).items()}
    for action in map(_text, _list(found["action"])):
        if ":" not in action:
            raise _Malformed(f"{place}: {action} is no action: it begins with a service, as in s3:GetObject")
        for resource in map(_text, _list(found.get("resource", "*"))):
            yield Case(
                name=found.get("name") or f"{action} on {resource}",
                principal=_text(found["principal"]),
                action=action,
                resource=resource,
                keys=keys,
                expect=found["expect"],
                layers=_layers(file, place, policies) if policies else None,
            )


def _load_file(file: Path) -> dict[str, Any]:
    text = read_text(file)
    try:
        # BaseLoader makes nothing but texts, lists and tables: no dates, no objects.
        found = tomllib.loads(text) if file.suffix == ".toml" else yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506
    except (tomllib.TOMLDecodeError, yaml.YAMLError) as error:
        raise _Malformed(f"{file}: {error}") from error
    except RecursionError as error:
        raise _Malformed(f"{file}: the file is nested too deeply") from error
    if not isinstance(found, dict):
        raise _Malformed(f"{file}: there are no cases")
    return found


def _check_known_keys(found: Mapping[str, Any], known: frozenset[str], place: str) -> None:
    unknown = sorted(set(found) - known)
    if unknown:
        raise _Malformed(f"{place}: unknown: {', '.join(unknown)}; known are {', '.join(sorted(known))}")


def _table(found: Mapping[str, Any], name: str, place: str) -> Mapping[str, Any]:
    table = found.get(name, {})
    if not isinstance(table, dict):
        raise _Malformed(f"{place}: {name} is a table")
    return table


def _list(found: Any) -> Sequence[Any]:  # noqa: ANN401 - whatever the file has
    return found if isinstance(found, list) else [] if found is None else [found]


def _text(found: Any) -> str:  # noqa: ANN401 - whatever the file has
    return str(found).lower() if isinstance(found, bool) else str(found)


def _layers(file: Path, place: str, policies: Mapping[str, Any]) -> Layers:
    _check_known_keys(policies, frozenset(_LAYERS), f"{place}: policies")
    sets = {
        layer: PolicySet(_policy(file, place, one, kind) for one in _list(policies[layer]))
        for layer, kind in _LAYERS.items()
        if layer in policies
    }
    return Layers(**sets, resource_account="")  # the account follows from the resource, where its policy is given


def _policy(file: Path, place: str, found: Any, kind: PolicyKind | None) -> Policy:  # noqa: ANN401 - as the file has it
    """Return a policy that stands in the file, or in a file that it names, relative to itself."""
    if isinstance(found, str) and not found.lstrip().startswith("{"):
        label, text = found, read_text(file.parent / found)
    else:
        label, text = "policy of the case", found if isinstance(found, str) else json.dumps(found, default=_date)
    try:
        return Policy.parse(text, kind or _kind_with_principal(text), label=label)
    except MalformedPolicyDocument as error:
        raise _Malformed(f"{place}: {label}: {error.log}") from error


def _date(found: Any) -> str:  # noqa: ANN401 - what JSON lacks; of TOML these are dates and times
    return str(iso8601_exact(found))


def _kind_with_principal(text: str) -> PolicyKind:
    """Return what the policy of a resource is: without a Principal it is malformed, and no identity's."""
    found = guess_policy_kind(text)
    return PolicyKind.RESOURCE if found is PolicyKind.IDENTITY else found
