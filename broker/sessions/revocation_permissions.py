"""What must be allowed to end sessions: of a role, its policies; of a person, an account or a root user, own actions.

AWS ends the sessions of a role by a policy of the role, so that ``iam:PutRolePolicy`` on the role's own ARN is required
(IAM User Guide, "Revoke IAM role temporary security credentials"). It has no operation for the sessions of a person, an
account or a root user. Three actions of ours are required for these; in the namespace ``iam``, so that policies that
leave IAM out, such as PowerUserAccess, do not carry them.
"""

from collections.abc import Callable, Mapping
from typing import Final

from broker.sessions.revocation import ACCOUNT, PERSON, ROLE, RevocationTarget
from iam.arn import iam_arn, parse_arn, root_arn
from iam.credentials.person_id import IAM_PREFIX, iam_subject
from iam.operations.request_context import tag_keys
from iam.operations.required_permission import RequiredPermission
from iam.store.records import RoleRecord
from iam.store.store import Store
from sts.store.sessions import LiveSession

REVOKE_ROLE: Final = "iam:PutRolePolicy"
REVOKE_PERSON: Final = "iam:RevokePersonSessions"
REVOKE_ACCOUNT: Final = "iam:RevokeAccountSessions"
REVOKE_ROOT: Final = "iam:RevokeRootSessions"

# By account, in each of which all of them must be allowed; without any account nobody may.
Permissions = Mapping[str, tuple[RequiredPermission, ...]]


def permissions_to_revoke(target: RevocationTarget, store: Store, accounts: tuple[str, ...]) -> Permissions:
    """Return what must be allowed to end the sessions of a role, a person or an account.

    ``accounts`` are all accounts: a person of a directory may have sessions in each.
    """
    return _BY_KIND[target.kind](target, store, accounts)


def permissions_to_revoke_session(session: LiveSession, store: Store) -> Permissions:
    """Return what must be allowed to end one session: as for all of its role, its user or its root user."""
    if session.entity_id == session.account_id:
        return _of_root(session.account_id)
    role = store.role_by_id(session.entity_id)
    return _of_role(role) if role is not None else _of_user(session.entity_id, store)


def own_permission(person: str, account_id: str, store: Store) -> RequiredPermission | None:
    """Return what a user or a root user asks for when they end their own sessions; None for other people."""
    if not person.startswith(IAM_PREFIX):
        return None
    asked = _of_iam_subject(person.removeprefix(IAM_PREFIX), store).get(account_id)
    return asked[0] if asked else None


def _of_role_target(target: RevocationTarget, store: Store, _accounts: tuple[str, ...]) -> Permissions:
    role = store.role_by_id(target.subject)
    return _of_role(role) if role is not None else {}


def _of_person(target: RevocationTarget, store: Store, accounts: tuple[str, ...]) -> Permissions:
    subject = iam_subject(target.subject)
    if subject is not None:
        return _of_iam_subject(subject, store)
    provider = target.subject.partition("|")[0]
    arn = parse_arn(provider)
    if arn is not None:
        return {arn.account: (RequiredPermission(provider, action=REVOKE_PERSON),)}
    kind, _, name = provider.partition("/")
    return {one: (RequiredPermission(iam_arn(one, kind, name), action=REVOKE_PERSON),) for one in accounts}


def _of_account(target: RevocationTarget, _store: Store, _accounts: tuple[str, ...]) -> Permissions:
    # The sessions of the root user end as well.
    account = RequiredPermission(root_arn(target.account_id), action=REVOKE_ACCOUNT)
    return {target.account_id: (account, *_of_root(target.account_id)[target.account_id])}


def _of_iam_subject(subject: str, store: Store) -> Permissions:
    return _of_root(subject) if store.account(subject) is not None else _of_user(subject, store)


def _of_role(role: RoleRecord) -> Permissions:
    return {role.account_id: (RequiredPermission(role.arn, tag_keys(role.tags), action=REVOKE_ROLE),)}


def _of_user(user_id: str, store: Store) -> Permissions:
    user = store.user(user_id)
    if user is None:
        return {}
    return {user.account_id: (RequiredPermission(user.arn, tag_keys(user.tags), action=REVOKE_PERSON),)}


def _of_root(account_id: str) -> Permissions:
    return {account_id: (RequiredPermission(root_arn(account_id), action=REVOKE_ROOT),)}


_BY_KIND: Final[Mapping[str, Callable[[RevocationTarget, Store, tuple[str, ...]], Permissions]]] = {
    ROLE: _of_role_target,
    PERSON: _of_person,
    ACCOUNT: _of_account,
}
