"""Between WSGI and the gate: bodies, addresses, paths, and what is no call of the API."""

import gzip
import io
import json
from ipaddress import ip_network

import pytest
from botocore.credentials import Credentials
from support.installation import Installation, environment
from support.servers import eventually, redis_server
from support.wire import FORM, HOST, WHO, Signer, Wire

from broker import wiring
from broker.api import wsgi_adapter
from broker.api.forwarded import FORWARDED, TrustedProxies
from broker.api.request_keys import http_keys
from broker.runtime.health import RememberedCheck


def records(installation: Installation) -> list[dict]:
    return [json.loads(line) for line in installation.services.storage.audit.path.read_text().splitlines()]


# --- bodies -----------------------------------------------------------------------------------------------------------


def test_a_chunked_body_is_read_without_a_declared_length(installation, root):
    wire = Signer(root[1]).signed().having("Transfer-Encoding", "chunked").having("Content-Length", "")
    assert wire.send(installation).status == 200


def test_a_body_that_nothing_announces_is_not_read(installation, root):
    wire = Signer(root[1]).signed().having("Content-Length", "")
    assert wire.send(installation).code == "MissingAction"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "GZIP", "identity, gzip", "aws-chunked", "x"])
def test_a_compressed_body_is_refused_and_told_why(installation, root, coding):
    signed = Signer(root[1]).signed()
    wire = Wire("POST", "/", {**signed.headers, "Content-Encoding": coding}, gzip.compress(signed.body))
    answer = wire.send(installation)
    assert (answer.status, answer.code) == (400, "MalformedInput")
    assert "Content-Encoding" in answer.message
    assert [record["errorCode"] for record in records(installation)] == ["MalformedInput"]


def test_identity_is_no_compression(installation, root):
    assert Signer(root[1]).signed().having("Content-Encoding", "identity").send(installation).status == 200


def test_a_body_that_ends_early_is_not_taken_for_a_shorter_one(installation):
    form = b"Action=AssumeRoleWithLDAPIdentity&Version=2011-06-15&LDAPUsername=ann&LDAPPassword=half"
    wire = Wire("POST", "/", {"Host": HOST, "Content-Type": FORM, "Content-Length": str(len(form) + 4)}, form)
    answer = wire.send(installation)
    assert (answer.status, answer.code) == (400, "MalformedInput")
    assert len(records(installation)) == 1


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=x", "text/plain"])
def test_a_body_that_is_no_form_is_refused(installation, root, kind):
    answer = Signer(root[1]).signed(headers={"Content-Type": kind}).send(installation)
    assert (answer.status, answer.code) == (400, "MalformedInput")


# --- where a request comes from ---------------------------------------------------------------------------------------

NETWORKS = tuple(ip_network(text) for text in ("10.0.0.0/8", "192.0.2.7/32", "fd00::/8"))
PROXIES, RFC_7239 = TrustedProxies(NETWORKS), TrustedProxies(NETWORKS, FORWARDED)


def environ(peer: str, scheme: str = "http", **more: str) -> dict:
    return {
        "REQUEST_METHOD": "POST",
        "RAW_URI": "/",
        "PATH_INFO": "/",
        "QUERY_STRING": "",
        "REMOTE_ADDR": peer,
        "wsgi.url_scheme": scheme,
        "wsgi.input": io.BytesIO(),
        **more,
    }


