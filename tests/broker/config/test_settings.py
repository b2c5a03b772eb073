import base64
import dataclasses
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.config.directories import DIRECTORY_SETTINGS
from broker.config.master_key import parse_master_key
from broker.config.reference import describe_settings
from broker.config.settings import Settings, SettingsError, embedded_socket
from broker.config.source import line_of, variable_of
from broker.providers.ldap.config import LdapConfig
from iam.limits import Limits

ROOT = Path(__file__).parents[3]
KEY = base64.b64encode(bytes(range(32))).decode()
ENVIRON = {"FEDGATE_MASTER_KEY": KEY}
DIRECTORY = """
[directory.corp]
type = "ldap"
urls = ["ldaps://ldap.corp.example"]
user_base = "ou=people,dc=corp,dc=example"
"""


@pytest.fixture
def read(tmp_path):
    def read(text="", **environ):
        config = tmp_path / "fedgate.toml"
        config.write_text(text)
        return Settings.read(config, {**ENVIRON, **environ})

    return read


def problems(read, text="", **environ):
    with pytest.raises(SettingsError) as caught:
        read(text, **environ)
    return [str(problem) for problem in caught.value.problems]


def test_nothing_at_all_is_enough_but_for_the_master_key():
    settings = Settings.read(None, ENVIRON)
    assert settings.bind == "127.0.0.1:8080"
    assert settings.public_url == "http://127.0.0.1:8080"
    assert settings.data_dir == Path.cwd() / "fedgate-data"
    assert settings.database_url == f"sqlite:///{settings.data_dir}/fedgate.db"
    assert settings.audit_dir == settings.data_dir / "audit"
    assert settings.redis_embedded
    assert settings.limits == Limits()
    assert settings.master_key == bytes(range(32))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("HTTPS://Fed.Example.com:443/", "https://fed.example.com"),
        ("https://fed.example.com:8443/A", "https://fed.example.com:8443/A"),
        ("http://LOCALHOST:80", "http://localhost"),
    ],
)
def test_the_public_address_is_kept_as_browsers_write_it(read, given, kept):
    assert read(f"[server]\npublic_url = '{given}'").public_url == kept


def test_other_defaults_lie_in_the_data_folder_and_its_path_starts_at_the_file(read, tmp_path):
    settings = read('[data]\ndir = "here"')
    assert settings.data_dir == tmp_path / "here"
    assert settings.master_key_file == tmp_path / "here" / "keys" / "master.key"
    assert settings.redis_url == f"unix://{embedded_socket(settings.data_dir)}"


def test_the_environment_wins_over_the_file(read):
    text = "[server]\nworkers = 3\n[limits]\nroles_per_account = 7" + DIRECTORY
    settings = read(
        text,
        FEDGATE_WORKERS="5",
        FEDGATE_LIMITS_ROLES_PER_ACCOUNT="9",
        FEDGATE_DIRECTORY_CORP_URLS="ldaps://a,ldaps://b",
    )
    assert settings.workers == 5
    assert settings.limits.roles_per_account == 9
    assert settings.directories["corp"].urls == ("ldaps://a", "ldaps://b")


def test_the_file_can_be_named_in_the_environment(tmp_path):
    (tmp_path / "f.toml").write_text("[server]\nworkers = 7")
    assert Settings.read(None, {**ENVIRON, "FEDGATE_CONFIG": str(tmp_path / "f.toml")}).workers == 7


