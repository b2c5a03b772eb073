"""SAML identity providers: SAML providers of an account. Source: IAM API Reference, CreateSAMLProvider.

A provider's private keys decrypt its assertions; they are sealed at rest and never returned.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from sqlalchemy import Connection, Row, delete, func, select, update
from sqlalchemy.exc import IntegrityError

from iam.arn import SAML_KEY, SAML_PROVIDER, iam_arn, name_from_arn, unique_id
from iam.call import Call, Params, Result
from iam.clock import from_milliseconds, to_milliseconds
from iam.errors import (
    EntityAlreadyExists,
    InvalidInput,
    LimitExceeded,
    NoSuchEntity,
    NotImplementedHere,
)
from iam.limits import Limits
from iam.operations.required_permission import Preparation, RequiredPermission, request_tag_keys
from iam.operations.resource_tags import resource_tag_keys
from iam.saml.metadata import IdpMetadata, InvalidMetadata, read_metadata
from iam.saml.stored_metadata import metadata_columns
from iam.store.schema import SAML_PROVIDER_COLUMNS, saml_private_key, saml_provider
from iam.store.tags import delete_tags, put_tags, tags_of

Provider = Row[Any]

_KIND = "saml-provider/"
_COLUMNS = saml_provider.c
_MOST_KEYS = 2  # so that keys can be rotated without interruption
_RSA_BITS = 2048
_CENTURY = timedelta(days=36_524)  # AWS's validity of a provider whose metadata has no validUntil
_NOT_IMPLEMENTED = (
    "ContextProvider",
    "IdentityCenterInstanceArn",
    "RemoveContextProvider",
    "RemoveIdentityCenterInstance",
)


# --- permissions ------------------------------------------------------------------------------------------------------


def on_new_provider(call: Call, p: Params) -> RequiredPermission:
    """Require permission on the provider to be created."""
    return RequiredPermission(iam_arn(call.account_id, _KIND, p["Name"], ""), request_tag_keys(p))


def on_provider(call: Call, p: Params) -> RequiredPermission:
    """Require permission on the provider with this ARN; only tags of the account's own providers are read."""
    provider = _find_or_none(call, p["SAMLProviderArn"])
    return RequiredPermission(
        p["SAMLProviderArn"], (resource_tag_keys(call.tx, provider.id) if provider else {}) | request_tag_keys(p)
    )


def on_providers(call: Call, _p: Params) -> RequiredPermission:
    """Require permission on all providers of the account."""
    return RequiredPermission(iam_arn(call.account_id, _KIND, "*", ""))


# --- operations -------------------------------------------------------------------------------------------------------


def create_saml_provider(call: Call, p: Params) -> Result:
    """Create a provider from its metadata; raise InvalidInput, EntityAlreadyExists, LimitExceeded."""
    _refuse_not_implemented(p)
    document = _document(call, p)
    name, quota = p["Name"], call.limits.saml_providers_per_account
    count = select(func.count()).select_from(saml_provider).where(_COLUMNS.account_id == call.account_id)
    if (call.tx.scalar(count) or 0) >= quota:
        raise LimitExceeded(f"Cannot exceed quota for SAMLProvidersPerAccount: {quota}")
    require_room(call.tx, call.account_id, p["SAMLMetadataDocument"], call.limits)
    at = to_milliseconds(call.now)
    row = {
        "id": unique_id(SAML_PROVIDER, call.random),
        "account_id": call.account_id,
        "name": name,
        "name_key": name.lower(),
        **document,
        "created": at,
        "updated": at,
        "encryption": p.get("AssertionEncryptionMode"),
        "idp_initiated": False,
        "map_by_trust": False,
    }
    try:
        call.tx.execute(saml_provider.insert().values(row))
    except IntegrityError as error:  # the unique index decides between simultaneous requests
        raise EntityAlreadyExists(f"SAMLProvider {name} already exists.") from error
    if "AddPrivateKey" in p:
        _add_key(call, row["id"], p["AddPrivateKey"])
    _check_encryption(call, row["id"], row["encryption"])
    put_tags(call.tx, row["id"], p.get("Tags", ()), call.limits)
    tags = tags_of(call.tx, row["id"])
    return {"SAMLProviderArn": iam_arn(call.account_id, _KIND, name, "")} | ({"Tags": tags} if tags else {})


