"""``fedgate explain`` and ``fedgate who-can``: decisions and their reasons, from the policy engine of the API."""

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
    wanted_presence,
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
_MAX_NOT_APPLYING = 5  # statements of a layer that are listed although they do not apply

context_option = click.option(
    "--context", "-c", "pairs", multiple=True, metavar="KEY=VALUE", help="A condition key; repeat for several values."
)


def read_context(pairs: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the condition keys of --context, in lower case; raise UsageError for what is not KEY=VALUE."""
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
@context_option
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
        request = RequestSimulator(store, now()).build(principal, action, resource, read_context(pairs), session)
    if as_json:
        print_json(decision_json(request))
    else:
        for line in format_decision(request):
            click.echo(escape_unprintable(line))
    raise SystemExit(0 if request.decision() is DecisionType.ALLOWED else 3)


def decision_json(request: HypotheticalRequest) -> dict[str, Any]:
    """Return the decision about a request and its reasons for JSON."""
    explanation = in_json(explain(request.context, request.layers))
    explanation |= {"unknownKeys": _unknown_keys(request), "couldBeAllowed": _could_be_allowed(request)}
    if request.rule is None:
        return explanation
    fixed = {
        "allowed": request.rule.decision_type is DecisionType.ALLOWED,
        "decision": request.rule.decision_type.value,
        "rule": request.rule.text,
    }
    return explanation | fixed | {"layer": "", "layers": [], "needed": [], "unknownKeys": []}


def _unknown_keys(request: HypotheticalRequest) -> list[str]:
    """Return the condition keys that statements for the action use and whose values are not known."""
    names = [condition.name for condition in _unknown_conditions(request)]
    return list({name.lower(): name for name in names}.values())


def _unknown_conditions(request: HypotheticalRequest) -> Iterator[Condition]:
    layers = request.layers
    for policies in (layers.guardrails, layers.resource, layers.identity, layers.boundary, layers.session):
        for policy in policies or ():
            for statement in policy.statements_about(request.context.action.lower()):
                yield from unknown_conditions(statement, request.known)


def _could_be_allowed(request: HypotheticalRequest) -> bool:
    return request.decision(most_permissive(request.layers, request.known)) is DecisionType.ALLOWED


def format_decision(request: HypotheticalRequest) -> Iterator[str]:
    """Yield the decision about a request and its reasons as text."""
    if request.rule is not None:
        yield f"{_ANSWERS[request.rule.decision_type]}  by a fixed rule: {request.rule.text}"
        yield from _request(request.context)
        return
    yield from format_explanation(explain(request.context, request.layers))
    unknown = _unknown_keys(request)
    if unknown:
        yield ""
        denied = request.decision() is not DecisionType.ALLOWED
        hint = " With other values the request could be allowed." if denied and _could_be_allowed(request) else ""
        yield f"Unknown, treated as absent: {', '.join(unknown)}.{hint}"
        yield f"To set them: {' '.join(f'--context {name}=...' for name in unknown)}"


def format_explanation(explanation: Explanation) -> Iterator[str]:
    """Yield an explanation as text."""
    context, decision = explanation.context, explanation.decision
    yield f"{_ANSWERS[decision.decision_type]}  by the {decision.layer}"
    yield from _request(context)
    for layer in explanation.layers:
        yield ""
        yield from _layer(layer)
    if explanation.missing_grants:
        yield ""
        yield (
            "Missing besides, once nothing denies:"
            if decision.decision_type is DecisionType.EXPLICIT_DENY
            else "Missing:"
        )
        for grant in explanation.missing_grants:
            yield from _missing_grant(grant)


def _request(context: RequestContext) -> Iterator[str]:
    yield f"  {context.principal.arn}"
    yield f"  {context.action}  on  {context.resource}"


def _layer(layer: EvaluatedLayer) -> Iterator[str]:
    yield f"{layer.layer}: {layer.answer}"
    statements = sorted(layer.statements, key=lambda statement: (not statement.applies, statement.mismatches))
    applying = sum(statement.applies for statement in statements)
    listed = max(applying, _MAX_NOT_APPLYING)
    for statement in statements[:listed]:
        yield from _statement(statement)
    if len(statements) > listed:
        yield f"    and {len(statements) - listed} more statements for this action that do not apply"
    if not statements:
        yield "    no statement for this action"


def _statement(evaluated: EvaluatedStatement) -> Iterator[str]:
    statement = evaluated.statement
    name = f"{statement.policy or 'policy'}, statement {statement.name}"
    yield f"  {'✓' if evaluated.applies else '✗'} {statement.effect} {name}"
    if not evaluated.names_principal:
        listed = ", ".join(principal.text for principal in statement.all_principals())
        yield f"      principal must {'not ' if statement.not_principals else ''}be {listed}"
    if not evaluated.reaches_resource:
        listed = ", ".join((*statement.resources, *statement.not_resources))
        yield f"      resource must {'not ' if statement.not_resources else ''}match {listed}"
    for condition in evaluated.conditions:
        yield f"      {_condition(condition)}"


def _condition(evaluated: EvaluatedCondition) -> str:
    condition = evaluated.condition
    sign = {True: "✓", False: "✗", None: "?"}[evaluated.holds]
    actual = ", ".join(evaluated.actual) if evaluated.actual else "absent"
    presence = wanted_presence(condition)
    expected = " or ".join("present" if one else "absent" for one in presence) or ", ".join(condition.values)
    return f"{sign} {condition.operator} {condition.name}: expected {expected}, actual {actual}"


def _missing_grant(grant: MissingGrant) -> Iterator[str]:
    yield f"  an Allow in the {grant.layer}"
    if grant.nearest is not None:
        statement = grant.nearest.statement
        name = f"{statement.policy or 'policy'}, statement {statement.name}"
        yield f"    the closest is {name}: {grant.nearest.mismatches} of its elements do not match"
    if "Federated" not in grant.statement.get("Principal", {}) or "Condition" in grant.statement:
        yield f"    this would allow it: {json.dumps(grant.statement)}"


# --- who-can ----------------------------------------------------------------------------------------------------------


@click.command("who-can")
@click.argument("action")
@click.argument("resource", default="*")
@click.option("--account", "account_id", help="Only principals of this account.")
@context_option
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
    keys = read_context(pairs)
    with closing(open_store(load_settings(config, data))) as store:
        principals = list(_who_can(store, account_id, action, resource, keys))
    if as_json:
        print_json(principals)
    else:
        rows = [(row["principal"], row["answer"], "; ".join(row["if"])) for row in principals]
        print_table(["principal", "allowed", "if"], rows)


def _who_can(
    store: Store, account_id: str | None, action: str, resource: str, keys: Mapping[str, tuple[str, ...]]
) -> Iterator[dict[str, Any]]:
    simulator = RequestSimulator(store, now())
    with store.read() as tx:
        accounts = [account_id] if account_id else [account.id for account in list_accounts(tx)]
    requests = [request for account in accounts for request in simulator.for_account(account, action, resource, keys)]
    for request in (*requests, *simulator.for_federated(action, resource, keys)):
        if _could_be_allowed(request):
            certain = request.decision(least_permissive(request.layers, request.known)) is DecisionType.ALLOWED
            yield {
                "principal": _principal_arn(request),
                "answer": "yes" if certain else "if",
                "if": [] if certain else list(_conditions(request)),
            }


def _principal_arn(request: HypotheticalRequest) -> str:
    """Return the ARN of the principal: for a role its own, not that of the hypothetical session."""
    principal = request.context.principal
    return principal.entity_arn or principal.arn


def _conditions(request: HypotheticalRequest) -> Iterator[str]:
    """Yield the conditions that decide: those of Allow statements that would allow, and of Deny statements that may."""
    best = decide(request.context, most_permissive(request.layers, request.known))
    granting = {(match.layer, match.statement.policy, match.statement.index) for match in best.statements}
    for layer in explain(request.context, request.layers).layers:
        for evaluated in layer.statements:
            statement = evaluated.statement
            grants = (layer.layer, statement.policy, statement.index) in granting
            if not (grants or (statement.denies and evaluated.names_principal and evaluated.reaches_resource)):
                continue
            for condition in unknown_conditions(statement, request.known):
                values = ", ".join(condition.values)
                yield f"{'unless ' if statement.denies else ''}{condition.operator} {condition.name} {values}"