REFUSED = [
    (
        "an unknown key",
        "[server]\n\nbnid = '127.0.0.1:1'",
        "line 3: server.bnid: unknown setting. Did you mean server.bind?",
    ),
    (
        "an unknown section",
        "[sever]\nbind = '127.0.0.1:1'",
        "line 2: sever.bind: unknown setting. Did you mean server.bind?",
    ),
    ("an unknown key at the top", "bind = '127.0.0.1:1'", "line 1: bind: unknown setting."),
    ("a dotted key", "server.workers = 0", "line 1: server.workers: must be 1 to 64"),
    ("a wrong type", "[server]\nworkers = '2'", "line 2: server.workers: must be a whole number"),
    ("true is no number", "[server]\nworkers = true", "line 2: server.workers: must be a whole number"),
    ("a list of numbers", "[server]\nregions = [1]", "line 2: server.regions: must be a list of texts"),
    ("no port", "[server]\nbind = '127.0.0.1'", 'line 2: server.bind: must be "HOST:PORT"'),
    ("too high a port", "[server]\nbind = '127.0.0.1:65536'", "line 2: server.bind: must be"),
    (
        "plain http beyond this machine",
        "[server]\nbind = '0.0.0.0:80'",
        "server.public_url: passwords and keys would cross",
    ),
    (
        "a plain public address",
        "[server]\npublic_url = 'http://sts.example.com'",
        "line 2: server.public_url: passwords",
    ),
    ("no address at all", "[server]\npublic_url = 'sts.example.com'", "line 2: server.public_url: must be http"),
    (
        "a password in the address",
        "[server]\npublic_url = 'https://a:b@sts'",
        "line 2: server.public_url: must be http",
    ),
    (
        "a proxy by name",
        "[server]\ntrusted_proxies = ['proxy']",
        "line 2: server.trusted_proxies: proxy is not a network",
    ),
    ("host bits in a network", "[server]\ntrusted_proxies = ['10.0.0.1/8']", "is not a network such as"),
    ("everybody as a proxy", "[server]\ntrusted_proxies = ['0.0.0.0/0']", "lets anybody claim any address"),
    ("a client without a digest", "[token_exchange]\nclients = ['app:s3cret']", "client 1 must be NAME:DIGEST"),
    (
        "the digest of nothing",
        "[token_exchange]\nclients = ['app:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855']",
        "client 1 must be NAME:DIGEST",
    ),
    ("nobody to exchange", "[token_exchange]\nregistered_only = true", "nobody could exchange"),
    ("another database", "[database]\nurl = 'mysql://x/y'", "line 2: database.url: must be sqlite"),
    ("a database in memory", "[database]\nurl = 'sqlite://'", "line 2: database.url: must name a file"),
    ("TLS to PostgreSQL", "[database]\nurl = 'postgresql+psycopg://h/d?sslmode=require'", "not built yet"),
    ("TLS to Redis", "[redis]\nurl = 'rediss://h'", "line 2: redis.url: TLS to Redis is not built yet"),
    ("Redis Sentinel", "[redis]\nurl = 'redis+sentinel://h'", "line 2: redis.url: Redis Sentinel is not built yet"),
    ("Redis Cluster", "[redis]\nurl = 'redis+cluster://h'", "line 2: redis.url: Redis Cluster is not built yet"),
    (
        "an open Redis",
        "[redis]\nurl = 'redis://10.0.0.5:6379'",
        "line 2: redis.url: a Redis on another machine needs a",
    ),
    (
        "an open Redis by name",
        "[redis]\nurl = 'redis://cache/0'",
        "line 2: redis.url: a Redis on another machine needs",
    ),
    (
        "a user of Redis",
        "[redis]\nurl = 'redis://fedgate@cache'",
        "line 2: redis.url: a Redis on another machine needs",
    ),
    ("no Redis at all", "[redis]\nurl = 'localhost:6379'", "line 2: redis.url: must be redis://"),
    ("an unknown flush", "[audit]\nsync = 'never'", 'line 2: audit.sync: must be "group" or "always"'),
    ("flushes without a pause", "[audit]\nflush_ms = 0", "line 2: audit.flush_ms: must be 10 to 10000"),
    ("a quota of nothing", "[limits]\nroles_per_account = 0", "line 2: limits.roles_per_account: must be above zero"),
    ("an unknown quota", "[limits]\nrole_per_account = 5", "Did you mean limits.roles_per_account?"),
    ("an unknown directory", "[directory.x]\ntype = 'nis'", "line 2: directory.x.type: must be one of ldap"),
    ("a directory without type", "[directory.x]\nurls = []", "line 1: directory.x.type: must be one of ldap"),
    (
        "a directory without base",
        "[directory.x]\ntype='ldap'\nurls=['ldaps://h']",
        "line 1: directory.x.user_base: is missing",
    ),
    ("a directory by no name", "[directory]\ntype = 'ldap'", "directory: write [directory.NAME]"),
    (
        "LDAP in clear beyond this machine (E07)",
        DIRECTORY.replace("ldaps:", "ldap:"),
        "line 4: directory.corp.urls: ldap:// beyond this machine needs start_tls = true",
    ),
    (
        "unverified TLS",
        DIRECTORY + "insecure_skip_tls_verify = true",
        "line 6: directory.corp.insecure_skip_tls_verify: remove",
    ),
    ("an unknown directory key", DIRECTORY + "user_bas = 'x'", "line 6: directory.corp.user_bas: unknown setting"),
    (
        "a bind DN without a password",
        DIRECTORY + "bind_dn = 'cn=x'",
        "directory.corp.bind_password: needed with bind_dn",
    ),
    (
        "a missing password file",
        DIRECTORY + "bind_password_file = 'none'",
        "line 6: directory.corp.bind_password_file:",
    ),
]


