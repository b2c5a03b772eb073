"""OpenID Connect providers, whose tokens can assume roles of an account.

Source: IAM API Reference, CreateOpenIDConnectProvider. An issuer's certificate is verified with the certificate
authorities of this installation. Thumbprints are stored and returned, but not used.
"""

import json
import re
from typing import Any

from sqlalchemy import Row, delete, func, select, update
from sqlalchemy.exc import IntegrityError

from iam.arn import OIDC_PROVIDER, iam_arn, name_from_arn, unique_id
from iam.call import Call, Params, Result
from iam.clock import from_milliseconds, to_milliseconds
from iam.errors import (
    EntityAlreadyExists,
    IDPCommunicationError,
    InvalidInput,
    LimitExceeded,
    NoSuchEntity,
    NotImplementedHere,
    OpenIdIdpCommunicationError,
)
from iam.operations.federation.issuer_urls import canonical_issuer, other_spellings, parse_issuer_url
from iam.operations.required_permission import ContextKeys, Preparation, RequiredPermission, request_tag_keys
from iam.operations.resource_tags import resource_tag_keys
from iam.store.schema import oidc_provider, sign_in_client
from iam.store.tags import delete_tags, put_tags, tags_of

Provider = Row[Any]

_KIND = "oidc-provider/"
_COLUMNS = oidc_provider.c
_MOST_CLIENTS, _MOST_THUMBPRINTS = 100, 5
_THUMBPRINT = re.compile(r"[0-9A-Fa-f]{40}", re.ASCII)
_NOT_IMPLEMENTED = ("ContextProvider", "IdentityCenterInstanceArn")


# --- permissions ------------------------------------------------------------------------------------------------------


def on_new_provider(call: Call, p: Params) -> RequiredPermission:
    """Require permission on the provider to be created."""
    return _permission(iam_arn(call.account_id, _KIND, p["Url"].removeprefix("https://"), ""), request_tag_keys(p))


def on_provider(call: Call, p: Params) -> RequiredPermission:
    """Require permission on the provider with this ARN; only tags of the account's own providers are read."""
    provider = _find_or_none(call, p["OpenIDConnectProviderArn"])
    keys = (resource_tag_keys(call.tx, provider.id) if provider else {}) | request_tag_keys(p)
    return _permission(p["OpenIDConnectProviderArn"], keys)


def _permission(arn: str, keys: ContextKeys) -> RequiredPermission:
    """Require permission on a provider; an explicit deny of another spelling of its URL holds as well."""
    prefix, kind, url = arn.partition(f":{_KIND}")
    spellings = tuple(f"{prefix}{kind}{spelling}" for spelling in other_spellings(url)) if kind else ()
    return RequiredPermission(arn, keys, spellings=spellings)


def on_providers(call: Call, _p: Params) -> RequiredPermission:
    """Require permission on all providers of the account."""
    return RequiredPermission(iam_arn(call.account_id, _KIND, "*", ""))


def contact_issuer(preparation: Preparation, p: Params) -> None:
    """Contact the issuer of a new provider, as AWS does where no thumbprint is given; by setting.

    Raise OpenIdIdpCommunicationError, ValidationError.
    """
    url = parse_issuer_url(p["Url"])
    if preparation.contact_issuer is None or p.get("ThumbprintList"):
        return
    try:
        preparation.contact_issuer(f"https://{url}")
    except IDPCommunicationError as error:
        raise OpenIdIdpCommunicationError(
            "The request failed because IAM cannot connect to the OpenID Connect identity provider URL.", log=error.log
        ) from error


# --- operations -------------------------------------------------------------------------------------------------------


def create_oidc_provider(call: Call, p: Params) -> Result:
    """Create a provider; raise ValidationError, InvalidInput, EntityAlreadyExists, LimitExceeded."""
    for name in _NOT_IMPLEMENTED:
        if name in p:
            raise NotImplementedHere(f"{name} is not built yet.")
    url = parse_issuer_url(p["Url"])
    clients = _clients(p.get("ClientIDList", ()))
    thumbprints = _thumbprints(p.get("ThumbprintList", ()))
    quota = call.limits.oidc_providers_per_account
    count = select(func.count()).select_from(oidc_provider).where(_COLUMNS.account_id == call.account_id)
    if (call.tx.scalar(count) or 0) >= quota:
        raise LimitExceeded(f"Cannot exceed quota for OpenIdConnectProvidersPerAccount: {quota}")
    provider_id = unique_id(OIDC_PROVIDER, call.random)
    row = {
        "id": provider_id,
        "account_id": call.account_id,
        "url": url,
        "url_key": canonical_issuer(url).lower(),  # two spellings of one issuer are one provider
        "client_ids": json.dumps(clients),
        "thumbprints": json.dumps(thumbprints),
        "created": to_milliseconds(call.now),
        "use_once": False,
    }
    try:
        call.tx.execute(oidc_provider.insert().values(row))
    except IntegrityError as error:  # the unique index decides between simultaneous requests
        raise EntityAlreadyExists(f"Provider with url https://{url} already exists.") from error
    put_tags(call.tx, provider_id, p.get("Tags", ()), call.limits)
    tags = tags_of(call.tx, provider_id)
    arn = iam_arn(call.account_id, _KIND, url, "")
    return {"OpenIDConnectProviderArn": arn} | ({"Tags": tags} if tags else {})


