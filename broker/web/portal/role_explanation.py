"""/why: why a user can or cannot assume a role, with each condition's required and actual values.

The same engine that refuses explains; the page and the JSON under ``/api/v1/explain`` are two readings of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from flask import Blueprint, Response, request

from broker.sessions.browser import BrowserSession
from broker.web.admin.access import AdminAccess
from broker.web.core.site import Site
from broker.web.i18n.languages import gettext_noop
from broker.web.portal.scope_down import ScopeDown, address_of
from iam.errors import AccessDenied, NoSuchEntity, ValidationError
from iam.policy.decide import TRUST
from iam.policy.explain import (
    EvaluatedCondition,
    EvaluatedLayer,
    EvaluatedStatement,
    Explanation,
    as_json,
    wanted_presence,
)
from iam.policy.statement import Effect
from iam.store.records import RoleRecord

_SHOWN: Final = 5  # statements that do not apply, of each layer
_MOST: Final = 200  # roles on one page
_A_VALUE: Final = gettext_noop("any value")
_NO_VALUE: Final = gettext_noop("no value")
_NO_ROLE: Final = gettext_noop("No role with this name trusts your identity provider.")


class Verdict(Enum):
    """The result of an explanation."""

    OPEN = "open"
    AFTER_MFA = "after a second factor"
    AFTER_TAGS = "after what it asks for is told"
    NOT_NAMED = "the provider did not name it"
    DENIED = "denied by a statement"
    OWN_POLICIES = "the own policies do not allow it"
    NOT_TRUSTED = "not trusted"


@dataclass(frozen=True, slots=True)
class ConditionCheck:
    """One line of the checklist: required values, actual values, and whether they match (None: unknown)."""

    kind: str
    name: str
    wanted: tuple[str, ...]
    actual: tuple[str, ...]
    fits: bool | None


@dataclass(frozen=True, slots=True)
class StatementExplanation:
    """One policy statement: its layer, name, effect, whether it applies, and its checklist."""

    layer: str
    name: str
    effect: str
    applies: bool
    checks: tuple[ConditionCheck, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleExplanationPages:
    """The explanation pages; ``other_roles``: users may see the roles that do not trust them."""

    site: Site
    admin_access: AdminAccess
    other_roles: bool

    def blueprint(self) -> Blueprint:
        """Return the routes."""
        blueprint = Blueprint("why", __name__)
        blueprint.get("/why")(self.show)
        blueprint.get("/api/v1/explain")(self.explain)
        return blueprint

    def show(self) -> Response:
        """Explain the requested role, or list the roles that can be explained."""
        site, session = self.site, self.site.current_session.require()
        arn = request.args.get("role", "")
        shared: dict[str, Any] = {
            "session": session,
            "administrator": self.admin_access.is_administrator(session),
            "reference": site.reference,
            "groups": session.identity.group_names,
        }
        if not arn:
            roles = site.available_roles(session.identity).closed if self.other_roles else []
            return site.responses.render(
                "portal/other_roles.html", roles=roles[:_MOST], more=max(0, len(roles) - _MOST), **shared
            )
        role, explanations = self._explain_role(session, arn)
        return site.responses.render(
            "portal/role_explanation.html",
            role=role,
            account=site.store.account(role.account_id),
            verdict=self._verdict(session, role, explanations),
            of_directory=bool(session.identity.directory),
            back=address_of(arn, ScopeDown.from_query(request.args)),
            explanations=[(explanation, list(_explain_statements(explanation))) for explanation in explanations],
            **shared,
        )

    def explain(self) -> Response:
        """Return the explanation as JSON."""
        session, arn = self.site.current_session.require(), request.args.get("role", "")
        if not arn:
            raise ValidationError("Name a role by its ARN: /api/v1/explain?role=ARN")
        role, explanations = self._explain_role(session, arn)
        verdict = self._verdict(session, role, explanations)
        body = {"role": role.arn, "allowed": verdict is Verdict.OPEN, "verdict": verdict.value}
        return self.site.responses.json(
            body
            | {"reference": self.site.reference, "questions": [as_json(explanation) for explanation in explanations]}
        )

    def _verdict(self, session: BrowserSession, role: RoleRecord, explanations: tuple[Explanation, ...]) -> Verdict:
        """Return the result of the explanations of a role."""
        refused = [one for one in explanations if not one.decision.allowed]
        choices = self.site.available_roles(session.identity)
        verdicts = {
            Verdict.NOT_NAMED: not explanations,
            Verdict.AFTER_MFA: role in choices.after_mfa,
            Verdict.OPEN: not refused,
            Verdict.AFTER_TAGS: role in choices.after_tags,
            Verdict.DENIED: any(one.decision.statements for one in refused),
            Verdict.OWN_POLICIES: all(_trust_policy_allows(one) for one in refused),
        }
        return next((one for one, applies in verdicts.items() if applies), Verdict.NOT_TRUSTED)

    def _explain_role(self, session: BrowserSession, arn: str) -> tuple[RoleRecord, tuple[Explanation, ...]]:
        """Return a role and its explanations; raise NoSuchEntity for roles that the user may not see."""
        choices = self.site.available_roles(session.identity)
        visible = choices.open + choices.after_mfa + choices.after_tags + (choices.closed if self.other_roles else [])
        role = next((candidate for candidate in visible if candidate.arn == arn), None)
        if role is None:
            raise NoSuchEntity(_NO_ROLE)
        self.site.audit.record("ExplainRole", role.account_id, roleArn=role.arn)
        try:
            return role, self.site.role_access.explain_access(self.site.request_state, session.identity, role.arn)
        except AccessDenied:  # a rule that no policy changes, such as an assertion that does not name the role
            return role, ()


def _trust_policy_allows(explanation: Explanation) -> bool:
    """Return whether the trust policy allows the user, so that the denial comes from another policy."""
    return any(layer.layer == TRUST and layer.answer == "allows" for layer in explanation.layers)


def _explain_statements(explanation: Explanation) -> Iterator[StatementExplanation]:
    for layer in explanation.layers:
        for evaluated in _nearest(layer):
            yield StatementExplanation(
                layer.layer,
                str(evaluated.statement.name),
                evaluated.statement.effect.value,
                evaluated.applies,
                tuple(_checks(evaluated, explanation)),
            )


def _nearest(layer: EvaluatedLayer) -> list[EvaluatedStatement]:
    """Return the statements that apply, then those with the fewest mismatches."""
    by_distance = sorted(layer.statements, key=lambda statement: (not statement.applies, statement.mismatches))
    applying = sum(statement.applies for statement in by_distance)
    return by_distance[: max(applying, _SHOWN)]


def _checks(evaluated: EvaluatedStatement, explanation: Explanation) -> Iterator[ConditionCheck]:
    statement = evaluated.statement
    named = tuple(one.text for one in statement.all_principals())
    if named:
        element = "NotPrincipal" if statement.not_principals else "Principal"
        yield ConditionCheck(
            "principal", element, named, (explanation.context.principal.arn,), evaluated.names_principal
        )
    if not evaluated.reaches_resource:
        element = "NotResource" if statement.not_resources else "Resource"
        wanted = statement.resources + statement.not_resources
        yield ConditionCheck("resource", element, wanted, (explanation.context.resource,), fits=False)
    for one in evaluated.conditions:
        yield _condition_check(one)
    if statement.effect is Effect.DENY and not evaluated.conditions and not named:
        yield ConditionCheck("always", "", (), (), fits=True)


def _condition_check(evaluated: EvaluatedCondition) -> ConditionCheck:
    """Return the line of a condition; that of Null says whether a value is required, and not ``true`` or ``false``."""
    condition = evaluated.condition
    presence = tuple(_A_VALUE if one else _NO_VALUE for one in wanted_presence(condition))
    if presence:
        return ConditionCheck("presence", condition.name, presence, evaluated.actual, evaluated.holds)
    name = f"{condition.operator} {condition.name}"
    return ConditionCheck("condition", name, tuple(condition.values), evaluated.actual, evaluated.holds)
