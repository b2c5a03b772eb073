"""The checks of what a statement allows or denies.

Pure.
"""

from collections.abc import Iterator, Mapping

from iam.policy.lint.findings import CheckEntry, KnownServices, Level, Note, shorten
from iam.policy.patterns import Dialect, matcher
from iam.policy.statement import Effect, PolicyKind, Statement

_GRANTING = frozenset({PolicyKind.IDENTITY, PolicyKind.RESOURCE})
# Patterns of one statement that are compared with all of its actions: the work grows with the product of both.
_MOST_COMPARED_PATTERNS = 20


def _invalid_action(statement: Statement, services: KnownServices) -> Iterator[Note]:
    for action in (*statement.actions, *statement.not_actions):
        service, _, action_name = action.partition(":")
        if action == "*" or "*" in service:
            continue
        if services.has_service(service) and not _has_action(services.actions(service), action_name):
            yield Note(_action_element(statement), f"{shorten(action)}: the service {service} has no such action.")


def _has_action(known: Mapping[str, str], name: str) -> bool:
    if "*" not in name and "?" not in name:
        return name.lower() in known
    covers = matcher([name], Dialect(fold=True))
    return any(covers(action, {}) for action in known)


def _invalid_service(statement: Statement, services: KnownServices) -> Iterator[Note]:
    for action in (*statement.actions, *statement.not_actions):
        service = action.partition(":")[0]
        if "*" not in service and not services.has_service(service):
            text = f"{shorten(action)}: AWS has no service {shorten(service)}; it had better be one of your own."
            yield Note(_action_element(statement), text)


def _action_element(statement: Statement) -> str:
    return "Action" if statement.actions else "NotAction"


def _allow_with_not_action(statement: Statement, _services: KnownServices) -> Iterator[Note]:
    if statement.effect is Effect.ALLOW and statement.not_actions and "*" in statement.resources:
        yield Note("NotAction", "An Allow with NotAction also allows every action that will ever be invented.")


def _pass_role_with_star_in_resource(statement: Statement, _services: KnownServices) -> Iterator[Note]:
    every_role = "*" in statement.resources or statement.not_resources
    passes_role = any(action.lower() in ("iam:passrole", "iam:pass*", "iam:*") for action in statement.actions)
    limited = any(condition.key == "iam:passedtoservice" for condition in statement.conditions)
    if statement.effect is Effect.ALLOW and passes_role and every_role and not limited:
        yield Note("Resource", "iam:PassRole on every role lets its holder act through the strongest role there is.")


def _redundant_action(statement: Statement, _services: KnownServices) -> Iterator[Note]:
    wild = [action for action in statement.actions if "*" in action or "?" in action][:_MOST_COMPARED_PATTERNS]
    covering = [(pattern, matcher([pattern], Dialect(fold=True))) for pattern in wild]
    for action in statement.actions:
        if any(covers(action, {}) for pattern, covers in covering if pattern != action):
            yield Note("Action", f"{shorten(action)} is covered by another action of the statement.")


ACTION_CHECKS: Mapping[str, CheckEntry] = {
    "INVALID_ACTION": CheckEntry(Level.ERROR, _invalid_action, "A service of AWS has no such action."),
    "INVALID_SERVICE_IN_ACTION": CheckEntry(
        Level.WARNING, _invalid_service, "AWS has no such service; for services of your own this is as it should be."
    ),
    "ALLOW_WITH_NOT_ACTION": CheckEntry(
        Level.WARNING,
        _allow_with_not_action,
        "An Allow on every resource names the actions that it leaves out.",
        _GRANTING,
    ),
    "PASS_ROLE_WITH_STAR_IN_RESOURCE": CheckEntry(
        Level.SECURITY_WARNING,
        _pass_role_with_star_in_resource,
        "`iam:PassRole` is allowed on every role, to any service.",
        _GRANTING,
    ),
    "REDUNDANT_ACTION": CheckEntry(
        Level.SUGGESTION, _redundant_action, "Another action of the statement covers this one."
    ),
}
