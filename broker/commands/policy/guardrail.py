"""``fedgate guardrail``: the maximum permissions of a whole account, like a service control policy."""

from contextlib import closing
from pathlib import Path

import click

from broker.commands.operator_audit import audited_change
from broker.commands.options import installation_options, load_settings, read_text_argument
from broker.commands.output import format_time, json_option, print_fields, print_json, print_table
from broker.wiring import now, open_store
from iam import guardrails
from iam.clock import to_milliseconds
from iam.guardrails import Guardrail

_account = click.option("--account", "account_id", required=True, help="The account's id.")


@click.group()
def guardrail() -> None:
    """Set the maximum permissions of an account.

    A guardrail is a policy that limits and grants nothing, like a service control policy of AWS. Where an account has
    guardrails, one of them must allow a request and none may deny it, for every principal of the account including
    root. Guardrails can only be changed with these commands, not through the API.
    """


@guardrail.command("set")
@click.argument("name")
@click.argument("document", metavar="FILE", type=read_text_argument)
@_account
@installation_options
@json_option
def set_(name: str, document: str, account_id: str, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """Set a guardrail from a policy FILE (- for standard input); it replaces a guardrail of the same NAME.

    It takes effect with the next request. Start with an Allow of all actions and a Deny of what nobody may do: a
    guardrail without an Allow denies everything.
    """
    settings = load_settings(config, data)
    with closing(open_store(settings)) as store, audited_change(settings, store, "PutGuardrail") as change:
        new = Guardrail(account_id, name, document, to_milliseconds(now()))
        guardrails.put(change.tx, new, settings.limits)
        change.account_id, change.parameters = account_id, {"name": name, "document": document}
    if as_json:
        print_json({"account_id": account_id, "name": name})
    else:
        print_fields({"account": account_id, "guardrail": name})


@guardrail.command()
@click.argument("name")
@_account
@installation_options
@json_option
def remove(name: str, account_id: str, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """Remove a guardrail; an account without guardrails is limited only by its own policies."""
    settings = load_settings(config, data)
    with closing(open_store(settings)) as store, audited_change(settings, store, "DeleteGuardrail") as change:
        guardrails.remove(change.tx, account_id, name)
        change.account_id, change.parameters = account_id, {"name": name}
    if as_json:
        print_json({"account_id": account_id, "removed": name})
    else:
        print_fields({"account": account_id, "removed": name})


@guardrail.command("list")
@click.option("--account", "account_id", help="Only this account's.")
@installation_options
@json_option
def list_(account_id: str | None, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """List guardrails; --json includes their documents."""
    with closing(open_store(load_settings(config, data))) as store, store.read() as tx:
        guardrail_list = guardrails.list_guardrails(tx, account_id)
    if as_json:
        print_json(
            [{"account_id": item.account_id, "name": item.name, "document": item.document} for item in guardrail_list]
        )
    else:
        rows = [(item.account_id, item.name, format_time(item.created)) for item in guardrail_list]
        print_table(["account", "guardrail", "set"], rows)
