"""The directory first: from a name and a password in a request to an Identity, or to a refusal that tells nothing.

The proof never travels further: what comes back are the parameters without name and password.
"""

import stringprep
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, select

from broker.api import query
from broker.api.request_state import RequestState
from broker.audit import record as audit_record
from broker.audit.log import AuditLog
from broker.providers.ldap.provider import LdapProvider
from broker.signin.entry_guesses import limit_by_entry
from broker.signin.throttle import Attempt, SignInThrottle, throttle_source
from iam.call import Params
from iam.credentials.password_version import mark_of
from iam.errors import IDPRejectedClaim, InvalidInput, ValidationError
from iam.store.records import federated_providers
from iam.store.schema import role as iam_role
from iam.store.schema import role_federated
from iam.store.store import Store
from sts.identity import Identity, Refusal
from sts.provider_accounts import ProviderAccounts

_CREDENTIAL_PARAMETERS = ("LDAPUsername", "LDAPPassword")
_LONGEST_NAME = 256  # case folding may make a name longer than its column
_REJECTED = "The identity provider did not accept the user name or the password."


@dataclass(frozen=True, slots=True, kw_only=True)
class LdapSignIn:
    """Asks the configured directories; knows nothing of roles but which directory a named role trusts."""

    providers: Mapping[str, LdapProvider]
    throttle: SignInThrottle
    audit: AuditLog
    store: Store
    provider_accounts: ProviderAccounts
    password_in_query: bool

    def authenticate(self, state: RequestState, p: Params) -> tuple[Identity, Params]:
        """Return who this is and the parameters without the proof; raise IDPRejectedClaim, Throttling."""
        self._check_transport(state)
        name, provider = self._provider(p)
        username, password = p["LDAPUsername"], p["LDAPPassword"]
        state.params = rest = {key: value for key, value in p.items() if key not in _CREDENTIAL_PARAMETERS}
        found = self.sign_in(state, name, provider, username, password)
        if isinstance(found, Refusal):
            raise IDPRejectedClaim(_REJECTED, log=f"{name}: {found.reason}")
        return found, rest

    def sign_in(
        self, state: RequestState, name: str, provider: LdapProvider, username: str, password: str
    ) -> Identity | Refusal:
        """Ask one directory who this is, and record what it said; raise Throttling, ProviderUnavailable."""
        subject, source = self.throttle_subject(name, username), throttle_source(state.request.counted_address)
        with self.throttle.attempt(subject, source, password, state.now) as attempt:
            by_entry = limit_by_entry(self.throttle, subject, source, password, state.now)
            found = provider.authenticate(username, password, read_mark=self._read_mark, limit=by_entry)
            return self._record_result(state, name, username, found, attempt)

    def _read_mark(self, person: str) -> str:
        with self.store.read() as tx:
            return mark_of(tx, person)

    def throttle_subject(self, name: str, username: str) -> str:
        """Return under which name failures of somebody of a directory count."""
        return f"{name}|{_throttle_name(self.providers[name], username)}"

    def _record_result(
        self, state: RequestState, name: str, username: str, found: Identity | Refusal, attempt: Attempt
    ) -> Identity | Refusal:
        if isinstance(found, Refusal):
            self.audit.append(audit_record.directory_sign_in_record(state, name, username, refusal=found))
            state.refusal_recorded = True
            if found.counts_as_failure:
                attempt.fail()
            return found
        state.identity = found
        self.audit.append(audit_record.directory_sign_in_record(state, name, found.name))
        attempt.succeed()
        return found

    def _check_transport(self, state: RequestState) -> None:
        """Refuse a password in a place that servers and proxies log."""
        request = state.request
        in_query = any(name in _CREDENTIAL_PARAMETERS for name, _ in query.parameters(request.query, b"", ""))
        if request.method != "POST":
            raise InvalidInput("Send LDAPUsername and LDAPPassword in the body of a POST request.")
        if in_query and not self.password_in_query:
            raise InvalidInput(
                "LDAPUsername and LDAPPassword belong in the body of the POST request, not in its query string."
                " An operator may allow it for clients that know no other way: allow_password_in_query = true.",
            )

    def _provider(self, p: Params) -> tuple[str, LdapProvider]:
        """Return the one directory to ask: the only one, or the one that the named role trusts."""
        if not self.providers:
            raise InvalidInput("No directory is configured.")
        if len(self.providers) == 1:
            return next(iter(self.providers.items()))
        trusted = self._directories_trusted_by(p["RoleArn"]) if "RoleArn" in p else []
        if len(trusted) != 1:
            if "RoleArn" not in p:
                raise ValidationError("Several directories are configured: name a RoleArn, which tells the directory.")
            # The same answer as to a wrong password: nobody learns which roles exist and whom they trust.
            raise IDPRejectedClaim(_REJECTED, log="the role is unknown, or does not trust exactly one directory")
        return trusted[0], self.providers[trusted[0]]

    def _directories_trusted_by(self, role: str) -> list[str]:
        """Return the directories that a role trusts, which is given by its ARN or its name."""
        if not role.startswith("arn:"):
            return self._directories_trusted_by_name(role)
        record = self.store.role(role)
        if record is None:
            return []
        return [name for name in self.providers if f"ldap-provider/{name}" in federated_providers(record.trust)]

    def _directories_trusted_by_name(self, role: str) -> list[str]:
        """Return the directories for whose people the role would be chosen: no other account's role of the name counts.

        Nothing is proved yet: what is read grows with the directories and their accounts in the settings alone.
        """
        first = self.store.first_account()
        with self.store.read() as tx:
            return [name for name in self.providers if self._trusts(tx, role, f"ldap-provider/{name}", first)]

    def _trusts(self, tx: Connection, role: str, provider: str, first_account: str) -> bool:
        columns, accounts = iam_role.c, self.provider_accounts.accounts_of_choice(provider, first_account)
        named = (columns.account_id.in_(accounts), columns.name_key == role.lower(), columns.name == role)
        trusting = (role_federated.c.role_id == columns.id, role_federated.c.provider == provider)
        return tx.execute(select(columns.id).where(*named, *trusting).limit(1)).first() is not None


def _throttle_name(provider: LdapProvider, username: str) -> str:
    r"""Return the one name under which failures count, however it is spelled and with whichever domain.

    Domains go twice: of ``CORP\alice@corp.example`` the directory is asked for ``alice@corp.example``, which may be
    another attribute of alice.
    """
    folded = _fold_case(username)
    for _ in range(2):
        folded = _fold_case(provider.strip_login_domain(folded))
    return folded


def _fold_case(username: str) -> str:
    """Return a name as directories compare it: other spellings of it shall not get tries of their own.

    RFC 4518, 2.2 to 2.6.1: compatibility characters, those that are mapped to nothing, case and the number of spaces
    make no difference.
    """
    prepared = "".join(char for char in username if not stringprep.in_table_b1(char))
    return " ".join(unicodedata.normalize("NFKC", prepared).casefold().split())[:_LONGEST_NAME]
