"""Session revocation: lists live sessions and refuses those of a session id, a person, a role or an account.

The pages and ``fedgate sessions`` both use it. SQL decides what is refused, on every worker within a second and
whatever happens to Redis and to clocks (iam/store/revocation.py); Redis only lists the sessions, and is updated
afterwards.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final, NamedTuple

from redis.exceptions import RedisError
from sqlalchemy import Connection

from broker.audit.envelope import Record
from broker.audit.log import AuditLog
from broker.audit.transaction import audited_transaction
from broker.sessions.browser import BrowserSessions
from broker.sessions.records import BrowserSession
from iam.accounts import list_accounts
from iam.arn import ROLE as ROLE_ID
from iam.arn import Random, parse_arn
from iam.clock import to_milliseconds
from iam.credentials.person_id import iam_subject
from iam.errors import NoSuchEntity, ServiceError, ServiceUnavailable, ValidationError
from iam.revocation import ScopeKind, scope
from iam.store.revocation import revoke
from iam.store.store import Store
from sts.lineage import Lineage, is_session_id, load, refusal, session_scopes, watched
from sts.store.sessions import LiveSession, LiveSessions

log = logging.getLogger(__name__)

SESSION, PERSON, ROLE, ACCOUNT = ScopeKind.SESSION, ScopeKind.PERSON, ScopeKind.ROLE, ScopeKind.ACCOUNT
INSTALLATION: Final = ScopeKind.INSTALLATION
EVENT: Final = "RevokeSessions"
MOST_BROWSERS: Final = 1000  # browser sessions, the newest, that a page searches

_LIST_UNAVAILABLE: Final = "The list of credentials is not available now. Try again later."
_NOT_A_PERSON: Final = "Enter the person as PROVIDER|SUBJECT, as shown in the list."
_NOT_A_SESSION_ID: Final = "A session ID has 32 hexadecimal digits, as shown in the list."

_JUDGED_AT_ONCE: Final = 200  # sessions whose revocations are read together

# Builds the record of an event from its name, account and parameters; of a page or of an operator.
RecordBuilder = Callable[[str, str | None, dict[str, Any]], Record]


def _need_nothing(_tx: Connection) -> None:
    """Let the operator of the installation revoke whatever they name."""


class RevocationTarget(NamedTuple):
    """What to refuse: kind and subject as the revocation table has them, and the account that they belong to.

    ``account_id`` is empty for a person of a directory, whom no account owns, and for a session that is not listed.
    """

    kind: str
    subject: str
    account_id: str = ""

    @property
    def scope(self) -> str:
        """Return what the sessions that are refused sealed, or their ids."""
        return scope(ScopeKind(self.kind), self.subject)

    def parameters(self) -> dict[str, str]:
        """Return the target as the audit record names it."""
        return {"kind": self.kind, "subject": self.subject}


@dataclass(frozen=True, slots=True)
class ListedSessions:
    """Live sessions, and by their ids when they were last used, in milliseconds.

    ``redis_error`` is the reason why the list is incomplete, or empty.
    """

    sessions: tuple[LiveSession, ...]
    last_used: Mapping[str, int]
    redis_error: str = ""

    @property
    def unavailable(self) -> bool:
        """Return whether Redis did not answer."""
        return bool(self.redis_error)


class RevocationResult(NamedTuple):
    """The sessions taken off the list, and how many browsers were signed out.

    ``redis_error`` is why others may still be listed, though refused.
    """

    removed: tuple[LiveSession, ...]
    redis_error: str = ""
    browsers: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionListing:
    """Lists the sessions that have neither expired nor been revoked."""

    store: Store
    live_sessions: LiveSessions
    now: Callable[[], datetime]

    def accounts(self) -> tuple[str, ...]:
        """Return the ids of all accounts."""
        with self.store.read() as tx:
            return tuple(account.id for account in list_accounts(tx))

    def list_live(self, accounts: Sequence[str], person: str | None = None) -> ListedSessions:
        """Return the live sessions of these accounts, or of one person in them, by expiry.

        Revoked sessions are left out, whether or not Redis still lists them.
        """
        sessions, last_used = list[LiveSession](), dict[str, int]()
        try:
            for account_id in accounts:
                live = [session for session, revoked in self.judge(self.read_list(account_id, person)) if not revoked]
                sessions += live
                last_used |= self.live_sessions.last_used(account_id, [session.id for session in live])
        except RedisError as error:
            return ListedSessions(tuple(sessions), last_used, str(error) or type(error).__name__)
        return ListedSessions(tuple(sorted(sessions, key=lambda session: session.expires_at)), last_used)

    def read_list(self, account_id: str, person: str | None = None) -> Sequence[LiveSession]:
        """Return what Redis lists of an account, or of one person in it, revoked or not; raise RedisError."""
        now_ms = to_milliseconds(self.now())
        if person is None:
            return tuple(self.live_sessions.list_live(account_id, now_ms))
        return tuple(self.live_sessions.of_person(account_id, person, now_ms))

    def judge(self, sessions: Iterable[LiveSession]) -> Iterator[tuple[LiveSession, bool]]:
        """Yield each session, and whether it is revoked."""
        every = tuple(sessions)
        for some in (every[at : at + _JUDGED_AT_ONCE] for at in range(0, len(every), _JUDGED_AT_ONCE)):
            lineages = [_lineage(session) for session in some]
            scopes = {
                name for session, lineage in zip(some, lineages, strict=True) for name in watched(lineage, session.id)
            }
            current = self.store.current_generations(tuple(scopes)).generations
            for session, lineage in zip(some, lineages, strict=True):
                yield session, bool(refusal(lineage, session.id, current))

    def find(self, session_id: str, accounts: Sequence[str]) -> LiveSession | None:
        """Return a session that Redis lists in one of these accounts; raise ServiceUnavailable."""
        try:
            listed = (self.live_sessions.find(account_id, session_id) for account_id in accounts)
            return next((session for session in listed if session is not None), None)
        except RedisError as error:
            raise ServiceUnavailable(_LIST_UNAVAILABLE, log=str(error)) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRevocation:
    """Resolves what is to be revoked, and revokes it."""

    store: Store
    listing: SessionListing
    browser_sessions: BrowserSessions
    audit: AuditLog
    now: Callable[[], datetime]
    random: Random

    def resolve(self, kind: str, name: str) -> RevocationTarget:
        """Return the target that a session id, a person, a role's ARN, or an account's id or alias names.

        A session id may be unknown: Redis may have lost its list. Raise NoSuchEntity for an unknown role or account,
        ValidationError for an unknown kind, and for what is no session id or not PROVIDER|SUBJECT.
        """
        resolver = _RESOLVERS.get(kind)
        if resolver is None:
            raise ValidationError(f"Sessions are revoked by {', '.join(_RESOLVERS)}.")
        return resolver(self, name)

    def _resolve_session(self, session_id: str) -> RevocationTarget:
        if not is_session_id(session_id):
            raise ValidationError(_NOT_A_SESSION_ID)
        try:
            session = self.listing.find(session_id, self.listing.accounts())
        except ServiceUnavailable:
            session = None
        return RevocationTarget(SESSION, session_id, session.account_id if session else "")

    def _resolve_person(self, person: str) -> RevocationTarget:
        """Return a person as a target; its account owns the identity provider or the IAM user."""
        provider, bar, subject = person.partition("|")
        if not bar or not subject:
            raise ValidationError(_NOT_A_PERSON)
        arn, iam_id = parse_arn(provider), iam_subject(person)
        if arn is not None:
            return RevocationTarget(PERSON, person, arn.account)
        if iam_id is None:
            return RevocationTarget(PERSON, person)
        user = self.store.user(iam_id)
        return RevocationTarget(PERSON, person, user.account_id if user else iam_id)  # a root user has its account's id

    def _resolve_role(self, arn: str) -> RevocationTarget:
        role = self.store.role(arn)
        if role is None:
            raise NoSuchEntity(f"There is no role {arn}.")
        return RevocationTarget(ROLE, role.id, role.account_id)

    def _resolve_account(self, name: str) -> RevocationTarget:
        account = self.store.account(name) or self.store.account_by_alias(name)
        if account is None:
            raise NoSuchEntity(f"There is no account {name}.")
        return RevocationTarget(ACCOUNT, account.id, account.id)

    def revoke(
        self,
        target: RevocationTarget,
        make_record: RecordBuilder,
        authorize: Callable[[Connection], None] = _need_nothing,
    ) -> RevocationResult:
        """Refuse the sessions of a target that were minted until now; raise AuditUnavailable, ServiceUnavailable.

        ``authorize`` raises AccessDenied, in the transaction of the change, where the caller may not revoke it. The
        change and its record are committed together. Then the sessions are taken off the list and a person's browser
        sessions are ended; both are refused already, so an outage of Redis is only logged.
        """
        parameters = {"revoked": [target.parameters()]}
        build = partial(make_record, EVENT, target.account_id or None, parameters)
        with audited_transaction(self.store, self.audit, build) as tx:
            authorize(tx)
            self._refuse(tx, target)
        browsers = self._end_browser_sessions(target)
        return self._remove_from_list(target)._replace(browsers=browsers)

    def _refuse(self, tx: Connection, target: RevocationTarget) -> None:
        """Write the revocation; no other code of the broker writes one. The time is for its deletion alone."""
        revoke(tx, target.kind, target.subject, now_ms=to_milliseconds(self.now()), random=self.random)

    def _end_browser_sessions(self, target: RevocationTarget) -> int:
        """End the browser sessions of a person, an account's people, or everybody; return how many there were."""
        ended = 0
        try:
            for sessions in self._browser_sessions(target):
                ended += self.browser_sessions.end_several(sessions)
        except ServiceError as error:
            log.warning("browser sessions are refused, but still stored: %s", error.log)
        return ended

    def _browser_sessions(self, target: RevocationTarget) -> Iterable[Sequence[BrowserSession]]:
        if target.kind == PERSON:
            return (self.browser_sessions.of_person(target.subject),)
        if target.kind not in (ACCOUNT, INSTALLATION):
            return ()
        return self.browser_sessions.batches(target.account_id)  # of the installation: every account's

    def _remove_from_list(self, target: RevocationTarget) -> RevocationResult:
        try:
            refused = tuple(self._listed_sessions(target))
            self.listing.live_sessions.remove(refused)
        except (RedisError, ServiceUnavailable) as error:  # the revocation is committed, whatever the list says
            log.warning("sessions of %s %s are refused, but may still be listed: %s", *target[:2], error)
            return RevocationResult((), str(error) or type(error).__name__)
        return RevocationResult(refused)

    def _listed_sessions(self, target: RevocationTarget) -> list[LiveSession]:
        """Return the listed sessions that belong to the target and are refused now; raise RedisError.

        A person may have sessions in any account, also by a chain of roles. Chained sessions in other accounts than the
        target's, or made from the one session that is the target, stay in the list of Redis until they expire;
        ``list_live`` leaves them out.
        """
        anywhere = target.kind == PERSON or not target.account_id
        accounts = self.listing.accounts() if anywhere else (target.account_id,)
        if target.kind == SESSION:
            found = self.listing.find(target.subject, accounts)
            return [found] if found else []
        listed = (
            session
            for account_id in accounts
            for session in self.listing.read_list(account_id, target.subject if target.kind == PERSON else None)
            if target.scope in watched(_lineage(session), session.id)
        )
        return [session for session, revoked in self.listing.judge(listed) if revoked]


