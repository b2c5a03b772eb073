"""Encoded authorization messages: the reasons of a denial, readable only through DecodeAuthorizationMessage.

Pure. The form of the decoded message follows the STS API reference, "DecodeAuthorizationMessage".
"""

import json

from iam.arn import Random
from iam.errors import InvalidAuthorizationMessage
from iam.policy.decide import Decision, Reason, RequestContext, Why
from sts.token import Sealer, TokenUnreadable

# Takes the place of the access key id in the envelope, so that a message never opens as a session token, nor the
# reverse.
_PURPOSE = "authorization-message"


def encode(context: RequestContext, decision: Decision, *, sealer: Sealer, random: Random) -> str:
    """Return the denial as an opaque text for the caller."""
    principal = context.principal
    message = {
        "allowed": decision.allowed,
        "explicitDeny": decision.why is Why.EXPLICIT_DENY,
        "matchedStatements": {"items": [_matched(reason) for reason in decision.statements]},
        "failures": {"items": [] if decision.why is Why.EXPLICIT_DENY else [{"layer": decision.layer}]},
        "context": {
            "principal": {"id": principal.user_id, "arn": principal.arn, "account": principal.account_id},
            "action": context.action,
            "resource": context.resource,
            "conditions": {
                "items": [
                    {"key": key, "values": {"items": [{"value": value} for value in values]}}
                    for key, values in sorted(context.keys.items())
                ],
            },
        },
    }
    return sealer.seal(json.dumps(message, separators=(",", ":")).encode(), _PURPOSE, random)


def decode(encoded: str, account_id: str, *, sealer: Sealer) -> str:
    """Return the JSON of a denial that happened in this account; raise InvalidAuthorizationMessage."""
    try:
        plain = sealer.open(encoded, _PURPOSE).decode()
    except (TokenUnreadable, UnicodeDecodeError) as error:
        raise InvalidAuthorizationMessage("The specified authorization message is invalid.") from error
    if json.loads(plain)["context"]["principal"]["account"] != account_id:
        raise InvalidAuthorizationMessage("The specified authorization message is invalid.", log="of another account")
    return plain


def _matched(reason: Reason) -> dict[str, object]:
    statement = reason.statement
    return {"statementId": statement.sid, "effect": statement.effect.value.upper(), "policyType": reason.layer}
