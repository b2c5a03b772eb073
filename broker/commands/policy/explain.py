"""``fedgate explain`` and ``fedgate who-can``: decisions and their reasons, from the engine that makes them."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from broker.commands.options import installation_options, load_settings, read_text_argument
from broker.commands.output import escape_unprintable, json_option, print_json, print_table
from broker.wiring import now, open_store
from iam.accounts import list_accounts
from iam.policy.conditions import Condition
from iam.policy.decide import DecisionType, RequestContext, decide
from iam.policy.document import Policy, PolicyKind
from iam.policy.explain import (
    EvaluatedCondition,
    EvaluatedLayer,
    EvaluatedStatement,
    Explanation,
    MissingGrant,
    explain,
)
from iam.policy.explain import as_json as in_json
from iam.policy.partial import least_permissive, most_permissive, unknown_conditions
from iam.policy.policy_set import PolicySet
from iam.store.store import Store
from sts.hypothetical_request import HypotheticalRequest, RequestSimulator

_ANSWERS = {
    DecisionType.ALLOWED: "ALLOWED",
    DecisionType.EXPLICIT_DENY: "DENIED, explicitly",
    DecisionType.IMPLICIT_DENY: "DENIED",
}
_SHOWN = 5  # statements that do not apply, of each layer

_context = click.option(
    "--context", "-c", "pairs", multiple=True, metavar="KEY=VALUE", help="A condition key; repeat for several values."
)


def _keys(pairs: Iterable[str]) -> dict[str, tuple[str, ...]]:
    keys: dict[str, tuple[str, ...]] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or ":" not in name:
            raise click.UsageError(f"--context {pair}: write KEY=VALUE, as in aws:SourceIp=10.0.0.1")
        keys[name.lower()] = (*keys.get(name.lower(), ()), value)
    return keys


# --- explain ----------------------------------------------------------------------------------------------------------


@click.command("explain")
@click.option("--principal", required=True, help="The caller: the ARN of a user, role, session, provider or root.")
@click.option("--action", required=True, help="The action, as in iam:CreateUser.")
@click.option("--resource", default="*", show_default=True, help="The ARN of the resource.")
@click.option(
    "--session-policy",
    type=read_text_argument,
    metavar="FILE",
    help="A file with the session policy of a role session.",
)
@_context
@installation_options
@json_option
def explain_(  # noqa: PLR0913 - one argument for each option
    *,
    principal: str,
    action: str,
    resource: str,
    session_policy: str | None,
    pairs: tuple[str, ...],
    config: Path | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Say whether a request would be allowed, and why: every policy type, each condition, and what is missing.

    No request is sent. Condition keys about the principal, the resource and the time are filled in; give others with
    --context. A user or root with aws:TokenIssueTime, or with aws:MultiFactorAuthPresent=true, is a session from
    GetSessionToken. Exit status: 0 where the request is allowed, 3 where it is denied.
    """
    session = (
        None
        if session_policy is None
        else PolicySet([Policy.parse(session_policy, PolicyKind.SESSION, label="passed")])
    )
    with closing(open_store(load_settings(config, data))) as store:
        asked = RequestSimulator(store, now()).build(principal, action, resource, _keys(pairs), session)
    if as_json:
        print_json(_to_json(asked))
    else:
        for line in format_decision(asked):
            click.echo(escape_unprintable(line))
    raise SystemExit(0 if asked.decision() is DecisionType.ALLOWED else 3)


def _to_json(asked: HypotheticalRequest) -> dict[str, Any]:
    found = in_json(explain(asked.context, asked.layers))
    found |= {"unknownKeys": _unknown_keys(asked), "couldBeAllowed": _could_be_allowed(asked)}
    if asked.rule is None:
        return found
    settled = {
        "allowed": asked.rule.decision_type is DecisionType.ALLOWED,
        "decision": asked.rule.decision_type.value,
        "rule": asked.rule.text,
    }
    return found | settled | {"layer": "", "layers": [], "needed": [], "unknownKeys": []}


def _unknown_keys(asked: HypotheticalRequest) -> list[str]:
    """Return the keys that statements about the action ask about, and that nobody has told."""
    names = [one.name for one in _open_conditions(asked)]
    return list({name.lower(): name for name in names}.values())


def _open_conditions(asked: HypotheticalRequest) -> Iterator[Condition]:
    layers = asked.layers
    for policies in (layers.guardrails, layers.resource, layers.identity, layers.boundary, layers.session):
        for policy in policies or ():
            for statement in policy.statements_about(asked.context.action.lower()):
                yield from unknown_conditions(statement, asked.known)


def _could_be_allowed(asked: HypotheticalRequest) -> bool:
    return asked.decision(most_permissive(asked.layers, asked.known)) is DecisionType.ALLOWED


def format_decision(asked: HypotheticalRequest) -> Iterator[str]:
    """Yield the answer to a question and its reasons, as people read them."""
    if asked.rule is not None:
        yield f"{_ANSWERS[asked.rule.decision_type]}  by a fixed rule: {asked.rule.text}"
        yield from _request(asked.context)
        return
    yield from format_explanation(explain(asked.context, asked.layers))
    unknown = _unknown_keys(asked)
    if unknown:
        yield ""
        denied = asked.decision() is not DecisionType.ALLOWED
        hint = " With other values the request could be allowed." if denied and _could_be_allowed(asked) else ""
        yield f"Unknown, treated as absent: {', '.join(unknown)}.{hint}"
        yield f"To set them: {' '.join(f'--context {name}=...' for name in unknown)}"


