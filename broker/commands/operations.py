"""``fedgate operations``: what of the API is built."""

import click

from broker.api import model
from broker.commands.output import json_option, print_json, print_table
from iam.operations import OPERATIONS as IAM
from sts.operations import OPERATIONS as STS


@click.command()
@click.option("--missing", is_flag=True, help="Only those that are not built yet.")
@json_option
def operations(*, missing: bool, as_json: bool) -> None:
    """List the operations of STS and IAM: name, service, built or not."""
    built = {("iam", name) for name in IAM} | {("sts", name) for name in STS}
    all_of_them = sorted((one.service, one.name) for one in model.load_models().operations())
    shown = [one for one in all_of_them if not missing or one not in built]
    if as_json:
        print_json([{"service": one[0], "name": one[1], "built": one in built} for one in shown])
    else:
        rows = [(service, name, "built" if (service, name) in built else "not built") for service, name in shown]
        print_table(["service", "operation", "state"], rows, title=f"{len(built)} of {len(all_of_them)} are built")
