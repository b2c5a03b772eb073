"""Which accounts a user administers: those that a role or the user's own policies allow to be read completely.

There is no list of administrators beside the policies. Seeing an account requires
``iam:GetAccountAuthorizationDetails``, as the IAM API does for the same data. What ending sessions requires is in
`broker.sessions.revocation_permissions`. PowerUserAccess, which excludes IAM, allows neither. The decision is the
gate's, for the credentials that the user could get now.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from flask import g

from broker.audit.query import ALL_ACCOUNTS, VIEW
from broker.sessions.browser import BrowserSession
from broker.sessions.revocation_permissions import Permissions
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

    def record_view(self, session: BrowserSession, page: str, **details: str) -> None:
        """Record who looks at which accounts on a page, before it is shown; raise AuditUnavailable.

        The event is the permission that it requires. ``details`` are the filters, of which empty ones are left out.
        """
        accounts = self.accounts(session)
        seen: object = ALL_ACCOUNTS if self.is_operator(session) else list(accounts)
        filters = {name: value for name, value in details.items() if value}
        account_id = accounts[0] if len(accounts) == 1 else ""
        self.site.audit.record(VIEW, account_id, page=page, accounts=seen, **filters)

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

    def is_allowed(self, session: BrowserSession, permissions: Permissions) -> bool:
        """Return whether the user has all of these permissions, in each account by one role or their own policies."""
        return bool(permissions) and all(
            self._is_allowed_in(session.identity, account_id, asks) for account_id, asks in permissions.items()
        )

    def _is_allowed_in(self, identity: Identity, account_id: str, asks: Sequence[RequiredPermission]) -> bool:
        return any(
            all(self._is_allowed(identity, ask, role) for ask in asks)
            for where, role in self._identities_and_roles(identity)
            if where == account_id
        )

    def _accounts(self, session: BrowserSession, permission: Permission) -> Iterator[str]:
        done: set[str] = set()
        for account_id, role in self._identities_and_roles(session.identity):
            ask = RequiredPermission(permission.resource.format(account_id=account_id), action=permission.action)
            if account_id not in done and self._is_allowed(session.identity, ask, role):
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

    def _is_allowed(self, identity: Identity, ask: RequiredPermission, role: RoleRecord | None) -> bool:
        site = self.site
        if role is not None and not _mentions_action(role.policies, ask.action):
            return False  # most roles have nothing to do with administration
        try:
            return site.role_access.is_allowed(site.request_state, identity, ask, ask.action, role)
        except ServiceUnavailable:
            raise
        except ServiceError:  # who has gone meanwhile, or cannot have the role, administers nothing
            return False


def _mentions_action(policies: PolicySet, action: str) -> bool:
    return any(not statement.denies for policy in policies for statement in policy.statements_about(action.lower()))
