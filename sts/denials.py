"""Encoded authorization messages: the reasons of a denial, readable only through DecodeAuthorizationMessage.

Pure. The form of the decoded message follows the STS API reference, "DecodeAuthorizationMessage"; under ``failures``,
which AWS leaves empty, stand the grants that were missing.
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

# Takes the place of the access key id in the envelope, so that a message never opens as a session token, nor the
# reverse.
_PURPOSE = "authorization-message"
_FIXED_LENGTH = 1536  # bytes, packed, of a message whose length must not tell what is in it
_LONGEST = 7_500  # bytes, packed, of any: sealed and in base64 they stay within EncodedMessage's 10,240 characters
_LONGEST_VALUE = 256  # characters of a condition key's value
_LARGEST = 256 * 1024  # bytes of any message, unpacked

_INVALID = "The specified authorization message is invalid."

Message = dict[str, Any]


def encode(found: Explanation, account_id: str, *, fixed_length: bool, sealer: Sealer, random: Random) -> str:
    """Return a denial as a text that is opaque to the caller; those of the account who may, read it.

    Where the account is not the caller's own, its people read what their own policies said, and of the caller's
    policies only which layer withheld. ``untelling``: all such texts have one length, so that it does not tell whether
    a role exists (THREATS B09). What does not fit is left out, context first.
    """
    room = _FIXED_LENGTH if fixed_length else _LONGEST
    packed = (_pack({"account": account_id, "message": message}) for message in _messages(found, account_id))
    plain = next(one for one in packed if len(one) <= room)
    return sealer.seal(plain.ljust(room, b"\0") if fixed_length else plain, _PURPOSE, random)


def decode(encoded: str, account_id: str, *, sealer: Sealer) -> str:
    """Return the JSON of a denial that this account may know of; raise InvalidAuthorizationMessage."""
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
    """Return what was packed here; what follows the end of the packed stream is padding."""
    inflate = zlib.decompressobj()
    try:
        found: Message = json.loads(inflate.decompress(packed, _LARGEST))
    except (zlib.error, ValueError) as error:  # sealed by an older version
        raise TokenUnreadable("of another form") from error
    return found


def _messages(found: Explanation, account_id: str) -> Iterator[Message]:
    """Yield the message, then what remains of it when less and less fits."""
    decision, context = found.decision, found.context
    explicit = decision.decision_type is DecisionType.EXPLICIT_DENY
    own = account_id == context.principal.account_id
    matched = [
        _matched_statement(one.layer, one.statement)
        if own or one.layer in _RESOURCE_SIDE
        else {"effect": one.statement.effect.value.upper(), "policyType": one.layer}
        for one in decision.statements
    ]
    missing_grants = [] if explicit else found.missing_grants
    layers = [{"layer": one.layer} for one in missing_grants]
    failures = [
        missing_grant_json(one) if own or one.layer in _RESOURCE_SIDE else {"layer": one.layer}
        for one in missing_grants
    ]
    bare = {"allowed": decision.allowed, "explicitDeny": explicit}
    whole = {**bare, "matchedStatements": _items(matched), "failures": _items(failures)}
    yield {**whole, "context": _context(context, context.keys if own else _keys_of_resource_policy(found))}
    yield {**whole, "context": _context(context, {})}
    yield {**bare, "matchedStatements": _items([]), "failures": _items(layers), "context": _context(context, {})}
    yield bare


# Whose policies these are, where caller and resource have two accounts.
_RESOURCE_SIDE = frozenset({TRUST, RESOURCE})


def _keys_of_resource_policy(found: Explanation) -> Mapping[str, tuple[str, ...]]:
    """Return the condition keys about which the resource's own policy asks."""
    own = [read.statement for layer in found.layers if layer.layer in _RESOURCE_SIDE for read in layer.statements]
    names = [name.lower() for name in context_keys_in(own, VERSION_WITH_VARIABLES)]
    return {name: found.context.keys[name] for name in names if name in found.context.keys}


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
        "principals": _values(one.text for one in statement.principals),
        "principalGroups": _items([]),
        "actions": _values(statement.actions),
        "resources": _values(statement.resources),
        "conditions": _items({"key": one.name, "values": _values(one.values)} for one in statement.conditions),
        "policyType": layer,
        "policy": statement.policy,
    }


def _values(values: Iterable[str]) -> Message:
    return _items({"value": value[:_LONGEST_VALUE]} for value in values)


def _items(found: Iterable[Message]) -> Message:
    return {"items": list(found)}
