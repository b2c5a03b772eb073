"""The audit record of a request to a resource: a data event, in the shape in which CloudTrail records those of S3.

Source: CloudTrail User Guide, "Logging data events"; Amazon S3 User Guide, "Amazon S3 CloudTrail events".
"""

from typing import Any, Final

from broker.audit import envelope
from broker.audit.envelope import DataEvent, Event, Record
from broker.audit.record import event_record, user_identity_of
from broker.authz.resource import Resource
from broker.authz.service_request import ServiceRequest
from broker.authz.service_state import ServiceState
from iam.principal import PrincipalKind

_UNKNOWN: Final = "Unknown"
_MOST_RESOURCES: Final = 10
_ANONYMOUS: Final[Record] = {"type": "AWSAccount", "principalId": "", "accountId": "anonymous"}
_SIGNED_IN: Final = {True: "AuthHeader", False: "QueryString"}


def service_record(state: ServiceState) -> Record:
    """Return the record of a decision."""
    resource, asked = state.resource, state.service_request
    event = Event(
        name=asked.operation if asked else _UNKNOWN,
        source=f"{resource.service}.amazonaws.com" if resource else envelope.AUTHORIZER_SOURCE,
        type=envelope.API_CALL,
        account_id=resource.account if resource else None,
        user_identity=_user_identity(state),
        parameters=dict(asked.parameters) if asked else _request_line(state),
        data=DataEvent(read_only=not asked.writes if asked else False, resources=_resources(resource, asked)),
    )
    record = event_record(state, event, state.error)
    return record | {"additionalEventData": {**_facts(state), **record.get("additionalEventData", {})}}


def _user_identity(state: ServiceState) -> Record:
    caller = state.caller
    if caller is None or caller.principal.kind is not PrincipalKind.ANONYMOUS:
        return user_identity_of(state)
    # Refusals of strangers are aggregated above a rate; nobody knows who this is.
    return {"type": "Unknown"} if state.error is not None else _ANONYMOUS


def _request_line(state: ServiceState) -> Record:
    """Return what is known of a request that was refused before it was read: no query, which has signatures."""
    request = state.request
    return {"host": request.header("host") or "", "method": request.method, "path": request.path}


def _resources(resource: Resource | None, asked: ServiceRequest | None) -> tuple[Record, ...]:
    if resource is None or asked is None:
        return ()
    arns = dict.fromkeys(permission.resource for permission in (*asked.permissions, *asked.every_resource))
    return tuple({"ARN": arn, "accountId": resource.account} for arn in list(arns)[:_MOST_RESOURCES])


def _facts(state: ServiceState) -> dict[str, Any]:
    facts: dict[str, Any] = {"resource": state.resource.name} if state.resource else {}
    if state.presented is not None:
        facts["SignatureVersion"] = "SigV4"
        facts["AuthenticationMethod"] = _SIGNED_IN[state.presented.expires is None]
    if state.payload_hash:
        facts["payload"] = state.payload_hash
    return facts
