"""``fedgate login``: exchanges a directory password for AWS credentials. Uses only the standard library."""

import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from ipaddress import ip_address

import click

from broker.commands.shell_output import DEFAULT_ENDPOINT, ENDPOINT_VARIABLE, ShellCommand
from broker.doors.credential_formats import FORMATS, Target
from iam.clock import from_seconds, iso8601

_VERSION = "2011-06-15"
_TIMEOUT = 30  # seconds
_READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess"
# What to do after a refusal, by its code.
_REMEDIES: Mapping[str, str] = {
    "AccessDenied": "Sign in at {why}, which shows for each role what it asks of you and what you have.",
    "IDPRejectedClaim": "Check the name and the password. {pages} says more, for example that a password has expired.",
    "Throttling": "Wait a quarter of an hour, or sign in at {pages}, which says how long.",
    "ValidationError": "If several roles trust you, name one with --role, by its ARN or its name. {pages} lists them.",
}
_OTHER_REMEDY = "If it happens again, give the reference to the administrator."

# How the messages begin with which the service refuses a right password for its second factor: without the code that
# it demands, with a wrong one, and where there is no app that could make one (broker.signin.second_factor).
CODE_MISSING = "MultiFactorAuthentication failed, must provide a one time pass code"
INVALID_CODE = "MultiFactorAuthentication failed with invalid MFA"
NO_APP = "MultiFactorAuthentication failed, you have no authenticator app"
# What to do after these, which is no question of roles as it is after other refusals of the same code.
_SECOND_FACTOR_REMEDIES: Mapping[str, str] = {
    CODE_MISSING: "Give the code with --token-code. {security} lists your authenticator apps.",
    INVALID_CODE: "Each code works once and for half a minute: wait for the next one, and try again with it. {security}"
    " lists your authenticator apps.",
    NO_APP: "Sign in at {security} and set up an authenticator app, then try again. Passkeys work in a browser only.",
}

Credentials = Mapping[str, str]


class _CodeMissing(click.ClickException):
    """The password was right, and the code of an authenticator app is missing."""


def _json(credentials: Credentials, target: Target) -> str:
    return json.dumps({"endpoint": target.endpoint, "credentials": dict(credentials)}) + "\n"


def _process(credentials: Credentials, _target: Target) -> str:
    # AWS SDKs and Tools Reference Guide, "Process credential provider".
    return json.dumps({"Version": 1, **credentials}) + "\n"


_FORMS: Mapping[str, Callable[[Credentials, Target], str]] = {
    "env": FORMATS["bash"].text,
    **{name: FORMATS[name].text for name in ("fish", "powershell", "cmd", "docker", "terraform")},
    "json": _json,
    "credential-process": _process,
    "profile": FORMATS["file"].text,
}


@click.command(cls=ShellCommand)
@click.argument("user")
@click.option("--role", help="Name or ARN of the role; required where several roles trust you.")
@click.option(
    "--endpoint",
    default=DEFAULT_ENDPOINT,
    show_default=True,
    envvar=ENDPOINT_VARIABLE,
    help="URL of the service.",
)
@click.option(
    "--token-code",
    envvar="FEDGATE_TOKEN_CODE",
    help="Code of your authenticator app; asked for at the terminal where one is required.",
)
@click.option("--read-only", is_flag=True, help="Limit the credentials to the AWS managed policy ReadOnlyAccess.")
@click.option("--duration", type=click.IntRange(900, 43200), help="Lifetime of the credentials in seconds.")
@click.option(
    "--format",
    "form",
    type=click.Choice(list(_FORMS)),
    default="env",
    show_default=True,
    help="Commands for a shell (env: bash and zsh), a file for docker --env-file, JSON, the output of a"
    " credential_process, or a section of ~/.aws/config.",
)
@click.option("--profile", default="fedgate", show_default=True, help="Name of the section, for --format profile.")
@click.option("--allow-http", is_flag=True, help="Allow sending the password over plain HTTP to another machine.")
def login(  # noqa: PLR0913 - each is an option of the command
    user: str,
    role: str | None,
    endpoint: str,
    *,
    token_code: str | None,
    read_only: bool,
    duration: int | None,
    form: str,
    profile: str,
    allow_http: bool,
) -> None:
    """Sign in with a directory password and print temporary AWS credentials.

    The password is read from FEDGATE_PASSWORD, or from the terminal; the code of an authenticator app from --token-code
    or FEDGATE_TOKEN_CODE, or from the terminal. To use the credentials in this shell:

        eval "$(fedgate login USER)"

    It sets the address of STS and IAM as well. If the sign-in fails, so does the eval, and no earlier credentials stay
    in force.
    """
    endpoint = endpoint.rstrip("/")
    if not allow_http and not _is_private(endpoint):
        raise click.ClickException("The password would be sent in clear text: use https://, or --allow-http.")
    _refuse_clear_text_proxy(endpoint)
    password = os.environ.get("FEDGATE_PASSWORD") or click.prompt("Password", hide_input=True, err=True)
    parameters = {
        "LDAPUsername": user,
        "LDAPPassword": password,
        "RoleArn": role or None,
        "DurationSeconds": duration,
        "TokenCode": token_code,
        "PolicyArns.member.1.arn": _READ_ONLY if read_only else None,
    }
    credentials = _sign_in(endpoint, {name: str(value) for name, value in parameters.items() if value is not None})
    try:
        click.echo(_FORMS[form](credentials, Target(profile, endpoint)), nl=False)
    except ValueError as error:
        raise click.ClickException(str(error)) from error


