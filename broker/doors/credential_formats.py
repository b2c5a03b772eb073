"""Credentials as programs and shells take them, in the words of ``aws configure export-credentials``."""

import json
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from iam.clock import iso8601

Credentials = Mapping[str, Any]  # of the form that `process_form` returns

_REGION = "us-east-1"  # any region will do here, and clients want one
# What keys, tokens, times and addresses are made of. None of it means anything to any of the shells, inside double
# quotes or out of them, except the brackets of an IPv6 address, which a POSIX shell gets quoted.
_PLAIN = re.compile(r"[A-Za-z0-9+/=_.,:@\[\]-]*")
_PROFILE = re.compile(r"[\w+=,.@:/-]+( [\w+=,.@:/-]+)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Target:
    """Where credentials go: the profile's name in a file, and the address of this Fedgate where that is told too.

    Without an address, what is written is what the AWS CLI writes, byte for byte.
    """

    profile: str = "fedgate"
    endpoint: str = ""


@dataclass(frozen=True, slots=True)
class Format:
    """One way to write credentials: what people call it, the suffix of files in its language, and how."""

    title: str
    suffix: str
    write: Callable[[Credentials, Target], str]

    def text(self, credentials: Credentials, target: Target = Target()) -> str:
        """Return credentials in this format, with the line end at the end.

        Raise ValueError where a value is not made of what credentials are made of: a shell might run it.
        """
        for value in (*_variables(credentials).values(), target.endpoint):
            if not _PLAIN.fullmatch(value):
                raise ValueError("These are no credentials: they have characters that a shell might take for its own.")
        return self.write(credentials, target)


def process_form(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the Credentials of an STS answer, Expiration as a time in UTC, as a ``credential_process`` prints them.

    Source: AWS SDKs and Tools Reference Guide, "Process credential provider".
    """
    return {
        "Version": 1,
        "AccessKeyId": found["AccessKeyId"],
        "SecretAccessKey": found["SecretAccessKey"],
        "SessionToken": found["SessionToken"],
        "Expiration": iso8601(found["Expiration"]),
    }


def _expiration(credentials: Credentials) -> str:
    # The AWS CLI writes the offset out.
    return re.sub("Z$", "+00:00", str(credentials["Expiration"]))


def _variables(credentials: Credentials) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": credentials["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": credentials["SecretAccessKey"],
        "AWS_SESSION_TOKEN": credentials["SessionToken"],
        "AWS_CREDENTIAL_EXPIRATION": _expiration(credentials),
    }


def _whereabouts(endpoint: str) -> dict[str, str]:
    # Only these two services: AWS_ENDPOINT_URL would send the calls of every other service here as well.
    services = {"AWS_ENDPOINT_URL_STS": endpoint, "AWS_ENDPOINT_URL_IAM": endpoint} if endpoint else {}
    # boto3 and AWS CLI version 1 read the second name alone, most others the first.
    return services | {"AWS_REGION": _REGION, "AWS_DEFAULT_REGION": _REGION}


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _environment(assignment: str, quote: Callable[[str], str] = str) -> Callable[[Credentials, Target], str]:
    """Return what writes a line for each variable; to a known address belongs a region."""

    def write(credentials: Credentials, target: Target) -> str:
        variables = _variables(credentials) | (_whereabouts(target.endpoint) if target.endpoint else {})
        return _lines(assignment.format(name=name, value=quote(value)) for name, value in variables.items())

    return write


def _terraform(credentials: Credentials, target: Target) -> str:
    """Write what Terraform's AWS provider reads: it does not begin without a region, which no credentials imply.

    It asks GetCallerIdentity first, of AWS_ENDPOINT_URL_STS. Source: its guides, "AWS Provider" and "Custom Service
    Endpoint Configuration".
    """
    variables = _variables(credentials) | _whereabouts(target.endpoint)
    return _lines(f"export {name}={shlex.quote(value)}" for name, value in variables.items())


def _section(credentials: Credentials, target: Target) -> str:
    """Write a section for ~/.aws/credentials; raise ValueError for a name that would not be read as it was written."""
    if not _PROFILE.fullmatch(target.profile):
        raise ValueError("A profile's name has letters, digits, single spaces and any of _+=,.@:/-")
    facts = {
        "aws_access_key_id": credentials["AccessKeyId"],
        "aws_secret_access_key": credentials["SecretAccessKey"],
        "aws_session_token": credentials["SessionToken"],
    }
    if target.endpoint:
        facts |= {"region": _REGION, "endpoint_url": target.endpoint}
    return _lines([f"[{target.profile}]", *(f"{name} = {value}" for name, value in facts.items())])


def _json(credentials: Credentials, _target: Target) -> str:
    return json.dumps({**credentials, "Expiration": _expiration(credentials)}, indent=2) + "\n"


FORMATS: Mapping[str, Format] = {
    "bash": Format("bash and zsh", "sh", _environment("export {name}={value}", shlex.quote)),
    "fish": Format("fish", "fish", _environment('set -gx {name} "{value}"')),
    "powershell": Format("PowerShell", "ps1", _environment('$Env:{name}="{value}"')),
    "cmd": Format("Windows Command Prompt", "cmd", _environment("set {name}={value}")),
    "file": Format("~/.aws/credentials", "ini", _section),
    "json": Format("JSON", "json", _json),
    "docker": Format("Docker", "env", _environment("{name}={value}")),
    "terraform": Format("Terraform", "sh", _terraform),
}