_RESOLVERS: Final[Mapping[str, Callable[[SessionRevocation, str], RevocationTarget]]] = {
    SESSION: SessionRevocation._resolve_session,  # noqa: SLF001 - a table of its own methods
    PERSON: SessionRevocation._resolve_person,  # noqa: SLF001 - as above
    ROLE: SessionRevocation._resolve_role,  # noqa: SLF001 - as above
    ACCOUNT: SessionRevocation._resolve_account,  # noqa: SLF001 - as above
}


def people_named(
    login_name: str, sessions: Iterable[LiveSession], browsers: Iterable[BrowserSession] = ()
) -> list[str]:
    """Return the people (PROVIDER|SUBJECT) whom their providers call by this name, in whatever case.

    The name at the end of an ARN does not count: callers of AssumeRole, AssumeRoleWithWebIdentity and
    GetFederationToken choose it, and whoever chose somebody else's would be ended in their place.
    """
    wanted = login_name.casefold()
    named = [(one.login_name, one.person) for one in sessions]
    named += [(one.identity.name, one.identity.person) for one in browsers]
    return sorted({person for name, person in named if name.casefold() == wanted})


def _lineage(session: LiveSession) -> Lineage:
    role_id = session.entity_id if session.entity_id.startswith(ROLE_ID) else None
    return load(session.lineage).with_scopes(session_scopes(session.account_id, role_id, session.person))
