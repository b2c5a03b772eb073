"""The credentials of a chosen role: minted through the gate, and shown in each format."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from flask import Response

from broker.doors.credential_formats import FORMATS, Target, process_form
from broker.doors.login_command import LoginCommand
from broker.sessions.browser import BrowserSession
from broker.web.admin.access import AdminAccess
from broker.web.core.responses import wants_json
from broker.web.core.site import Site
from broker.web.i18n.languages import gettext_noop
from broker.web.portal.role_list import account_label
from broker.web.portal.scope_down import LONGEST_ARN
from iam.errors import ServiceError, ValidationError
from iam.store import pinned_roles
from sts.identity import Identity
from sts.trust import asks_for_mfa

_SHORTEST_ARN: Final = 20  # STS API reference, AssumeRoleWithSAML, RoleArn
_CHOOSE: Final = gettext_noop("Choose a role.")


class FormattedCredentials(NamedTuple):
    """Credentials in one format, with the address of the service where they are valid."""

    key: str
    title: str
    text: str
    command: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialsPage:
    """Gives credentials to people on the pages, as a page or as JSON."""

    site: Site
    admin_access: AdminAccess

    def issue(
        self,
        identity: Identity,
        role_arn: str,
        *,
        session: BrowserSession | None = None,
        sts_parameters: Mapping[str, Any] | None = None,
    ) -> Response:
        """Return credentials for a role, or an error; without a session, the proof is consumed here."""
        site = self.site
        if not _SHORTEST_ARN <= len(role_arn) <= LONGEST_ARN:
            raise ValidationError(_CHOOSE if not role_arn else "roleIndex must be the ARN of a role")
        try:
            result = site.role_access.assume_role(
                site.request_state, identity, role_arn, proof=session is None, session_limits=dict(sts_parameters or {})
            )
        except ServiceError as error:
            raise site.gate.record_refusal(site.request_state, error) from error
        credentials = process_form(result["Credentials"])
        if wants_json():
            return site.responses.json(credentials)
        command = self._login_command(identity, role_arn, sts_parameters or {})
        return self._render(identity, role_arn, credentials, session, command)

    def _login_command(self, identity: Identity, role_arn: str, limits: Mapping[str, Any]) -> LoginCommand | None:
        """Return the command that takes the same credentials at a terminal, or None where it could not.

        It sends a password alone, and so cannot have what a second factor gives; nor does it know of session tags and
        of the user's own policy.
        """
        role, mfa_at = self.site.store.role(role_arn), self.site.request_state.mfa_at
        if role is None or not identity.directory or mfa_at is not None or asks_for_mfa(role.trust):
            return None
        if limits.keys() & {"Policy", "Tags"}:
            return None
        endpoint, seconds = self.site.public_url, limits.get("DurationSeconds")
        return LoginCommand(identity.name, role_arn, endpoint, seconds, read_only="PolicyArns" in limits)

    def _render(
        self,
        identity: Identity,
        role_arn: str,
        credentials: dict[str, Any],
        session: BrowserSession | None,
        command: LoginCommand | None,
    ) -> Response:
        site = self.site
        role = site.store.role(role_arn)
        if role is not None:
            with (
                suppress(ServiceError),
                site.store.write(bump_revision=False) as tx,
            ):  # the credentials are there all the same
                pinned_roles.record_role_use(tx, identity.person, role.id, site.request_state.now)
        profile = role.name if role else identity.name
        return site.responses.render(
            "portal/credentials.html",
            session=session,
            administrator=session is not None and self.admin_access.is_administrator(session),
            role=profile,
            role_arn=role_arn,
            account=account_label(site.store, role.account_id if role else identity.account_id),
            identity=identity,
            credentials=credentials,
            formats=_format_credentials(credentials, Target(profile, site.public_url), command),
        )


def _format_credentials(
    credentials: Mapping[str, Any], target: Target, command: LoginCommand | None
) -> list[FormattedCredentials]:
    """Return the credentials and the address of this service in every format, and the command in those of shells."""
    return [
        FormattedCredentials(key, one.title, one.text(credentials, target), command.text(key) if command else "")
        for key, one in FORMATS.items()
    ]
