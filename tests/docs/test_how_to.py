"""The how-to guides that begin in an empty folder, command by command, over a real OpenLDAP server."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.broker_process import PASSWORDS, PROGRAMS, environment
from support.servers import HANG, free_port

from broker.demo.people import BASE

pytestmark = pytest.mark.server

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"Write\s`([a-z.]+)`:\s*$")
# Installing takes minutes and the network, and the tests run what is installed.
SKIPPED = re.compile(r"^(python3 -m venv|venv/bin/pip).*\n", re.MULTILINE)
# A reader has noted the key that was shown once.
NOTED = "ROOT_KEY=$AWS_ACCESS_KEY_ID ROOT_SECRET=$AWS_SECRET_ACCESS_KEY\n"


def steps(page: str) -> Iterator[str]:
    """Yield what a reader types: the files that the page has them write, and the commands."""
    text = (ROOT / "docs" / "how-to" / page).read_text(encoding="utf-8")
    for block in BLOCK.finditer(text):
        file = FILE.search(text[: block.start()])
        if file:
            yield f"cat > {file[1]} <<'END'\n{block[2]}END\n"
        elif block[1] == "sh":
            yield SKIPPED.sub("", block[2])


def followed(folder: Path, pages: list[str], here: dict[str, str], **more: str) -> str:
    """Return what is printed when somebody follows pages one after the other, in one shell and an empty folder."""
    port = free_port()
    script = "\n".join(step for page in pages for step in steps(page))
    here = {"127.0.0.1:8080": f"127.0.0.1:{port}", '--alias acme --env)"\n': f'--alias acme --env)"\n{NOTED}', **here}
    assert [documented for documented in here if documented not in script] == []
    # In one pass: what stands there afterwards, such as another port, is not replaced again.
    script = re.sub("|".join(map(re.escape, here)), lambda found: here[found[0]], script)
    environ = environment(folder, FEDGATE_BIND=f"127.0.0.1:{port}", AWS_EC2_METADATA_DISABLED="true", **more)
    environ["PATH"] = f"{PROGRAMS}{os.pathsep}{environ['PATH']}"
    command = ["bash", "-e", "-c", f"trap 'kill $(jobs -p)' EXIT\n{script}"]
    done = subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, timeout=2 * HANG, check=False
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout + done.stderr


def test_from_an_empty_folder_to_roles_that_trust_groups_and_a_password_that_is_exchanged(slapd, tmp_path):
    here = {
        "dc=example,dc=com": BASE,
        "'PASSWORD'": f"'{slapd.bind_password}'",
        "AKIA... AWS_SECRET_ACCESS_KEY=...": '"$ROOT_KEY" AWS_SECRET_ACCESS_KEY="$ROOT_SECRET"',
        'urls = ["ldaps://ldap1.example.com", "ldaps://ldap2.example.com"]': f'urls = ["{slapd.url}"]',
        '"ALICE\'S PASSWORD"': f"'{PASSWORDS['alice']}'",
        'ca_file = "/etc/ssl/certs/ca-certificates.crt"\n': "",
    }
    pages = ["connect-openldap.md", "trust-a-directory-group.md", "exchange-tokens.md"]
    printed = followed(tmp_path, pages, here, FEDGATE_PASSWORD=PASSWORDS["alice"])
    assert re.search(r'"directory corp": ?"ok"', printed)
    assert "assumed-role/Engineer/alice" in printed
    assert "assumed-role/Developer/alice" in printed
    assert '"assumed_role": "arn:aws:sts::111122223333:assumed-role/Engineer/alice"' in printed


def test_from_an_empty_folder_to_an_account_a_user_an_issuer_and_a_guardrail(tmp_path):
    pages = ["set-up.md", "sign-in-to-an-account.md", "let-others-trust-fedgate.md", "set-a-guardrail.md"]
    printed = followed(tmp_path, pages, {})
    assert "arn:aws:iam::111122223333:root" in printed
    assert '"UserName": "ann"' in printed
    assert "/issuer/" in printed
    assert "office" in printed


def test_from_an_empty_folder_to_s3_for_everyone_in_the_directory(slapd, ceph, tmp_path):
    here = {
        "dc=example,dc=com": BASE,
        "'PASSWORD'": f"'{slapd.bind_password}'",
        "AKIA... AWS_SECRET_ACCESS_KEY=...": '"$ROOT_KEY" AWS_SECRET_ACCESS_KEY="$ROOT_SECRET"',
        'urls = ["ldaps://ldap1.example.com", "ldaps://ldap2.example.com"]': f'urls = ["{slapd.url}"]',
        'ca_file = "/etc/ssl/certs/ca-certificates.crt"\n': "",
        "127.0.0.1:8081": f"127.0.0.1:{free_port()}",
        "127.0.0.1:8082": f"127.0.0.1:{free_port()}",
        "127.0.0.1:9000": ceph.address,
        "STOREKEY": ceph.key.access_key,
        "STORESECRET": ceph.key.secret_key,
    }
    pages = ["connect-openldap.md", "../tutorial/s3-for-everyone.md"]
    configuration = (ROOT / "deploy" / "nginx" / "s3.conf").read_text(encoding="utf-8")
    for documented, instead in here.items():
        configuration = configuration.replace(documented, instead)
    source = tmp_path / "source" / "deploy" / "nginx" / "s3.conf"
    source.parent.mkdir(parents=True)
    source.write_text(configuration, encoding="utf-8")
    here["/path/to/fedgate/deploy"] = f"{tmp_path}/source/deploy"
    try:
        printed = followed(tmp_path, pages, here, FEDGATE_PASSWORD=PASSWORDS["alice"])
    finally:
        subprocess.run(["nginx", "-p", str(tmp_path), "-c", "nginx.conf", "-e", "nginx.log", "-s", "stop"], check=False)
    assert "hello" in printed
    assert "because no identity-based policy allows the s3:PutObject action" in printed


def test_from_an_empty_folder_to_a_python_application_that_admits_signed_requests(tmp_path):
    here = {"127.0.0.1:8081": f"127.0.0.1:{free_port()}", "5000": str(free_port()), "5001": str(free_port())}
    printed = followed(tmp_path, ["set-up.md", "protect-a-python-application.md"], here)
    assert '"principal":"arn:aws:iam::111122223333:user/reader","report":"june"' in printed
    assert '"report":"june","principal":"arn:aws:iam::111122223333:user/reader"' in printed
    assert "because no identity-based policy allows the execute-api:Invoke action" in printed
    assert "Missing Authentication Token" in printed


def test_from_an_empty_folder_to_an_api_that_only_signed_requests_reach(tmp_path):
    here = {"127.0.0.1:8081": f"127.0.0.1:{free_port()}", "127.0.0.1:9000": f"127.0.0.1:{free_port()}"}
    printed = followed(tmp_path, ["set-up.md", "protect-an-http-api.md"], here)
    assert "PASSES  GET /teams/red/reports/2026 at reports: GetReport" in printed
    assert "REFUSED  GET /teams/blue/reports/2026 at reports: GetReport" in printed
    assert "REFUSED  DELETE /teams/red/reports/2026 at reports: DeleteReport" in printed
    assert "Missing Authentication Token" in printed
    assert '"principal":"arn:aws:sts::111122223333:assumed-role/Reader/ann","report":"2026","team":"red"' in printed
    assert printed.count("because no identity-based policy allows the reports:GetReport action") == 1
    assert '"AWS": "444455556666"' in printed


BEGINNINGS = ("set-up.md", "connect-openldap.md")
# These begin in an empty folder themselves, need no running Fedgate, or are for people in a browser.
WITHOUT = {*BEGINNINGS, "connect-active-directory.md", "run-in-production.md", "test-policies.md", "use-the-portal.md"}


@pytest.mark.parametrize("page", sorted({path.name for path in (ROOT / "docs" / "how-to").glob("*.md")} - WITHOUT))
def test_every_guide_says_where_to_begin(page):
    text = (ROOT / "docs" / "how-to" / page).read_text(encoding="utf-8")
    assert any(f"({name})" in text.partition("\n## ")[0] or "## Before you begin" in text for name in BEGINNINGS)
