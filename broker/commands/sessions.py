"""``fedgate sessions``: list and revoke sessions."""

from contextlib import closing
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Final

import click

from broker.audit.operator import current_operator, open_operator_log, operator_record
from broker.commands.options import installation_options, load_settings
from broker.commands.output import format_time, json_option, print_fields, print_json, print_table
from broker.config.settings import Settings
from broker.sessions.revocation import (
    ACCOUNT,
    INSTALLATION,
    PERSON,
    ROLE,
    SESSION,
    ListedSessions,
    RevocationResult,
    RevocationTarget,
    SessionListing,
    SessionRevocation,
    people_named,
)
from broker.wiring import now, open_browser_sessions, open_live_sessions, open_single_use, open_store, random
from iam.errors import ServiceUnavailable
from iam.store.store import Store
from sts.store.sessions import LiveSession

_NAME_THE_PERSON: Final = (
    "Give PROVIDER|SUBJECT, as `fedgate sessions list` and the audit log have it: the name of a role session, which its"
    " caller may choose, is nobody's name."
)
_NO_SUCH_SESSION: Final = (
    "No session of the ID {} is listed: it has ended already, or this is not its ID. Compare `fedgate sessions list`."
    " The ID is refused from now on in any case."
)


@click.group()
def sessions() -> None:
    """List and revoke sessions."""


@sessions.command("list")
@click.option("--account", "account_id", help="List the sessions of one account.")
@installation_options
@json_option
def list_(account_id: str | None, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """List the sessions that have neither expired nor been revoked."""
    settings = load_settings(config, data)
    with closing(open_store(settings)) as store:
        live = _list_sessions(_open_listing(settings, store), account_id)
    if as_json:
        print_json([session.shown() | {"last_used": live.last_used.get(session.id)} for session in live.sessions])
        return
    columns = ["session", "principal", "person", "from", "made by", "last used", "expires"]
    print_table(columns, [_row(session, live.last_used.get(session.id)) for session in live.sessions])


def _row(session: LiveSession, last_used: int | None) -> tuple[str, ...]:
    used, expires = "never" if last_used is None else format_time(last_used), format_time(session.expires_at)
    return session.id, session.arn, session.person, session.source_ip, session.made_by, used, expires


@sessions.command("revoke")
@click.argument("session_id", required=False)
@click.option("--person", help="PROVIDER|SUBJECT as the list shows it, or the name that the person signed in with.")
@click.option("--role", help="The ARN of a role.")
@click.option("--account", "account_id", help="The id or alias of an account.")
@click.option("--all", "everything", is_flag=True, help="Every session of the installation.")
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
    everything: bool,
    as_json: bool,
) -> None:
    """Revoke one session, or all current sessions of a person, a role, an account or the installation.

    New sessions can be started afterwards: to prevent that, change the directory, the trust policy or the role.
    """
    kind, name = _require_one(
        {
            SESSION: session_id,
            PERSON: person,
            ROLE: role,
            ACCOUNT: account_id,
            INSTALLATION: "all" if everything else None,
        }
    )
    settings = load_settings(config, data)
    with closing(open_store(settings)) as store, closing(open_operator_log(settings.audit_dir)) as audit:
        service = SessionRevocation(
            store=store,
            listing=_open_listing(settings, store),
            browser_sessions=open_browser_sessions(settings, open_single_use(store)),
            audit=audit,
            now=now,
            random=random,
        )
        target = _target(service, kind, name)
        record = partial(operator_record, actor=current_operator(), now=now(), random=random)
        result = service.revoke(target, record)
    if kind == SESSION and not result.removed and not result.redis_error:
        raise click.ClickException(_NO_SUCH_SESSION.format(name))
    _print_result(target, result, as_json=as_json)


def _target(service: SessionRevocation, kind: str, name: str) -> RevocationTarget:
    if kind == INSTALLATION:  # named here alone: no page offers it
        return RevocationTarget(INSTALLATION, "")
    return service.resolve(kind, _resolve_person(service, name) if kind == PERSON else name)


def _require_one(arguments: dict[str, str | None]) -> tuple[str, str]:
    """Return kind and name of the only argument that was given; raise UsageError."""
    given = [(kind, name) for kind, name in arguments.items() if name]
    if len(given) != 1:
        raise click.UsageError("Give exactly one of SESSION_ID, --person, --role, --account, --all")
    return given[0]


def _resolve_person(service: SessionRevocation, name: str) -> str:
    """Return a person as PROVIDER|SUBJECT, also by the name that the provider gave at the sign-in."""
    if "|" in name:
        return name
    live = service.listing.list_live(service.listing.accounts())
    try:
        people = people_named(name, live.sessions, chain.from_iterable(service.browser_sessions.batches()))
    except ServiceUnavailable as error:
        raise click.ClickException(f"Redis does not answer: {error.log}. {_NAME_THE_PERSON}") from error
    if len(people) > 1:
        raise click.ClickException("Several people have this name; give one of: " + ", ".join(people))
    if not people:
        reason = (
            f"Redis does not answer: {live.redis_error}" if live.unavailable else "Nobody of this name has a session"
        )
        raise click.ClickException(f"{reason}. {_NAME_THE_PERSON}")
    return people[0]


def _open_listing(settings: Settings, store: Store) -> SessionListing:
    return SessionListing(store=store, live_sessions=open_live_sessions(settings), now=now)


def _list_sessions(listing: SessionListing, account_id: str | None) -> ListedSessions:
    live = listing.list_live([account_id] if account_id else listing.accounts())
    if live.unavailable:
        raise click.ClickException(f"Redis, which lists the sessions, does not answer: {live.redis_error}")
    return live


def _print_result(target: RevocationTarget, result: RevocationResult, *, as_json: bool) -> None:
    ended = [session.id for session in result.removed]
    if result.redis_error:
        click.echo(f"Revoked, but still listed: Redis does not answer: {result.redis_error}", err=True)
    if as_json:
        print_json({"revoked": [target.parameters()], "ended": ended, "browsers_signed_out": result.browsers})
    else:
        print_fields(
            {
                f"revoked {target.kind}": target.subject,
                "sessions ended": len(ended),
                "browsers signed out": result.browsers,
            }
        )
