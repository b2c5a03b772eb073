"""Sign-in against LDAP directories and Active Directory: search, bind as the person, read the groups."""

import logging
import time
import unicodedata
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Final

from broker.providers.ldap.account_status import STATUS_ATTRIBUTES, account_refusal
from broker.providers.ldap.bind_errors import SUCCESS, WRONG_PASSWORD, as_openldap_means, needs_vendor_to_judge
from broker.providers.ldap.config import LdapConfig
from broker.providers.ldap.connection import (
    BASE,
    Address,
    ChangeUnconfirmed,
    Entry,
    LdapConnection,
    LdapConnectionError,
    LdapResult,
    Transport,
    tls_context,
)
from broker.providers.ldap.filters import escape_filter_value
from broker.providers.ldap.groups import GroupResolver, IncompleteGroups, group_name, text_values
from broker.providers.ldap.guess import TOO_MANY_GUESSES, Guess, GuessLimit, count_refusal, unlimited
from broker.providers.ldap.login_names import name_filter, strip_login_domain
from broker.providers.ldap.password_version import PASSWORD_VERSION_ATTRIBUTES, password_version
from broker.providers.ldap.passwords import (
    PasswordChangeResult,
    PasswordChangeStatus,
    bind_as_user,
    change_own_password,
    change_password_as_service,
    confirm_nothing,
    validate_credentials,
    validate_new_password,
)
from broker.providers.ldap.pool import ConnectionPool, ServerList
from broker.providers.ldap.response_timing import ResponseTiming
from broker.providers.ldap.stable_ids import stable_id, stable_id_attributes, stable_id_filter
from broker.providers.ldap.vendors import DirectoryVendor, detect_vendor
from iam.distinguished_names import escape_dn_value
from iam.saslprep import saslprep, spellings
from sts.identity import Identity, ProviderUnavailable, Refusal

_LOG: Final = logging.getLogger(__name__)


