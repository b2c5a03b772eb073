"""Which accounts a user administers: those that a role or the user's own policies allow to be read completely.

Whoever operates the installation sees every account and what belongs to none. There is no list of administrators of
accounts beside the policies. Seeing an account requires ``iam:GetAccountAuthorizationDetails``, as the IAM API does for
the same data. What ending sessions requires is in `broker.sessions.revocation_permissions`. PowerUserAccess, which
excludes IAM, allows neither. The decision is the gate's, for the credentials that the user could get now. An IAM
principal that ``pages.operators`` names must be allowed the same in its own account, and then is in every other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from flask import g

from broker.audit.query import ALL_ACCOUNTS, VIEW
from broker.sessions.browser import BrowserSession
from broker.sessions.revocation_permissions import Permissions
from broker.web.admin.operators import Operators
from broker.web.core.site import Site
from broker.web.i18n.languages import gettext_noop
from iam.accounts import list_accounts
from iam.arn import root_arn
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


_NO_OPERATORS: Final = Operators()
_NONE: Final = gettext_noop("Access denied. None of your roles lets you administer an account.")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminAccess:
    """Evaluates which accounts a signed-in user may administer."""

    site: Site
    operators: Operators = _NO_OPERATORS

    def is_administrator(self, session: BrowserSession) -> bool:
        """Return whether the user administers any account."""
        if self.operators.has_member(session.identity):
            return True
        return next(self._accounts(session, READ_ACCOUNT), None) is not None

    def accounts(self, session: BrowserSession, permission: Permission = READ_ACCOUNT) -> tuple[str, ...]:
        """Return the IDs of the accounts for which the user has a permission; evaluated once per request."""
        cache: dict[tuple[str, Permission], tuple[str, ...]] = g.setdefault("administered", {})
        if (session.key, permission) not in cache:
            operates = self._operates(session.identity, permission)
            found = self._every_account() if operates else self._accounts(session, permission)
            cache[session.key, permission] = tuple(sorted(found))
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
        return set(self._every_account()) <= set(self.accounts(session, permission))

    def _every_account(self) -> list[str]:
        with self.site.store.read() as tx:
            return [account.id for account in list_accounts(tx)]

    def _operates(self, identity: Identity, permission: Permission) -> bool:
        """Return whether the setting names a group of the user, or an IAM principal with this permission."""
        if self.operators.has_member(identity):
            return True
        return any(
            self._is_allowed(identity, _ask(permission, account_id), role)
            for account_id, role in self._named_principals(identity)
        )

    def _named_principals(self, identity: Identity) -> Iterator[tuple[str, RoleRecord | None]]:
        """Yield the user's own identity, and the roles open to it, as far as the setting names them."""
        if not self.operators.principals:
            return
        for account_id, role in self._identities_and_roles(identity):
            if self._arn(identity, role) in self.operators.principals:
                yield account_id, role

    def _arn(self, identity: Identity, role: RoleRecord | None) -> str:
        if role is not None:
            return role.arn
        user = None if identity.is_root else self.site.store.user(identity.subject)
        return user.arn if user else root_arn(identity.account_id) if identity.is_root else ""

    def is_allowed(self, session: BrowserSession, permissions: Permissions) -> bool:
        """Return whether the user has all of these permissions, in each account by one role or their own policies."""
        return self.allowing_roles(session, permissions) is not None

    def allowing_roles(self, session: BrowserSession, permissions: Permissions) -> frozenset[str] | None:
        """Return the ARNs of the roles by which the user has all of these permissions; None without all of them.

        No role is named where the user has them as an operator or by their own policies.
        """
        identity, arns = session.identity, set[str]()
        if not permissions:
            return None
        if self.operators.has_member(identity):
            return frozenset()
        for account_id, asks in permissions.items():
            allowing = self._allowing_in(identity, account_id, asks)
            if allowing is None:
                return None
            arns.update(allowing)
        return frozenset(arns)

    def _allowing_in(
        self, identity: Identity, account_id: str, asks: Sequence[RequiredPermission]
    ) -> tuple[str, ...] | None:
        """Return the ARN of the first role that allows all in an account, nothing for own policies; None for none."""
        of_account = [(where, role) for where, role in self._identities_and_roles(identity) if where == account_id]
        for _where, role in (*of_account, *self._named_principals(identity)):
            if all(self._is_allowed(identity, ask, role) for ask in asks):
                return (role.arn,) if role is not None else ()
        return None

    def _accounts(self, session: BrowserSession, permission: Permission) -> Iterator[str]:
        done: set[str] = set()
        for account_id, role in self._identities_and_roles(session.identity):
            if account_id not in done and self._is_allowed(session.identity, _ask(permission, account_id), role):
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


def _ask(permission: Permission, account_id: str) -> RequiredPermission:
    return RequiredPermission(permission.resource.format(account_id=account_id), action=permission.action)


def _mentions_action(policies: PolicySet, action: str) -> bool:
    return any(not statement.denies for policy in policies for statement in policy.statements_about(action.lower()))
