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
    cases = [(file, case) for file in files for case in _require_cases(file)]
    with ExitStack() as stack:
        simulator = None
        if any(case.layers is None for _, case in cases):
            store = open_store(load_settings(config, data))
            stack.callback(store.close)
            simulator = RequestSimulator(store, now())
        outcomes = [(file, case, _hypothetical_request(case, simulator)) for file, case in cases]
    failed = [(file, case, request) for file, case, request in outcomes if not _passes(case, request)]
    if as_json:
        print_json([_outcome(file, case, request) for file, case, request in outcomes])
    else:
        for file, case, request in failed:
            click.echo(escape_unprintable(f"FAILED {file}: {case.name}: expected {case.expect}"))
            for line in format_decision(request):
                click.echo(escape_unprintable(f"    {line}"))
        click.echo(f"{len(outcomes) - len(failed)} passed, {len(failed)} failed")
    if failed:
        raise SystemExit(1)


def _require_cases(file: Path) -> list[Case]:
    cases = list(read_cases(file))
    if not cases:  # a file that tests nothing must not look like one that passes
        raise _Malformed(f"{file}: there are no cases")
    return cases


def _hypothetical_request(case: Case, simulator: RequestSimulator | None) -> HypotheticalRequest:
    if case.layers is not None:
        return HypotheticalRequest(*_request_for_own_policies(case, case.layers), lambda _key: True)
    if simulator is None:
        raise click.ClickException("No installation was opened.")
    try:
        return simulator.build(case.principal, case.action, case.resource, case.keys)
    except (InvalidInput, NoSuchEntity) as error:
        raise _Malformed(f"{case.name}: {error}") from error


def _request_for_own_policies(case: Case, layers: Layers) -> AuthorizationRequest:
    """Return the request of a case whose policies are all in its file; the case's own keys replace what is known."""
    principal = principal_from_arn(case.principal)
    requester = SimulatedRequester(principal, layers, principal_keys(principal))
    owner = account_in_arn(case.resource) or principal.account_id
    permission = simulated_permission(case.resource, layers.resource, owner, case.keys)
    return build_request(requester, permission, case.action, every_request_keys(now()))


def _passes(case: Case, request: HypotheticalRequest) -> bool:
    return request.decision() in _EXPECTED[case.expect]


def _outcome(file: Path, case: Case, request: HypotheticalRequest) -> dict[str, Any]:
    return {
        "file": str(file),
        "name": case.name,
        "expect": case.expect,
        "decision": request.decision().value,
        "layer": "" if request.rule else decide(request.context, request.layers).layer,
        "passed": _passes(case, request),
    }


# --- reading cases ----------------------------------------------------------------------------------------------------


def read_cases(file: Path) -> Iterator[Case]:
    """Yield the cases of a TOML or YAML file; a list of actions or resources is one case for each."""
    document = _load_file(file)
    _check_known_keys(document, _OF_A_FILE, str(file))
    for number, entry in enumerate(_list(document.get("cases")), 1):
        place = f"{file}: case {number}"
        if not isinstance(entry, dict):
            raise _Malformed(f"{place}: a case is a table")
        _check_known_keys(entry, _OF_A_CASE, place)
        missing = {"principal", "action", "expect"} - entry.keys()
        if missing:
            raise _Malformed(f"{place}: {', '.join(sorted(missing))} is missing")
        if not isinstance(entry["expect"], str) or entry["expect"] not in _EXPECTED:
            raise _Malformed(f"{place}: expect is one of {', '.join(_EXPECTED)}")
        policies = {**_table(document, "policies", place), **_table(entry, "policies", place)}
        yield from _cases(file, place, entry, policies)


def _cases(file: Path, place: str, entry: Mapping[str, Any], policies: Mapping[str, Any]) -> Iterator[Case]:
    keys = {name.lower(): tuple(map(_text, _list(value))) for name, value in _table(entry, "context", place).items()}
    for action in map(_text, _list(entry["action"])):
        if ":" not in action:
            raise _Malformed(f"{place}: {action} is no action: it begins with a service, as in s3:GetObject")
        for resource in map(_text, _list(entry.get("resource", "*"))):
            yield Case(
                name=entry.get("name") or f"{action} on {resource}",
                principal=_text(entry["principal"]),
                action=action,
                resource=resource,
                keys=keys,
                expect=entry["expect"],
                layers=_layers(file, place, policies) if policies else None,
            )


def _load_file(file: Path) -> dict[str, Any]:
    text = read_text(file)
    try:
        # BaseLoader makes only strings, lists and dicts: a YAML file cannot create Python objects.
        document = tomllib.loads(text) if file.suffix == ".toml" else yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506
    except (tomllib.TOMLDecodeError, yaml.YAMLError) as error:
        raise _Malformed(f"{file}: {error}") from error
    except RecursionError as error:
        raise _Malformed(f"{file}: the file is nested too deeply") from error
    if not isinstance(document, dict):
        raise _Malformed(f"{file}: there are no cases")
    return document


def _check_known_keys(table: Mapping[str, Any], known: frozenset[str], place: str) -> None:
    unknown = sorted(set(table) - known)
    if unknown:
        raise _Malformed(f"{place}: unknown: {', '.join(unknown)}; known are {', '.join(sorted(known))}")


def _table(parent: Mapping[str, Any], name: str, place: str) -> Mapping[str, Any]:
    table = parent.get(name, {})
    if not isinstance(table, dict):
        raise _Malformed(f"{place}: {name} is a table")
    return table


def _list(value: Any) -> Sequence[Any]:  # noqa: ANN401 - whatever the file has
    return value if isinstance(value, list) else [] if value is None else [value]


def _text(value: Any) -> str:  # noqa: ANN401 - whatever the file has
    return str(value).lower() if isinstance(value, bool) else str(value)


def _layers(file: Path, place: str, policies: Mapping[str, Any]) -> Layers:
    _check_known_keys(policies, frozenset(_LAYERS), f"{place}: policies")
    sets = {
        layer: PolicySet(_policy(file, place, item, kind) for item in _list(policies[layer]))
        for layer, kind in _LAYERS.items()
        if layer in policies
    }
    return Layers(**sets, resource_account="")  # the account follows from the resource, where its policy is given


def _policy(file: Path, place: str, value: Any, kind: PolicyKind | None) -> Policy:  # noqa: ANN401 - as the file has it
    """Return a policy of the file, or of a file that it names, relative to itself."""
    if isinstance(value, str) and not value.lstrip().startswith("{"):
        label, text = value, read_text(file.parent / value)
    else:
        label, text = "policy of the case", value if isinstance(value, str) else json.dumps(value, default=_date)
    try:
        return Policy.parse(text, kind or _kind_with_principal(text), label=label)
    except MalformedPolicyDocument as error:
        raise _Malformed(f"{place}: {label}: {error.log}") from error


def _date(value: Any) -> str:  # noqa: ANN401 - what JSON lacks; of TOML these are dates and times
    return str(iso8601_exact(value))


def _kind_with_principal(text: str) -> PolicyKind:
    """Return the kind of a resource's policy; without a Principal it is a malformed resource policy."""
    kind = guess_policy_kind(text)
    return PolicyKind.RESOURCE if kind is PolicyKind.IDENTITY else kind
