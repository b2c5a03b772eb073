"""Who administers which account: whoever may read all of it, by a role that is open to them or by their own policies.

There is no list of administrators to keep beside the policies. To see everything of an account takes the leave for
``iam:GetAccountAuthorizationDetails``, which is what the IAM API asks for the same; to end sessions takes that for
``iam:PutRolePolicy`` on the account's roles, by which AWS revokes the sessions of a role (IAM User Guide, "Revoke IAM
role temporary security credentials"). PowerUserAccess, which leaves out all of IAM, has neither. What is asked is what
the gate would answer to the credentials that somebody could take now.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from flask import g

from broker.sessions.browser import BrowserSession
from broker.web.core.languages import to_translate
from broker.web.core.site import Site
from iam.accounts import list_accounts
from iam.errors import AccessDenied, InvalidIdentityToken, ServiceError, ServiceUnavailable, ValidationError
from iam.operations.required_permission import Ask
from iam.policy.policy_set import PolicySet
from iam.store.records import RoleRecord
from sts.identity import IamIdentity, Identity


class Leave(NamedTuple):
    """What somebody needs the leave for, and on what; ``resource`` is written with the account's id."""

    action: str
    resource: str


SEE: Final = Leave("iam:GetAccountAuthorizationDetails", "*")
REVOKE: Final = Leave("iam:PutRolePolicy", "arn:aws:iam::{account_id}:role/*")


_NONE: Final = to_translate("You administer no account: none of the roles open to you allows it.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Administration:
    """Asks the policies what somebody signed in may administer."""

    site: Site

    def any(self, session: BrowserSession) -> bool:
        """Return whether somebody administers an account."""
        return next(self._accounts(session, SEE), None) is not None

    def accounts(self, session: BrowserSession, leave: Leave = SEE) -> tuple[str, ...]:
        """Return the ids of the accounts that somebody may see, or has another leave for; found once for a request."""
        known: dict[tuple[str, Leave], tuple[str, ...]] = g.setdefault("administered", {})
        if (session.key, leave) not in known:
            known[session.key, leave] = tuple(sorted(self._accounts(session, leave)))
        return known[session.key, leave]

    def required(self, session: BrowserSession, leave: Leave = SEE) -> tuple[str, ...]:
        """Return these accounts; raise AccessDenied where there is none."""
        found = self.accounts(session, leave)
        if not found:
            raise AccessDenied(_NONE)
        return found

    def is_operator(self, session: BrowserSession, leave: Leave = SEE) -> bool:
        """Return whether somebody has this leave for every account, and so also for what belongs to none."""
        with self.site.store.read() as tx:
            return {one.id for one in list_accounts(tx)} <= set(self.accounts(session, leave))

    def _accounts(self, session: BrowserSession, leave: Leave) -> Iterator[str]:
        done: set[str] = set()
        for account_id, role in self._ways(session.identity):
            if account_id not in done and self._may(session.identity, leave, account_id, role):
                done.add(account_id)
                yield account_id

    def _ways(self, identity: Identity) -> Iterator[tuple[str, RoleRecord | None]]:
        """Yield how somebody can act, and in which account: as a user or owner, and by each role open to them."""
        if isinstance(identity, IamIdentity):
            yield identity.account_id, None
        for role in self._open(identity):
            yield role.account_id, role

    def _open(self, identity: Identity) -> Sequence[RoleRecord]:
        try:
            return self.site.choices(identity).open
        except (InvalidIdentityToken, ValidationError):  # whom the provider vouched for in a way that gives no role
            return ()

    def _may(self, identity: Identity, leave: Leave, account_id: str, role: RoleRecord | None) -> bool:
        site = self.site
        if role is not None and not _speaks_of(role.policies, leave.action):
            return False  # most roles have nothing to do with administration
        ask = Ask(leave.resource.format(account_id=account_id))
        try:
            return site.desk.may(site.exchange, identity, ask, leave.action, role)
        except ServiceUnavailable:
            raise
        except ServiceError:  # who has gone meanwhile, or cannot have the role, administers nothing
            return False


def _speaks_of(policies: PolicySet, action: str) -> bool:
    return any(not one.denies for policy in policies for one in policy.about(action.lower()))
