"""The identity providers of some accounts: whom they prove, with which certificates, and since when."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Row, func, select

from iam.arn import iam_arn
from iam.inventory.pagination import Page, PageRequest, query_page
from iam.saml.metadata import IdpMetadata, InvalidMetadata, SigningCertificate, parse_metadata
from iam.store.schema import oidc_provider, saml_provider, sign_in_client

_SAML, _OIDC, _CLIENT = saml_provider.c, oidc_provider.c, sign_in_client.c
_KEPT = 256  # metadata documents that are kept parsed: what a text means never changes


@dataclass(frozen=True, slots=True)
class SamlProvider:
    """A SAML provider; ``error`` is why its metadata could not be fetched or read, empty where nothing is wrong.

    ``updated`` and ``refresh_at`` are in milliseconds; who has no ``metadata_url`` is never fetched anew.
    """

    account_id: str
    name: str
    arn: str
    entity_id: str
    certificates: tuple[SigningCertificate, ...]
    valid_until: datetime | None
    updated: int
    metadata_url: str | None
    refresh_at: int | None
    error: str

    @property
    def door(self) -> str:
        """Return where people sign in through it."""
        return f"/saml/{self.account_id}/{self.name}/login"


@dataclass(frozen=True, slots=True)
class OidcProvider:
    """An OpenID Connect provider; ``door`` is where people sign in through it, None where they do not."""

    account_id: str
    url: str
    arn: str
    client_ids: tuple[str, ...]
    created: int
    door: str | None
    door_name: str | None

    @property
    def issuer(self) -> str:
        """Return the issuer as tokens name it."""
        return f"https://{self.url}"


def saml_providers(tx: Connection, page_request: PageRequest) -> Page[SamlProvider]:
    """Return a page of SAML providers; a word may be in the name, the account or the metadata."""
    query = select(saml_provider).where(_SAML.account_id.in_(page_request.accounts))
    found = query_page(
        tx,
        query.order_by(_SAML.account_id, _SAML.name_key),
        page_request,
        lambda word: (
            _SAML.name_key.contains(word, autoescape=True),
            func.lower(_SAML.metadata).contains(word, autoescape=True),
            _SAML.account_id == word,
        ),
    )
    return Page(tuple(map(_saml, found.rows)), found.found, found.page, found.query)


def all_saml_providers(tx: Connection, accounts: tuple[str, ...]) -> Iterator[SamlProvider]:
    """Yield every SAML provider of some accounts, by account and name."""
    query = select(saml_provider).where(_SAML.account_id.in_(accounts)).order_by(_SAML.account_id, _SAML.name_key)
    return map(_saml, tx.execute(query).all())


def oidc_providers(tx: Connection, page_request: PageRequest) -> Page[OidcProvider]:
    """Return a page of OpenID Connect providers; a word may be in the issuer, a client's id or the account."""
    query = select(oidc_provider, _CLIENT.name.label("door_name"))
    query = query.select_from(oidc_provider.outerjoin(sign_in_client)).where(
        _OIDC.account_id.in_(page_request.accounts)
    )
    found = query_page(
        tx,
        query.order_by(_OIDC.account_id, _OIDC.url_key),
        page_request,
        lambda word: (
            _OIDC.url_key.contains(word, autoescape=True),
            func.lower(_OIDC.client_ids).contains(word, autoescape=True),
            _OIDC.account_id == word,
        ),
    )
    return Page(tuple(map(_oidc, found.rows)), found.found, found.page, found.query)


def _oidc(row: Row[Any]) -> OidcProvider:
    arn = iam_arn(row.account_id, "oidc-provider/", row.url, "")
    door = f"/oidc/{row.id}/login" if row.door_name is not None else None
    clients = tuple(json.loads(row.client_ids))
    return OidcProvider(row.account_id, row.url, arn, clients, row.created, door, row.door_name)


def _saml(row: Row[Any]) -> SamlProvider:
    arn = iam_arn(row.account_id, "saml-provider/", row.name, "")
    found = _metadata(row.metadata)
    about = ("", (), None) if isinstance(found, str) else (found.entity_id, found.certificates, found.valid_until)
    wrong = found if isinstance(found, str) else row.refresh_error or ""
    return SamlProvider(row.account_id, row.name, arn, *about, row.updated, row.metadata_url, row.refresh_at, wrong)


@lru_cache(maxsize=_KEPT)
def _metadata(text: str) -> IdpMetadata | str:
    try:
        return parse_metadata(text.encode())
    except InvalidMetadata as error:
        return str(error)
