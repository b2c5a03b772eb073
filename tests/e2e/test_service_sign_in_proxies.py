"""Signing in to a web application behind each proxy as `deploy/` configures it, over TLS."""

import urllib.parse

import pytest
from support.authorizer_stub import stub_servers
from support.broker_process import ACCOUNT, PASSWORDS, Broker, allow, role_arn
from support.front_proxy import RESOURCE, SETTINGS
from support.http_browser import Browser
from support.proxies import PROXIES, running_proxy
from support.servers import free_port

PAGE = (("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document"), ("Accept", "text/html"))
POSTED = (("Content-Type", "application/x-www-form-urlencoded"), ("Sec-Fetch-Site", "same-origin"))
BOB = f"arn:aws:sts::{ACCOUNT}:assumed-role/Visitor/bob"


@pytest.fixture(scope="module")
def service():
    with stub_servers() as stub:
        yield stub


@pytest.fixture(scope="module")
def ports():
    return {name: free_port() for name in ("authz", *PROXIES)}


@pytest.fixture(scope="module")
def broker(tmp_path_factory, slapd, furnished, shared_redis, ports):
    hosts = '", "'.join(f"wiki.example.com:{ports[name]}" for name in PROXIES)
    more = SETTINGS.format(**ports) + RESOURCE.format(
        name="wiki", host=hosts, account=ACCOUNT, role=role_arn("Visitor")
    )
    port = free_port()
    server = {"bind": f"127.0.0.1:{port}", "public_url": f"http://127.0.0.1:{port}"}
    broker = Broker(tmp_path_factory.mktemp("broker"), slapd, shared_redis, server=server, more=more).like(furnished)
    try:
        broker.start()
        broker.role_for("bob", "Visitor", allow("execute-api:Invoke"))
        yield broker
    finally:
        broker.close()


@pytest.fixture(params=PROXIES)
def proxy(request, service, ports, tmp_path):
    service.reset()
    addresses = {"authorizer": f"127.0.0.1:{ports['authz']}", "upstream": f"127.0.0.1:{service.service_port}"}
    with running_proxy(request.param, "http", tmp_path, port=ports[request.param], **addresses) as running:
        yield running


def cookie_of(answer):
    name, _, rest = answer.headers["set-cookie"].partition("=")
    return f"{name}={rest.partition(';')[0]}"


def test_a_person_signs_in_writes_and_signs_out(broker, service, proxy):
    host = ("Host", f"wiki.example.com:{proxy.port}")
    begun = proxy.ask("GET", "/pages?name=first", host, *PAGE)
    assert begun.status == 302, begun.body
    browser = Browser()
    page = browser.submit(browser.get(begun.headers["location"]), username="bob", password=PASSWORDS["bob"])
    address = page.body.split('content="0;url=')[1].partition('"')[0].replace("&amp;", "&")
    assert address.startswith(f"https://{host[1]}/.fedgate/callback?")
    back = urllib.parse.urlsplit(address)
    nonce = cookie_of(begun)
    entered = proxy.ask("GET", f"{back.path}?{back.query}", host, ("Cookie", nonce), *PAGE)
    assert (entered.status, entered.headers["location"]) == (302, f"https://{host[1]}/pages?name=first")
    assert entered.headers["set-cookie"].startswith("__Host-fedgate-service=")
    session = ("Cookie", f"theme=dark; {cookie_of(entered)}; {nonce}")
    service.reset()
    assert proxy.ask("GET", "/pages?name=first", host, session, *PAGE).status == 200
    assert proxy.ask("POST", "/pages", host, session, *POSTED, body=b"text=mine").status == 200
    assert [one.header("X-Fedgate-Principal") for one in service.requests] == [BOB, BOB]
    assert [one.header("Cookie") for one in service.requests] == ["theme=dark"] * 2
    assert service.requests[1].body == b"text=mine"
    assert proxy.ask("POST", "/pages", host, session, ("Origin", "https://evil.example"), body=b"x").status == 403
    out = proxy.ask("POST", "/.fedgate/sign-out", host, session, *POSTED, body=b"")
    assert (out.status, out.headers["location"]) == (303, f"{broker.endpoint}/service/wiki?signed_out=1")
    assert proxy.ask("GET", "/data", host, session).status == 401
    assert len(service.requests) == 2
