"""What somebody asks of the credentials they take: how long they last, and what less than the role they may do."""

from dataclasses import dataclass
from typing import Any, Final

from iam.errors import ValidationError
from iam.operations.written import questionable
from iam.policy.document import PolicyKind
from iam.policy.lint import Finding

# Seconds that a page offers; a role's own maximum may be less.
LENGTHS: Final = (900, 3600, 7200, 14_400, 28_800, 43_200)
READ, OWN = "read", "own"
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
        if self.narrow == READ:
            return found | {"PolicyArns": [{"arn": _READ_ONLY}]}
        if self.narrow == OWN:
            return found | {"Policy": self.policy.replace("\r\n", "\n")}
        if self.narrow:
            raise ValidationError("The field narrow cannot be read.")
        return found

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Return what is questionable about an own policy; raise MalformedPolicyDocument."""
        return questionable(self.policy, PolicyKind.SESSION) if self.narrow == OWN else ()

    def _seconds(self) -> int:
        if self.seconds not in map(str, LENGTHS):
            raise ValidationError("The field seconds cannot be read.")
        return int(self.seconds)
