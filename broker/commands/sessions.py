"""``fedgate sessions``: who is signed in, and ending it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import click
from redis.exceptions import RedisError

from broker.commands.operator_audit import audited_change
from broker.commands.options import installation_options, load_settings
from broker.commands.output import format_time, json_option, print_fields, print_json, print_table
from broker.config.settings import Settings
from broker.wiring import now, open_live_sessions, open_store
from iam.accounts import list_accounts
from iam.clock import to_milliseconds
from iam.store.store import Store, revoke
from sts.store.sessions import LiveSession


class Revocation(NamedTuple):
    """What to refuse: kind and subject as the revocation table has them."""

    kind: str
    subject: str


@dataclass(frozen=True, slots=True)
class ListedSessions:
    """The sessions that Redis lists; ``away`` says why there are none where it cannot be asked.

    ``last_used`` has the milliseconds of a session's last use by its id, where there was one.
    """

    sessions: tuple[LiveSession, ...]
    redis_error: str = ""
    last_used: Mapping[str, int] = field(default_factory=dict)


@click.group()
def sessions() -> None:
    """List and revoke sessions."""


@sessions.command("list")
@click.option("--account", "account_id", help="Only this account's.")
@installation_options
@json_option
def list_(account_id: str | None, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """List the sessions that have not expired."""
    settings = load_settings(config, data)
    with closing(open_store(settings)) as store:
        live = _list_sessions(settings, store, account_id)
    if live.redis_error:
        raise click.ClickException(f"Redis lists the sessions and does not answer: {live.redis_error}")
    if as_json:
        print_json([one._asdict() | {"last_used": live.last_used.get(one.id)} for one in live.sessions])
        return
    columns = ["session", "principal", "person", "from", "made by", "last used", "expires"]
    print_table(columns, [_row(one, live.last_used.get(one.id)) for one in live.sessions])


def _row(one: LiveSession, last_used: int | None) -> tuple[str, ...]:
    used = "never" if last_used is None else format_time(last_used)
    return one.id, one.arn, one.person, one.source_ip, one.made_by, used, format_time(one.expires_at)


@sessions.command("revoke")
@click.argument("session_id", required=False)
@click.option("--person", help="PROVIDER|SUBJECT as the list shows it, or the name that somebody signed in with.")
@click.option("--role", help="The ARN of a role.")
@click.option("--account", "account_id", help="A whole account.")
@installation_options
@json_option
def revoke_(  # noqa: PLR0913 - one argument for each thing that can be revoked
    session_id: str | None,
    person: str | None,
    role: str | None,
    account_id: str | None,
    config: Path | None,
    data: Path | None,
    *,
    as_json: bool,
) -> None:
    """Refuse one session, or all that a person, a role or an account has now.

    New sessions may be begun afterwards: to prevent that, change the directory, the trust policy or the role.
    """
    chosen = {"SESSION_ID": session_id, "--person": person, "--role": role, "--account": account_id}
    given = [name for name, value in chosen.items() if value]
    if len(given) != 1:
        raise click.UsageError("Give exactly one of " + ", ".join(chosen))
    settings = load_settings(config, data)
    with closing(open_store(settings)) as store:
        live = _list_sessions(settings, store, None)
        cuts = _revocations(store, live, session_id=session_id, person=person, role=role, account_id=account_id)
        at = to_milliseconds(now())
        with audited_change(settings, store, "RevokeSessions") as change:
            for revocation in cuts:
                revoke(change.tx, revocation.kind, revocation.subject, at, at)
            change.account_id, change.parameters = (
                account_id,
                {"revoked": [revocation._asdict() for revocation in cuts]},
            )
        ended = _forget(settings, live.sessions, cuts)
    if as_json:
        print_json({"revoked": [revocation._asdict() for revocation in cuts], "ended": ended})
    else:
        print_fields(
            {f"revoked {revocation.kind}": revocation.subject for revocation in cuts} | {"sessions ended": len(ended)}
        )


def _revocations(
    store: Store,
    live: ListedSessions,
    *,
    session_id: str | None,
    person: str | None,
    role: str | None,
    account_id: str | None,
) -> Sequence[Revocation]:
    if session_id:
        return [Revocation("session", session_id)]
    if person:
        return [Revocation("person", subject) for subject in _resolve_person(live, person)]
    if role:
        record = store.role(role)
        if record is None:
            raise click.ClickException(f"There is no role {role}.")
        return [Revocation("role", record.id)]
    if account_id is None or store.account(account_id) is None:
        raise click.ClickException(f"There is no account {account_id}.")
    return [Revocation("account", account_id)]


def _resolve_person(live: ListedSessions, named: str) -> list[str]:
    """Return the one person that is meant: by provider and subject, or by the name at the end of a session's ARN."""
    if "|" in named:
        return [named]
    # The same characters that a session's name loses.
    name = re.sub(r"[^\w+=,.@-]", "-", named, flags=re.ASCII)
    found = sorted({one.person for one in live.sessions if one.arn.rpartition("/")[2] == name})
    if not found:
        why = f"Redis does not answer: {live.redis_error}" if live.redis_error else "nobody by that name has a session"
        raise click.ClickException(f"{why}. Give PROVIDER|SUBJECT, as the audit log has it.")
    if len(found) > 1:
        raise click.ClickException("Several people go by that name; give one of: " + ", ".join(found))
    return found


def _list_sessions(settings: Settings, store: Store, account_id: str | None) -> ListedSessions:
    at = to_milliseconds(now())
    listing = open_live_sessions(settings.redis_url)
    with store.read() as tx:
        accounts = [account_id] if account_id else [one.id for one in list_accounts(tx)]
    found: list[LiveSession] = []
    last_used: dict[str, int] = {}
    try:
        for one in accounts:
            of_account = list(listing.list_live(one, at))
            found += of_account
            last_used |= listing.last_used(one, [session.id for session in of_account])
    except RedisError as error:
        return ListedSessions((), str(error))
    return ListedSessions(tuple(found), last_used=last_used)


def _forget(settings: Settings, live: Iterable[LiveSession], cuts: Sequence[Revocation]) -> list[str]:
    """Take what was revoked off the list; it is refused whether or not that works."""
    gone = [one for one in live if _is_revoked(one, cuts)]
    try:
        open_live_sessions(settings.redis_url).remove(gone)
    except RedisError as error:
        click.echo(f"Refused from now on, but still listed: Redis does not answer: {error}", err=True)
    return [one.id for one in gone]


def _is_revoked(one: LiveSession, cuts: Sequence[Revocation]) -> bool:
    subjects = {("session", one.id), ("person", one.person), ("role", one.entity_id), ("account", one.account_id)}
    return any(revocation in subjects for revocation in cuts)