def format_explanation(found: Explanation) -> Iterator[str]:
    """Yield an explanation as people read it."""
    context, decision = found.context, found.decision
    yield f"{_ANSWERS[decision.decision_type]}  by the {decision.layer}"
    yield from _request(context)
    for layer in found.layers:
        yield ""
        yield from _layer(layer)
    if found.missing_grants:
        yield ""
        yield (
            "Missing besides, once nothing denies:"
            if decision.decision_type is DecisionType.EXPLICIT_DENY
            else "Missing:"
        )
        for need in found.missing_grants:
            yield from _need(need)


def _request(context: RequestContext) -> Iterator[str]:
    yield f"  {context.principal.arn}"
    yield f"  {context.action}  on  {context.resource}"


def _layer(layer: EvaluatedLayer) -> Iterator[str]:
    yield f"{layer.layer}: {layer.answer}"
    near = sorted(layer.statements, key=lambda one: (not one.applies, one.mismatches))
    applying = sum(one.applies for one in near)
    for one in near[: max(applying, _SHOWN)]:
        yield from _statement(one)
    left = len(near) - max(applying, _SHOWN)
    if left > 0:
        yield f"    and {left} more statements for this action that do not apply"
    if not near:
        yield "    no statement for this action"


def _statement(read: EvaluatedStatement) -> Iterator[str]:
    statement = read.statement
    name = f"{statement.policy or 'policy'}, statement {statement.sid or statement.index}"
    yield f"  {'✓' if read.applies else '✗'} {statement.effect} {name}"
    if not read.names_principal:
        listed = ", ".join(one.text for one in statement.all_principals())
        yield f"      principal must {'not ' if statement.not_principals else ''}be {listed}"
    if not read.reaches_resource:
        listed = ", ".join((*statement.resources, *statement.not_resources))
        yield f"      resource must {'not ' if statement.not_resources else ''}match {listed}"
    for one in read.conditions:
        yield f"      {_condition(one)}"


def _condition(tested: EvaluatedCondition) -> str:
    condition = tested.condition
    sign = {True: "✓", False: "✗", None: "?"}[tested.holds]
    actual = ", ".join(tested.actual) if tested.actual else "absent"
    return f"{sign} {condition.operator} {condition.name}: expected {', '.join(condition.values)}, actual {actual}"


def _need(need: MissingGrant) -> Iterator[str]:
    yield f"  an Allow in the {need.layer}"
    if need.nearest is not None:
        statement = need.nearest.statement
        name = f"{statement.policy or 'policy'}, statement {statement.sid or statement.index}"
        yield f"    the closest is {name}: {need.nearest.mismatches} of its elements do not match"
    if "Federated" not in need.statement.get("Principal", {}) or "Condition" in need.statement:
        yield f"    this would allow it: {json.dumps(need.statement)}"


# --- who-can ----------------------------------------------------------------------------------------------------------


@click.command("who-can")
@click.argument("action")
@click.argument("resource", default="*")
@click.option("--account", "account_id", help="Only principals of this account.")
@_context
@installation_options
@json_option
def who_can(  # noqa: PLR0913 - one argument for each option
    *,
    action: str,
    resource: str,
    account_id: str | None,
    pairs: tuple[str, ...],
    config: Path | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """List who can perform ACTION on RESOURCE (an ARN): users, roles, root, and principals that a trust policy names.

    "if" means that it depends on condition keys of the request, such as MFA or the address; set them with --context.
    """
    keys = _keys(pairs)
    with closing(open_store(load_settings(config, data))) as store:
        found = list(_who_can(store, account_id, action, resource, keys))
    if as_json:
        print_json(found)
    else:
        rows = [(one["principal"], one["answer"], "; ".join(one["if"])) for one in found]
        print_table(["principal", "allowed", "if"], rows)


def _who_can(
    store: Store, account_id: str | None, action: str, resource: str, keys: Mapping[str, tuple[str, ...]]
) -> Iterator[dict[str, Any]]:
    asker = RequestSimulator(store, now())
    with store.read() as tx:
        accounts = [account_id] if account_id else [one.id for one in list_accounts(tx)]
    questions = [one for account in accounts for one in asker.for_account(account, action, resource, keys)]
    for asked in (*questions, *asker.for_federated(action, resource, keys)):
        if _could_be_allowed(asked):
            surely = asked.decision(least_permissive(asked.layers, asked.known)) is DecisionType.ALLOWED
            yield {
                "principal": _shown(asked),
                "answer": "yes" if surely else "if",
                "if": [] if surely else list(_conditions(asked)),
            }


def _shown(asked: HypotheticalRequest) -> str:
    """Return the ARN of a role rather than of a session that nobody began."""
    principal = asked.context.principal
    return principal.entity_arn or principal.arn


def _conditions(asked: HypotheticalRequest) -> Iterator[str]:
    """Yield the conditions on which it depends: those of the allows that would grant, and of the denies that might."""
    best = decide(asked.context, most_permissive(asked.layers, asked.known))
    granting = {(one.layer, one.statement.policy, one.statement.index) for one in best.statements}
    for layer in explain(asked.context, asked.layers).layers:
        for read in layer.statements:
            statement = read.statement
            mine = (layer.layer, statement.policy, statement.index) in granting
            if not (mine or (statement.denies and read.names_principal and read.reaches_resource)):
                continue
            for one in unknown_conditions(statement, asked.known):
                yield f"{'unless ' if statement.denies else ''}{one.operator} {one.name} {', '.join(one.values)}"