def get_oidc_provider(call: Call, p: Params) -> Result:
    """Return a provider; as in AWS, its URL is without https://."""
    provider = _find(call, p)
    return {
        "Url": provider.url,
        "ClientIDList": json.loads(provider.client_ids),
        "ThumbprintList": json.loads(provider.thumbprints),
        "CreateDate": from_milliseconds(provider.created),
        "Tags": tags_of(call.tx, provider.id),
    }


def list_oidc_providers(call: Call, _p: Params) -> Result:
    """Return all providers of the account."""
    query = select(oidc_provider).where(_COLUMNS.account_id == call.account_id).order_by(_COLUMNS.url_key)
    return {"OpenIDConnectProviderList": [{"Arn": arn_of(row)} for row in call.tx.execute(query)]}


def delete_oidc_provider(call: Call, p: Params) -> Result:
    """Delete a provider; as in AWS, a missing one is ignored."""
    provider = _find_or_none(call, p["OpenIDConnectProviderArn"])
    if provider is not None:
        delete_tags(call.tx, provider.id)
        call.tx.execute(delete(sign_in_client).where(sign_in_client.c.provider_id == provider.id))
        call.tx.execute(delete(oidc_provider).where(_COLUMNS.id == provider.id))
    return {}


def add_client_id(call: Call, p: Params) -> Result:
    """Add a client id; an existing one is ignored."""
    provider = _find(call, p)
    clients = json.loads(provider.client_ids)
    if p["ClientID"] not in clients:
        _change(call, provider, client_ids=json.dumps(_clients([*clients, p["ClientID"]])))
    return {}


def remove_client_id(call: Call, p: Params) -> Result:
    """Remove a client id; a missing one is ignored."""
    provider = _find(call, p)
    clients = [client_id for client_id in json.loads(provider.client_ids) if client_id != p["ClientID"]]
    _change(call, provider, client_ids=json.dumps(clients))
    return {}


def update_thumbprints(call: Call, p: Params) -> Result:
    """Replace the thumbprints."""
    _change(call, _find(call, p), thumbprints=json.dumps(_thumbprints(p["ThumbprintList"])))
    return {}


def find_provider(call: Call, p: Params) -> Provider:
    """Return the provider that OpenIDConnectProviderArn names; raise NoSuchEntity."""
    return _find(call, p)


# --- parsing and rows--------------------------------------------------------------------------------------------------


def arn_of(row: Provider) -> str:
    """Return the ARN of a provider."""
    return iam_arn(row.account_id, _KIND, row.url, "")


def _clients(given: Any) -> list[str]:  # noqa: ANN401 - a list of texts, as the model says
    clients = list(dict.fromkeys(given))
    if len(clients) > _MOST_CLIENTS:
        raise LimitExceeded(f"Cannot exceed quota for ClientIdsPerOpenIdConnectProvider: {_MOST_CLIENTS}")
    return clients


def _thumbprints(given: Any) -> list[str]:  # noqa: ANN401 - as above
    thumbprints = list(given)
    if len(thumbprints) > _MOST_THUMBPRINTS:
        raise InvalidInput(f"Thumbprint list must contain at most {_MOST_THUMBPRINTS} entries.")
    if not all(map(_THUMBPRINT.fullmatch, thumbprints)):
        raise InvalidInput("A thumbprint must have 40 hexadecimal digits: the SHA-1 of a certificate.")
    return thumbprints


def _change(call: Call, row: Provider, **values: object) -> None:
    call.tx.execute(update(oidc_provider).where(_COLUMNS.id == row.id).values(values))


def _find(call: Call, p: Params) -> Provider:
    provider = _find_or_none(call, p["OpenIDConnectProviderArn"])
    if provider is None:
        raise NoSuchEntity(f"OpenIDConnect Provider not found for arn {p['OpenIDConnectProviderArn']}")
    return provider


def _find_or_none(call: Call, text: str) -> Provider | None:
    url = name_from_arn(text, call.account_id, _KIND)
    if url is None:
        return None
    matches = (_COLUMNS.account_id == call.account_id, _COLUMNS.url == url)
    return call.tx.execute(select(oidc_provider).where(*matches)).one_or_none()
