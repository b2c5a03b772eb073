"""`fedgate login` says of a second factor that is missing or wrong what to do next, and where the pages explain it."""

import http.server
import json
import os
import pty
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator

import pytest
from support.servers import HANG

from broker.signin import second_factor

GIVEN = {None: second_factor.CODE_MISSING, "000000": second_factor.INVALID_CODE, "111111": second_factor.NO_APP}


class _Refuses(http.server.BaseHTTPRequestHandler):
    """The service, which refuses a right password as it does with each of these codes."""

    def do_POST(self) -> None:
        sent = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        error = {"Code": "AccessDenied", "Message": GIVEN[sent.get("TokenCode")]}
        body = json.dumps({"Error": error, "RequestId": "0a1b2c3d-4e5f"}).encode()
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def refused(endpoint: str, *options: str, stdin: int = subprocess.DEVNULL) -> str:
    command = [sys.executable, "-m", "broker.cli", "login", "ann", "--endpoint", endpoint, *options]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("FEDGATE_")}
    environ["FEDGATE_PASSWORD"] = "right"
    done = subprocess.run(command, stdin=stdin, env=environ, capture_output=True, text=True, timeout=HANG, check=False)
    assert done.returncode != 0
    assert "Reference: 0a1b2c3d\n" in done.stderr
    assert f"{endpoint}/security" in done.stderr
    assert "/why" not in done.stderr  # it is no question of roles
    return done.stderr


def test_without_a_terminal_a_missing_code_names_the_option(endpoint):
    assert "Give the code with --token-code." in refused(endpoint)


def test_a_wrong_code_says_to_wait_for_the_next_one(endpoint):
    assert "wait for the next one" in refused(endpoint, "--token-code", "000000")


def test_who_has_no_app_is_told_to_set_one_up(endpoint):
    assert "set up an authenticator app" in refused(endpoint, "--token-code", "111111")


def test_at_a_terminal_the_code_is_asked_for_and_a_wrong_one_explained(endpoint):
    keyboard, terminal = pty.openpty()
    try:
        os.write(keyboard, b"000000\n")
        told = refused(endpoint, stdin=terminal)
    finally:
        os.close(keyboard)
        os.close(terminal)
    assert "Authenticator code" in told
    assert "wait for the next one" in told
