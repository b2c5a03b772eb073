"""ConsoleLogin records: sign-ins of IAM users and root users, in the shape of CloudTrail.

Source: CloudTrail User Guide, "AWS Management Console sign-in events".
"""

from contextlib import suppress

from broker.audit import record as audit_record
from broker.audit.record import ClaimedPrincipal
from broker.signin.iam_password import IAM_USER, ROOT
from broker.web.core.site import Site
from iam.arn import root_arn
from iam.credentials import login_profile, root_login
from iam.errors import IDPRejectedClaim, ServiceError
from sts.identity import Identity


def login_error(login_target: ClaimedPrincipal) -> IDPRejectedClaim:
    """Return the error to record for a wrong password; pages do not reveal whether the user exists."""
    known = login_target.subject or login_target.kind == ROOT
    return IDPRejectedClaim("Failed authentication" if known else "No username found in supplied account")


def record_failed_login(site: Site, login_target: ClaimedPrincipal, error: ServiceError, to: str) -> None:
    """Record a failed sign-in; raise AuditUnavailable."""
    user_identity = audit_record.console_user_identity(login_target)
    site.gate.audit.append(
        audit_record.console_login_record(
            site.request_state, login_target.account_id, user_identity, _additional_event_data(site, to), error=error
        )
    )
    site.request_state.refusal_recorded = True


def record_login(site: Site, identity: Identity, to: str, *, mfa: bool) -> None:
    """Record a completed sign-in, and when the password was last used; raise AuditUnavailable."""
    user = None if identity.is_root else site.store.user(identity.subject)
    arn = user.arn if user else root_arn(identity.account_id)
    kind = ROOT if identity.is_root else IAM_USER
    user_identity = {"type": kind, "principalId": identity.subject, "arn": arn, "accountId": identity.account_id}
    user_identity |= {} if identity.is_root else {"userName": identity.name}
    site.gate.audit.append(
        audit_record.console_login_record(
            site.request_state,
            identity.account_id,
            user_identity,
            _additional_event_data(site, to, mfa=mfa),
        )
    )
    with suppress(ServiceError):  # the sign-in is recorded already; a failure here must not refuse it
        _record_last_use(site, identity)


def _record_last_use(site: Site, identity: Identity) -> None:
    """Store when the password was last used, for GetUser and the credential report."""
    with site.store.write(bump_revision=False) as tx:
        if identity.is_root:
            root_login.record_root_sign_in(tx, identity.account_id, site.request_state.now)
        else:
            login_profile.record_sign_in(tx, identity.subject, site.request_state.now)


def _additional_event_data(site: Site, to: str, *, mfa: bool = False) -> dict[str, str]:
    """Return the members of CloudTrail's additionalEventData."""
    return {"LoginTo": f"{site.public_url}{to}", "MobileVersion": "No", "MFAUsed": "Yes" if mfa else "No"}
