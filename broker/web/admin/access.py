"""Which accounts a user administers: those that a role or the user's own policies allow to be read completely.

There is no list of administrators beside the policies. Seeing an account requires
``iam:GetAccountAuthorizationDetails``, as the IAM API does for the same data. Ending sessions requires
``iam:PutRolePolicy`` on the account's roles, with which AWS revokes the sessions of a role (IAM User Guide, "Revoke IAM
role temporary security credentials"). PowerUserAccess, which excludes IAM, allows neither. The decision is the gate's,
for the credentials that the user could get now.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from flask import g

from broker.sessions.browser import BrowserSession
from broker.web.core.site import Site
from broker.web.i18n.languages import gettext_noop
from iam.accounts import list_accounts
from iam.errors import AccessDenied, InvalidIdentityToken, ServiceError, ServiceUnavailable, ValidationError
from iam.operations.required_permission import RequiredPermission
from iam.policy.policy_set import PolicySet
from iam.store.records import RoleRecord
from sts.identity import Identity


class Permission(NamedTuple):
    """A required action and its resource; ``resource`` contains a placeholder for the account ID."""

    action: str
    resource: str


READ_ACCOUNT: Final = Permission("iam:GetAccountAuthorizationDetails", "*")
REVOKE_SESSIONS: Final = Permission("iam:PutRolePolicy", "arn:aws:iam::{account_id}:role/*")


_NONE: Final = gettext_noop("Access denied. None of your roles lets you administer an account.")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminAccess:
    """Evaluates which accounts a signed-in user may administer."""

    site: Site

    def is_administrator(self, session: BrowserSession) -> bool:
        """Return whether the user administers any account."""
        return next(self._accounts(session, READ_ACCOUNT), None) is not None

    def accounts(self, session: BrowserSession, permission: Permission = READ_ACCOUNT) -> tuple[str, ...]:
        """Return the IDs of the accounts for which the user has a permission; evaluated once per request."""
        cache: dict[tuple[str, Permission], tuple[str, ...]] = g.setdefault("administered", {})
        if (session.key, permission) not in cache:
            cache[session.key, permission] = tuple(sorted(self._accounts(session, permission)))
        return cache[session.key, permission]

    def require_accounts(self, session: BrowserSession, permission: Permission = READ_ACCOUNT) -> tuple[str, ...]:
        """Return the accounts; raise AccessDenied if there are none."""
        accounts = self.accounts(session, permission)
        if not accounts:
            raise AccessDenied(_NONE)
        return accounts

    def is_operator(self, session: BrowserSession, permission: Permission = READ_ACCOUNT) -> bool:
        """Return whether the user has the permission for every account, and so for data of no account."""
        with self.site.store.read() as tx:
            return {account.id for account in list_accounts(tx)} <= set(self.accounts(session, permission))

    def _accounts(self, session: BrowserSession, permission: Permission) -> Iterator[str]:
        done: set[str] = set()
        for account_id, role in self._identities_and_roles(session.identity):
            if account_id not in done and self._is_allowed(session.identity, permission, account_id, role):
                done.add(account_id)
                yield account_id

    def _identities_and_roles(self, identity: Identity) -> Iterator[tuple[str, RoleRecord | None]]:
        """Yield each account with the role that the user can assume there, or None for the user's own identity."""
        if self.site.gate.kinds.of(identity).is_principal:
            yield identity.account_id, None
        for role in self._open_roles(identity):
            yield role.account_id, role

    def _open_roles(self, identity: Identity) -> Sequence[RoleRecord]:
        try:
            return self.site.available_roles(identity).open
        except (InvalidIdentityToken, ValidationError):  # whose proof asks for a session that no role can give
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
    return any(not statement.denies for policy in policies for statement in policy.statements_about(action.lower()))
