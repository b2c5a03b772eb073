"""Credentials in every shell's words: what our mint makes is safe in all of them, and anything else is not written."""

import json
import os
import re
import shlex
import subprocess
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from botocore.configloader import raw_config_parse
from botocore.session import Session
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from broker.doors.credential_formats import FORMATS, Target, process_form
from broker.doors.login_command import LoginCommand
from sts.mint import Grant, SessionKind, mint
from sts.token import Sealer, SealingKey

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
ENDPOINT = "https://sts.example.com"
CREDENTIALS = process_form(
    {"AccessKeyId": "ASIAQ", "SecretAccessKey": "a/b+c", "SessionToken": "dG9r==", "Expiration": NOW}
)
VARIABLES = {
    "AWS_ACCESS_KEY_ID": "AccessKeyId",
    "AWS_SECRET_ACCESS_KEY": "SecretAccessKey",
    "AWS_SESSION_TOKEN": "SessionToken",
}
# How each language reads its own line; double quotes end at the next, and neither $ nor ` nor \ nor % may be inside.
LINES = {
    "bash": r"export (\w+)=([^\s$`\\\"'|&;<>()~*?\[#!{}%^]*)",
    "fish": r"set -gx (\w+) \"([^\"$`\\]*)\"",
    "powershell": r"\$Env:(\w+)=\"([^\"$`\\]*)\"",
    "cmd": r"set (\w+)=([^\"%^&|<>!\s]*)",
    "docker": r"(\w+)=([^\s#]*)",
    "terraform": r"export (\w+)=([^\s$`\\\"'|&;<>()~*?\[#!{}%^]*)",
}

texts = st.text(max_size=60)
profiles = st.from_regex(r"[a-zA-Z0-9_+=,.@:/-]{1,20}( [a-zA-Z0-9_+=,.@:/-]{1,20})?", fullmatch=True)


@st.composite
def minted(draw):
    """Credentials as an answer has them, of any session and any chance."""
    chance = draw(st.randoms(use_true_random=False))
    grant = Grant(SessionKind.ROLE, "111122223333", "AROAQAAAAAAAAAAAAAAAA", draw(texts), "provider", draw(texts))
    sealer = Sealer((SealingKey("0a0b0c0d", bytes(range(32))),))
    made = mint(grant, 900, now=NOW, random=chance.randbytes, sealer=sealer).credentials
    return process_form(
        {
            "AccessKeyId": made.access_key_id,
            "SecretAccessKey": made.secret_access_key,
            "SessionToken": made.session_token,
            "Expiration": made.expiration,
        }
    )


@given(minted())
def test_what_is_minted_has_no_character_that_a_shell_takes_for_its_own(credentials):
    assert all(re.fullmatch(r"[A-Za-z0-9+/=]+", credentials[name]) for name in VARIABLES.values())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", credentials["Expiration"])


@given(minted(), st.sampled_from(sorted(LINES)), st.sampled_from(["", ENDPOINT]))
def test_every_line_assigns_one_variable_its_value_and_nothing_is_left_over(credentials, key, endpoint):
    text = FORMATS[key].text(credentials, Target(endpoint=endpoint))
    assert text.endswith("\n")
    found = dict(re.fullmatch(LINES[key], line).groups() for line in text.splitlines())
    assert found.items() >= {name: credentials[member] for name, member in VARIABLES.items()}.items()
    assert found["AWS_CREDENTIAL_EXPIRATION"] == "2026-03-01T12:15:00+00:00"
    assert found.get("AWS_ENDPOINT_URL_STS", "") == found.get("AWS_ENDPOINT_URL_IAM", "") == endpoint


@given(st.sampled_from(sorted(FORMATS)), st.sampled_from([*VARIABLES.values(), "Expiration"]), texts)
def test_a_value_with_any_other_character_is_not_written(key, member, text):
    assume(not re.fullmatch(r"[A-Za-z0-9+/=_.,:@\[\]-]*", text))
    credentials = {
        "Version": 1,
        "AccessKeyId": "ASIA",
        "SecretAccessKey": "s",
        "SessionToken": "t",
        "Expiration": "2026-03-01T12:15:00Z",
    }
    with pytest.raises(ValueError, match="no credentials"):
        FORMATS[key].text({**credentials, member: text})


@pytest.mark.parametrize("character", "$`\\\"'|&;<>()*?#!{}%^~ \t\n\r\0")
@pytest.mark.parametrize("key", FORMATS)
def test_an_address_that_a_shell_might_run_is_not_written(key, character):
    with pytest.raises(ValueError, match="a shell might"):
        FORMATS[key].text(CREDENTIALS, Target(endpoint=f"https://h{character}x"))


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize("key", ["bash", "terraform"])
def test_a_shell_that_runs_the_lines_has_the_variables(shell, key, tmp_path):
    (tmp_path / "e").touch()  # what an unquoted [::1e] would match
    text = FORMATS[key].text(CREDENTIALS, Target(endpoint="http://[::1]:8080"))
    done = subprocess.run(
        [shell, "-c", f"{text}env -0"], cwd=tmp_path, env={"PATH": os.environ["PATH"]}, capture_output=True, check=True
    )
    found = dict(line.split("=", 1) for line in done.stdout.decode().split("\0") if line)
    assert found.items() >= {name: CREDENTIALS[member] for name, member in VARIABLES.items()}.items()
    assert found["AWS_ENDPOINT_URL_STS"] == "http://[::1]:8080"
    assert not done.stderr


