"""Documents from elsewhere: what is fetched, and every address and answer that is refused (THREATS F09)."""

import itertools
import ssl
import subprocess
import sys
import time
from contextlib import suppress
from ipaddress import ip_network

import pytest
from support.servers import HANG
from support.web_server import web_server

from broker.runtime.fetch import Fetcher, FetchError

LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with web_server(tmp_path_factory.mktemp("tls")) as running:
        yield running


@pytest.fixture(scope="module")
def plain():
    with web_server() as running:
        yield running


@pytest.fixture(scope="module")
def fetcher(server):
    return Fetcher(ssl.create_default_context(cafile=server.ca_file), LOOPBACK)


def refusal(fetcher, url):
    with pytest.raises(FetchError) as refused:
        fetcher.get(url)
    return str(refused.value)


def test_a_document_comes_whole_over_tls(server, fetcher):
    body = b"x" * 1_000_000
    assert fetcher.get(server.serve("/whole?a=b", body)) == body
    assert server.asked[-1] == "/whole?a=b"


@pytest.mark.parametrize(
    "address",
    [
        "https://127.0.0.1/", "https://127.1/", "https://2130706433/", "https://0x7f.0.0.1/", "https://0177.0.0.1/",
        "https://localhost/", "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://0.0.0.0/", "https://[::]/",
        "https://169.254.169.254/latest/meta-data/", "https://[fd00:ec2::254]/", "https://10.0.0.1/",
        "https://172.16.0.1/", "https://192.168.1.1/", "https://100.64.0.1/", "https://[fe80::1]/",
        "https://[64:ff9b::7f00:1]/", "https://[::7f00:1]/", "https://[::ffff:0:7f00:1]/", "https://[fec0::1]/",
        "https://[3fff::1]/", "https://[5f00::1]/", "https://[2001:db8::1]/", "https://192.88.99.1/", "https://192.0.0.8/",
        "https://[2002:7f00:1::]/", "https://224.0.0.1/", "https://255.255.255.255/",
    ],
)  # fmt: skip
def test_a_private_address_is_refused_before_anybody_is_asked(address):
    told = refusal(Fetcher(ssl.create_default_context()), address)
    assert "private address" in told


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("http://localhost/", "must begin with https://"),
        ("file:///etc/passwd", "must begin with https://"),
        ("ftp://localhost/", "must begin with https://"),
        ("", "must begin with https://"),
        ("https://", "must have a host"),
        ("https://user@localhost/", "neither a user"),
        ("https://localhost/#x", "nor a fragment"),
        ("https://localhost:99999/", "cannot be read"),
        ("https://localhost/a b", "characters that no address has"),
        ("https://localhost/\r\nHost: x", "characters that no address has"),
        ("https://localhost\\@evil.example/", "characters that no address has"),
        ("https://no-such-host.invalid/", "no-such-host.invalid has no address"),
    ],
)
def test_an_address_that_is_none_is_refused(fetcher, address, told):
    assert told in refusal(fetcher, address)


def test_plain_http_is_for_trials(plain):
    url = plain.serve("/", b"yes")
    assert Fetcher(ssl.create_default_context(), LOOPBACK, plain=True).get(url) == b"yes"
    assert "https" in refusal(Fetcher(ssl.create_default_context(), LOOPBACK), url)


def test_a_certificate_of_nobody_known_is_refused(server):
    told = refusal(Fetcher(ssl.create_default_context(), LOOPBACK), server.serve("/", b"x"))
    assert "unable to get local issuer certificate" in told


def test_a_certificate_of_another_name_is_refused(server, fetcher):
    told = refusal(fetcher, server.url("/", host="127.0.0.2"))
    assert "127.0.0.2" in told


def test_what_answers_otherwise_is_refused(server, fetcher):
    assert "status 404" in refusal(fetcher, server.url("/missing"))
    assert "status 302" in refusal(fetcher, server.serve("/away", b"", 302, Location=server.serve("/", b"x")))
    assert server.asked[-1] == "/away"
    assert "compressed" in refusal(fetcher, server.serve("/gzip", b"x", Content_Encoding="gzip"))


def test_what_is_too_large_is_refused_wherever_it_ends(server, fetcher):
    assert "larger than 1000000 bytes" in refusal(fetcher, server.serve("/large", b"x" * 1_000_001))

    def endless(handler):
        handler.send_response(200)
        handler.end_headers()
        with suppress(OSError):
            while True:
                handler.wfile.write(b"x" * 100_000)

    server.answers["/endless"] = endless
    assert "larger than 1000000 bytes" in refusal(fetcher, server.url("/endless"))


@pytest.mark.parametrize("part", ["head", "body"])
def test_who_answers_drop_by_drop_is_given_up(server, fetcher, part):
    def dripping(handler):
        handler.wfile.write(b"HTTP/1.0 200 OK\r\n" + (b"" if part == "head" else b"\r\n"))
        with suppress(OSError):
            for number in itertools.count():
                handler.wfile.write(f"X-{number}: y\r\n".encode())
                time.sleep(0.05)

    server.answers[f"/{part}"] = dripping
    quick = Fetcher(fetcher.tls, LOOPBACK, within=0.5)
    assert "takes longer than" in refusal(quick, server.url(f"/{part}"))


def test_nobody_who_listens_is_told_of(fetcher):
    assert "cannot be asked" in refusal(fetcher, "https://localhost:1/")


DRIP = """
from gevent import monkey
monkey.patch_all()
import socket, ssl, sys, threading, time
from ipaddress import ip_network
from broker.runtime.fetch import Fetcher, FetchError

listening = socket.create_server(("127.0.0.1", 0))

def drip():
    client, _ = listening.accept()
    client.recv(4096)
    # The head of a TLS record that says that much will follow, and then a byte now and then.
    client.sendall(bytes([22, 3, 3, 16, 0]))
    while True:
        time.sleep(0.1)
        try:
            client.sendall(b"x")
        except OSError:
            return

threading.Thread(target=drip, daemon=True).start()
fetcher = Fetcher(ssl.create_default_context(), (ip_network("127.0.0.0/8"),), within=0.5)
try:
    fetcher.get(f"https://127.0.0.1:{listening.getsockname()[1]}/")
except FetchError as error:
    print(error)
"""


def test_who_drips_a_handshake_is_given_up_under_gevent_too():
    done = subprocess.run([sys.executable, "-c", DRIP], capture_output=True, text=True, check=True, timeout=HANG)
    assert "takes longer than" in done.stdout