class LdapProvider:
    """One directory, with pooled connections; safe to share between threads and greenlets.

    It connects on first use. Raises OSError where ``ca_file`` cannot be read.
    """

    def __init__(
        self,
        config: LdapConfig,
        *,
        now: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.config = config
        self._now = now
        self._timing = ResponseTiming(monotonic, sleep)
        transport = Transport(
            tls_context(config.ca_file, insecure_skip_tls_verify=config.insecure_skip_tls_verify),
            config.start_tls,
            config.connect_timeout,
            config.receive_timeout,
            monotonic,
        )
        servers = ServerList(tuple(Address.parse(url) for url in config.urls), monotonic)

        def pool(open_: Callable[[Address], LdapConnection]) -> ConnectionPool:
            patience = config.connect_timeout + config.receive_timeout
            return ConnectionPool(
                servers,
                open_,
                keep=config.pool_size,
                in_flight=config.max_in_flight,
                patience=patience,
                monotonic=monotonic,
            )

        # Two pools that never mix. The connections of one are bound as the service account, and search. Those of the
        # other are bound as the person who signed in last: nothing but a bind may be their next request, or it would
        # have a stranger's rights.
        self._service = pool(lambda address: _service_connection(address, transport, config))
        self._binds = pool(lambda address: LdapConnection(address, transport))
        self._groups = GroupResolver(
            self._service,
            member_of_attribute=config.member_of_attribute,
            base=config.group_base,
            filter_=config.group_filter,
            nested=config.nested_groups,
        )
        self._attributes = _requested_attributes(config, self._groups.attributes)

    def authenticate(
        self,
        username: str,
        password: str,
        *,
        read_mark: Callable[[str], str] = lambda _person: "",
        limit: GuessLimit = unlimited,
    ) -> Identity | Refusal:
        """Return the identity of the person, or the refusal for the audit log; raise ProviderUnavailable.

        ``read_mark`` returns the ``password_mark`` of a person; it is asked before the password is tried, as the
        version that the directory shows is, so that neither belongs to a later password (THREATS J02). ``limit`` counts
        guesses by the entry that was found.

        An unknown name costs a bind as a wrong password does, and every refusal by the directory takes at least as long
        as wrong passwords recently took, so that the time does not tell which names exist (THREATS E09).
        """
        invalid = validate_credentials(self.strip_login_domain(username), password)
        if invalid:
            return invalid
        entry = self._find_entry_by_name(username)
        person = "" if isinstance(entry, Refusal) else self._person(entry)
        mark = read_mark(person)  # of nobody too: it takes time
        with limit(person) as guess:
            proved = self._prove(entry, password, guess)
        found = proved if isinstance(proved, Refusal) else self._identity(proved)
        return replace(found, password_mark=mark) if isinstance(found, Identity) else found

    def refresh_identity(self, identity: Identity) -> Identity | Refusal:
        """Return the current identity, groups included, of somebody who signed in earlier; raise ProviderUnavailable.

        A deleted, disabled, expired or locked account is refused. A new name changes nothing, because the entry is
        found by its stable id (THREATS E11, E12).
        """
        entry = self._find_entry_by_id(identity)
        if entry is None:
            return Refusal("unknown user", counts_as_failure=False)
        result = account_refusal(entry, self._now()) or self._identity(entry)
        return replace(result, authenticated_at=identity.authenticated_at) if isinstance(result, Identity) else result

    def change_password(
        self,
        username: str,
        old: str,
        new: str,
        *,
        confirm: Callable[[str], None] | None = None,
        limit: GuessLimit = unlimited,
    ) -> PasswordChangeResult:
        """Verify the old password and change it with the person's own rights; raise ProviderUnavailable.

        ``confirm`` is called with the person's ``subject`` once the old password is known to be right; where it raises,
        nothing is changed. ``limit`` counts guesses by the entry that was found.

        Wrong old passwords and unknown names have one result, REFUSED, with the ``refusal`` of ``authenticate``. No
        change is sent twice: the result is UNKNOWN where the connection failed after the new password was sent.
        """
        if not self.config.changes_passwords:
            return PasswordChangeResult(PasswordChangeStatus.IMPOSSIBLE, detail="the settings say so")
        invalid = validate_credentials(self.strip_login_domain(username), old)
        if invalid:
            return PasswordChangeResult.refused(invalid)
        rejected = validate_new_password(old, new)
        if rejected:
            return PasswordChangeResult(rejected)
        vendor = self._service.run(detect_vendor)
        entry = self._find_entry_by_name(username)
        with limit("" if isinstance(entry, Refusal) else self._person(entry)) as guess:
            if isinstance(entry, Refusal) or not guess.allowed:
                return PasswordChangeResult.refused(self._refuse_unasked(entry, old, guess))
            outcome = self._change_once(vendor, entry, old, new, confirm)
            count_refusal(guess, outcome.refusal)
            return outcome

    def _change_once(
        self, vendor: DirectoryVendor, entry: Entry, old: str, new: str, confirm: Callable[[str], None] | None
    ) -> PasswordChangeResult:
        """Change the password of an entry, without a second try where the connection fails."""
        try:
            changed = self._change(vendor, entry.dn, old, new, self._confirmation(entry, confirm))
            return replace(changed, person=self._person(entry))
        except ChangeUnconfirmed as error:
            _LOG.warning("ldap directory %s: whether a password was changed is not known: %s", self.config.name, error)
            return PasswordChangeResult(PasswordChangeStatus.UNKNOWN, detail=str(error), person=self._person(entry))

    def check(self) -> None:
        """Check that the service account can read the base of the users; raise ProviderUnavailable."""
        base = self.config.user_base
        result = self._service.run(
            lambda connection: connection.search(base, "(objectClass=*)", (), limit=1, scope=BASE)
        )
        if not result.entries:
            raise ProviderUnavailable(f"{base!r} does not exist or may not be read")

    def has_entry(self, dn: str) -> bool:
        """Return whether the service account can see an entry of this name; raise ProviderUnavailable."""
        result = self._service.run(lambda connection: connection.search(dn, "(objectClass=*)", (), limit=1, scope=BASE))
        return bool(result.entries)

    def close(self) -> None:
        """Close the idle connections."""
        self._service.close()
        self._binds.close()

    def strip_login_domain(self, username: str) -> str:
        """Return a name without its domain, where that is one of ``login_domains``."""
        return strip_login_domain(self.config, username)

    def _prove(self, entry: Entry | Refusal, password: str, guess: Guess) -> Entry | Refusal:
        """Return an entry whose password this is, or why it is refused; count what came of it."""
        if isinstance(entry, Refusal) or not guess.allowed:
            return self._refuse_unasked(entry, password, guess)
        refusal = self._verify_password(entry.dn, password)
        if refusal is None:
            guess.succeed()
            return entry
        count_refusal(guess, refusal)
        return refusal

    def _refuse_unasked(self, entry: Entry | Refusal, password: str, guess: Guess) -> Refusal:
        """Refuse like a wrong password: there is no such entry, or too many of its guesses failed."""
        refusal = entry if isinstance(entry, Refusal) else Refusal(TOO_MANY_GUESSES)
        self._spend_time_of_refusal(password)
        count_refusal(guess, refusal)
        return refusal

    def _find_entry_by_name(self, username: str) -> Entry | Refusal:
        """Return the only entry of this name, or why there is none."""
        filter_ = name_filter(self.config, username)
        # Two are enough to know that the name is ambiguous, which is refused (THREATS E03).
        result = self._service.run(
            lambda connection: connection.search(self.config.user_base, filter_, self._attributes, limit=2)
        )
        if len(result.entries) != 1 or not result.complete or not result.entries[0].dn:
            return Refusal("ambiguous user name" if result.entries else "unknown user")
        return result.entries[0]

    def _person(self, entry: Entry) -> str:
        return f"{self.config.provider}|{stable_id(entry, self.config.id_attribute)}"

    def _find_entry_by_id(self, identity: Identity) -> Entry | None:
        """Return the entry with a stable id, also after it was moved or renamed; None where there is none."""
        by_id = stable_id_filter(identity.subject, self.config.id_attribute)
        # By name first: directories index names, and not always ids.
        filters = (
            self.config.user_filter.replace("{username}", escape_filter_value(identity.name)),
            f"(&{self.config.user_filter.replace('{username}', '*')}{by_id})",
        )
        for filter_ in filters:
            for entry in self._search_one(filter_, (*self._attributes, *STATUS_ATTRIBUTES)):
                if stable_id(entry, self.config.id_attribute) == identity.subject:
                    return entry
        return None

    def _search_one(self, filter_: str, attributes: tuple[str, ...]) -> tuple[Entry, ...]:
        # Two are enough to know that a name is ambiguous.
        base = self.config.user_base
        result = self._service.run(lambda connection: connection.search(base, filter_, attributes, limit=2))
        return result.entries if result.complete and len(result.entries) == 1 and result.entries[0].dn else ()

    def _spend_time_of_refusal(self, password: str) -> None:
        """Send binds that cannot succeed, as many as a wrong password of somebody costs (THREATS E09)."""
        dn = f"cn={escape_dn_value(uuid.UUID(int=0).hex)},{self.config.user_base}"
        started, forms = self._timing.start(), spellings(password)
        for form in forms:
            self._binds.run(partial(bind_as_user, dn=dn, password=form))
        self._timing.wait(started, len(forms))

    def _verify_password(self, dn: str, password: str) -> Refusal | None:
        """Return why the directory refuses a password, or None where it is right.

        The prepared form is tried first (RFC 4513 6.3.1). Only a password that preparation changes has another form,
        and that is tried where the first is wrong, so that the directory counts one failure for any other attempt.
        """
        started, forms = self._timing.start(), spellings(password)
        for form in forms:
            refusal = self._bind(dn, form)
            if refusal is None or refusal.reason != WRONG_PASSWORD:
                break
        return None if refusal is None else self._complete_refusal(refusal, started, len(forms))

    def _bind(self, dn: str, password: str) -> Refusal | None:
        started = self._timing.start()
        refusal = self._binds.run(partial(bind_as_user, dn=dn, password=password))
        self._learn(refusal, started)
        return refusal

    def _learn(self, refusal: Refusal | None, started: float) -> None:
        if refusal is not None and refusal.reason == WRONG_PASSWORD:
            self._timing.learn(started)

    def _complete_refusal(self, refusal: Refusal, started: float, forms: int) -> Refusal:
        """Return a refusal, completed by vendor, not before a wrong password of as many forms would be refused."""
        if needs_vendor_to_judge(refusal) and self._service.run(detect_vendor) is DirectoryVendor.OPENLDAP:
            refusal = as_openldap_means(refusal)
        self._timing.wait(started, forms)
        return refusal

    def _confirmation(self, entry: Entry, confirm: Callable[[str], None] | None) -> Callable[[], None]:
        """Return what is called before a change; who has no stable id cannot sign in, and has nothing to confirm with.

        The groups, which may be unreadable, are not asked for.
        """
        subject = stable_id(entry, self.config.id_attribute)
        return partial(confirm, subject) if confirm is not None and subject else confirm_nothing

    def _change(
        self, vendor: DirectoryVendor, dn: str, old: str, new: str, confirm: Callable[[], None]
    ) -> PasswordChangeResult:
        """Change a password; the old one is tried in its other forms too, as at sign-in."""
        prepared = unicodedata.normalize("NFC", new) if vendor is DirectoryVendor.ACTIVE_DIRECTORY else saslprep(new)
        started, forms = self._timing.start(), spellings(old)
        for form in forms:
            outcome = self._change_from(vendor, dn, form, new=prepared, confirm=confirm)
            if outcome.refusal is None or outcome.refusal.reason != WRONG_PASSWORD:
                break
        if outcome.refusal is None:
            return outcome
        refusal = self._complete_refusal(outcome.refusal, started, len(forms))
        if vendor is not DirectoryVendor.ACTIVE_DIRECTORY or not refusal.changeable:
            return PasswordChangeResult.refused(refusal)
        return self._change_expired(refusal, dn, form, new=prepared, confirm=confirm)

    def _change_from(
        self, vendor: DirectoryVendor, dn: str, old: str, *, new: str, confirm: Callable[[], None]
    ) -> PasswordChangeResult:
        started = self._timing.start()
        outcome = self._binds.run(
            lambda connection: change_own_password(connection, vendor, dn, old, new, confirm=confirm)
        )
        self._learn(outcome.refusal, started)
        return outcome

    def _change_expired(
        self, refusal: Refusal, dn: str, old: str, *, new: str, confirm: Callable[[], None]
    ) -> PasswordChangeResult:
        """Change a password of Active Directory that is right and expired, so that its owner cannot bind."""
        if not self.config.bind_dn:
            return PasswordChangeResult(PasswordChangeStatus.IMPOSSIBLE, refusal, "needs a service account")
        confirm()
        return self._service.run(lambda connection: change_password_as_service(connection, dn, old, new))

    def _identity(self, entry: Entry) -> Identity | Refusal:
        subject = stable_id(entry, self.config.id_attribute)
        name = next(iter(_composed(text_values(entry, self.config.username_attribute))), "")
        if not subject or not name:
            return Refusal("entry without stable id or name", entry.dn, counts_as_failure=False)
        try:
            groups = self._groups.of(entry, name)
        except IncompleteGroups as error:
            # The missing group could be the one that a Deny names (THREATS J12).
            return Refusal("incomplete groups", str(error), counts_as_failure=False, password_correct=True)
        attributes = {attribute: _composed(text_values(entry, attribute)) for attribute in self.config.attributes}
        return Identity(
            provider=self.config.provider,
            subject=subject,
            name=name,
            authenticated_at=self._now(),
            groups=groups,
            group_names=tuple(map(group_name, groups)),
            attributes=MappingProxyType({attribute: values for attribute, values in attributes.items() if values}),
            password_version=password_version(entry),
        )


def _service_connection(address: Address, transport: Transport, config: LdapConfig) -> LdapConnection:
    connection = LdapConnection(address, transport)
    try:
        if config.bind_dn:
            _require_success(connection.bind(config.bind_dn, config.bind_password))
    except BaseException:
        connection.close()
        raise
    return connection


def _require_success(bound: LdapResult) -> None:
    if bound.result != SUCCESS:
        raise LdapConnectionError(f"the service account may not bind: result {bound.result}: {bound.message}")


def _composed(values: tuple[str, ...]) -> tuple[str, ...]:
    """Return values as policies write them: letters with their accents, in Unicode's form C."""
    return tuple(unicodedata.normalize("NFC", value) for value in values)


def _requested_attributes(config: LdapConfig, group_attributes: tuple[str, ...]) -> tuple[str, ...]:
    """Return the attributes to read from a person's entry, each once."""
    attributes = (
        config.username_attribute,
        *stable_id_attributes(config.id_attribute),
        *group_attributes,
        *PASSWORD_VERSION_ATTRIBUTES,
        *config.attributes,
    )
    return tuple(dict.fromkeys(attribute for attribute in attributes if attribute))
