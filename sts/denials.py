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
from iam.policy.decide import RequestContext, Why
from iam.policy.explain import Explanation, need_json
from iam.policy.statement import Statement
from sts.token import Sealer, TokenUnreadable

# Takes the place of the access key id in the envelope, so that a message never opens as a session token, nor the
# reverse.
_PURPOSE = "authorization-message"
_UNTELLING = 1536  # bytes, packed, of a message whose length must not tell what is in it
_LARGEST = 256 * 1024  # bytes of any message, unpacked

_INVALID = "The specified authorization message is invalid."

Message = dict[str, Any]


def encode(found: Explanation, account_id: str, *, untelling: bool, sealer: Sealer, random: Random) -> str:
    """Return a denial as a text that is opaque to the caller; those of the account who may, read it.

    ``untelling``: all such texts have one length, so that it does not tell whether a role exists (THREATS B09); what
    does not fit is left out, context first.
    """
    messages = ({"account": account_id, "message": message} for message in _messages(found))
    packed = map(_packed, messages)
    plain = (
        next(one for one in packed if len(one) <= _UNTELLING).ljust(_UNTELLING, b"\0") if untelling else next(packed)
    )
    return sealer.seal(plain, _PURPOSE, random)


def decode(encoded: str, account_id: str, *, sealer: Sealer) -> str:
    """Return the JSON of a denial that this account may know of; raise InvalidAuthorizationMessage."""
    try:
        opened = _unpacked(sealer.open(encoded, _PURPOSE))
    except TokenUnreadable as error:
        raise InvalidAuthorizationMessage(_INVALID, log=str(error)) from error
    if opened["account"] != account_id:
        raise InvalidAuthorizationMessage(_INVALID, log="of another account")
    return json.dumps(opened["message"], separators=(",", ":"))


def _packed(message: Message) -> bytes:
    return zlib.compress(json.dumps(message, separators=(",", ":")).encode(), level=6)


def _unpacked(packed: bytes) -> Message:
    """Return what was packed here; what follows the end of the packed stream is padding."""
    inflate = zlib.decompressobj()
    try:
        found: Message = json.loads(inflate.decompress(packed, _LARGEST))
    except (zlib.error, ValueError) as error:  # sealed by an older version
        raise TokenUnreadable("of another form") from error
    return found


def _messages(found: Explanation) -> Iterator[Message]:
    """Yield the message, then what remains of it when less and less fits."""
    decision, context = found.decision, found.context
    explicit = decision.why is Why.EXPLICIT_DENY
    matched = [_matched(one.layer, one.statement) for one in decision.statements]
    failures = [] if explicit else [need_json(one) for one in found.needed]
    bare = {"allowed": decision.allowed, "explicitDeny": explicit}
    whole = {**bare, "matchedStatements": _items(matched), "failures": _items(failures)}
    yield {**whole, "context": _context(context, context.keys)}
    yield {**whole, "context": _context(context, {})}
    layers = [{"layer": one.layer} for one in found.needed] if failures else []
    yield {**bare, "matchedStatements": _items([]), "failures": _items(layers), "context": _context(context, {})}
    yield bare


def _context(context: RequestContext, keys: Mapping[str, tuple[str, ...]]) -> Message:
    principal = context.principal
    return {
        "principal": {"id": principal.user_id, "name": principal.name, "arn": principal.arn},
        "action": context.action,
        "resource": context.resource,
        "conditions": _items({"key": key, "values": _values(values)} for key, values in sorted(keys.items())),
    }


def _matched(layer: str, statement: Statement) -> Message:
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
    return _items({"value": value} for value in values)


def _items(found: Iterable[Message]) -> Message:
    return {"items": list(found)}
