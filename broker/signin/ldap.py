"""The directory first: from a name and a password in a request to an Identity, or to a refusal that tells nothing.

The proof never travels further: what comes back are the parameters without name and password.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from broker.api import query
from broker.api.request_state import Exchange
from broker.audit import record as audit_record
from broker.audit.log import AuditLog
from broker.providers.ldap.provider import LdapProvider
from broker.signin.throttle import Attempts, network
from iam.call import Params
from iam.errors import IDPRejectedClaim, InvalidInput, ValidationError
from iam.store.records import federated_providers
from iam.store.store import Store
from sts.identity import Identity, Refusal

_PROOF = ("LDAPUsername", "LDAPPassword")
_LONGEST_NAME = 256  # case folding may make a name longer than its column
_REJECTED = "The identity provider did not accept the user name or the password."


@dataclass(frozen=True, slots=True, kw_only=True)
class LdapSignIn:
    """Asks the configured directories; knows nothing of roles but which directory a named role trusts."""

    providers: Mapping[str, LdapProvider]
    attempts: Attempts
    audit: AuditLog
    store: Store
    password_in_query: bool

    def prove(self, exchange: Exchange, p: Params) -> tuple[Identity, Params]:
        """Return who this is and the parameters without the proof; raise IDPRejectedClaim, Throttling."""
        self._check_transport(exchange)
        name, provider = self._provider(p)
        username, password = p["LDAPUsername"], p["LDAPPassword"]
        exchange.params = rest = {key: value for key, value in p.items() if key not in _PROOF}
        found = self.sign_in(exchange, name, provider, username, password)
        if isinstance(found, Refusal):
            raise IDPRejectedClaim(_REJECTED, log=f"{name}: {found.reason}")
        return found, rest

    def sign_in(
        self, exchange: Exchange, name: str, provider: LdapProvider, username: str, password: str
    ) -> Identity | Refusal:
        """Ask one directory who this is, and record what it said; raise Throttling, ProviderUnavailable."""
        subject, source = self.subject(name, username), network(exchange.request.source_ip)
        with self.attempts.turn(subject, source, password):
            failed_before = self.attempts.admit(subject, source, exchange.now)
            found = provider.authenticate(username, password)
            return self._recorded(exchange, name, username, found, (subject, source), failed_before=failed_before)

    def subject(self, name: str, username: str) -> str:
        """Return under which name failures of somebody of a directory count."""
        return f"{name}|{_counted_name(self.providers[name], username)}"

    def _recorded(
        self,
        exchange: Exchange,
        name: str,
        username: str,
        found: Identity | Refusal,
        pair: tuple[str, str],
        *,
        failed_before: bool,
    ) -> Identity | Refusal:
        subject, source = pair
        if isinstance(found, Refusal):
            self.audit.append(audit_record.sign_in(exchange, name, username, refusal=found))
            exchange.refusal_recorded = True
            if found.counted:
                self.attempts.failed(subject, source, exchange.now)
            return found
        exchange.identity = found
        self.audit.append(audit_record.sign_in(exchange, name, found.name))
        if failed_before:
            self.attempts.succeeded(subject, source)
        return found

    def _check_transport(self, exchange: Exchange) -> None:
        """Refuse a password in a place that servers and proxies log."""
        request = exchange.request
        in_query = any(name in _PROOF for name, _ in query.parameters(request.query, b"", ""))
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
        trusted = self._trusted_by(p["RoleArn"]) if "RoleArn" in p else []
        if len(trusted) != 1:
            if "RoleArn" not in p:
                raise ValidationError("Several directories are configured: name a RoleArn, which tells the directory.")
            # The same answer as to a wrong password: nobody learns which roles exist and whom they trust.
            raise IDPRejectedClaim(_REJECTED, log="the role is unknown, or does not trust exactly one directory")
        return trusted[0], self.providers[trusted[0]]

    def _trusted_by(self, role_arn: str) -> list[str]:
        role = self.store.role(role_arn)
        if role is None:
            return []
        return [name for name in self.providers if f"ldap-provider/{name}" in federated_providers(role.trust)]


def _counted_name(provider: LdapProvider, username: str) -> str:
    r"""Return the one name under which failures count, however it is spelled and with whichever domain.

    Domains go twice: of ``CORP\alice@corp.example`` the directory is asked for ``alice@corp.example``, which may be
    another attribute of alice.
    """
    folded = _folded(username)
    for _ in range(2):
        folded = _folded(provider.plain_name(folded))
    return folded


def _folded(username: str) -> str:
    """Return a name as directories compare it: other spellings of it shall not get tries of their own.

    RFC 4518, 2.2 to 2.6.1: compatibility characters, case and the number of spaces make no difference.
    """
    return " ".join(unicodedata.normalize("NFKC", username).casefold().split())[:_LONGEST_NAME]
