"""``fedgate second-factor``: lists second factors, and resets those of a person who has lost them."""

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

_NAMED = "PROVIDER|SUBJECT as in the audit log, or the ARN of an IAM user or a root user."


@click.group("second-factor")
def second_factor() -> None:
    """List and reset second factors."""


@second_factor.command("list")
@click.option("--person", help=_NAMED)
@installation_options
@json_option
def list_(person: str | None, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """List the second factors of one person, or of everybody."""
    with closing(open_store(load_settings(config, data))) as store:
        person_id = _resolve_person(store, person) if person else ""
        with store.read() as tx:
            listed = factors.factors_of(tx, person_id) if person_id else factors.all_factors(tx)
    if as_json:
        print_json(_facts(listed))
        return
    rows = [(factor.person, factor.kind, factor.name, format_time(factor.created), _used(factor)) for factor in listed]
    print_table(["person", "kind", "name", "added", "last used"], rows)


@second_factor.command()
@click.option("--person", required=True, help=_NAMED)
@installation_options
@json_option
def reset(person: str, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """Delete all second factors and recovery codes of a person who has lost them.

    Verify who asks: until the person enrols another factor, the password alone is enough. A person who is required to
    have one enrols it at the next sign-in. Sessions continue; `fedgate sessions revoke --person` ends them.
    """
    settings = load_settings(config, data)
    with closing(open_store(settings)) as store:
        person_id = _resolve_person(store, person)
        with audited_change(settings, store, "ResetSecondFactors") as change:
            removed = factors.reset_factors(change.tx, person_id)
            change.account_id = _account(store, person_id)
            change.parameters = {"person": person_id, "factors": [factor.id for factor in removed]}
    if as_json:
        print_json({"person": person_id, "removed": _facts(removed)})
    else:
        print_fields({"person": person_id, "factors removed": len(removed)})


def _resolve_person(store: Store, named: str) -> str:
    if "|" in named:
        return named
    user, arn = store.user_by_arn(named), parse_arn(named)
    if user is not None:
        return iam_person_id(user.account_id, user.id)
    if arn is not None and arn.resource == "root" and store.account(arn.account) is not None:
        return iam_person_id(arn.account, None)
    raise click.ClickException(f"There is no person {named}: give {_NAMED}")


def _account(store: Store, person: str) -> str | None:
    """Return the account of an IAM user or root user; None for other people and deleted users."""
    subject = iam_subject(person) or ""
    user = store.user(subject)
    return user.account_id if user else subject if store.account(subject) else None


def _facts(listed: Sequence[Factor]) -> list[dict[str, Any]]:
    return [asdict(factor) for factor in listed]


def _used(factor: Factor) -> str:
    return "never" if factor.last_used is None else format_time(factor.last_used)
