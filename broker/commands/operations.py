"""``fedgate operations``: which operations of the API are implemented."""

import click

from broker.api import model
from broker.commands.output import json_option, print_json, print_table
from iam.operations import OPERATIONS as IAM
from sts.operations import OPERATIONS as STS


@click.command()
@click.option("--missing", is_flag=True, help="List only those that are not implemented.")
@json_option
def operations(*, missing: bool, as_json: bool) -> None:
    """List the operations of STS and IAM, and which are implemented."""
    implemented = {("iam", name) for name in IAM} | {("sts", name) for name in STS}
    known = sorted((operation.service, operation.name) for operation in model.load_models().operations())
    shown = [operation for operation in known if not missing or operation not in implemented]
    if as_json:
        print_json(
            [{"service": service, "name": name, "built": (service, name) in implemented} for service, name in shown]
        )
    else:
        rows = [(service, name, "yes" if (service, name) in implemented else "no") for service, name in shown]
        title = f"{len(implemented)} of {len(known)} operations are implemented"
        print_table(["service", "operation", "implemented"], rows, title=title)