@pytest.mark.parametrize(
    ("peer", "forwarded", "source"),
    [
        ("198.51.100.9", None, "198.51.100.9"),
        ("198.51.100.9", "203.0.113.5", "198.51.100.9"),  # B34: whoever is no proxy of ours says nothing
        ("10.1.2.3", None, "10.1.2.3"),
        ("10.1.2.3", "", "10.1.2.3"),
        ("10.1.2.3", "203.0.113.5", "203.0.113.5"),
        ("10.1.2.3", "1.1.1.1, 203.0.113.5", "203.0.113.5"),  # what the client wrote itself does not count
        ("10.1.2.3", "1.1.1.1, 203.0.113.5,10.9.9.9 , 192.0.2.7", "203.0.113.5"),
        ("10.1.2.3", "10.4.4.4", "10.4.4.4"),
        ("10.1.2.3", "2001:DB8:0::5", "2001:db8::5"),
        ("::ffff:10.1.2.3", "203.0.113.5", "203.0.113.5"),
        ("::ffff:198.51.100.9", "203.0.113.5", "198.51.100.9"),
        ("fd00::1", "203.0.113.5", "203.0.113.5"),
        # No address: no condition on addresses can allow it.
        ("10.1.2.3", "unknown", ""),
        ("10.1.2.3", "203.0.113.5:443", "203.0.113.5"),  # B2: as Azure's gateways write it
        ("10.1.2.3", "1.1.1.1:80, 203.0.113.5:51234, 10.9.9.9:8080", "203.0.113.5"),
        ("10.1.2.3", "[2001:db8::5]", "2001:db8::5"),
        ("10.1.2.3", "[2001:db8::5]:51234", "2001:db8::5"),
        ("10.1.2.3", '"[2001:db8::5]:51234"', "2001:db8::5"),
        ("10.1.2.3", "[fe80::5%eth0]:51234", "fe80::5"),
        ("10.1.2.3", "fe80::5%25eth0", "fe80::5"),
        ("10.1.2.3", "::ffff:203.0.113.5", "203.0.113.5"),
        ("fd00::1%eth0", "203.0.113.5", "203.0.113.5"),
        ("10.1.2.3", "1.1.1.1, , 203.0.113.5,", "203.0.113.5"),
        ("10.1.2.3", "not an address, 203.0.113.5", "203.0.113.5"),  # the client's own words spoil nothing
        ("10.1.2.3", "203.0.113.5, unknown", ""),
        ("10.1.2.3", "203.0.113.5:port", ""),
        ("10.1.2.3", "203.0.113.005", ""),
        ("10.1.2.3", "[203.0.113.5", ""),
        ("10.1.2.3", "1.1.1.1, evil\t10.0.0.1", ""),
        ("", "203.0.113.5", ""),
    ],
)
def test_only_a_trusted_proxy_says_where_a_request_comes_from(peer, forwarded, source):
    more = {} if forwarded is None else {"HTTP_X_FORWARDED_FOR": forwarded}
    assert wsgi_adapter.read_request_head(environ(peer, **more), PROXIES).source_ip == source


def test_nobody_is_believed_where_no_proxy_is_trusted():
    nobody = TrustedProxies()
    assert (
        wsgi_adapter.read_request_head(environ("10.1.2.3", HTTP_X_FORWARDED_FOR="1.1.1.1"), nobody).source_ip
        == "10.1.2.3"
    )


# Forwarded: -> address, whether TLS was used
RFC_7239_CASES = {
    "": ("10.1.2.3", False),
    "for=203.0.113.5": ("203.0.113.5", False),
    "for=203.0.113.5;proto=https": ("203.0.113.5", True),
    "Proto=HTTPS ; For=203.0.113.5;by=_proxy;": ("203.0.113.5", True),
    'for="203.0.113.5:47011";proto=https': ("203.0.113.5", True),
    'for="[2001:db8:cafe::17]:4711"': ("2001:db8:cafe::17", False),
    'for="[2001:db8:cafe::17]:_port"': ("2001:db8:cafe::17", False),
    r'for="\[2001:db8::1\]"': ("2001:db8::1", False),
    "for=1.1.1.1;proto=https, for=203.0.113.5;proto=http": ("203.0.113.5", False),
    "for=203.0.113.5;proto=https,for=10.2.2.2;proto=http": ("203.0.113.5", True),
    'for=203.0.113.5;note="a,b;c\\"d"': ("203.0.113.5", False),
    'for="evil, for=203.0.113.5': ("203.0.113.5", False),  # what the client sent is not closed
    'for=1.1.1.1;x=", for="[2001:db8::1]"': ("2001:db8::1", False),
    "=,;, for=203.0.113.5": ("203.0.113.5", False),
    "for=unknown;proto=https": ("", True),
    "for=_hidden": ("", False),
    "proto=https": ("", True),
    "203.0.113.5": ("", False),
    "for=203.0.113.5;for=10.2.2.2": ("", False),
    "for=[2001:db8::1]:443;proto=https": ("2001:db8::1", True),  # as some proxies write it, without quotes
    "for=203.0.113.5:47011": ("203.0.113.5", False),
    "for=203.0.113.5, broken": ("", False),
}


