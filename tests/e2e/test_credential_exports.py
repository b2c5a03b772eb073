"""Our formats beside those of the AWS CLI version 2, which exports the same credentials."""

import os
import shlex
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.broker_process import environment
from support.servers import HANG

from broker.doors.credential_formats import FORMATS, Target, process_form
from sts.mint import Grant, SessionKind, mint
from sts.token import Sealer, SealingKey

EXPORTS = {
    "process": "json",
    "env": "bash",
    "env-no-export": "docker",
    "powershell": "powershell",
    "windows-cmd": "cmd",
    "fish": "fish",
}


@pytest.fixture(scope="module")
def credentials() -> dict[str, object]:
    """Newly minted credentials in the form that programs take them."""
    grant = Grant(SessionKind.ROLE, "111122223333", "AROAQAAAAAAAAAAAAAAAA", "ann", "ldap-provider/corp", "1")
    sealer = Sealer((SealingKey("0a0b0c0d", os.urandom(32)),))
    made = mint(grant, 3600, now=datetime.now(UTC), random=os.urandom, sealer=sealer).credentials
    return process_form(
        {
            "AccessKeyId": made.access_key_id,
            "SecretAccessKey": made.secret_access_key,
            "SessionToken": made.session_token,
            "Expiration": made.expiration,
        }
    )


def exported(program: str, home: Path, style: str) -> bytes:
    command = [program, "configure", "export-credentials", "--profile", "corp", "--format", style]
    done = subprocess.run(command, env=environment(home), capture_output=True, timeout=HANG, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("style", "key"), EXPORTS.items())
def test_our_text_is_byte_for_byte_what_the_aws_cli_exports(aws_cli_v2, tmp_path, credentials, style, key):
    printed = tmp_path / "credentials.json"
    printed.write_text(FORMATS["json"].text(credentials))
    (tmp_path / ".aws").mkdir()
    process = shlex.join(["cat", str(printed)])
    (tmp_path / ".aws" / "config").write_text(f"[profile corp]\ncredential_process = {process}\n")
    assert FORMATS[key].text(credentials).encode() == exported(aws_cli_v2, tmp_path, style)


def test_the_aws_cli_reads_our_section_and_exports_the_same(aws_cli_v2, tmp_path, credentials):
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(FORMATS["file"].text(credentials, Target("corp")))
    lines = FORMATS["bash"].text(credentials).splitlines(keepends=True)
    # A file has no time at which its keys end.
    assert "".join(lines[:3]).encode() == exported(aws_cli_v2, tmp_path, "env")
