"""Audit records of API requests and of pages, in the shape of CloudTrail; no secret is ever in one.

Source: CloudTrail User Guide, "CloudTrail record contents" and "CloudTrail userIdentity element". What CloudTrail has
no member for is under ``additionalEventData``.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from broker.api.constraints import SECRET_PARAMETERS
from broker.api.request_state import RequestState
from broker.api.shape import Shape
from broker.audit import envelope
from broker.audit.envelope import Event, Origin, Record
from iam.arn import ACCOUNT_ID, parse_arn
from iam.clock import iso8601
from iam.errors import IDPRejectedClaim, ServiceError
from iam.policy.decide import Decision
from iam.policy.explain import missing_grant_json
from iam.principal import PrincipalKind
from sts.callers import Caller
from sts.identity import Refusal
from sts.mint import Session, SessionKind

Value = Any  # of the type that its shape says

DIRECTORY_SIGN_IN: Final = "DirectorySignIn"
_NOBODY = {"type": "Unknown"}
_LONGEST = 2048  # characters of a text that a client chose
_MOST_FINDINGS = 20  # about a policy that a request writes
# CloudTrail User Guide, "AWS Management Console sign-in events": a name that nobody has may be a password.
_HIDDEN = "HIDDEN_DUE_TO_SECURITY_REASONS"
_TYPES: Final[Mapping[str, str]] = {
    SessionKind.ROLE: PrincipalKind.ROLE_SESSION,
    SessionKind.USER: PrincipalKind.USER,
    SessionKind.FEDERATED: PrincipalKind.FEDERATED_USER,
    "root": PrincipalKind.ROOT,
}
_RECORDED_ELEMENTS = (
    "AssumedRoleUser",
    "FederatedUser",
    "PackedPolicySize",
    "SourceIdentity",
    "Provider",
    "Subject",
    "SubjectType",
    "Issuer",
    "Audience",
    "NameQualifier",
    "SubjectFromWebIdentityToken",
)


class ClaimedPrincipal(NamedTuple):
    """The user or root user that a sign-in names, before any proof; ``kind`` is IAMUser or Root.

    The other fields are empty where no such user exists. The name that was typed is then not kept: it may be a
    password, typed into the wrong field.
    """

    kind: str
    account_id: str = ""
    subject: str = ""
    name: str = ""
    arn: str = ""


def request_record(state: RequestState, error: ServiceError | None = None) -> Record:
    """Return the record of a request that was answered, or refused with this error."""
    model = state.model
    event = Event(
        name=model.name if model else "Unknown",
        source=f"{model.service if model else 'sts'}.amazonaws.com",
        type=envelope.API_CALL,
        account_id=_account(state),
        user_identity=user_identity_of(state),
        parameters=_parameters(state),
        response=_response_elements(state),
    )
    return event_record(state, event, error)


def event_record(state: RequestState, event: Event, error: ServiceError | None) -> Record:
    """Return the record of an event that a request caused, or of its refusal."""
    return _record_of_request(state, event) | _error_members(error) | _additional_event_data(state, error)


def granted_records(state: RequestState) -> tuple[Record, ...]:
    """Return the record of a request that was granted, and a second one for another account whose role it took.

    Both have one ``sharedEventID`` then, as in CloudTrail ("CloudTrail record contents"). The role's account learns
    which account and which principal, and nothing of the decisions, which quote the caller's own policies.
    """
    record, account_id = request_record(state), _account_of_role(state)
    if account_id is None or state.caller is None or account_id == state.caller.principal.account_id:
        return (record,)
    shared, principal = {"sharedEventID": state.new_id()}, state.caller.principal
    caller = {"type": "AWSAccount", "principalId": principal.user_id, "accountId": principal.account_id}
    of_role = {name: value for name, value in record.items() if name != "additionalEventData"}
    of_role |= {"eventID": state.new_id(), "userIdentity": caller, "recipientAccountId": account_id}
    return record | shared, of_role | shared


def directory_sign_in_record(
    state: RequestState, directory: str, username: str, *, refusal: Refusal | None = None
) -> Record:
    """Return the record of a directory's answer: the first step of a sign-in, with the request id of the second."""
    user_identity = directory_user_identity(directory, username, refusal)
    if refusal is None and state.identity is not None:
        user_identity["principalId"] = state.identity.subject
    event = Event(
        name=DIRECTORY_SIGN_IN,
        source=envelope.SIGN_IN_SOURCE,
        type=envelope.API_CALL,
        account_id=_account(state),
        user_identity=user_identity,
        parameters={"directory": directory},
        response={DIRECTORY_SIGN_IN: "Failure" if refusal else "Success"},
    )
    return _record_of_request(state, event) | _refusal_members(refusal)


