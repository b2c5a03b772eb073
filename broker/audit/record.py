"""The audit record of one decision, in the shape of CloudTrail; no secret is ever in it.

Source: CloudTrail User Guide, "CloudTrail record contents" and "CloudTrail userIdentity element". What CloudTrail has
no member for stands under ``additionalEventData``.
"""

import json
from typing import Any, NamedTuple

from sqlalchemy import Connection, insert

from broker.api.constraints import SECRET_PARAMETERS
from broker.api.request_state import RequestState
from broker.api.shape import Shape
from iam.arn import ACCOUNT_ID, parse_arn, root_arn
from iam.clock import iso8601, to_milliseconds
from iam.errors import ServiceError
from iam.policy.decide import Decision
from iam.policy.explain import missing_grant_json
from iam.store.schema import audit_record
from sts.callers import Caller
from sts.federation.saml import name_qualifier
from sts.identity import IamIdentity, Identity, Refusal, SamlIdentity, WebIdentity
from sts.mint import SessionKind

Record = dict[str, Any]
Value = Any  # whatever type a shape says

_VERSION = "1.11"
_NOBODY = {"type": "Unknown"}
_LONGEST = 2048
_MOST_FINDINGS = 20  # about a policy that a request writes
_LARGEST = 100 * 1024  # CloudTrail User Guide, "CloudTrail record contents": requestParameters
_LARGEST_UNAUTHENTICATED = 2048
# CloudTrail User Guide, "AWS Management Console sign-in events": a name that nobody has may be a password.
_HIDDEN = "HIDDEN_DUE_TO_SECURITY_REASONS"
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
    """The user or owner whom somebody says to be: ``kind`` is IAMUser or Root, the rest is empty for nobody's name.

    What nobody is called may be a password, so it is never told.
    """

    kind: str
    account_id: str = ""
    subject: str = ""
    name: str = ""
    arn: str = ""


def request_record(state: RequestState, error: ServiceError | None = None) -> Record:
    """Return the record of a request that was answered, or refused with this error."""
    model = state.model
    entry = _base_record(
        state, f"{model.service if model else 'sts'}.amazonaws.com", model.name if model else "Unknown"
    )
    entry["userIdentity"] = _user_identity(state)
    entry["requestParameters"] = _parameters(state) if error is None else _parameters_within_limit(state)
    entry["responseElements"] = _response_elements(state)
    if error is not None:
        entry["errorCode"], entry["errorMessage"] = error.code, error.message[:_LONGEST]
    more = _additional(state, error)
    if more:
        entry["additionalEventData"] = more
    return entry


def directory_sign_in_record(
    state: RequestState, directory: str, username: str, *, refusal: Refusal | None = None
) -> Record:
    """Return the record of what the directory said: the first step of a sign-in, with the request id of the second."""
    entry = _base_record(state, "signin.fedgate", "DirectorySignIn")
    entry["userIdentity"] = directory_user_identity(directory, username, refusal)
    entry["requestParameters"] = {"directory": directory}
    entry["responseElements"] = {"DirectorySignIn": "Failure" if refusal else "Success"}
    if refusal is not None:
        entry["errorCode"] = "IDPRejectedClaim"
        entry["additionalEventData"] = {"reason": refusal.reason, "detail": refusal.detail[:_LONGEST]}
    elif state.identity is not None:
        entry["userIdentity"]["principalId"] = state.identity.subject
    return entry


def directory_user_identity(directory: str, username: str, refusal: Refusal | None = None) -> Record:
    """Return the userIdentity of somebody by the name that was typed, unless the directory knows no such name."""
    shown = _HIDDEN if refusal is not None and refusal.reason == "unknown user" else username[:_LONGEST]
    return {"type": "DirectoryUser", "userName": shown, "identityProvider": directory}


def console_user_identity(login_target: ClaimedPrincipal) -> Record:
    """Return the userIdentity of somebody who said to be a user or an owner, and has not proved it."""
    known = {"principalId": login_target.subject, "accountId": login_target.account_id, "arn": login_target.arn}
    told = {name: value for name, value in known.items() if value}
    if login_target.kind == "Root" and login_target.subject:
        return {"type": login_target.kind, **told, "accessKeyId": ""}
    return {"type": login_target.kind, **told, "accessKeyId": "", "userName": login_target.name or _HIDDEN}


def console_login_record(
    state: RequestState, account_id: str, who: Record, told: Record, *, error: ServiceError | None = None
) -> Record:
    """Return the record of a sign-in of a user or an owner, as CloudTrail writes it ("Console sign-in events")."""
    entry = console_event_record(state, "ConsoleLogin", account_id or None, {}, error=error, who=who)
    entry["requestParameters"] = None
    entry["additionalEventData"] = told | entry.get("additionalEventData", {})
    return entry


def console_event_record(
    state: RequestState,
    name: str,
    account_id: str | None,
    told: Record,
    *,
    error: ServiceError | None = None,
    who: Record | None = None,
) -> Record:
    """Return the record of what happened on a page: a sign-in or sign-out, by whom, or why not.

    ``who`` is the userIdentity of somebody who is not proved.
    """
    entry = _base_record(state, "signin.fedgate", name)
    entry |= {"readOnly": False, "eventType": "AwsConsoleSignIn", "recipientAccountId": account_id}
    entry["userIdentity"] = who or _user_identity(state)
    entry["requestParameters"] = told
    entry["responseElements"] = {name: "Failure" if error else "Success"}
    more = _additional(state, error)
    if error is not None:
        entry["errorCode"], entry["errorMessage"] = error.code, error.message[:_LONGEST]
    if more:
        entry["additionalEventData"] = more
    return entry


