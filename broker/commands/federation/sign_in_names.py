"""The names of identity providers on the sign-in page: given by the operator, and each one given once."""

import click
from sqlalchemy import Connection, select

from iam.store.schema import saml_provider, sign_in_client


def require_free_name(tx: Connection, name: str, provider_id: str) -> None:
    """Raise ClickException where another provider has the name: ``/login?idp=NAME`` must lead to one of them."""
    saml, oidc = saml_provider.c, sign_in_client.c
    taken = (
        *tx.scalars(select(saml.sign_in_name).where(saml.sign_in_name.is_not(None), saml.id != provider_id)),
        *tx.scalars(select(oidc.name).where(oidc.provider_id != provider_id)),
    )
    if name.casefold() in {other.casefold() for other in taken}:
        raise click.ClickException(f"Another provider has the name {name} on the sign-in page: give one with --name.")


def check_name(name: str) -> str:
    """Return a name that a button can show; raise BadParameter."""
    if not name.isprintable() or not 1 <= len(name.strip()) <= _LONGEST_NAME:
        raise click.BadParameter(f"must have 1 to {_LONGEST_NAME} characters", param_hint="--name")
    return name.strip()


_LONGEST_NAME = 64
