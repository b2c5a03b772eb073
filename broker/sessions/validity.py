"""Whether a browser session is still valid: the person, the provider and the password are unchanged (THREATS H03)."""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from broker.sessions.browser import BrowserSession, PendingLogin
from iam.clock import to_milliseconds
from iam.store.schema import login_profile, root_login
from iam.store.store import Store
from sts.identity import IamIdentity, Identity, SamlIdentity, WebIdentity


@dataclass(frozen=True, slots=True)
class SessionValidity:
    """Checks sessions against the store; ``directories`` are the names of the configured directories."""

    store: Store
    directories: Container[str]

    def is_valid(self, session: BrowserSession | PendingLogin, now: datetime) -> bool:
        """Return whether, since the sign-in, the person was not revoked and their provider or password not changed.

        For a pending sign-in, which still needs a second factor, the time of the password counts.
        """
        identity = session.identity
        check = _CHECKS.get(type(identity))
        if check is None or not check(self, identity, session.opened_at, now):
            return False
        return not self.store.revocations().refuses(
            session_id="",
            person=identity.person,
            role_id=None,
            account_id=identity.account_id,
            issued_ms=to_milliseconds(session.opened_at),
        )

    def _directory(self, identity: Identity, _opened_at: datetime, _now: datetime) -> bool:
        return identity.provider.removeprefix("ldap-provider/") in self.directories

    def _iam(self, identity: Identity, _opened_at: datetime, _now: datetime) -> bool:
        """Return whether the password was not changed since it was verified: a change signs other browsers out.

        The time of the password counts, not that of the session, which may begin later with a second factor
        (THREATS J02).
        """
        with self.store.read() as tx:
            of_user = select(login_profile.c.changed).where(login_profile.c.user_id == identity.subject)
            of_root = select(root_login.c.changed).where(root_login.c.account_id == identity.subject)
            changed = tx.scalar(of_root if identity.subject == identity.account_id else of_user)
        return changed is not None and changed <= to_milliseconds(identity.authenticated_at)

    def _saml(self, identity: Identity, _opened_at: datetime, now: datetime) -> bool:
        provider = self.store.saml_provider(identity.provider)
        if not isinstance(identity, SamlIdentity) or provider is None or provider.id != identity.provider_id:
            return False
        until = provider.metadata.valid_until
        return provider.metadata.entity_id == identity.issuer and (until is None or until > now)

    def _web(self, identity: Identity, _opened_at: datetime, _now: datetime) -> bool:
        provider = self.store.oidc_provider(identity.provider)
        if not isinstance(identity, WebIdentity) or provider is None or provider.sign_in is None:
            return False
        return provider.id == identity.provider_id and provider.sign_in.client_id == identity.audience


_CHECKS: Mapping[type[Identity], Callable[[SessionValidity, Identity, datetime, datetime], bool]] = {
    Identity: SessionValidity._directory,  # noqa: SLF001 - a table of its own methods
    IamIdentity: SessionValidity._iam,  # noqa: SLF001 - as above
    SamlIdentity: SessionValidity._saml,  # noqa: SLF001 - as above
    WebIdentity: SessionValidity._web,  # noqa: SLF001 - as above
}