def _is_private(endpoint: str) -> bool:
    return urllib.parse.urlsplit(endpoint).scheme == "https" or _is_loopback(endpoint)


def _is_loopback(endpoint: str) -> bool:
    host = urllib.parse.urlsplit(endpoint).hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _refuse_clear_text_proxy(endpoint: str) -> None:
    """Raise ClickException where a proxy would read the password: over plain HTTP it is sent the whole request.

    Over HTTPS a proxy only passes octets on (RFC 9110, 9.3.6: CONNECT), and loopback is never reached through one.
    """
    url = urllib.parse.urlsplit(endpoint)
    by_proxy = "http" in urllib.request.getproxies() and not urllib.request.proxy_bypass(url.hostname or "")
    if url.scheme == "http" and by_proxy and not _is_loopback(endpoint):
        raise click.ClickException(
            "The password would be sent through the proxy of http_proxy in clear text: use https://, or name"
            f" {url.hostname} in no_proxy."
        )


def _opener(endpoint: str) -> urllib.request.OpenerDirector:
    """Return what opens the endpoint: through the proxies of the environment only where TLS keeps them out."""
    if urllib.parse.urlsplit(endpoint).scheme == "https" and not _is_loopback(endpoint):
        return urllib.request.build_opener()
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _sign_in(endpoint: str, parameters: Mapping[str, str]) -> Credentials:
    """Return the credentials; ask for the code of an authenticator app where the service demands one."""
    try:
        return _assume(endpoint, parameters)
    except _CodeMissing as error:
        if not sys.stdin.isatty():
            raise click.ClickException(error.message) from error
    return _assume(endpoint, {**parameters, "TokenCode": click.prompt("Authenticator code", err=True)})


def _assume(endpoint: str, parameters: Mapping[str, str]) -> Credentials:
    """Return the credentials; the password is sent in the body of a POST, which servers and proxies do not log."""
    form = {"Action": "AssumeRoleWithLDAPIdentity", "Version": _VERSION, **parameters}
    if urllib.parse.urlsplit(endpoint).scheme not in {"http", "https"}:
        raise click.UsageError("--endpoint must begin with https:// or http://")
    request = urllib.request.Request(  # noqa: S310 - the scheme was checked
        f"{endpoint}/", urllib.parse.urlencode(form).encode(), {"Accept": "application/json"}
    )
    try:
        with _opener(endpoint).open(request, timeout=_TIMEOUT) as response:
            body = json.load(response)
        result = body["AssumeRoleWithLDAPIdentityResponse"]["AssumeRoleWithLDAPIdentityResult"]
        credentials: Credentials = {
            **result["Credentials"],
            "Expiration": iso8601(from_seconds(result["Credentials"]["Expiration"])),
        }
    except urllib.error.HTTPError as error:
        with error:
            refusal = _refusal(error.read(), error.code, endpoint, parameters.get("RoleArn", ""))
            raise (_CodeMissing if CODE_MISSING in refusal else click.ClickException)(refusal) from error
    except OSError as error:
        raise click.ClickException(f"{endpoint} does not answer: {getattr(error, 'reason', error)}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise click.ClickException(f"{endpoint} is not a Fedgate: its response has no credentials.") from error
    return credentials


def _refusal(body: bytes, status: int, endpoint: str, role: str) -> str:
    """Return what was refused, the reference under which the audit log has it, and what to do."""
    try:
        answer = json.loads(body)
        code, message, reference = answer["Error"]["Code"], answer["Error"]["Message"], answer["RequestId"][:8]
    except (ValueError, KeyError, TypeError):
        return f"The service responded with status {status}."
    asked = f"?role={urllib.parse.quote(role)}" if role.startswith("arn:") else ""
    pages = {"why": f"{endpoint}/why{asked}", "pages": f"{endpoint}/login", "security": f"{endpoint}/security"}
    return f"{code}: {message}\nReference: {reference}\n{_remedy(code, message).format(**pages)}"


def _remedy(code: str, message: str) -> str:
    """Return what to do after a refusal, with placeholders for the addresses of pages."""
    second_factor = (remedy for start, remedy in _SECOND_FACTOR_REMEDIES.items() if message.startswith(start))
    return next(second_factor, _REMEDIES.get(code, _OTHER_REMEDY))
