"""Encoded authorization messages: the reasons of a denial, readable only through DecodeAuthorizationMessage.

Pure. The form of the decoded message follows the STS API reference, "DecodeAuthorizationMessage"; ``failures``, which
AWS leaves empty, has the grants that were missing.
"""

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from iam.arn import Random
from iam.errors import InvalidAuthorizationMessage
from iam.policy.context_keys import context_keys_in
from iam.policy.decide import RESOURCE, TRUST, DecisionType, RequestContext
from iam.policy.explain import Explanation, missing_grant_json
from iam.policy.grammar import VERSION_WITH_VARIABLES
from iam.policy.statement import Statement
from sts.token import Sealer, TokenUnreadable

# Takes the place of the access key id in the associated data, so that a message never opens as a session token, nor a
# token as a message.
_PURPOSE = "authorization-message"
_FIXED_LENGTH = 1536  # bytes, packed, of a message whose length must not reveal its content
_MAX_LENGTH = 7_500  # bytes, packed: sealed and in base64 within the 10,240 characters of EncodedMessage
_MAX_VALUE = 256  # characters of a condition key's value
_MAX_UNPACKED = 256 * 1024  # bytes; limits what a message can make of our memory

_INVALID = "The specified authorization message is invalid."

Message = dict[str, Any]


def encode(explanation: Explanation, account_id: str, *, fixed_length: bool, sealer: Sealer, random: Random) -> str:
    """Return a denial as a text that is opaque to the caller, and that permitted callers of the account can decode.

    An account that is not the caller's own learns what its own policies decided, and of the caller's policies only the
    layer that did not allow. With ``fixed_length`` all texts have one length, so that it does not reveal whether a role
    exists (THREATS B09). What does not fit is left out, the context first.
    """
    limit = _FIXED_LENGTH if fixed_length else _MAX_LENGTH
    candidates = (_pack({"account": account_id, "message": message}) for message in _messages(explanation, account_id))
    packed = next(candidate for candidate in candidates if len(candidate) <= limit)
    return sealer.seal(packed.ljust(limit, b"\0") if fixed_length else packed, _PURPOSE, random)


def decode(encoded: str, account_id: str, *, sealer: Sealer) -> str:
    """Return the JSON of a denial that was encoded for this account; raise InvalidAuthorizationMessage."""
    try:
        opened = _unpack(sealer.open(encoded, _PURPOSE))
    except TokenUnreadable as error:
        raise InvalidAuthorizationMessage(_INVALID, log=str(error)) from error
    if opened["account"] != account_id:
        raise InvalidAuthorizationMessage(_INVALID, log="of another account")
    return json.dumps(opened["message"], separators=(",", ":"))


def _pack(message: Message) -> bytes:
    return zlib.compress(json.dumps(message, separators=(",", ":")).encode(), level=6)


def _unpack(packed: bytes) -> Message:
    """Return the packed message; whatever follows the compressed stream is padding."""
    inflate = zlib.decompressobj()
    try:
        message: Message = json.loads(inflate.decompress(packed, _MAX_UNPACKED))
    except (zlib.error, ValueError) as error:  # sealed by an older version
        raise TokenUnreadable("of another form") from error
    return message


def _messages(explanation: Explanation, account_id: str) -> Iterator[Message]:
    """Yield the whole message, then shorter and shorter versions of it."""
    decision, context = explanation.decision, explanation.context
    explicit = decision.decision_type is DecisionType.EXPLICIT_DENY
    own = account_id == context.principal.account_id
    matched = [
        _matched_statement(match.layer, match.statement)
        if own or match.layer in _RESOURCE_SIDE
        else {"effect": match.statement.effect.value.upper(), "policyType": match.layer}
        for match in decision.statements
    ]
    missing_grants = [] if explicit else explanation.missing_grants
    layers = [{"layer": grant.layer} for grant in missing_grants]
    failures = [
        missing_grant_json(grant) if own or grant.layer in _RESOURCE_SIDE else {"layer": grant.layer}
        for grant in missing_grants
    ]
    decision_only = {"allowed": decision.allowed, "explicitDeny": explicit}
    full = {**decision_only, "matchedStatements": _items(matched), "failures": _items(failures)}
    yield {**full, "context": _context(context, context.keys if own else _keys_of_resource_policy(explanation))}
    yield {**full, "context": _context(context, {})}
    yield {
        **decision_only,
        "matchedStatements": _items([]),
        "failures": _items(layers),
        "context": _context(context, {}),
    }
    yield decision_only


# The layers that belong to the account of the resource, where that is not the caller's.
_RESOURCE_SIDE = frozenset({TRUST, RESOURCE})


def _keys_of_resource_policy(explanation: Explanation) -> Mapping[str, tuple[str, ...]]:
    """Return the condition keys that the resource's own policy uses; others would reveal facts of the caller."""
    layers = [layer for layer in explanation.layers if layer.layer in _RESOURCE_SIDE]
    statements = [evaluated.statement for layer in layers for evaluated in layer.statements]
    names = [name.lower() for name in context_keys_in(statements, VERSION_WITH_VARIABLES)]
    return {name: explanation.context.keys[name] for name in names if name in explanation.context.keys}


def _context(context: RequestContext, keys: Mapping[str, tuple[str, ...]]) -> Message:
    principal = context.principal
    return {
        "principal": {"id": principal.user_id, "name": principal.name, "arn": principal.arn},
        "action": context.action,
        "resource": context.resource,
        "conditions": _items({"key": key, "values": _values(values)} for key, values in sorted(keys.items())),
    }


def _matched_statement(layer: str, statement: Statement) -> Message:
    return {
        "statementId": statement.sid,
        "effect": statement.effect.value.upper(),
        "principals": _values(principal.text for principal in statement.principals),
        "principalGroups": _items([]),
        "actions": _values(statement.actions),
        "resources": _values(statement.resources),
        "conditions": _items({"key": test.name, "values": _values(test.values)} for test in statement.conditions),
        "policyType": layer,
        "policy": statement.policy,
    }


def _values(values: Iterable[str]) -> Message:
    return _items({"value": value[:_MAX_VALUE]} for value in values)


def _items(messages: Iterable[Message]) -> Message:
    return {"items": list(messages)}
