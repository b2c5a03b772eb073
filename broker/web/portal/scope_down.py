"""Restrictions that a user chooses for credentials: session duration, session policy and session tags.

They survive every page that comes in between, such as a sign-in or a second factor, in the address to come back to. A
restriction that cannot be read from it is asked for again and never dropped: credentials are not to allow more than was
chosen.
"""

import json
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from flask import request

from broker.web.core.form_fields import form_field, is_valid_form_text
from broker.web.core.responses import HOME
from broker.web.i18n.languages import gettext_noop
from iam.arn import parse_arn
from iam.errors import ValidationError
from iam.operations.policies.submitted import lint_policy
from iam.policy.document import PolicyKind
from iam.policy.lint.findings import Finding

# Seconds that a page offers; a role's own maximum may be less.
DURATIONS: Final = (900, 3600, 7200, 14_400, 28_800, 43_200)
READ, OWN_POLICY = "read", "own"
LONGEST: Final = "max"  # the length that the role allows at most
_SECONDS: Final = (*map(str, DURATIONS), LONGEST)
_READ_ONLY_OR_POLICY: Final = gettext_noop("Choose read only or your own policy, not both.")
_NO_POLICY: Final = gettext_noop("Enter a policy, or choose another option.")
_READ_ONLY: Final = "arn:aws:iam::aws:policy/ReadOnlyAccess"
LONGEST_ARN: Final = 2048  # STS API reference, AssumeRoleWithSAML, RoleArn
_LONGEST_TAG: Final = 256  # characters: STS API reference, Tag
_LONGEST_POLICY: Final = 10_000  # characters that a form may bring; the STS takes fewer
# Characters of a compressed policy in an address: enough for any policy of 2,048 characters, the quota of the STS.
_LONGEST_PACKED: Final = 2800


@dataclass(frozen=True, slots=True)
class ScopeDown:
    """The submitted values: seconds or LONGEST; "", READ or OWN; the text of an own policy; required session tags."""

    seconds: str = ""
    narrow: str = ""
    policy: str = ""
    tags: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_form(cls, tags: tuple[str, ...] = ()) -> "ScopeDown":
        """Return the values of the posted form, with those of the session tags that the role requires."""
        return cls(
            form_field("seconds", 10),
            form_field("narrow", 10),
            form_field("policy", _LONGEST_POLICY),
            tuple((tag, form_field(f"tag-{tag}", _LONGEST_TAG).strip()) for tag in tags),
        )

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> "ScopeDown":
        """Return the values of an address that `query` made.

        What cannot be read asks for an own policy, which the form then demands.
        """
        seconds, narrow, packed = query.get("seconds", ""), query.get("narrow", ""), query.get("policy", "")
        policy = _unpack(packed) if packed else ""
        is_readable = narrow in ("", READ, OWN_POLICY) and policy is not None
        return cls(seconds if seconds in _SECONDS else "", narrow if is_readable else OWN_POLICY, policy or "")

    @property
    def query(self) -> dict[str, str]:
        """Return the values as an address has them, but for tags, which their form asks for again."""
        packed = _pack(self.policy_text)
        is_own = bool(self.policy_text) and (self.narrow != READ or not packed)
        values = {"seconds": self.seconds, "narrow": OWN_POLICY if is_own else self.narrow, "policy": packed}
        return {name: value for name, value in values.items() if value}

    def parameters(self, longest: int) -> dict[str, Any]:
        """Return the STS parameters for a role that allows ``longest`` seconds.

        Raise ValidationError for values that the form cannot send.
        """
        found: dict[str, Any] = {"DurationSeconds": self._seconds(longest)} if self.seconds else {}
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

    def _seconds(self, longest: int) -> int:
        if self.seconds not in _SECONDS:
            raise ValidationError("The field seconds cannot be read.")
        return longest if self.seconds == LONGEST else int(self.seconds)


def query_of(role_arn: str, scope_down: ScopeDown) -> dict[str, str]:
    """Return the fields of the address at which a role and its restrictions are chosen beforehand."""
    is_arn = len(role_arn) <= LONGEST_ARN and parse_arn(role_arn) is not None
    return ({"role": role_arn} if is_arn else {}) | scope_down.query


def address_of(role_arn: str, scope_down: ScopeDown) -> str:
    """Return the path and query of the portal at which a role and its restrictions are chosen beforehand."""
    query = query_of(role_arn, scope_down)
    return f"{HOME}?{urlencode(query)}" if query else HOME


def posted_address() -> str:
    """Return the address of what the posted form of the portal chose; without what no form of ours can send."""
    try:
        return address_of(form_field("roleIndex", LONGEST_ARN), ScopeDown.from_form())
    except ValidationError:
        return address_of("", ScopeDown(narrow=OWN_POLICY))


def requested_address() -> str:
    """Return the address of what the address of this request chose, as short as it can be."""
    return address_of(request.args.get("role", "")[:LONGEST_ARN], ScopeDown.from_query(request.args))


def json_error(policy: str) -> tuple[int, int] | None:
    """Return line and column at which a policy stops being JSON, both from 1; None if it is JSON."""
    try:
        json.loads(policy)
    except json.JSONDecodeError as error:
        return error.lineno, error.colno
    except RecursionError:
        return None
    return None


def _pack(policy: str) -> str:
    """Return a policy compressed for an address, or "" if it is too long for one."""
    packed = urlsafe_b64encode(zlib.compress(policy.encode(), 9)).decode().rstrip("=") if policy else ""
    return packed if len(packed) <= _LONGEST_PACKED else ""


def _unpack(packed: str) -> str | None:
    """Return the policy, or None if it cannot be read; scripts of the page write one as it is."""
    if packed.lstrip().startswith("{"):
        return packed[:_LONGEST_POLICY] if is_valid_form_text(packed) else None
    if len(packed) > _LONGEST_PACKED:
        return None
    try:
        reader = zlib.decompressobj()
        # A bound: a few bytes can expand to many.
        text = reader.decompress(urlsafe_b64decode(packed + "=" * (-len(packed) % 4)), _LONGEST_POLICY).decode()
    except (ValueError, zlib.error):
        return None
    return text if reader.eof and is_valid_form_text(text) else None
