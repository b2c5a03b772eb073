"""The identity providers of several accounts, with their certificates and sign-in URLs."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, or_, select

from iam.arn import iam_arn
from iam.clock import from_milliseconds, to_milliseconds
from iam.inventory.pagination import Page, PageRequest, query_page
from iam.saml.stored_metadata import load_certificates
from iam.store.schema import SAML_PROVIDER_COLUMNS, oidc_provider, saml_provider, sign_in_client

_SAML, _OIDC, _CLIENT = saml_provider.c, oidc_provider.c, sign_in_client.c


@dataclass(frozen=True, slots=True)
class ShownCertificate:
    """A signing certificate of a SAML provider; ``until`` is the end of its validity period."""

    fingerprint: str
    subject: str
    until: datetime


@dataclass(frozen=True, slots=True)
class SamlProvider:
    """A SAML provider; ``error`` says why its metadata could not be fetched or parsed, empty if there was no error.

    ``updated`` and ``refresh_at`` are in milliseconds; without ``metadata_url`` the metadata is not refreshed.
    """

    account_id: str
    name: str
    arn: str
    entity_id: str
    certificates: tuple[ShownCertificate, ...]
    valid_until: datetime | None
    updated: int
    metadata_url: str | None
    refresh_at: int | None
    error: str

    @property
    def door(self) -> str:
        """Return the path of the sign-in page for this provider."""
        return f"/saml/{self.account_id}/{self.name}/login"


@dataclass(frozen=True, slots=True)
class OidcProvider:
    """An OpenID Connect provider; ``door`` is the path of its sign-in page, None without browser sign-in."""

    account_id: str
    url: str
    arn: str
    client_ids: tuple[str, ...]
    created: int
    door: str | None
    door_name: str | None

    @property
    def issuer(self) -> str:
        """Return the issuer as in the iss claim of tokens."""
        return f"https://{self.url}"


def saml_providers(tx: Connection, page_request: PageRequest) -> Page[SamlProvider]:
    """Return a page of SAML providers; the search covers name, account and entity ID."""
    query = select(*SAML_PROVIDER_COLUMNS).where(_SAML.account_id.in_(page_request.accounts))
    result = query_page(
        tx,
        query.order_by(_SAML.account_id, _SAML.name_key),
        page_request,
        lambda word: (
            _SAML.name_key.contains(word, autoescape=True),
            func.lower(_SAML.entity_id).contains(word, autoescape=True),
            _SAML.account_id == word,
        ),
    )
    return Page(tuple(map(_saml, result.rows)), result.found, result.page, result.query)


def saml_providers_to_mend(tx: Connection, accounts: tuple[str, ...], before: datetime) -> Iterator[SamlProvider]:
    """Yield the SAML providers of several accounts of which something ends before a time, or cannot be had."""
    ends = _SAML.first_end < to_milliseconds(before)
    query = select(*SAML_PROVIDER_COLUMNS).where(
        _SAML.account_id.in_(accounts), or_(ends, _SAML.refresh_error.is_not(None), _SAML.parsed.is_(None))
    )
    return map(_saml, tx.execute(query.order_by(_SAML.account_id, _SAML.name_key)).all())


def oidc_providers(tx: Connection, page_request: PageRequest) -> Page[OidcProvider]:
    """Return a page of OpenID Connect providers; the search covers issuer, client ids and account."""
    query = select(oidc_provider, _CLIENT.name.label("door_name"))
    query = query.select_from(oidc_provider.outerjoin(sign_in_client)).where(
        _OIDC.account_id.in_(page_request.accounts)
    )
    result = query_page(
        tx,
        query.order_by(_OIDC.account_id, _OIDC.url_key),
        page_request,
        lambda word: (
            _OIDC.url_key.contains(word, autoescape=True),
            func.lower(_OIDC.client_ids).contains(word, autoescape=True),
            _OIDC.account_id == word,
        ),
    )
    return Page(tuple(map(_oidc, result.rows)), result.found, result.page, result.query)


def _oidc(row: Row[Any]) -> OidcProvider:
    arn = iam_arn(row.account_id, "oidc-provider/", row.url, "")
    door = f"/oidc/{row.id}/login" if row.door_name is not None else None
    clients = tuple(json.loads(row.client_ids))
    return OidcProvider(row.account_id, row.url, arn, clients, row.created, door, row.door_name)


def _saml(row: Row[Any]) -> SamlProvider:
    arn = iam_arn(row.account_id, "saml-provider/", row.name, "")
    certificates = tuple(
        ShownCertificate(fingerprint, subject, from_milliseconds(until))
        for fingerprint, subject, until in load_certificates(row.certificates)
    )
    valid_until = from_milliseconds(row.valid_until) if row.valid_until else None
    error = row.refresh_error or ("" if row.parsed else "The metadata cannot be read.")
    details = row.entity_id or "", certificates, valid_until
    return SamlProvider(row.account_id, row.name, arn, *details, row.updated, row.metadata_url, row.refresh_at, error)