def get_saml_provider(call: Call, p: Params) -> Result:
    """Return a provider with its metadata, byte for byte as submitted."""
    provider = _find(call, p)
    answer = {
        "SAMLProviderUUID": provider.id,
        "SAMLMetadataDocument": call.tx.scalar(select(_COLUMNS.metadata).where(_COLUMNS.id == provider.id)),
        **_dates(provider),
        "Tags": tags_of(call.tx, provider.id),
        "PrivateKeyList": [
            {"KeyId": key.id, "Timestamp": from_milliseconds(key.created)} for key in _keys(call, provider.id)
        ],
    }
    return answer | ({"AssertionEncryptionMode": provider.encryption} if provider.encryption else {})


def list_saml_providers(call: Call, _p: Params) -> Result:
    """Return all providers of the account, by name."""
    query = select(*SAML_PROVIDER_COLUMNS).where(_COLUMNS.account_id == call.account_id).order_by(_COLUMNS.name_key)
    return {"SAMLProviderList": [{"Arn": arn_of(row), **_dates(row)} for row in call.tx.execute(query)]}


def update_saml_provider(call: Call, p: Params) -> Result:
    """Change a provider's metadata, encryption mode or private keys; omitted parameters change nothing."""
    _refuse_not_implemented(p)
    provider = _find(call, p)
    changed: dict[str, object] = {"updated": to_milliseconds(call.now)}
    if "SAMLMetadataDocument" in p:
        require_room(call.tx, call.account_id, p["SAMLMetadataDocument"], call.limits, replacing=provider.id)
        changed |= _document(call, p)
        # A submitted document turns the automatic refresh off, which would otherwise overwrite it.
        changed |= {"metadata_url": None, "refresh_at": None, "refresh_error": None}
    if "AssertionEncryptionMode" in p:
        changed["encryption"] = p["AssertionEncryptionMode"]
    if "RemovePrivateKey" in p:
        matches = (saml_private_key.c.id == p["RemovePrivateKey"], saml_private_key.c.provider_id == provider.id)
        if not call.tx.execute(delete(saml_private_key).where(*matches)).rowcount:
            raise NoSuchEntity(f"The private key {p['RemovePrivateKey']} cannot be found.")
    if "AddPrivateKey" in p:
        _add_key(call, provider.id, p["AddPrivateKey"])
    _check_encryption(call, provider.id, changed.get("encryption", provider.encryption))
    call.tx.execute(update(saml_provider).where(_COLUMNS.id == provider.id).values(changed))
    return {"SAMLProviderArn": arn_of(provider)}


def delete_saml_provider(call: Call, p: Params) -> Result:
    """Delete a provider; roles that trust it stay, but nobody can assume them through it."""
    provider = _find(call, p)
    call.tx.execute(delete(saml_private_key).where(saml_private_key.c.provider_id == provider.id))
    delete_tags(call.tx, provider.id)
    call.tx.execute(delete(saml_provider).where(_COLUMNS.id == provider.id))
    return {}


def find_provider(call: Call, p: Params) -> Provider:
    """Return the provider that SAMLProviderArn names; raise NoSuchEntity."""
    return _find(call, p)


# --- parsing and rows--------------------------------------------------------------------------------------------------


def parse_metadata_document(text: str, now: datetime) -> IdpMetadata:
    """Return the parsed metadata document; raise InvalidInput."""
    try:
        return read_metadata(text.encode(), now=now)
    except (InvalidMetadata, UnicodeEncodeError) as wrong:
        raise InvalidInput(f"Could not parse metadata: {wrong}") from wrong