@pytest.mark.parametrize(("text", "expected"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_wrong_value_is_refused_with_line_key_and_remedy(read, text, expected):
    found = problems(read, text)
    assert any(expected in problem for problem in found), found
    assert len(found) == 1


def test_all_problems_are_told_at_once(read):
    assert len(problems(read, "[server]\nbnid = 1\nworkers = 0\n[audit]\nsync = 'x'", FEDGATE_NONSENSE="1")) == 4


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("FEDGATE_WORKERS", "two", "environment: FEDGATE_WORKERS: must be a whole number"),
        ("FEDGATE_WORKERS", "1_0", "environment: FEDGATE_WORKERS: must be a whole number"),
        ("FEDGATE_WORKERS", "٣", "environment: FEDGATE_WORKERS: must be a whole number"),
        ("FEDGATE_DEVELOPMENT", "yes", "environment: FEDGATE_DEVELOPMENT: must be true or false"),
        ("FEDGATE_REDIS_ULR", "x", "environment: FEDGATE_REDIS_ULR: unknown variable. Did you mean FEDGATE_REDIS_URL?"),
        ("FEDGATE_DIRECTORY_CORP_URLS", "ldaps://x", "environment: FEDGATE_DIRECTORY_CORP_URLS: unknown variable."),
    ],
)
def test_a_wrong_variable_is_refused_by_its_name(read, variable, value, expected):
    assert expected in problems(read, "", **{variable: value})[0]


@pytest.mark.parametrize(
    "variable",
    [
        "FEDGATE_SERVICE_HOST",
        "FEDGATE_PORT",
        "FEDGATE_PORT_8080_TCP_ADDR",
        "FEDGATE_REDIS_SERVICE_PORT",
        "FEDGATE_SERVICE_PORT_HTTP",
    ],
)
def test_what_kubernetes_puts_into_the_environment_is_no_setting(read, variable):
    assert read("", **{variable: "tcp://10.0.0.1:8080"}).bind == "127.0.0.1:8080"


def test_development_admits_what_is_unsafe(read):
    text = "[server]\ndevelopment = true\nbind = '0.0.0.0:80'\ntrusted_proxies = ['0.0.0.0/0']" + DIRECTORY
    settings = read(text + "insecure_skip_tls_verify = true")
    assert settings.directories["corp"].insecure_skip_tls_verify


def test_a_proxy_with_tls_in_front_makes_any_address_safe(read):
    assert (
        read("[server]\nbind = '0.0.0.0:80'\npublic_url = 'https://sts.example.com/'").public_url
        == "https://sts.example.com"
    )


def test_a_bind_password_comes_from_a_file_without_its_line_end(read, tmp_path):
    (tmp_path / "password").touch(mode=0o600)
    for written in (b"s3cret \n", b"s3cret \r\n", b"\xef\xbb\xbfs3cret \n"):
        (tmp_path / "password").write_bytes(written)
        settings = read(DIRECTORY + "bind_dn = 'cn=x'\nbind_password_file = 'password'")
        assert settings.directories["corp"].bind_password == "s3cret "


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o622])
def test_a_file_with_a_password_that_others_can_read_is_refused(read, tmp_path, mode):
    (tmp_path / "password").write_text("s3cret")
    (tmp_path / "password").chmod(mode)
    with pytest.raises(SettingsError, match=r"can be read by others: chmod 600"):
        read(DIRECTORY + "bind_dn = 'cn=x'\nbind_password_file = 'password'")


def test_a_byte_order_mark_and_line_ends_of_windows_are_no_part_of_the_settings(read):
    text = "\ufeff[server]\r\nbind = '127.0.0.1:1'\r\n" + DIRECTORY
    assert read(text).bind == "127.0.0.1:1"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[server]\nbind = '1:1'".encode("utf-16"), "is in UTF-16, which Notepad calls Unicode: save it as UTF-8"),
        ("[server]".encode("utf-16-le"), "is in UTF-16 or is not text"),
        ("[server]".encode("utf-32"), "is in UTF-32"),
        ("[server]\n# é".encode("latin-1"), "is not UTF-8 in line 2: save it as UTF-8"),
        (b"[server]\rbind = '1:1'\r", "carriage return alone"),
        ("[server]\nbind = “1:1”".encode(), 'in line 2, “ (U+201C) is a curly quotation mark: write "'),
        ("[server]\nbind\u00a0= '1:1'".encode(), "in line 2, \u00a0 (U+00A0) is a no-break space"),
        (b"[server]\nbind = ", "is not TOML: Invalid value (at end of document)"),
    ],
)
def test_what_an_editor_left_in_the_file_is_named(tmp_path, content, told):
    file = tmp_path / "fedgate.toml"
    file.write_bytes(content)
    with pytest.raises(SettingsError) as refused:
        Settings.read(file, {})
    assert told in str(refused.value)


