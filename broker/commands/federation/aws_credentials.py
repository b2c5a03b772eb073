"""``fedgate aws-credentials``: a session of ours becomes credentials of another STS, without a long-term key."""

import json
from typing import Any

import click
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from broker.commands.output import escape_unprintable
from broker.doors.credential_formats import process_form

_DEFAULT_AUDIENCE = "sts.amazonaws.com"


@click.command("aws-credentials")
@click.option("--role", "role_arn", required=True, help="ARN of the role in the other cloud.")
@click.option("--endpoint", required=True, help="Address of this Fedgate; its credentials come from the environment.")
@click.option("--upstream", help="Address of the other STS; left out, that of AWS in --region.")
@click.option("--region", default="us-east-1", show_default=True, help="Region of the other STS.")
@click.option("--audience", default=_DEFAULT_AUDIENCE, show_default=True, help="Client id of the provider there.")
@click.option("--session-name", default="fedgate", show_default=True, help="Name of the session there.")
@click.option("--duration", type=click.IntRange(900, 43_200), default=3600, show_default=True, help="Seconds.")
def aws_credentials(  # noqa: PLR0913 - one for each option
    *,
    role_arn: str,
    endpoint: str,
    upstream: str | None,
    region: str,
    audience: str,
    session_name: str,
    duration: int,
) -> None:
    """Trade a session of this Fedgate for credentials of AWS, or of another STS, and print them.

    The output is that of a credential_process. The account here must have enabled its issuer, the account there must
    have it as an OpenID Connect provider, and the role there must trust it.
    """
    try:
        token = _token(endpoint, region, audience)
        found = _assume_role(token, upstream, region, role_arn, session_name, duration)
    except (BotoCoreError, ClientError, ValueError) as error:
        raise click.ClickException(escape_unprintable(str(error))) from error
    click.echo(json.dumps(found))


def _token(endpoint: str, region: str, audience: str) -> str:
    sts = Session().create_client("sts", region_name=region, endpoint_url=endpoint)
    answer = sts.get_web_identity_token(Audience=[audience], SigningAlgorithm="RS256", DurationSeconds=300)
    return str(answer["WebIdentityToken"])


def _assume_role(
    token: str, upstream: str | None, region: str, role_arn: str, session_name: str, duration: int
) -> dict[str, Any]:
    sts = Session().create_client(
        "sts", region_name=region, endpoint_url=upstream, config=Config(signature_version=UNSIGNED)
    )
    answer = sts.assume_role_with_web_identity(
        RoleArn=role_arn, RoleSessionName=session_name, WebIdentityToken=token, DurationSeconds=duration
    )
    return process_form(answer["Credentials"])