@pytest.mark.parametrize("header", RFC_7239_CASES)
def test_forwarded_is_read_as_rfc_7239_says(header):
    more = {"HTTP_FORWARDED": header, "HTTP_X_FORWARDED_FOR": "1.2.3.4", "HTTP_X_FORWARDED_PROTO": "https"}
    request = wsgi_adapter.read_request_head(environ("10.1.2.3", **more), RFC_7239)
    assert (request.source_ip, request.secure) == RFC_7239_CASES[header]


def test_the_family_that_the_settings_do_not_name_is_not_read():
    request = wsgi_adapter.read_request_head(environ("10.1.2.3", HTTP_FORWARDED="for=1.1.1.1;proto=https"), PROXIES)
    assert (request.source_ip, request.secure) == ("10.1.2.3", False)


@pytest.mark.parametrize(
    ("addresses", "schemes", "secure"),
    [
        ("203.0.113.5, 10.9.9.9", "https,http", True),  # each proxy adds both
        ("203.0.113.5, 10.9.9.9", "https", True),  # the last one to set it
        ("203.0.113.5", "https,http", False),  # the left one may be the client's own word
        ("1.1.1.1, 203.0.113.5", "https, http", False),
    ],
)
def test_address_and_scheme_are_those_of_one_hop(addresses, schemes, secure):
    more = {"HTTP_X_FORWARDED_FOR": addresses, "HTTP_X_FORWARDED_PROTO": schemes}
    request = wsgi_adapter.read_request_head(environ("10.1.2.3", **more), PROXIES)
    assert (request.source_ip, request.secure) == ("203.0.113.5", secure)


def test_an_address_that_cannot_be_read_is_absent_counts_for_the_proxy_and_is_shown():
    request = wsgi_adapter.read_request_head(environ("10.1.2.3", HTTP_X_FORWARDED_FOR="u" * 500), PROXIES)
    assert "aws:sourceip" not in http_keys(request, wiring.now(), None)
    assert (request.counted_address, request.recorded_address) == ("10.1.2.3", "u" * 100)


@pytest.mark.parametrize(
    ("peer", "scheme", "forwarded", "secure"),
    [
        ("198.51.100.9", "http", None, False),
        ("198.51.100.9", "http", "https", False),
        ("198.51.100.9", "https", "http", True),
        ("10.1.2.3", "http", "https", True),
        ("10.1.2.3", "http", " HTTPS", True),
        ("10.1.2.3", "https", "http", False),
        ("10.1.2.3", "http", "https,http", True),  # B2: the client's proxy is the first of the list
        ("10.1.2.3", "http", None, False),
    ],
)
def test_only_a_trusted_proxy_says_that_tls_was_used(peer, scheme, forwarded, secure):
    more = {} if forwarded is None else {"HTTP_X_FORWARDED_PROTO": forwarded}
    assert wsgi_adapter.read_request_head(environ(peer, scheme, **more), PROXIES).secure is secure


@pytest.mark.parametrize(("trusted", "source"), [("", "198.51.100.9"), ("198.51.100.0/24", "203.0.113.5")])
def test_the_settings_name_the_proxies_and_the_record_names_the_client(tmp_path, redis_url, trusted, source):
    installation = Installation(tmp_path, environment(tmp_path, redis_url, FEDGATE_TRUSTED_PROXIES=trusted))
    _, root = installation.account()
    wire = Signer(root).signed().having("X-Forwarded-For", "203.0.113.5")
    assert wire.send(installation, peer="198.51.100.9").status == 200
    assert records(installation)[-1]["sourceIPAddress"] == source
    installation.close()


# --- paths and methods ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "path", "query"),
    [
        ("/", "/", ""),
        ("/?a=%20b&c", "/", "a=%20b&c"),
        ("/?a=b?c", "/", "a=b?c"),
        ("?a=b", "/", "a=b"),
        ("http://broker.corp:8080/?a=b", "/", "a=b"),
        ("http://broker.corp?a=b", "/", "a=b"),
    ],
)
def test_path_and_query_are_kept_as_they_were_sent(raw, path, query):
    request = wsgi_adapter.read_request_head(environ("127.0.0.1") | {"RAW_URI": raw}, TrustedProxies())
    assert (request.path, request.query) == (path, query)


def test_the_root_without_a_query_greets(installation):
    answer = installation.request("GET", "/", {"Host": HOST})
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert b"Fedgate is running" in answer.body
    assert installation.request("HEAD", "/", {"Host": HOST}).body == b""


