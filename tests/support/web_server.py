"""A web server on loopback for tests: it answers what a test says, over TLS with a certificate of its own authority."""

import contextlib
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


@dataclass
class WebServer:
    """``answers`` has, by path, a function that writes to the handler; ``asked`` is every path that was asked for."""

    port: int
    scheme: str
    ca_file: Path | None = None
    answers: dict = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def url(self, path: str = "/", host: str = "localhost") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    def serve(self, path: str, body: bytes, status: int = 200, **headers: str) -> str:
        def answer(handler):
            handler.send_response(status)
            for name, value in headers.items():
                handler.send_header(name.replace("_", "-"), value)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            with contextlib.suppress(OSError):  # the client has had enough
                handler.wfile.write(body)

        self.answers[path] = answer
        return self.url(path)


@contextlib.contextmanager
def web_server(folder: Path | None = None) -> Iterator[WebServer]:
    """Run a server; with a folder for its certificate it speaks TLS."""

    class Handler(BaseHTTPRequestHandler):
        posted = b""

        def do_POST(self):
            self.posted = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            self.do_GET()

        def do_GET(self):
            running.asked.append(self.path)
            plain = self.path.partition("?")[0]
            answer = running.answers.get(self.path) or running.answers.get(plain)
            if answer is None:
                self.send_error(404)
            else:
                answer(self)

        def log_message(self, *_arguments):
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, _request, _address):
            pass  # a client that does not believe the certificate

    server = Quiet(("127.0.0.1", 0), Handler)
    running = WebServer(server.server_address[1], "https" if folder else "http")
    if folder:
        running.ca_file, own = certificates(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(own)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        server.server_close()


def certificates(folder: Path) -> tuple[Path, Path]:
    """Write an authority, and a certificate of localhost with its key; return both files."""
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    name = f"authority of {folder.name}"  # a name of its own: several may be trusted at once
    authority = _certificate(name, authority_key, name, authority_key, ca=True)
    own = _certificate("localhost", key, name, authority_key, ca=False)
    ca_file, own_file = folder / "ca.pem", folder / "own.pem"
    ca_file.write_bytes(authority.public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    own_file.write_bytes(private + own.public_bytes(Encoding.PEM))
    return ca_file, own_file


def _certificate(name, key, issuer, issuer_key, *, ca):
    now = datetime.now(UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    key_cert_sign, crl_sign = ca, ca
    usage = x509.KeyUsage(True, *[False] * 4, key_cert_sign, crl_sign, False, False)  # noqa: FBT003 - in the standard's order
    # Python 3.13 demands key identifiers of all and the key's usage of an authority (RFC 5280 4.2.1.1 to 4.2.1.3).
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(issuer_key, SHA256())
    )
