"""The audit record of one decision, in the shape of CloudTrail; no secret is ever in it.

Source: CloudTrail User Guide, "CloudTrail record contents" and "CloudTrail userIdentity element". What CloudTrail has
no member for stands under ``additionalEventData``.
"""

import json
from typing import Any, NamedTuple

from sqlalchemy import Connection, insert

from broker.api.constraints import PROOFS
from broker.api.request_state import Exchange
from broker.api.shape import Shape
from iam.arn import ACCOUNT_ID, parse_arn, root_arn
from iam.errors import ServiceError
from iam.policy.decide import Decision
from iam.policy.explain import need_json
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
_LARGEST_OF_A_STRANGER = 2048
# CloudTrail User Guide, "AWS Management Console sign-in events": a name that nobody has may be a password.
_HIDDEN = "HIDDEN_DUE_TO_SECURITY_REASONS"
_TOLD = (
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


class Meant(NamedTuple):
    """The user or owner whom somebody says to be: ``kind`` is IAMUser or Root, the rest is empty for nobody's name.

    What nobody is called may be a password, so it is never told.
    """

    kind: str
    account_id: str = ""
    subject: str = ""
    name: str = ""
    arn: str = ""


def record(exchange: Exchange, error: ServiceError | None = None) -> Record:
    """Return the record of a request that was answered, or refused with this error."""
    model = exchange.model
    entry = _frame(exchange, f"{model.service if model else 'sts'}.amazonaws.com", model.name if model else "Unknown")
    entry["userIdentity"] = _user_identity(exchange)
    entry["requestParameters"] = _parameters(exchange) if error is None else _abridged(exchange)
    entry["responseElements"] = _elements(exchange)
    if error is not None:
        entry["errorCode"], entry["errorMessage"] = error.code, error.message[:_LONGEST]
    more = _additional(exchange, error)
    if more:
        entry["additionalEventData"] = more
    return entry


def sign_in(exchange: Exchange, directory: str, username: str, *, refusal: Refusal | None = None) -> Record:
    """Return the record of what the directory said: the first step of a sign-in, with the request id of the second."""
    entry = _frame(exchange, "signin.fedgate", "DirectorySignIn")
    entry["userIdentity"] = directory_user(directory, username, refusal)
    entry["requestParameters"] = {"directory": directory}
    entry["responseElements"] = {"DirectorySignIn": "Failure" if refusal else "Success"}
    if refusal is not None:
        entry["errorCode"] = "IDPRejectedClaim"
        entry["additionalEventData"] = {"reason": refusal.reason, "detail": refusal.detail[:_LONGEST]}
    elif exchange.identity is not None:
        entry["userIdentity"]["principalId"] = exchange.identity.subject
    return entry


def directory_user(directory: str, username: str, refusal: Refusal | None = None) -> Record:
    """Return the userIdentity of somebody by the name that was typed, unless the directory knows no such name."""
    shown = _HIDDEN if refusal is not None and refusal.reason == "unknown user" else username[:_LONGEST]
    return {"type": "DirectoryUser", "userName": shown, "identityProvider": directory}


def console_user(meant: Meant) -> Record:
    """Return the userIdentity of somebody who said to be a user or an owner, and has not proved it."""
    known = {"principalId": meant.subject, "accountId": meant.account_id, "arn": meant.arn}
    told = {name: value for name, value in known.items() if value}
    if meant.kind == "Root" and meant.subject:
        return {"type": meant.kind, **told, "accessKeyId": ""}
    return {"type": meant.kind, **told, "accessKeyId": "", "userName": meant.name or _HIDDEN}


def console_login(
    exchange: Exchange, account_id: str, who: Record, told: Record, *, error: ServiceError | None = None
) -> Record:
    """Return the record of a sign-in of a user or an owner, as CloudTrail writes it ("Console sign-in events")."""
    entry = page(exchange, "ConsoleLogin", account_id or None, {}, error=error, who=who)
    entry["requestParameters"] = None
    entry["additionalEventData"] = told | entry.get("additionalEventData", {})
    return entry


def page(
    exchange: Exchange,
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
    entry = _frame(exchange, "signin.fedgate", name)
    entry |= {"readOnly": False, "eventType": "AwsConsoleSignIn", "recipientAccountId": account_id}
    entry["userIdentity"] = who or _user_identity(exchange)
    entry["requestParameters"] = told
    entry["responseElements"] = {name: "Failure" if error else "Success"}
    more = _additional(exchange, error)
    if error is not None:
        entry["errorCode"], entry["errorMessage"] = error.code, error.message[:_LONGEST]
    if more:
        entry["additionalEventData"] = more
    return entry


def keep(tx: Connection, entry: Record, exchange: Exchange) -> None:
    """Write the record of a change into the transaction of the change: neither is ever there without the other."""
    row = {
        "event_id": entry["eventID"],
        "at": int(exchange.now.timestamp() * 1000),
        "account_id": entry["recipientAccountId"] or "",  # of a person of a directory, who is of no account
        "record": json.dumps(entry, separators=(",", ":")),
    }
    tx.execute(insert(audit_record).values(**row))


def _frame(exchange: Exchange, source: str, name: str) -> Record:
    request = exchange.request
    return {
        "eventVersion": _VERSION,
        "userIdentity": _NOBODY,
        "eventTime": exchange.now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "at": int(exchange.now.timestamp() * 1000),
        "eventSource": source,
        "eventName": name,
        "awsRegion": exchange.region or "us-east-1",
        "sourceIPAddress": request.source_ip,
        "userAgent": (request.header("user-agent") or "")[:_LONGEST],
        "requestParameters": None,
        "responseElements": None,
        "requestID": exchange.id,
        "eventID": exchange.new_id(),
        "readOnly": name.startswith(("Get", "List", "Simulate", "Decode")),
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": _account(exchange),
        "eventCategory": "Management",
    }


def _account(exchange: Exchange) -> str | None:
    if exchange.caller is not None:
        return exchange.caller.principal.account_id
    arn = parse_arn(exchange.params.get("RoleArn", ""))
    return arn.account if arn and ACCOUNT_ID.fullmatch(arn.account) else None


def _user_identity(exchange: Exchange) -> Record:
    if exchange.caller is not None:
        return _caller(exchange.caller)
    if exchange.identity is not None:
        return _federated(exchange.identity)
    if exchange.presented is not None:
        return {"type": "Unknown", "accessKeyId": exchange.presented.access_key_id[:_LONGEST]}
    return _NOBODY


def _federated(identity: Identity) -> Record:
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


def _caller(caller: Caller) -> Record:
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


def _parameters(exchange: Exchange) -> Record | None:
    if not exchange.params or exchange.model is None or exchange.model.input is None:
        return None
    return _shown(exchange.model.input, exchange.params)


def _abridged(exchange: Exchange) -> Record | None:
    """Return parameters that were refused, or only their size: strangers send 10 MB as easily as a line."""
    parameters = _parameters(exchange)
    size = len(json.dumps(parameters))
    known = exchange.caller is not None or exchange.identity is not None
    return (
        parameters
        if size <= (_LARGEST if known else _LARGEST_OF_A_STRANGER)
        else {"omitted": True, "originalSize": size}
    )


def _shown(shape: Shape, value: dict[str, Any]) -> Record:
    """Return a structure without its secrets, names as CloudTrail writes them: the first letter small."""
    return {
        name[0].lower() + name[1:]: _value(member, value[name])
        for name, member in shape.members.items()
        if name in value and name not in PROOFS and not member.sensitive
    }


def _value(shape: Shape, value: Value) -> Value:
    if shape.kind == "structure":
        return _shown(shape, value)
    if shape.kind == "list":
        return [_value(shape.members["member"], item) for item in value]
    if isinstance(value, str | int | bool | float | None):
        return value
    return str(value)


def _elements(exchange: Exchange) -> Record | None:
    """Return what the answer may tell an auditor: who was made, and of credentials only the key id and the expiry."""
    result = exchange.result
    if not result:
        return None
    told: Record = {name[0].lower() + name[1:]: result[name] for name in _TOLD if name in result}
    credentials = result.get("Credentials")
    if credentials:
        told["credentials"] = {
            "accessKeyId": credentials["AccessKeyId"],
            "expiration": credentials["Expiration"].strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
    key = result.get("AccessKey")
    if key:
        told["accessKey"] = {
            "accessKeyId": key["AccessKeyId"],
            "userName": key.get("UserName"),
            "status": key["Status"],
        }
    return told or None


def _additional(exchange: Exchange, error: ServiceError | None) -> Record:
    more: Record = {}
    if exchange.request.client:
        more["client"] = exchange.request.client
    if exchange.decisions and (error is not None or len(exchange.decisions) > 1):
        more["decisions"] = [_decision(one) for one in exchange.decisions]
    if isinstance(exchange.identity, SamlIdentity):
        more["assertion"] = exchange.identity.assertion
    if exchange.findings:
        more["policyFindings"] = [str(one) for one in exchange.findings[:_MOST_FINDINGS]]
        left_out = len(exchange.findings) - _MOST_FINDINGS
        more["policyFindings"] += [f"and {left_out} more"] if left_out > 0 else []
    if exchange.denial is not None and exchange.denial.needed:
        more["missing"] = [need_json(one) for one in exchange.denial.needed]
    if error is not None and error.log != error.message:
        more["reason"] = error.log[:_LONGEST]
    return more


def _decision(decision: Decision) -> Record:
    return {
        "result": decision.why.value,
        "layer": decision.layer,
        "statements": [
            f"{reason.statement.policy}#{reason.statement.sid or reason.statement.index}"
            for reason in decision.statements
        ],
    }
