"""Restrictions that a user chooses for credentials: session duration, session policy and session tags."""

from dataclasses import dataclass
from typing import Any, Final

from broker.web.i18n.languages import gettext_noop
from iam.errors import ValidationError
from iam.operations.policies.submitted import lint_policy
from iam.policy.document import PolicyKind
from iam.policy.lint import Finding

# Seconds that a page offers; a role's own maximum may be less.
DURATIONS: Final = (900, 3600, 7200, 14_400, 28_800, 43_200)
READ, OWN_POLICY = "read", "own"
_READ_ONLY_OR_POLICY: Final = gettext_noop("Choose read only or your own policy, not both.")
_NO_POLICY: Final = gettext_noop("Enter a policy, or choose another option.")
_READ_ONLY: Final = "arn:aws:iam::aws:policy/ReadOnlyAccess"


@dataclass(frozen=True, slots=True)
class ScopeDown:
    """The submitted values: seconds; "", READ or OWN; the text of an own policy; and required session tags."""

    seconds: str = ""
    narrow: str = ""
    policy: str = ""
    tags: tuple[tuple[str, str], ...] = ()

    @property
    def parameters(self) -> dict[str, Any]:
        """Return the STS parameters; raise ValidationError for values that the form cannot send."""
        found: dict[str, Any] = {"DurationSeconds": self._seconds()} if self.seconds else {}
        if self.tags:
            found["Tags"] = [{"Key": key, "Value": value} for key, value in self.tags]
        if self.narrow not in ("", READ, OWN_POLICY):
            raise ValidationError("The field narrow cannot be read.")
        if self.narrow == READ and self.policy_text:  # together they would allow what either of them does
            raise ValidationError(_READ_ONLY_OR_POLICY)
        if self.narrow == READ:
            found["PolicyArns"] = [{"arn": _READ_ONLY}]
        if self.narrow == OWN_POLICY and not self.policy_text:
            raise ValidationError(_NO_POLICY)
        return found | ({"Policy": self.policy_text} if self.policy_text else {})

    @property
    def policy_text(self) -> str:
        """Return the user's policy; a policy that was entered is never ignored."""
        return self.policy.replace("\r\n", "\n").strip()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Return the findings about the user's policy; raise ValidationError, MalformedPolicyDocument."""
        if not self.policy_text:
            raise ValidationError(_NO_POLICY)
        return lint_policy(self.policy_text, PolicyKind.SESSION)

    def _seconds(self) -> int:
        if self.seconds not in map(str, DURATIONS):
            raise ValidationError("The field seconds cannot be read.")
        return int(self.seconds)
