"""``fedgate aws-credentials``: exchanges a session for credentials of another STS, without a long-term key."""

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
@click.option("--role", "role_arn", required=True, help="ARN of the role to assume in the other STS.")
@click.option("--endpoint", required=True, help="URL of this Fedgate; its credentials are read from the environment.")
@click.option("--upstream", help="URL of the other STS; the default is that of AWS in --region.")
@click.option("--region", default="us-east-1", show_default=True, help="Region of the other STS.")
@click.option(
    "--audience", default=_DEFAULT_AUDIENCE, show_default=True, help="Client ID of the OpenID Connect provider there."
)
@click.option("--session-name", default="fedgate", show_default=True, help="Role session name.")
@click.option(
    "--duration", type=click.IntRange(900, 43_200), default=3600, show_default=True, help="Lifetime in seconds."
)
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
    """Exchange a session of this Fedgate for credentials of AWS, or of another STS, and print them.

    The output has the format of a credential_process. This account must have enabled its token issuer; the other
    account must have that issuer as an OpenID Connect provider, and the role must trust it.
    """
    try:
        token = _token(endpoint, region, audience)
        credentials = _assume_role(token, upstream, region, role_arn, session_name, duration)
    except (BotoCoreError, ClientError, ValueError) as error:
        raise click.ClickException(escape_unprintable(str(error))) from error
    click.echo(json.dumps(credentials))


def _token(endpoint: str, region: str, audience: str) -> str:
    sts = Session().create_client("sts", region_name=region, endpoint_url=endpoint)
    response = sts.get_web_identity_token(Audience=[audience], SigningAlgorithm="RS256", DurationSeconds=300)
    return str(response["WebIdentityToken"])


def _assume_role(
    token: str, upstream: str | None, region: str, role_arn: str, session_name: str, duration: int
) -> dict[str, Any]:
    sts = Session().create_client(
        "sts", region_name=region, endpoint_url=upstream, config=Config(signature_version=UNSIGNED)
    )
    response = sts.assume_role_with_web_identity(
        RoleArn=role_arn, RoleSessionName=session_name, WebIdentityToken=token, DurationSeconds=duration
    )
    return process_form(response["Credentials"])
