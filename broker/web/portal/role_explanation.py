"""Why a role is not open to somebody: each condition of its trust policy, with what it wants and what it found.

The same engine that refuses explains; the page and the JSON under ``/api/v1/explain`` are two readings of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from flask import Blueprint, Response, request

from broker.sessions.browser import BrowserSession
from broker.web.admin.access import AdminAccess
from broker.web.core.languages import gettext_noop
from broker.web.core.site import Site
from iam.errors import AccessDenied, NoSuchEntity, ValidationError
from iam.policy.decide import TRUST
from iam.policy.explain import EvaluatedLayer, EvaluatedStatement, Explanation, as_json
from iam.policy.statement import Effect
from iam.store.records import RoleRecord

_SHOWN: Final = 5  # statements that do not apply, of each layer
_MOST: Final = 200  # roles on one page
_NO_ROLE: Final = gettext_noop("No role with this name trusts your identity provider.")


class Verdict(Enum):
    """Why a role is open to somebody or not, in a word."""

    OPEN = "open"
    AFTER_MFA = "after a second factor"
    AFTER_TAGS = "after what it asks for is told"
    NOT_NAMED = "the provider did not name it"
    DENIED = "denied by a statement"
    OWN_POLICIES = "the own policies do not allow it"
    NOT_TRUSTED = "not trusted"


@dataclass(frozen=True, slots=True)
class ConditionCheck:
    """One line of the checklist: what is wanted, what is there, and whether it fits (None: nobody can know)."""

    kind: str
    name: str
    wanted: tuple[str, ...]
    actual: tuple[str, ...]
    fits: bool | None


@dataclass(frozen=True, slots=True)
class StatementExplanation:
    """One statement of a layer: whose it is, what it does, whether it applies, and its checklist."""

    layer: str
    name: str
    effect: str
    applies: bool
    checks: tuple[ConditionCheck, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleExplanationPages:
    """The pages that explain; ``other_roles``: people may see the roles that do not trust them."""

    site: Site
    admin_access: AdminAccess
    other_roles: bool

    def blueprint(self) -> Blueprint:
        """Return the routes."""
        made = Blueprint("why", __name__)
        made.get("/why")(self.show)
        made.get("/api/v1/explain")(self.explain)
        return made

    def show(self) -> Response:
        """Explain the role that is named, or list those that could be."""
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
        role, found = self._explain_role(session, arn)
        return site.responses.render(
            "portal/role_explanation.html",
            role=role,
            account=site.store.account(role.account_id),
            verdict=self._verdict(session, role, found),
            of_directory=site.directory_refresh.is_directory_identity(session.identity),
            explanations=[(one, list(_explain_statements(one))) for one in found],
            **shared,
        )

    def explain(self) -> Response:
        """Answer with the same as JSON."""
        session, arn = self.site.current_session.require(), request.args.get("role", "")
        if not arn:
            raise ValidationError("Name a role by its ARN: /api/v1/explain?role=ARN")
        role, found = self._explain_role(session, arn)
        verdict = self._verdict(session, role, found)
        told = {"role": role.arn, "allowed": verdict is Verdict.OPEN, "verdict": verdict.value}
        return self.site.responses.json(
            told | {"reference": self.site.reference, "questions": [as_json(one) for one in found]}
        )

    def _verdict(self, session: BrowserSession, role: RoleRecord, found: tuple[Explanation, ...]) -> Verdict:
        """Return in a word why a role is open or not."""
        refused = [one for one in found if not one.decision.allowed]
        choices = self.site.available_roles(session.identity)
        verdicts = {
            Verdict.NOT_NAMED: not found,
            Verdict.OPEN: not refused,
            Verdict.AFTER_MFA: role in choices.after_mfa,
            Verdict.AFTER_TAGS: role in choices.after_tags,
            Verdict.DENIED: any(one.decision.statements for one in refused),
            Verdict.OWN_POLICIES: all(_trust_policy_allows(one) for one in refused),
        }
        return next((one for one, applies in verdicts.items() if applies), Verdict.NOT_TRUSTED)

    def _explain_role(self, session: BrowserSession, arn: str) -> tuple[RoleRecord, tuple[Explanation, ...]]:
        """Return a role and why it is open or not; raise NoSuchEntity for all that this person may not see."""
        choices = self.site.available_roles(session.identity)
        visible = choices.open + choices.after_mfa + choices.after_tags + (choices.closed if self.other_roles else [])
        role = next((one for one in visible if one.arn == arn), None)
        if role is None:
            raise NoSuchEntity(_NO_ROLE)
        self.site.audit.record("ExplainRole", role.account_id, roleArn=role.arn)
        try:
            return role, self.site.role_access.explain_access(self.site.request_state, session.identity, role.arn)
        except AccessDenied:  # a rule that no policy changes, such as an assertion that does not name the role
            return role, ()


def _trust_policy_allows(found: Explanation) -> bool:
    """Return whether the role's trust policy lets somebody in, so that what is missing stands elsewhere."""
    return any(one.layer == TRUST and one.answer == "allows" for one in found.layers)


def _explain_statements(found: Explanation) -> Iterator[StatementExplanation]:
    for layer in found.layers:
        for read in _nearest(layer):
            name = str(read.statement.sid or read.statement.index)
            yield StatementExplanation(
                layer.layer, name, read.statement.effect.value, read.applies, tuple(_checks(read, found))
            )


def _nearest(layer: EvaluatedLayer) -> list[EvaluatedStatement]:
    """Return the statements that apply, and of the others those that miss least."""
    near = sorted(layer.statements, key=lambda one: (not one.applies, one.mismatches))
    applying = sum(one.applies for one in near)
    return near[: max(applying, _SHOWN)]


def _checks(read: EvaluatedStatement, found: Explanation) -> Iterator[ConditionCheck]:
    statement = read.statement
    named = tuple(one.text for one in statement.all_principals())
    if named:
        element = "NotPrincipal" if statement.not_principals else "Principal"
        yield ConditionCheck("principal", element, named, (found.context.principal.arn,), read.names_principal)
    if not read.reaches_resource:
        element = "NotResource" if statement.not_resources else "Resource"
        wanted = statement.resources + statement.not_resources
        yield ConditionCheck("resource", element, wanted, (found.context.resource,), fits=False)
    for one in read.conditions:
        condition = one.condition
        name = f"{condition.operator} {condition.name}"
        yield ConditionCheck("condition", name, tuple(condition.values), one.actual, one.holds)
    if statement.effect is Effect.DENY and not read.conditions and not named:
        yield ConditionCheck("always", "", (), (), fits=True)