@pytest.mark.parametrize(
    ("method", "uri", "status"),
    [
        ("GET", "/nothing", 404),
        ("POST", "/nothing", 404),
        ("POST", f"/nothing?{WHO}", 404),
        ("POST", "/healthz", 405),
        ("PUT", "/", 405),
        ("DELETE", "/", 405),
        ("PATCH", "/", 405),
        ("TRACE", "/", 405),
        ("PUT", f"/?{WHO}", 405),
        ("TRACE", f"/?{WHO}", 405),
        ("BREW", "/", 405),
        ("HEAD", f"/?{WHO}", 200),
        ("OPTIONS", f"/?{WHO}", 200),
    ],
)
def test_what_is_no_call_of_the_api_never_reaches_the_gate(installation, root, method, uri, status):
    signed = Signer(root[1]).signed(method=method, uri=uri)
    answer = signed.send(installation)
    assert answer.status == status
    assert root[0].encode() not in answer.body
    assert b"nothing" not in answer.body
    assert "x-amzn-RequestId" not in answer.headers
    assert {record["eventSource"] for record in records(installation)} <= {"signin.fedgate"}


def test_a_page_that_is_not_there_gives_a_reference_and_echoes_nothing(installation):
    answer = installation.request("GET", "/<script>alert(1)</script>", {"Host": "evil.example"})
    assert answer.status == 404
    assert b"Reference: " in answer.body
    assert b"script" not in answer.body
    assert b"evil" not in answer.body


# --- health -----------------------------------------------------------------------------------------------------------


def test_health_is_told_while_everything_is_there(installation):
    assert installation.request("GET", "/healthz", {"Host": HOST}).status == 200
    ready = installation.request("GET", "/readyz", {"Host": HOST})
    assert ready.status == 200
    assert json.loads(ready.body)["checks"] == {"sql": "ok", "redis": "ok", "audit": "ok", "clock": "ok"}


def test_without_redis_the_process_is_alive_and_not_ready_and_says_no_more_than_which_part(tmp_path):
    with redis_server() as url:
        installation = Installation(tmp_path, environment(tmp_path, url))
        assert installation.request("GET", "/readyz", {"Host": HOST}).status == 200
    eventually(lambda: installation.request("GET", "/readyz", {"Host": HOST}).status == 503)
    ready = installation.request("GET", "/readyz", {"Host": HOST})
    assert installation.request("GET", "/healthz", {"Host": HOST}).status == 200
    installation.close()
    assert ready.status == 503
    assert json.loads(ready.body) == {
        "status": "not ready",
        "checks": {"sql": "ok", "redis": "failed: ConnectionError", "audit": "ok", "clock": "ok"},
    }


def test_no_check_runs_for_each_request_of_a_stranger(installation):
    checks = installation.services.api.health_checks
    assert {"sql", "redis", "audit", "clock"} <= set(checks)
    assert all(isinstance(check, RememberedCheck) for check in checks.values())


def test_an_audit_log_that_cannot_be_written_makes_it_unready(installation):
    installation.services.storage.audit.close()
    eventually(lambda: installation.request("GET", "/readyz", {"Host": HOST}).status == 503)
    ready = installation.request("GET", "/readyz", {"Host": HOST})
    assert ready.status == 503
    assert json.loads(ready.body)["checks"]["audit"] == "failed: AuditUnavailable"


# --- headers of answers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", ["right", "wrong"])
@pytest.mark.parametrize(("accept", "kind"), [("*/*", "text/xml"), ("application/json", "application/json")])
def test_every_answer_names_its_request_and_is_kept_by_nobody(installation, root, secret, accept, kind):
    credentials = root[1] if secret == "right" else Credentials(root[1].access_key, "x" * 40)
    answer = Signer(credentials).signed().having("Accept", accept).send(installation)
    assert answer.status == (200 if secret == "right" else 403)
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Type"] == kind
    assert answer.headers["Content-Length"] == str(len(answer.body))
    told = answer.headers["x-amzn-RequestId"]
    assert answer.body.count(told.encode()) == 1
    assert records(installation)[-1]["requestID"] == told


def test_no_two_requests_share_an_id(installation, root):
    ids = {Signer(root[1]).signed().send(installation).headers["x-amzn-RequestId"] for _ in range(20)}
    assert len(ids) == 20