def _refusal_members(refusal: Refusal | None) -> Record:
    if refusal is None:
        return {}
    return {
        "errorCode": IDPRejectedClaim.code,
        "additionalEventData": {"reason": refusal.reason, "detail": refusal.detail[:_LONGEST]},
    }


def directory_user_identity(directory: str, username: str, refusal: Refusal | None = None) -> Record:
    """Return the userIdentity for a directory's user by the name that was typed, hidden where no such user exists."""
    user_name = _HIDDEN if refusal is not None and refusal.reason == "unknown user" else username[:_LONGEST]
    return {"type": "DirectoryUser", "userName": user_name, "identityProvider": directory}


def console_user_identity(login_target: ClaimedPrincipal) -> Record:
    """Return the userIdentity for the user or root user that a sign-in names, before any proof."""
    members = {"principalId": login_target.subject, "accountId": login_target.account_id, "arn": login_target.arn}
    known = {name: value for name, value in members.items() if value}
    if login_target.kind == "Root" and login_target.subject:
        return {"type": login_target.kind, **known, "accessKeyId": ""}
    return {"type": login_target.kind, **known, "accessKeyId": "", "userName": login_target.name or _HIDDEN}


def console_login_record(
    state: RequestState,
    account_id: str,
    user_identity: Record,
    additional: Record,
    *,
    error: ServiceError | None = None,
) -> Record:
    """Return the record of a sign-in of a user or a root user, as CloudTrail writes it ("Console sign-in events")."""
    record = console_event_record(
        state, "ConsoleLogin", account_id or None, None, error=error, user_identity=user_identity
    )
    return record | {"additionalEventData": additional | record.get("additionalEventData", {})}


def console_event_record(
    state: RequestState,
    name: str,
    account_id: str | None,
    parameters: Record | None,
    *,
    error: ServiceError | None = None,
    user_identity: Record | None = None,
) -> Record:
    """Return the record of what a page did, or refused with this error.

    ``user_identity`` is given where nobody has proved an identity: whom the request claims to come from.
    """
    event = Event(
        name=name,
        source=envelope.SIGN_IN_SOURCE,
        type=envelope.CONSOLE_SIGN_IN,
        account_id=account_id,
        user_identity=user_identity or user_identity_of(state),
        parameters=parameters,
        response={name: "Failure" if error else "Success"},
    )
    return _record_of_request(state, event) | _error_members(error) | _additional_event_data(state, error)


def _record_of_request(state: RequestState, event: Event) -> Record:
    request = state.request
    origin = Origin(
        source_ip=request.recorded_address,
        user_agent=(request.header("user-agent") or "")[:_LONGEST],
        region=state.region or envelope.DEFAULT_REGION,
        request_id=state.id,
    )
    return envelope.build_record(event, origin, now=state.now, event_id=state.new_id())


def _error_members(error: ServiceError | None) -> Record:
    return {} if error is None else {"errorCode": error.code, "errorMessage": error.message[:_LONGEST]}


def _account(state: RequestState) -> str | None:
    if state.caller is not None:
        return state.caller.principal.account_id
    if state.ended_session is not None:
        return state.ended_session.grant.account_id
    return _account_of_role(state)


def _account_of_role(state: RequestState) -> str | None:
    arn = parse_arn(state.params.get("RoleArn", ""))
    return arn.account if arn and ACCOUNT_ID.fullmatch(arn.account) else None


def user_identity_of(state: RequestState) -> Record:
    """Return the userIdentity of whoever sent a request, as far as it is known."""
    if state.caller is not None:
        return _signer_identity(state.caller)
    if state.identity is not None:
        return state.describe_identity(state.identity).user_identity
    if state.ended_session is not None:
        return _ended_session_identity(state.ended_session)
    if state.access_key_id is not None:
        return {"type": "Unknown", "accessKeyId": state.access_key_id[:_LONGEST]}
    return _NOBODY


def _ended_session_identity(session: Session) -> Record:
    """Return the userIdentity of a session that is refused: its role or user may be gone, so that no ARN is told."""
    grant = session.grant
    is_root = grant.entity_id == grant.account_id
    return {
        "type": _TYPES["root" if is_root and grant.kind is SessionKind.USER else grant.kind],
        "principalId": grant.entity_id,
        "accountId": grant.account_id,
        "accessKeyId": session.access_key_id,
        "sessionContext": {"sessionId": session.id, "person": grant.person},
    }


