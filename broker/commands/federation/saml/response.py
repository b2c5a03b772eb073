"""``fedgate saml test``: runs every check on a SAML response, and prints what it asks for."""

from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from broker.commands.federation.saml.stored import account_option, provider_row, resolve_account_id
from broker.commands.options import installation_options, load_settings, read_text
from broker.commands.output import escape_unprintable, json_option, print_json
from broker.providers.saml import response_checks, service_keys
from broker.providers.saml.provider import SamlServiceProvider, verify_response
from broker.providers.saml.response_parts import ExpectedResponse
from broker.wiring import now, open_store
from iam.clock import parse_iso8601
from iam.errors import NoSuchEntity, ServiceError
from iam.operations.federation.saml_providers import arn_of
from iam.store.records import SamlProviderRecord
from iam.store.vault import Vault
from sts.federation.saml import names_roles, requested_session, role_pairs


@click.command()
@click.argument("name")
@click.option(
    "--response",
    "file",
    required=True,
    type=click.Path(path_type=Path),
    help="File with the SAMLResponse, in base64 or XML.",
)
@click.option(
    "--at",
    "endpoint",
    type=click.Choice(["sts", "acs"]),
    default="sts",
    help="Check it for AssumeRoleWithSAML, or for the sign-in page.",
)
@click.option("--time", "text", metavar="MOMENT", help="Check it as of this time, such as 2026-01-31T12:00:00Z.")
@account_option
@installation_options
@json_option
def test(  # noqa: PLR0913 - one for each option
    name: str,
    file: Path,
    account_id: str | None,
    config: Path | None,
    data: Path | None,
    *,
    endpoint: str,
    text: str | None,
    as_json: bool,
) -> None:
    """Run every check on a SAML response and print the results, the roles and the session settings that it asks for.

    The response can still be used afterwards. A browser's developer tools show it as the form field SAMLResponse. Exit
    status: 1 where it is refused.
    """
    settings = load_settings(config, data)
    response = read_text(file).strip()
    if response.startswith("<"):
        response = b64encode(response.encode()).decode()
    at = _moment(text)
    with closing(open_store(settings)) as store:
        with store.read() as tx:
            arn = arn_of(provider_row(tx, resolve_account_id(tx, account_id), name))
            keys = service_keys.load(tx, Vault(settings.master_key))
        provider = store.saml_provider(arn)
        if provider is None:
            raise NoSuchEntity(f"There is no SAML provider {arn}.")
    service_provider = SamlServiceProvider(
        settings.public_url, timedelta(seconds=settings.saml_clock_skew), lambda: [key.private for key in keys]
    )
    expected = (
        service_provider.expected_at_sts(provider, at)
        if endpoint == "sts"
        else service_provider.expected_at_acs(provider, at)
    )
    results = [*_not_used("metadata", "Metadata, 2.4", provider.metadata.dropped), *_steps(response, expected)]
    if not results[-1]["refused"]:
        results += _session_settings(provider, response, expected)
    if as_json:
        print_json(results)
    else:
        for result in results:
            _print_step(result)
    if any(result["refused"] for result in results):
        raise SystemExit(1)


def _print_step(result: dict[str, Any]) -> None:
    outcome = "FAIL" if result["refused"] else "pass"
    click.echo(escape_unprintable(f"{outcome}  {result['step']}  [{result['clause']}]"))
    for key in ("refused", "detail", "told"):
        if result.get(key):
            click.echo(escape_unprintable(f"      {result[key]}"))


def _moment(text: str | None) -> datetime:
    if text is None:
        return now()
    try:
        return parse_iso8601(text).astimezone(UTC)
    except ValueError as error:
        raise click.BadParameter(f"{text} is not a time such as 2026-01-31T12:00:00Z") from error


def _steps(response: str, expected: ExpectedResponse) -> Iterator[dict[str, Any]]:
    for step, error in response_checks.run_checks(response, expected):
        refused = "" if error is None else str(error)
        detail = error.log if isinstance(error, ServiceError) and error.log != error.message else ""
        yield {"step": step.name, "clause": step.clause, "refused": refused, "detail": detail}


def _not_used(step: str, clause: str, reasons: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Yield what of the metadata or the assertion is left out, which refuses nothing."""
    for reason in reasons:
        yield {"step": step, "clause": clause, "refused": "", "told": f"not used: {reason}"}


def _session_settings(
    provider: SamlProviderRecord, response: str, expected: ExpectedResponse
) -> Iterator[dict[str, Any]]:
    """Yield the roles, the session settings and the subject that the attributes ask for."""
    assertion, verified = verify_response(provider, response, expected)
    yield from _not_used("attributes that are not used", "Core, 2.7.3", verified.dropped)
    pairs = role_pairs(assertion)
    roles = ", ".join(role for role, other in pairs if other == provider.arn)
    by_trust = provider.map_by_trust and not names_roles(assertion)
    yield {
        "step": "roles",
        "clause": "IAM User Guide, SAML assertions",
        "refused": "" if roles or by_trust else "no Role of this provider",
        "told": roles or "by trust",
    }
    try:
        session, refused = str(requested_session(assertion)._asdict()), ""
    except ServiceError as error:
        session, refused = "", error.message
    yield {"step": "session", "clause": "IAM User Guide, SAML assertions", "refused": refused, "told": session}
    subject = f"{assertion.subject} ({assertion.name_format})"
    yield {"step": "subject", "clause": "Core, 2.2.3", "refused": "", "told": subject}
