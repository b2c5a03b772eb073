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
from broker.web.core.languages import gettext_noop
from broker.web.core.site import Site
from iam.accounts import list_accounts
from iam.errors import AccessDenied, InvalidIdentityToken, ServiceError, ServiceUnavailable, ValidationError
from iam.operations.required_permission import RequiredPermission
from iam.policy.policy_set import PolicySet
from iam.store.records import RoleRecord
from sts.identity import IamIdentity, Identity


class Permission(NamedTuple):
    """What somebody needs the leave for, and on what; ``resource`` is written with the account's id."""

    action: str
    resource: str


READ_ACCOUNT: Final = Permission("iam:GetAccountAuthorizationDetails", "*")
REVOKE_SESSIONS: Final = Permission("iam:PutRolePolicy", "arn:aws:iam::{account_id}:role/*")


_NONE: Final = gettext_noop("Access denied. None of your roles lets you administer an account.")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminAccess:
    """Asks the policies what somebody signed in may administer."""

    site: Site

    def is_administrator(self, session: BrowserSession) -> bool:
        """Return whether somebody administers an account."""
        return next(self._accounts(session, READ_ACCOUNT), None) is not None

    def accounts(self, session: BrowserSession, permission: Permission = READ_ACCOUNT) -> tuple[str, ...]:
        """Return the ids of the accounts that somebody may see, or has another leave for; found once for a request."""
        known: dict[tuple[str, Permission], tuple[str, ...]] = g.setdefault("administered", {})
        if (session.key, permission) not in known:
            known[session.key, permission] = tuple(sorted(self._accounts(session, permission)))
        return known[session.key, permission]

    def require_accounts(self, session: BrowserSession, permission: Permission = READ_ACCOUNT) -> tuple[str, ...]:
        """Return these accounts; raise AccessDenied where there is none."""
        found = self.accounts(session, permission)
        if not found:
            raise AccessDenied(_NONE)
        return found

    def is_operator(self, session: BrowserSession, permission: Permission = READ_ACCOUNT) -> bool:
        """Return whether somebody has this leave for every account, and so also for what belongs to none."""
        with self.site.store.read() as tx:
            return {one.id for one in list_accounts(tx)} <= set(self.accounts(session, permission))

    def _accounts(self, session: BrowserSession, permission: Permission) -> Iterator[str]:
        done: set[str] = set()
        for account_id, role in self._identities_and_roles(session.identity):
            if account_id not in done and self._is_allowed(session.identity, permission, account_id, role):
                done.add(account_id)
                yield account_id

    def _identities_and_roles(self, identity: Identity) -> Iterator[tuple[str, RoleRecord | None]]:
        """Yield how somebody can act, and in which account: as a user or owner, and by each role open to them."""
        if isinstance(identity, IamIdentity):
            yield identity.account_id, None
        for role in self._open_roles(identity):
            yield role.account_id, role

    def _open_roles(self, identity: Identity) -> Sequence[RoleRecord]:
        try:
            return self.site.available_roles(identity).open
        except (InvalidIdentityToken, ValidationError):  # whom the provider vouched for in a way that gives no role
            return ()

    def _is_allowed(self, identity: Identity, permission: Permission, account_id: str, role: RoleRecord | None) -> bool:
        site = self.site
        if role is not None and not _mentions_action(role.policies, permission.action):
            return False  # most roles have nothing to do with administration
        ask = RequiredPermission(permission.resource.format(account_id=account_id))
        try:
            return site.role_access.is_allowed(site.request_state, identity, ask, permission.action, role)
        except ServiceUnavailable:
            raise
        except ServiceError:  # who has gone meanwhile, or cannot have the role, administers nothing
            return False


def _mentions_action(policies: PolicySet, action: str) -> bool:
    return any(not one.denies for policy in policies for one in policy.statements_about(action.lower()))
