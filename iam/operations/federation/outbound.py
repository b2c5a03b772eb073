"""Outbound web identity federation: the token issuer of an account, whose tokens external services can verify.

Source: IAM API Reference, EnableOutboundWebIdentityFederation.
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
    """Require permission on ``*``."""
    return RequiredPermission("*")


def enable(call: Call, _p: Params) -> Result:
    """Enable the feature and return the issuer URL, which never changes; raise FeatureEnabled."""
    issuer = _row(call)
    if issuer is not None and issuer.enabled:
        raise FeatureEnabled("Outbound web identity federation is already enabled for the account.")
    if issuer is None:
        row = {
            "account_id": call.account_id,
            "id": str(uuid.UUID(bytes=call.random(16), version=4)),
            "enabled": True,
            "created": to_milliseconds(call.now),
        }
        call.tx.execute(outbound_issuer.insert().values(row))
    else:
        call.tx.execute(_update_row(call).values(enabled=True))
    return {"IssuerIdentifier": _address(call)}


def disable(call: Call, _p: Params) -> Result:
    """Disable the feature; tokens already issued can be verified until they expire. Raise FeatureDisabled."""
    issuer = _row(call)
    if issuer is None or not issuer.enabled:
        raise FeatureDisabled(_DISABLED)
    call.tx.execute(_update_row(call).values(enabled=False))
    return {}


def info(call: Call, _p: Params) -> Result:
    """Return the issuer URL; raise FeatureDisabled if the feature was never enabled."""
    issuer = _row(call)
    if issuer is None:
        raise FeatureDisabled(_DISABLED)
    return {"IssuerIdentifier": _address(call), "JwtVendingEnabled": issuer.enabled}


def issuer_address(public_url: str, issuer_id: str) -> str:
    """Return the issuer URL of an account: the iss claim of its tokens."""
    return f"{public_url}/issuer/{issuer_id}"


def _address(call: Call) -> str:
    issuer = _row(call)
    return issuer_address(call.public_url, issuer.id if issuer is not None else "")


def _update_row(call: Call) -> Any:  # noqa: ANN401 - an update of the row
    return update(outbound_issuer).where(_COLUMNS.account_id == call.account_id)


def _row(call: Call) -> Row[Any] | None:
    return call.tx.execute(select(outbound_issuer).where(_COLUMNS.account_id == call.account_id)).one_or_none()
