"""``fedgate saml``: manages SAML identity providers and the keys of the service provider, and tests responses."""

import click

from broker.commands.federation.saml.providers import add, list_, refresh, remove, set_, show, sign_in
from broker.commands.federation.saml.response import test
from broker.commands.federation.saml.service_keys import keys, remove_key, rotate_key


@click.group()
def saml() -> None:
    """Manage SAML identity providers.

    Each has its own service provider here; `show` prints the values to enter at the identity provider.
    """


for _command in (add, set_, sign_in, remove, list_, show, refresh, test, keys, rotate_key, remove_key):
    saml.add_command(_command)
