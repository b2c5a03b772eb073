"""The passwords of users and owners: from an account, a name and a password to an Identity, or to a refusal.

An unknown account, an unknown name and a wrong password get one answer after one time. Source: IAM User Guide, "How IAM
users sign in to AWS".
"""

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple

from broker.api.request_state import RequestState
from broker.audit.record import ClaimedPrincipal
from broker.runtime.thread_pool import run_in_thread_pool
from broker.signin.throttle import SignInThrottle, throttle_source
from iam.arn import ACCOUNT_ID, root_arn
from iam.clock import to_milliseconds
from iam.credentials import login_profile, password_hash, root_login
from iam.credentials.password_version import version_of_hash
from iam.errors import Throttling
from iam.saslprep import spellings
from iam.store.records import AccountRecord
from iam.store.store import Store
from sts.identity import IamIdentity

IAM_USER, ROOT = "IAMUser", "Root"  # kinds of a ClaimedPrincipal
LONGEST_NAME: Final = 256
ACCOUNT_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", re.ASCII)  # what an id or an alias can be


@dataclass(frozen=True, slots=True)
class VerifiedPassword:
    """Somebody whose password is right.

    ``must_change``: before anything else; ``hard_expired``: only an administrator of the account can change it.
    """

    identity: IamIdentity
    hash: str = field(repr=False)
    must_change: bool = False
    hard_expired: bool = False


class LoginAttempt(NamedTuple):
    """What came of a password: whom the name means, whom it proved if anybody, or that it was not looked at."""

    login_target: ClaimedPrincipal
    proved: VerifiedPassword | None = None
    throttling: Throttling | None = None


@dataclass(frozen=True, slots=True)
class _Candidate:
    """Whom a name means, under what failures count, and whom the right password proves."""

    login_target: ClaimedPrincipal
    throttle_key: str
    verified: VerifiedPassword | None = None

    def is_right(self, password: str) -> bool:
        """Return whether this is the password; takes as long for nobody."""
        return password_hash.verify_hash(self.verified.hash if self.verified else None, password)


@dataclass(frozen=True, slots=True)
class IamPasswordSignIn:
    """Proves users and owners by their passwords."""

    store: Store
    throttle: SignInThrottle

    def verify_password(self, state: RequestState, account: str, username: str, password: str) -> LoginAttempt:
        """Return whom a name and a password prove: a user of the account, or an owner where none is named.

        Failures are counted as those of directories are (THREATS H07).
        """
        candidate = self._user(account, username, state.now) if account else self._owner(username, state.now)
        source = throttle_source(state.request.counted_address)
        try:
            with self.throttle.attempt(candidate.throttle_key, source, password, state.now) as attempt:
                if not run_in_thread_pool(lambda: candidate.is_right(password)):
                    attempt.fail()
                    return LoginAttempt(candidate.login_target)
                attempt.succeed()
        except Throttling as throttling:
            return LoginAttempt(candidate.login_target, throttling=throttling)
        return LoginAttempt(candidate.login_target, candidate.verified)

    def find_account(self, text: str) -> AccountRecord | None:
        """Return the account that an id or an alias names; people also write ids as the console shows them."""
        name, store = _normalize_account(text), self.store
        if not name:
            return None
        digits = name.replace("-", "")
        # First: an alias that looks like the id of an account must not stand in for it.
        found = store.account(digits) if ACCOUNT_ID.fullmatch(digits) else None
        return found or store.account_by_alias(name)

    def _user(self, account: str, username: str, now: datetime) -> _Candidate:
        found = self.find_account(account)
        account_id = found.id if found else ""
        throttle_key = f"iam:{account_id or _normalize_account(account)}|{_normalize_name(username)}"
        name = spellings(username)[0]
        with self.store.read() as tx:
            stored = login_profile.load_password(tx, account_id, name) if account_id else None
        if stored is None:
            return _Candidate(ClaimedPrincipal(IAM_USER, account_id), throttle_key)
        login_target = ClaimedPrincipal(IAM_USER, account_id, stored.user_id, stored.user_name, stored.arn)
        expired = stored.expires is not None and stored.expires <= to_milliseconds(now)
        identity = _identity(stored.user_name, stored.user_id, account_id, now, stored.hash)
        proved = VerifiedPassword(
            identity,
            stored.hash,
            must_change=stored.reset_required or expired,
            hard_expired=expired and stored.hard_expiry,
        )
        return _Candidate(login_target, throttle_key, proved)

    def _owner(self, email: str, now: datetime) -> _Candidate:
        throttle_key = f"root:{_normalize_name(email)}"
        with self.store.read() as tx:
            found = (root_login.root_login_by_email(tx, spelling) for spelling in spellings(email))
            stored = next(filter(None, found), None)
        if stored is None:
            return _Candidate(ClaimedPrincipal(ROOT), throttle_key)
        identity = _identity("root", stored.account_id, stored.account_id, now, stored.hash)
        login_target = ClaimedPrincipal(ROOT, stored.account_id, stored.account_id, arn=root_arn(stored.account_id))
        return _Candidate(
            login_target, throttle_key, VerifiedPassword(identity, stored.hash, must_change=stored.reset_required)
        )


def _identity(name: str, subject: str, account_id: str, now: datetime, password: str) -> IamIdentity:
    return IamIdentity(
        provider="iam",
        subject=subject,
        name=name,
        authenticated_at=now,
        account_id=account_id,
        password_version=version_of_hash(password),
    )


def _normalize_account(account: str) -> str:
    """Return what could be an account's id or alias, in small letters; of anything else, which may be long, nothing."""
    name = account.strip().lower()
    return name if ACCOUNT_NAME.fullmatch(name) else ""


def _normalize_name(text: str) -> str:
    """Return a name under which failures count: no other spelling of it has tries of its own.

    A directory's name has no colon, so that nobody there counts as a user or an owner here.
    """
    return spellings(text)[0].strip().casefold()[:LONGEST_NAME]