def prepare_document(preparation: Preparation, p: Params) -> dict[str, object] | None:
    """Return the columns of the submitted metadata document, parsed in the thread pool; raise InvalidInput."""
    if "SAMLMetadataDocument" not in p:
        return None
    return preparation.run_in_thread_pool(lambda: _parsed_columns(p["SAMLMetadataDocument"], preparation.now))


def _parsed_columns(text: str, now: datetime) -> dict[str, object]:
    return metadata_columns(text, parse_metadata_document(text, now))


def _document(call: Call, p: Params) -> dict[str, object]:
    """Return the columns of the submitted metadata document: as prepared, or parsed now; raise InvalidInput."""
    prepared = call.prepared
    return prepared if isinstance(prepared, dict) else _parsed_columns(p["SAMLMetadataDocument"], call.now)


def require_room(tx: Connection, account_id: str, text: str, limits: Limits, replacing: str = "") -> None:
    """Raise LimitExceeded where an account's metadata documents would be larger together than its quota."""
    others = (_COLUMNS.account_id == account_id, _COLUMNS.id != replacing)
    stored = tx.scalar(select(func.coalesce(func.sum(_COLUMNS.metadata_size), 0)).where(*others)) or 0
    if stored + len(text) > limits.saml_metadata_per_account:
        raise LimitExceeded(f"Cannot exceed quota for SAMLMetadataPerAccount: {limits.saml_metadata_per_account}")


def arn_of(row: Provider) -> str:
    """Return the ARN of a provider."""
    return iam_arn(row.account_id, _KIND, row.name, "")


def _find(call: Call, p: Params) -> Provider:
    provider = _find_or_none(call, p["SAMLProviderArn"])
    if provider is None:
        raise NoSuchEntity(f"Manifest not found for arn {p['SAMLProviderArn']}")
    return provider


def _find_or_none(call: Call, text: str) -> Provider | None:
    name = name_from_arn(text, call.account_id, _KIND)
    if name is None:
        return None
    matches = (_COLUMNS.account_id == call.account_id, _COLUMNS.name == name)
    return call.tx.execute(select(*SAML_PROVIDER_COLUMNS).where(*matches)).one_or_none()


def _dates(row: Provider) -> Result:
    """Return when a provider was created, and until when its metadata is valid."""
    created = from_milliseconds(row.created)
    return {
        "CreateDate": created,
        "ValidUntil": from_milliseconds(row.valid_until) if row.valid_until else created + _CENTURY,
    }


def _keys(call: Call, provider_id: str) -> Sequence[Provider]:
    of_provider = saml_private_key.c.provider_id == provider_id
    return call.tx.execute(select(saml_private_key).where(of_provider).order_by(saml_private_key.c.created)).all()


def _add_key(call: Call, provider_id: str, pem: str) -> None:
    if len(_keys(call, provider_id)) >= _MOST_KEYS:
        raise LimitExceeded(f"Cannot exceed quota for private keys of a SAML provider: {_MOST_KEYS}")
    key_id = unique_id(SAML_KEY, call.random)
    row = {
        "id": key_id,
        "provider_id": provider_id,
        "sealed": call.vault.seal(_private_key(pem), key_id, call.random),
        "created": to_milliseconds(call.now),
    }
    call.tx.execute(saml_private_key.insert().values(row))


def _private_key(pem: str) -> bytes:
    try:
        key = load_pem_private_key(pem.encode("latin-1"), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: the key is encrypted
        raise InvalidInput("The private key cannot be read. It must be PEM without a password.") from error
    if not isinstance(key, RSAPrivateKey) or key.key_size < _RSA_BITS:
        raise InvalidInput(f"The private key must be an RSA key of at least {_RSA_BITS} bits.")
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def _check_encryption(call: Call, provider_id: str, mode: object) -> None:
    if mode is not None and not _keys(call, provider_id):
        raise InvalidInput(f"AssertionEncryptionMode {mode} needs a private key. Add one with AddPrivateKey.")


def _refuse_not_implemented(p: Params) -> None:
    for name in _NOT_IMPLEMENTED:
        if name in p:
            raise NotImplementedHere(f"{name} is not built yet.")
