"""What somebody asks of the credentials they take: how long they last, and what less than the role they may do."""

from dataclasses import dataclass
from typing import Any, Final

from broker.web.core.languages import to_translate
from iam.errors import ValidationError
from iam.operations.policies.submitted import questionable
from iam.policy.document import PolicyKind
from iam.policy.lint import Finding

# Seconds that a page offers; a role's own maximum may be less.
LENGTHS: Final = (900, 3600, 7200, 14_400, 28_800, 43_200)
READ, OWN = "read", "own"
_EITHER: Final = to_translate("Choose read only, or a policy of your own: not both.")
_NOTHING: Final = to_translate("Write a policy, or choose something else to do.")
_READ_ONLY: Final = "arn:aws:iam::aws:policy/ReadOnlyAccess"


@dataclass(frozen=True, slots=True)
class Narrowing:
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
        if self.narrow not in ("", READ, OWN):
            raise ValidationError("The field narrow cannot be read.")
        if self.narrow == READ and self.typed:  # together they would allow what either of them does
            raise ValidationError(_EITHER)
        if self.narrow == READ:
            found["PolicyArns"] = [{"arn": _READ_ONLY}]
        if self.narrow == OWN and not self.typed:
            raise ValidationError(_NOTHING)
        return found | ({"Policy": self.typed} if self.typed else {})

    @property
    def typed(self) -> str:
        """Return the own policy: what is typed is never ignored, whatever is chosen."""
        return self.policy.replace("\r\n", "\n").strip()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Return what is questionable about an own policy; raise ValidationError, MalformedPolicyDocument."""
        if not self.typed:
            raise ValidationError(_NOTHING)
        return questionable(self.typed, PolicyKind.SESSION)

    def _seconds(self) -> int:
        if self.seconds not in map(str, LENGTHS):
            raise ValidationError("The field seconds cannot be read.")
        return int(self.seconds)
