"""What the gate learns of one request on its way through, for the audit record and the answer."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from broker.api.http import HttpRequest
from broker.api.model import OperationModel
from iam.errors import InternalFailure
from iam.params import Params, Result
from iam.policy.decide import Decision
from iam.policy.explain import Explanation
from iam.policy.lint.findings import Finding
from sts.callers import Caller
from sts.identity import Identity
from sts.mint import Session
from sts.token import Sealer


class IdentityRecord(NamedTuple):
    """How an identity is recorded: its ``userIdentity``, and members of ``additionalEventData`` about its proof."""

    user_identity: dict[str, Any]
    details: dict[str, Any]


def _describe_unknown(_identity: Identity) -> IdentityRecord:
    return IdentityRecord({"type": "Unknown"}, {})


@dataclass(slots=True)
class RequestState:
    """One request in progress; filled in step by step, so that a refusal at any step leaves what was known."""

    request: HttpRequest
    now: datetime
    new_id: Callable[[], str]
    describe_identity: Callable[[Identity], IdentityRecord] = _describe_unknown
    id: str = ""
    sealer: Sealer = field(init=False)  # the keys of this moment, for the whole request
    model: OperationModel | None = None
    revision: int = -1  # of the store's records when the request began: what it decided with is no older
    access_key_id: str | None = None  # that the request names, before anything about it is verified
    region: str | None = None  # that the signature names
    caller: Caller | None = None
    ended_session: Session | None = None  # that signed the request, and is refused: expired, revoked, or its role gone
    identity: Identity | None = None
    params: Params = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)
    denial: Explanation | None = None  # of the decision that was a no
    findings: tuple[Finding, ...] = ()  # about a policy that the request writes
    result: Result | None = None
    before_consuming: Callable[[Result], None] | None = None  # checks what else is asked, before a proof is used up
    is_interactive: bool = False  # of somebody signed in to the pages, where a second factor can always be asked for
    mfa_at: int | None = None  # when that was last given there, in milliseconds
    refusal_recorded: bool = False  # so that the reference on a page finds one record, and only one

    def __post_init__(self) -> None:
        self.id = self.new_id()

    @property
    def signer(self) -> Caller:
        """Return the caller whose signature was verified."""
        if self.caller is None:
            raise InternalFailure("An internal error occurred.", log="nobody has signed")
        return self.caller

    @property
    def proven_identity(self) -> Identity:
        """Return the identity that a provider proved for this request."""
        if self.identity is None:
            raise InternalFailure("An internal error occurred.", log="no provider has proved anybody")
        return self.identity
