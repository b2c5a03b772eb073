"""Who administers which account: whoever may read all of it, by a role that is open to them or by their own policies.

There is no list of administrators to keep beside the policies. To see everything of an account takes the leave for
``iam:GetAccountAuthorizationDetails``, which is what the IAM API asks for the same; to end sessions takes that for
``iam:PutRolePolicy`` on the account's roles, by which AWS revokes the sessions of a role (IAM User Guide, "Revoke IAM
role temporary security credentials"). PowerUserAccess, which leaves out all of IAM, has neither.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from broker.web.browser_sessions import BrowserSession
from broker.web.site import Site
from iam.accounts import list_accounts
from iam.arn import iam_arn, root_arn
from iam.errors import AccessDenied, ServiceError
from iam.policy.decide import Why
from iam.policy.policy_set import PolicySet
from sts.callers import ContextKeys
from sts.identity import IamIdentity
from sts.question import Asker


class Leave(NamedTuple):
    """What somebody needs the leave for, and on what; ``resource`` is written with the account's id."""

    action: str
    resource: str


SEE: Final = Leave("iam:GetAccountAuthorizationDetails", "*")
REVOKE: Final = Leave("iam:PutRolePolicy", "arn:aws:iam::{account_id}:role/*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Administration:
    """Asks the policies what somebody signed in may administer."""

    site: Site

    def any(self, session: BrowserSession) -> bool:
        """Return whether somebody administers an account."""
        return next(self._accounts(session, SEE), None) is not None

    def accounts(self, session: BrowserSession, leave: Leave = SEE) -> tuple[str, ...]:
        """Return the ids of the accounts that somebody may see, or has another leave for."""
        return tuple(sorted(set(self._accounts(session, leave))))

    def required(self, session: BrowserSession, leave: Leave = SEE) -> tuple[str, ...]:
        """Return these accounts; raise AccessDenied where there is none."""
        found = self.accounts(session, leave)
        if not found:
            raise AccessDenied("You administer no account: no role that you may take has the leave for it.")
        return found

    def is_operator(self, session: BrowserSession) -> bool:
        """Return whether somebody sees every account, and so also what belongs to none."""
        with self.site.store.read() as tx:
            return {one.id for one in list_accounts(tx)} <= set(self.accounts(session))

    def _accounts(self, session: BrowserSession, leave: Leave) -> Iterator[str]:
        asker = Asker(self.site.store, self.site.exchange.now)
        keys = {"aws:multifactorauthpresent": ("false" if session.mfa_at is None else "true",)}
        done: set[str] = set()
        for principal, account_id in self._principals(session, leave):
            resource = leave.resource.format(account_id=account_id)
            if account_id not in done and _allows(asker, principal, leave.action, resource, keys):
                done.add(account_id)
                yield account_id

    def _principals(self, session: BrowserSession, leave: Leave) -> Iterator[tuple[str, str]]:
        """Yield as whom somebody can act, with the account: as a user or owner, and by each role open to them."""
        identity = session.identity
        if isinstance(identity, IamIdentity):
            user = None if identity.is_root else self.site.store.user(identity.subject)
            yield user.arn if user else root_arn(identity.account_id), identity.account_id
        for role in self.site.choices(identity).open:
            if _speaks_of(role.policies, leave.action):  # most roles have nothing to do with administration
                yield iam_arn(role.account_id, "role", role.name, role.path), role.account_id


def _speaks_of(policies: PolicySet, action: str) -> bool:
    return any(not one.denies for policy in policies for one in policy.about(action.lower()))


def _allows(asker: Asker, principal: str, action: str, resource: str, keys: ContextKeys) -> bool:
    try:
        return asker.question(principal, action, resource, keys).answer() is Why.ALLOWED
    except ServiceError:  # who has gone meanwhile administers nothing
        return False