@settings(max_examples=50)
@given(minted(), profiles)
def test_a_section_reads_back_as_botocore_reads_it(credentials, profile):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "credentials")
        path.write_text("[before]\naws_access_key_id = x\n\n" + FORMATS["file"].text(credentials, Target(profile)))
        read = raw_config_parse(str(path))
    assert read[profile] == {name.lower(): credentials[member] for name, member in VARIABLES.items()}


def test_a_session_of_botocore_takes_the_section_with_its_address(tmp_path):
    path = tmp_path / "config"
    names = ["corp-dev", "corp dev", "default"]
    path.write_text("\n".join(FORMATS["file"].text(CREDENTIALS, Target(name, ENDPOINT)) for name in names[::2]))
    for name in names[::2]:
        check_section(path, name)
    path.write_text(FORMATS["file"].text(CREDENTIALS, Target(names[1], ENDPOINT)))
    check_section(path, names[1])


def check_section(path, name):
    session = Session(profile=name)
    session.set_config_variable("credentials_file", os.devnull)
    session.set_config_variable("config_file", str(path))
    found = session.get_credentials()
    assert (found.access_key, found.secret_key, found.token) == ("ASIAQ", "a/b+c", "dG9r==")
    addresses = {one: session.create_client(one).meta.endpoint_url for one in ("sts", "iam", "s3")}
    assert (addresses["sts"], addresses["iam"]) == (ENDPOINT, ENDPOINT)
    assert addresses["s3"].endswith(".amazonaws.com")


@pytest.mark.parametrize("name", ["", "a]", "[a", "a\nb", " a", "a ", "a  b", "a\tb", "ä", "a#b", "a;b", '"a"'])
def test_a_profile_that_would_not_be_read_as_it_is_written_is_refused(name):
    with pytest.raises(ValueError, match="profile's name"):
        FORMATS["file"].text(CREDENTIALS, Target(name))


@given(minted())
def test_json_is_what_a_credential_process_prints_with_the_offset_written_out(credentials):
    said = json.loads(FORMATS["json"].text(credentials))
    assert said == {**credentials, "Expiration": "2026-03-01T12:15:00+00:00"}


def test_json_with_an_address_says_it_beside_the_credentials():
    said = json.loads(FORMATS["json"].text(CREDENTIALS, Target(endpoint=ENDPOINT)))
    assert said.pop("Endpoint") == ENDPOINT
    assert said == json.loads(FORMATS["json"].text(CREDENTIALS))


@pytest.mark.parametrize("key", FORMATS)
def test_every_format_carries_the_address_before_the_credentials_where_lines_are_run(key):
    text = FORMATS[key].text(CREDENTIALS, Target(endpoint=ENDPOINT))
    assert ENDPOINT in text
    if FORMATS[key].shell:
        assert text.rindex(ENDPOINT) < text.index("ASIAQ")


def test_an_address_that_a_shell_might_run_is_not_written_at_a_failure_either():
    told = FORMATS["bash"].shell.refused("http://a/$(id)")
    assert "id" not in re.sub("[A-Z_]+|FEDGATE_LOGIN_FAILED", "", told).replace("identity", "")
    assert told.endswith("false\n")


def test_terraform_is_told_a_region_also_where_no_address_is():
    exported = dict(word.split("=", 1) for word in shlex.split(FORMATS["terraform"].text(CREDENTIALS)) if "=" in word)
    assert exported["AWS_REGION"] == "us-east-1"
    assert "AWS_ENDPOINT_URL_STS" not in exported


def test_every_format_has_a_title_and_a_suffix_of_its_language():
    assert len({one.title for one in FORMATS.values()}) == len(FORMATS)
    assert all(re.fullmatch("[a-z0-9]+", one.suffix) for one in FORMATS.values())


COMMAND = LoginCommand("carol", "arn:aws:iam::111122223333:role/ReadOnly", ENDPOINT, 900, read_only=True)


@pytest.mark.parametrize("key", FORMATS)
def test_a_shell_is_told_its_own_command_with_all_that_was_chosen(key):
    told = COMMAND.text(key)
    words = "fedgate login carol --endpoint https://sts.example.com --role arn:aws:iam::111122223333:role/ReadOnly"
    expected = {
        "bash": f'eval "$({words} --duration 900 --read-only)"',
        "fish": f"{words} --duration 900 --read-only --format fish | source",
        "powershell": f"{words} --duration 900 --read-only --format powershell | Invoke-Expression",
        "cmd": f"for /f \"delims=\" %i in ('{words} --duration 900 --read-only --format cmd') do @%i",
        "terraform": f'eval "$({words} --duration 900 --read-only --format terraform)"',
    }
    assert told == expected.get(key, "")


@pytest.mark.parametrize("key", ["bash", "fish", "powershell", "cmd"])
def test_a_name_that_a_shell_might_run_or_read_as_an_option_has_no_command(key):
    for name in ("a$(id)", "a`id`", 'a"b', "a;id", "a|b", "-x", "a%PATH%", "", "a'b", "a\nb", "ä"):
        assert replace(COMMAND, user=name).text(key) == ""
    assert '"ann b@x,y"' in replace(COMMAND, user="ann b@x,y").text(key)
