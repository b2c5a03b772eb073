"""The issuer of an account: whether its people and programs may get tokens that others can verify.

Source: IAM API Reference, EnableOutboundWebIdentityFederation and its kin.
"""

import uuid
from typing import Any

from sqlalchemy import Row, select, update

from iam.call import Call, Params, Result
from iam.clock import to_milliseconds
from iam.errors import FeatureDisabled, FeatureEnabled
from iam.operations.required_permission import RequiredPermission
from iam.store.schema import outbound_issuer

_COLUMNS = outbound_issuer.c
_DISABLED = "Outbound web identity federation is not enabled for the account."


def on_account(_call: Call, _p: Params) -> RequiredPermission:
    """Ask about the account as a whole."""
    return RequiredPermission("*")


def enable(call: Call, _p: Params) -> Result:
    """Enable it and return the issuer's address, which is the same ever after; raise FeatureEnabled."""
    found = _row(call)
    if found is not None and found.enabled:
        raise FeatureEnabled("Outbound web identity federation is enabled for the account already.")
    if found is None:
        row = {
            "account_id": call.account_id,
            "id": str(uuid.UUID(bytes=call.random(16), version=4)),
            "enabled": True,
            "created": to_milliseconds(call.now),
        }
        call.tx.execute(outbound_issuer.insert().values(row))
    else:
        call.tx.execute(_mine(call).values(enabled=True))
    return {"IssuerIdentifier": _address(call)}


def disable(call: Call, _p: Params) -> Result:
    """Disable it: no new tokens; those that were issued can be verified until they expire. Raise FeatureDisabled."""
    found = _row(call)
    if found is None or not found.enabled:
        raise FeatureDisabled(_DISABLED)
    call.tx.execute(_mine(call).values(enabled=False))
    return {}


def info(call: Call, _p: Params) -> Result:
    """Return the issuer's address; raise FeatureDisabled where it was never enabled."""
    found = _row(call)
    if found is None:
        raise FeatureDisabled(_DISABLED)
    return {"IssuerIdentifier": _address(call), "JwtVendingEnabled": found.enabled}


def issuer_address(public_url: str, issuer_id: str) -> str:
    """Return what tokens of an account call their issuer."""
    return f"{public_url}/issuer/{issuer_id}"


def _address(call: Call) -> str:
    found = _row(call)
    return issuer_address(call.public_url, found.id if found is not None else "")


def _mine(call: Call) -> Any:  # noqa: ANN401 - an update of the row
    return update(outbound_issuer).where(_COLUMNS.account_id == call.account_id)


def _row(call: Call) -> Row[Any] | None:
    return call.tx.execute(select(outbound_issuer).where(_COLUMNS.account_id == call.account_id)).one_or_none()