def store_record(tx: Connection, entry: Record, state: RequestState) -> None:
    """Write the record of a change into the transaction of the change: neither is ever there without the other."""
    row = {
        "event_id": entry["eventID"],
        "at": to_milliseconds(state.now),
        "account_id": entry["recipientAccountId"] or "",  # of a person of a directory, who is of no account
        "record": json.dumps(entry, separators=(",", ":")),
    }
    tx.execute(insert(audit_record).values(**row))


def _base_record(state: RequestState, source: str, name: str) -> Record:
    request = state.request
    return {
        "eventVersion": _VERSION,
        "userIdentity": _NOBODY,
        "eventTime": iso8601(state.now),
        "at": to_milliseconds(state.now),
        "eventSource": source,
        "eventName": name,
        "awsRegion": state.region or "us-east-1",
        "sourceIPAddress": request.source_ip,
        "userAgent": (request.header("user-agent") or "")[:_LONGEST],
        "requestParameters": None,
        "responseElements": None,
        "requestID": state.id,
        "eventID": state.new_id(),
        "readOnly": name.startswith(("Get", "List", "Simulate", "Decode")),
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": _account(state),
        "eventCategory": "Management",
    }


def _account(state: RequestState) -> str | None:
    if state.caller is not None:
        return state.caller.principal.account_id
    arn = parse_arn(state.params.get("RoleArn", ""))
    return arn.account if arn and ACCOUNT_ID.fullmatch(arn.account) else None


def _user_identity(state: RequestState) -> Record:
    if state.caller is not None:
        return _signer_identity(state.caller)
    if state.identity is not None:
        return _federated_identity(state.identity)
    if state.access_key_id is not None:
        return {"type": "Unknown", "accessKeyId": state.access_key_id[:_LONGEST]}
    return _NOBODY


def _federated_identity(identity: Identity) -> Record:
    if isinstance(identity, IamIdentity):
        named = {"arn": root_arn(identity.account_id)} if identity.is_root else {"userName": identity.name}
        return {
            "type": "Root" if identity.is_root else "IAMUser",
            "principalId": identity.subject,
            "accountId": identity.account_id,
            **named,
            "sessionContext": {"person": identity.person},
        }
    if isinstance(identity, SamlIdentity):
        return {
            "type": "SAMLUser",
            "principalId": f"{name_qualifier(identity)}:{identity.subject}",
            "userName": identity.subject,
            "identityProvider": identity.issuer,
            "sessionContext": {"person": f"{identity.provider}|{identity.subject}"},
        }
    if isinstance(identity, WebIdentity):
        return {
            "type": "WebIdentityUser",
            "principalId": f"{identity.key_prefix}:{identity.audience}:{identity.subject}",
            "userName": identity.subject,
            "identityProvider": identity.issuer,
            "sessionContext": {"person": f"{identity.provider}|{identity.subject}"},
        }
    return {
        "type": "DirectoryUser",
        "principalId": f"{identity.provider}:{identity.subject}",
        "userName": identity.name,
        "identityProvider": identity.provider,
        # As `fedgate sessions revoke --person` wants it.
        "sessionContext": {"person": f"{identity.provider}|{identity.subject}"},
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


def _parameters_within_limit(state: RequestState) -> Record | None:
    """Return parameters that were refused, or only their size: strangers send 10 MB as easily as a line."""
    parameters = _parameters(state)
    size = len(json.dumps(parameters))
    known = state.caller is not None or state.identity is not None
    return (
        parameters
        if size <= (_LARGEST if known else _LARGEST_UNAUTHENTICATED)
        else {"omitted": True, "originalSize": size}
    )


def _without_secrets(shape: Shape, value: dict[str, Any]) -> Record:
    """Return a structure without its secrets, names as CloudTrail writes them: the first letter small."""
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
    """Return what the answer may tell an auditor: who was made, and of credentials only the key id and the expiry."""
    result = state.result
    if not result:
        return None
    told: Record = {name[0].lower() + name[1:]: result[name] for name in _RECORDED_ELEMENTS if name in result}
    credentials = result.get("Credentials")
    if credentials:
        told["credentials"] = {
            "accessKeyId": credentials["AccessKeyId"],
            "expiration": iso8601(credentials["Expiration"]),
        }
    key = result.get("AccessKey")
    if key:
        told["accessKey"] = {
            "accessKeyId": key["AccessKeyId"],
            "userName": key.get("UserName"),
            "status": key["Status"],
        }
    return told or None


def _additional(state: RequestState, error: ServiceError | None) -> Record:
    more: Record = {}
    if state.request.client:
        more["client"] = state.request.client
    if state.decisions and (error is not None or len(state.decisions) > 1):
        more["decisions"] = [_decision(one) for one in state.decisions]
    if isinstance(state.identity, SamlIdentity):
        more["assertion"] = state.identity.assertion
    if state.findings:
        more["policyFindings"] = [str(one) for one in state.findings[:_MOST_FINDINGS]]
        left_out = len(state.findings) - _MOST_FINDINGS
        more["policyFindings"] += [f"and {left_out} more"] if left_out > 0 else []
    if state.denial is not None and state.denial.missing_grants:
        more["missing"] = [missing_grant_json(one) for one in state.denial.missing_grants]
    if error is not None and error.log != error.message:
        more["reason"] = error.log[:_LONGEST]
    return more


def _decision(decision: Decision) -> Record:
    return {
        "result": decision.decision_type.value,
        "layer": decision.layer,
        "statements": [
            f"{reason.statement.policy}#{reason.statement.sid or reason.statement.index}"
            for reason in decision.statements
        ],
    }
