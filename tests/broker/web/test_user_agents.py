"""What people read of a User-Agent header."""

import pytest
from flask import Flask

from broker.web.core.user_agents import client_name
from broker.web.i18n.languages import init_babel

LIKE = "AppleWebKit/537.36 (KHTML, like Gecko)"
NAMES = {
    f"Mozilla/5.0 (X11; Linux x86_64) {LIKE} Chrome/140.0.0.0 Safari/537.36": "Chrome on Linux",
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {LIKE} Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0": "Edge on Windows",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:143.0) Gecko/20100101 Firefox/143.0": "Firefox on macOS",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605.1.15 Version/19.0 Safari/604.1":
        "Safari on iPhone",
    f"Mozilla/5.0 (Linux; Android 16) {LIKE} SamsungBrowser/29.0 Chrome/136.0.0.0": "Samsung Internet on Android",
    "aws-cli/2.31.0 md/awscrt#0.27.6 ua/2.1 os/macos#25.0.0 md/arch#arm64 lang/python#3.13.7": "AWS CLI on macOS",
    "Boto3/1.40.0 md/Botocore#1.40.0 ua/2.1 os/linux#6.8.0 lang/python#3.11.2": "boto3 on Linux",
    "curl/8.5.0": "curl",
    "saml2aws/2.36": "saml2aws/2.36",
    "x" * 200: "x" * 40,
    "": "unknown",
}  # fmt: skip


@pytest.mark.parametrize("header", NAMES)
def test_a_program_and_its_system_are_named_as_people_call_them(header):
    app = Flask("names")
    init_babel(app)
    with app.test_request_context():
        assert client_name(header) == NAMES[header]
