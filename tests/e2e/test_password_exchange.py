"""Token exchange with a directory password, at a served broker, by plain HTTP."""

import json
import urllib.error
import urllib.parse
import urllib.request

from botocore.credentials import Credentials
from support.broker_process import NO_PROXY, PASSWORDS, Broker, role_arn
from support.servers import HANG


def exchange(broker: Broker, **form: str):
    given = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token_type": "urn:fedgate:params:oauth:token-type:password",
        **form,
    }
    data = urllib.parse.urlencode(given).encode()
    try:
        with NO_PROXY.open(urllib.request.Request(f"{broker.endpoint}/oauth2/token", data), timeout=HANG) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_a_directory_password_becomes_credentials(served):
    status, told = exchange(
        served, username="alice", subject_token=PASSWORDS["alice"], audience=role_arn("Administrator")
    )
    assert status == 200, told
    found = told["aws_credentials"]
    credentials = Credentials(found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"])
    assert served.client("sts", credentials).get_caller_identity()["Arn"] == told["assumed_role"]
    assert told["assumed_role"].endswith(":assumed-role/Administrator/alice")


def test_a_wrong_password_is_an_invalid_grant_and_says_no_more(served):
    status, told = exchange(served, username="bob", subject_token="wrong", audience=role_arn("Reader"))
    assert (status, told["error"]) == (400, "invalid_grant")
    assert "wrong" not in told["error_description"]


def test_somebody_whom_the_role_does_not_trust_has_an_invalid_target(served):
    status, told = exchange(served, username="carol", subject_token=PASSWORDS["carol"], audience=role_arn("Archive"))
    assert (status, told["error"]) == (400, "invalid_target")