def test_a_bind_password_comes_from_the_environment(read):
    settings = read(DIRECTORY + "bind_dn = 'cn=x'", FEDGATE_DIRECTORY_CORP_BIND_PASSWORD="s3cret")
    assert settings.directories["corp"].bind_password == "s3cret"


def test_settings_print_no_secret(read):
    text = (
        DIRECTORY + "bind_dn = 'cn=x'\nbind_password = 'hush-1'\n[database]\nurl='postgresql+psycopg://u:hush-2@h/d'\n"
    )
    shown = repr(read(text + "[redis]\nurl = 'redis://:hush-3@h'"))
    assert "hush" not in shown
    assert repr(bytes(range(32))) not in shown


def test_the_master_key_is_read_from_a_file_of_this_user_alone(tmp_path):
    file = tmp_path / "keys" / "master.key"
    environ = {"FEDGATE_DATA_DIR": str(tmp_path)}
    with pytest.raises(SettingsError, match=r"keys.master_key_file: .* does not exist: `fedgate init` makes it"):
        Settings.read(None, environ)
    file.parent.mkdir()
    file.write_text(KEY + "\n")
    file.chmod(0o640)
    with pytest.raises(SettingsError, match="can be read by others: chmod 600"):
        Settings.read(None, environ)
    file.chmod(0o600)
    assert Settings.read(None, environ).master_key == bytes(range(32))


@pytest.mark.parametrize("text", ["", "AAAA", "!" * 44, base64.b64encode(bytes(33)).decode()])
def test_a_master_key_of_another_size_or_alphabet_is_refused_and_not_shown(text):
    with pytest.raises(SettingsError) as caught:
        Settings.read(None, {"FEDGATE_MASTER_KEY": text})
    assert "FEDGATE_MASTER_KEY" in str(caught.value)
    assert not text or text not in str(caught.value)


def test_white_space_around_a_master_key_is_nothing():
    assert parse_master_key(f"  {KEY}\n") == bytes(range(32))


def test_a_file_that_is_no_toml_is_refused_with_its_line(read):
    assert "line 2" in problems(read, "[server]\nworkers = = 2\n")[0]


@given(st.text("abcdefghij_", min_size=1, max_size=12), st.integers(0, 20))
def test_line_of_finds_every_key_wherever_it_stands(key, above):
    text = "# a comment\n" * above + f"[server]\n{key} = 1\n"
    assert line_of(text, ("server", key)) == above + 2


def test_a_deep_data_folder_gets_a_socket_that_fits_and_is_the_same_each_time():
    deep = Path("/srv/" + "x" * 120)
    assert embedded_socket(deep) == embedded_socket(deep)
    assert embedded_socket(deep) != embedded_socket(deep / "y")
    assert len(os.fsencode(embedded_socket(deep))) < 100


def test_every_field_of_a_directory_is_described():
    fields = {one.name for one in dataclasses.fields(LdapConfig)} - {"name"}
    assert set(DIRECTORY_SETTINGS) == fields | {"type", "bind_password_file"}


def test_every_setting_stands_in_the_reference_as_the_program_describes_it():
    page = (ROOT / "docs" / "reference" / "settings.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (?:`(.*?)`)? ?\| `(\w+)` \| (.*) \|$", page, re.MULTILINE)
    assert [(key, default.replace("\\|", "|"), variable, text) for key, default, variable, text in rows] == [
        (one.key, one.default, one.variable, one.description) for one in describe_settings()
    ]


def test_no_two_settings_have_the_same_variable():
    variables = [one.variable for one in describe_settings()]
    assert len(set(variables)) == len(variables)
    assert variable_of(("redis", "url")) == "FEDGATE_REDIS_URL"


def test_the_example_for_production_loads():
    text = (ROOT / "deploy" / "fedgate.example.toml").read_text()
    settings = Settings.read(
        ROOT / "deploy" / "fedgate.example.toml", {**ENVIRON, "FEDGATE_DIRECTORY_CORP_BIND_PASSWORD": "x"}
    )
    assert settings.directories["corp"].login_domains == ("CORP", "corp.example.com")
    assert 'bind_password_file = "/etc/fedgate/corp-password"' in text
