"""Credentials as programs and shells take them, in the words of ``aws configure export-credentials``."""

import json
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

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
class Shell:
    """How a shell sets an environment variable, and a command that fails in it; a file of variables has none."""

    assignment: str
    quote: Callable[[str], str] = str
    failing: str = ""

    def lines(self, variables: Mapping[str, str]) -> str:
        """Return one line for each variable."""
        return _lines(self.assignment.format(name=name, value=self.quote(value)) for name, value in variables.items())

    def address(self, endpoint: str) -> str:
        """Return the lines that set the address of STS and IAM, and a region; raise ValueError as `text` does."""
        _require_plain(endpoint)
        return self.lines(_whereabouts(endpoint) | {"FEDGATE_ENDPOINT": endpoint})

    def refused(self, endpoint: str) -> str:
        """Return what a shell runs after a sign-in that failed: the address, expired credentials, and a failure.

        The AWS CLI and boto3 send nothing with expired credentials. If they were unset instead, both would go on with
        a profile in ~/.aws, whose credentials may be Amazon's.
        """
        told = endpoint if _PLAIN.fullmatch(endpoint) else ""
        return self.lines(_whereabouts(told) | _REFUSED) + _lines([self.failing] if self.failing else [])


@dataclass(frozen=True, slots=True)
class Format:
    """One way to write credentials: what people call it, the suffix of files in its language, and how.

    ``shell`` is None where the text is no list of environment variables.
    """

    title: str
    suffix: str
    write: Callable[[Credentials, Target], str]
    shell: Shell | None = None

    def text(self, credentials: Credentials, target: Target = Target()) -> str:
        """Return credentials in this format, with the line end at the end.

        Raise ValueError where a value is not made of what credentials are made of: a shell might run it.
        """
        _require_plain(*_variables(credentials).values(), target.endpoint)
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


# AWS SDKs and Tools Reference Guide, "Service-specific endpoints": `true` sends everything to Amazon, whatever the
# variables above say, and may come from the environment or from a profile.
_BELIEVED: Final = {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "false"}
# What a failed sign-in leaves in a shell: credentials that have ended and that no service knows.
_REFUSED: Final = {
    "AWS_ACCESS_KEY_ID": "FEDGATE_LOGIN_FAILED",
    "AWS_SECRET_ACCESS_KEY": "FEDGATE_LOGIN_FAILED",
    "AWS_SESSION_TOKEN": "FEDGATE_LOGIN_FAILED",
    "AWS_CREDENTIAL_EXPIRATION": "1970-01-01T00:00:00+00:00",
}


def _require_plain(*values: str) -> None:
    """Raise ValueError where a value has a character that a shell might run."""
    if not all(map(_PLAIN.fullmatch, values)):
        raise ValueError("These are no credentials: they have characters that a shell might take for its own.")


def _whereabouts(endpoint: str) -> dict[str, str]:
    # Only these two services: AWS_ENDPOINT_URL would send the calls of every other service here as well.
    services = {"AWS_ENDPOINT_URL_STS": endpoint, "AWS_ENDPOINT_URL_IAM": endpoint, **_BELIEVED} if endpoint else {}
    # boto3 and AWS CLI version 1 read the second name alone, most others the first.
    return services | {"AWS_REGION": _REGION, "AWS_DEFAULT_REGION": _REGION}


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _environment(shell: Shell) -> Callable[[Credentials, Target], str]:
    """Return what writes a line for each variable; a known address stands first, with a region."""

    def write(credentials: Credentials, target: Target) -> str:
        return shell.lines((_whereabouts(target.endpoint) if target.endpoint else {}) | _variables(credentials))

    return write


def _terraform(credentials: Credentials, target: Target) -> str:
    """Write what Terraform's AWS provider reads: it does not begin without a region, which no credentials imply.

    It asks GetCallerIdentity first, of AWS_ENDPOINT_URL_STS. Source: its guides, "AWS Provider" and "Custom Service
    Endpoint Configuration".
    """
    return _POSIX.lines(_whereabouts(target.endpoint) | _variables(credentials))


def _section(credentials: Credentials, target: Target) -> str:
    """Write a section for ~/.aws/config, or for ~/.aws/credentials where no address is told.

    Raise ValueError for a name that would not be read as it was written. The address is that of two services, which
    only ~/.aws/config can say: ``endpoint_url`` in a profile would send the calls of every service here. Source: AWS
    SDKs and Tools Reference Guide, "Service-specific endpoints".
    """
    if not _PROFILE.fullmatch(target.profile):
        raise ValueError("A profile's name has letters, digits, single spaces and any of _+=,.@:/-")
    facts = {
        "aws_access_key_id": credentials["AccessKeyId"],
        "aws_secret_access_key": credentials["SecretAccessKey"],
        "aws_session_token": credentials["SessionToken"],
    }
    if not target.endpoint:
        return _settings(f"[{target.profile}]", facts)
    services = "fedgate-" + target.profile.replace(" ", "-")
    facts |= {"region": _REGION, "ignore_configured_endpoint_urls": "false", "services": services}
    address = _lines(f"{service} =\n  endpoint_url = {target.endpoint}" for service in ("sts", "iam"))
    return _settings(_profile_header(target.profile), facts) + f"\n[services {services}]\n{address}"


def _profile_header(profile: str) -> str:
    """Return the header of a profile in ~/.aws/config, where a name with a blank is quoted."""
    if profile == "default":
        return "[default]"
    return f'[profile "{profile}"]' if " " in profile else f"[profile {profile}]"


def _settings(header: str, facts: Mapping[str, str]) -> str:
    return _lines([header, *(f"{name} = {value}" for name, value in facts.items())])


def _json(credentials: Credentials, target: Target) -> str:
    address = {"Endpoint": target.endpoint} if target.endpoint else {}
    return json.dumps({**credentials, "Expiration": _expiration(credentials), **address}, indent=2) + "\n"


_POSIX: Final = Shell("export {name}={value}", shlex.quote, "false")
_FISH: Final = Shell('set -gx {name} "{value}"', failing="false")
_POWERSHELL: Final = Shell('$Env:{name}="{value}"', failing='throw "fedgate failed"')
_CMD: Final = Shell("set {name}={value}", failing="cmd /c exit 1")
_DOCKER: Final = Shell("{name}={value}")


def access_key_exports(endpoint: str, key_id: str, secret: str) -> str:
    """Return what a POSIX shell runs to use a long-term access key of this service, in place of a session before."""
    keys = {"AWS_ACCESS_KEY_ID": key_id, "AWS_SECRET_ACCESS_KEY": secret}
    session = " ".join(name for name in _REFUSED if name not in keys)
    return _POSIX.address(endpoint) + _POSIX.lines(keys) + f"unset {session}\n"


FORMATS: Mapping[str, Format] = {
    "bash": Format("bash and zsh", "sh", _environment(_POSIX), _POSIX),
    "fish": Format("fish", "fish", _environment(_FISH), _FISH),
    "powershell": Format("PowerShell", "ps1", _environment(_POWERSHELL), _POWERSHELL),
    "cmd": Format("Windows Command Prompt", "cmd", _environment(_CMD), _CMD),
    "file": Format("~/.aws/config", "ini", _section),
    "json": Format("JSON", "json", _json),
    "docker": Format("Docker", "env", _environment(_DOCKER), _DOCKER),
    "terraform": Format("Terraform", "sh", _terraform, _POSIX),
}
