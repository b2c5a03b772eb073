"""`fedgate login` judges the route of the password, and not the address alone."""

import http.server
import threading
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from broker.cli import main
from broker.commands.login import _opener


class _Proxy(http.server.BaseHTTPRequestHandler):
    seen: list[str] = []  # noqa: RUF012 - one for each server

    def do_POST(self) -> None:
        self.seen.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_error(502)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def proxy() -> Iterator[tuple[str, list[str]]]:
    """A proxy that keeps what it is sent."""
    kind = type("Proxy", (_Proxy,), {"seen": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", kind.seen
        server.shutdown()


def login(endpoint: str, *options: str, **environ: str) -> str:
    names = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy")
    env = dict.fromkeys(names) | {"FEDGATE_PASSWORD": "s3cret"} | environ
    done = CliRunner().invoke(main, ["login", "alice", "--endpoint", endpoint, *options], env=env)
    assert done.exit_code != 0
    return done.output


@pytest.mark.parametrize("host", ["127.0.0.1:1", "localhost:1", "[::1]:1"])
def test_a_password_for_loopback_never_goes_through_a_proxy(proxy, host):
    address, seen = proxy
    for names in ("http_proxy", "HTTP_PROXY"):
        assert "does not answer" in login(f"http://{host}", **{names: address})
    assert seen == []


def test_plain_http_through_a_proxy_is_refused_even_where_plain_http_is_allowed(proxy):
    address, seen = proxy
    told = login("http://fed.invalid", "--allow-http", http_proxy=address)
    assert "through the proxy" in told
    assert "no_proxy" in told
    assert seen == []


def test_no_proxy_is_heeded(proxy):
    address, seen = proxy
    told = login("http://fed.invalid", "--allow-http", http_proxy=address, no_proxy="fed.invalid")
    assert "does not answer" in told
    assert seen == []


def test_only_https_beyond_this_machine_may_use_a_proxy():
    def proxies(endpoint: str) -> bool:
        return any("ProxyHandler" in type(handler).__name__ for handler in _opener(endpoint).handlers)

    assert not proxies("http://fed.example.com")
    assert not proxies("https://127.0.0.1:8443")