def _signer_identity(caller: Caller) -> Record:
    principal = caller.principal
    entry: Record = {
        "type": principal.kind.value,
        "principalId": principal.user_id,
        "arn": principal.arn,
        "accountId": principal.account_id,
        "accessKeyId": caller.access_key_id,
    }
    if principal.kind.value == "IAMUser":
        entry["userName"] = principal.name
    session = caller.session
    if session is not None:
        grant = session.grant
        entry["sessionContext"] = {
            "attributes": {
                "creationDate": caller.keys["aws:tokenissuetime"][0],
                "mfaAuthenticated": caller.keys["aws:multifactorauthpresent"][0],
            },
            "sessionId": session.id,
            "person": grant.person,
        }
        if grant.kind is SessionKind.ROLE:
            entry["sessionContext"]["sessionIssuer"] = {
                "type": "Role",
                "principalId": principal.entity_id,
                "arn": principal.entity_arn,
                "accountId": principal.account_id,
                "userName": principal.name,
            }
        if grant.source_identity is not None:
            entry["sessionContext"]["sourceIdentity"] = grant.source_identity
    return entry


def _parameters(state: RequestState) -> Record | None:
    if not state.params or state.model is None or state.model.input is None:
        return None
    return _without_secrets(state.model.input, state.params)


def _without_secrets(shape: Shape, value: dict[str, Any]) -> Record:
    """Return a structure without its secrets; names begin with a lower-case letter, as in CloudTrail."""
    return {
        name[0].lower() + name[1:]: _value(member, value[name])
        for name, member in shape.members.items()
        if name in value and name not in SECRET_PARAMETERS and not member.sensitive
    }


def _value(shape: Shape, value: Value) -> Value:
    if shape.kind == "structure":
        return _without_secrets(shape, value)
    if shape.kind == "list":
        return [_value(shape.members["member"], item) for item in value]
    if isinstance(value, str | int | bool | float | None):
        return value
    return str(value)


def _response_elements(state: RequestState) -> Record | None:
    """Return the members of the answer that may be recorded; of credentials, only the key id and the expiry."""
    result = state.result
    if not result:
        return None
    elements: Record = {name[0].lower() + name[1:]: result[name] for name in _RECORDED_ELEMENTS if name in result}
    credentials = result.get("Credentials")
    if credentials:
        elements["credentials"] = {
            "accessKeyId": credentials["AccessKeyId"],
            "expiration": iso8601(credentials["Expiration"]),
        }
    key = result.get("AccessKey")
    if key:
        elements["accessKey"] = {
            "accessKeyId": key["AccessKeyId"],
            "userName": key.get("UserName"),
            "status": key["Status"],
        }
    return elements or None


def _additional_event_data(state: RequestState, error: ServiceError | None) -> Record:
    """Return the member for what CloudTrail has no member for, or nothing where there is nothing to say."""
    more = _facts_of_request(state) | _facts_of_refusal(state, error)
    return {"additionalEventData": more} if more else {}


def _facts_of_request(state: RequestState) -> Record:
    facts: Record = {}
    if state.request.client:
        facts["client"] = state.request.client
    if state.identity is not None:
        facts |= state.describe_identity(state.identity).details
    if state.findings:
        facts["policyFindings"] = [str(finding) for finding in state.findings[:_MOST_FINDINGS]]
        left_out = len(state.findings) - _MOST_FINDINGS
        facts["policyFindings"] += [f"and {left_out} more"] if left_out > 0 else []
    return facts


def _facts_of_refusal(state: RequestState, error: ServiceError | None) -> Record:
    """Return the decisions, what is missing to be allowed, and the reason that the caller did not get."""
    facts: Record = {}
    if state.decisions and (error is not None or len(state.decisions) > 1):
        facts["decisions"] = [_decision(decision) for decision in state.decisions]
    if state.denial is not None and state.denial.missing_grants:
        facts["missing"] = [missing_grant_json(grant) for grant in state.denial.missing_grants]
    if error is not None and error.log != error.message:
        facts["reason"] = error.log[:_LONGEST]
    return facts


def _decision(decision: Decision) -> Record:
    return {
        "result": decision.decision_type.value,
        "layer": decision.layer,
        "statements": [f"{reason.statement.policy}#{reason.statement.name}" for reason in decision.statements],
    }
