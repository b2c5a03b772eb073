"""What somebody asks of the credentials they take: how long they last, and what less than the role they may do."""

from dataclasses import dataclass
from typing import Any, Final

from broker.web.core.languages import gettext_noop
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
    """As the form has it: seconds, "" or READ or OWN, the text of an own policy, and tags that a role wants to see."""

    seconds: str = ""
    narrow: str = ""
    policy: str = ""
    tags: tuple[tuple[str, str], ...] = ()

    @property
    def parameters(self) -> dict[str, Any]:
        """Return the parameters of the STS that say the same; raise ValidationError for what no form of ours sends."""
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
        """Return the own policy: what is typed is never ignored, whatever is chosen."""
        return self.policy.replace("\r\n", "\n").strip()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Return what is questionable about an own policy; raise ValidationError, MalformedPolicyDocument."""
        if not self.policy_text:
            raise ValidationError(_NO_POLICY)
        return lint_policy(self.policy_text, PolicyKind.SESSION)

    def _seconds(self) -> int:
        if self.seconds not in map(str, DURATIONS):
            raise ValidationError("The field seconds cannot be read.")
        return int(self.seconds)
