"""``fedgate second-factor``: what people prove themselves with besides a password, and a new start where it is lost."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from broker.commands.operator_audit import audited_change
from broker.commands.options import installation_options, load_settings
from broker.commands.output import format_time, json_option, print_fields, print_json, print_table
from broker.wiring import open_store
from iam.arn import parse_arn
from iam.credentials import factors
from iam.credentials.factors import Factor
from iam.credentials.person_id import iam_person_id, iam_subject
from iam.store.store import Store

_NAMED = "PROVIDER|SUBJECT as the audit log has it, or the ARN of a user or of an account's root."


@click.group("second-factor")
def second_factor() -> None:
    """List and reset the second factors of people."""


@second_factor.command("list")
@click.option("--person", help=_NAMED)
@installation_options
@json_option
def list_(person: str | None, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """List the second factors of one person, or of all."""
    with closing(open_store(load_settings(config, data))) as store:
        named = _person(store, person) if person else ""
        with store.read() as tx:
            found = factors.factors_of(tx, named) if named else factors.all_factors(tx)
    if as_json:
        print_json(_facts(found))
        return
    rows = [(one.person, one.kind, one.name, format_time(one.created), _used(one)) for one in found]
    print_table(["person", "kind", "name", "added", "last used"], rows)


@second_factor.command()
@click.option("--person", required=True, help=_NAMED)
@installation_options
@json_option
def reset(person: str, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """Delete all second factors and recovery codes of a person who has lost them.

    Be sure who asks: until the person sets up another one, the password alone lets in. Whoever must have one is asked
    for it at the next sign-in. Sessions go on; `fedgate sessions revoke --person` ends them.
    """
    settings = load_settings(config, data)
    with closing(open_store(settings)) as store:
        named = _person(store, person)
        with audited_change(settings, store, "ResetSecondFactors") as change:
            gone = factors.reset_factors(change.tx, named)
            change.account_id = _account(store, named)
            change.parameters = {"person": named, "factors": [one.id for one in gone]}
    if as_json:
        print_json({"person": named, "removed": _facts(gone)})
    else:
        print_fields({"person": named, "factors removed": len(gone)})


def _person(store: Store, named: str) -> str:
    if "|" in named:
        return named
    user, arn = store.user_by_arn(named), parse_arn(named)
    if user is not None:
        return iam_person_id(user.account_id, user.id)
    if arn is not None and arn.resource == "root" and store.account(arn.account) is not None:
        return iam_person_id(arn.account, None)
    raise click.ClickException(f"There is nobody called {named}: give {_NAMED}")


def _account(store: Store, person: str) -> str | None:
    """Return the account of a user or root; None for people from elsewhere and for who is gone."""
    subject = iam_subject(person) or ""
    user = store.user(subject)
    return user.account_id if user else subject if store.account(subject) else None


def _facts(found: Sequence[Factor]) -> list[dict[str, Any]]:
    return [asdict(one) for one in found]


def _used(one: Factor) -> str:
    return "never" if one.last_used is None else format_time(one.last_used)
