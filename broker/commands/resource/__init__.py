"""``fedgate resource``: the services that open to Fedgate's credentials, and who may use them."""

import click

from broker.commands.resource.policies import policy
from broker.commands.resource.requests import test
from broker.commands.resource.resources import list_, show


@click.group()
def resource() -> None:
    """List, show and test the resources of the settings, and set their policies.

    A resource is a service of your own that opens to Fedgate's credentials: a store with the API of Amazon S3, or an
    HTTP API. A reverse proxy in front of it asks Fedgate about each request. docs/reference/settings.md has their
    settings.
    """


for _command in (list_, show, test, policy):
    resource.add_command(_command)
