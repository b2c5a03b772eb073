"""An installation with resources, and the command line on it."""

import pytest
from click.testing import CliRunner
from support.administrator import Administrator, allow

from broker.cli import main

SETTINGS = """
[resource.store]
kind = "s3"
hosts = ["s3.example.com", "*.s3.example.com"]
account = "{account}"
policy_file = "policy.json"
[resource.store.backend]
endpoint = "http://127.0.0.1:7480"
access_key_id = "RGW"
secret_file = "secret"

[resource.api]
kind = "http"
hosts = ["api.example.com"]
account = "{account}"
anonymous = true
[[resource.api.route]]
methods = ["GET", "HEAD"]
path = "/teams/{{team}}/reports/{{report}}"
action = "reports:GetReport"
resource = "arn:aws:reports:us-east-1:{account}:team/{{team}}/{{report}}"
keys = {{ "reports:Team" = "{{team}}" }}
[[resource.api.route]]
methods = ["DELETE"]
path = "/teams/{{team}}"
action = "reports:Purge"
resource = "arn:aws:reports:us-east-1:{account}:team/{{team}}"
query = {{ all = "*" }}
headers = {{ X-Purpose = "audit" }}

[resource.plain]
kind = "http"
hosts = ["plain.example.com"]
account = "{account}"
stage = "prod"
"""


@pytest.fixture
def admin(installation):
    admin = Administrator.of_a_new_account(installation)
    admin.user("ann", allow("s3:GetObject", "arn:aws:s3:::photos/${aws:username}/*"))
    return admin


@pytest.fixture
def settings(admin, tmp_path):
    (tmp_path / "secret").touch(mode=0o600)
    (tmp_path / "secret").write_text("hush")
    (tmp_path / "policy.json").write_text(allow("s3:ListBucket", Principal={"AWS": admin.account_id}))
    file = tmp_path / "resources.toml"
    file.write_text(SETTINGS.format(account=admin.account_id))
    return file


@pytest.fixture
def fedgate(admin, settings):
    def run(*arguments, status=0, told=None, request=()):
        behind = ("--", *request) if request else ()
        done = CliRunner().invoke(
            main,
            [*map(str, (*arguments, "--config", settings, *behind))],
            env=admin.installation.environ,
            input=told,
        )
        assert done.exit_code == status, done.output
        return done.output

    return run
