"""Real SAML identity providers: SimpleSAMLphp, and the samlp package of Node, each with one person, ann."""

import contextlib
import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from support.broker_process import NO_PROXY, environment
from support.saml_idp import ATTRIBUTES, key_pair
from support.servers import HANG, eventually, free_port, program, running_program

PASSWORD = "wonderland-1865"
PHP = Path("/usr/share/simplesamlphp/www")
NODE_MODULES = Path(__file__).parents[2] / ".testbed" / "node" / "node_modules"


@dataclass
class SamlServer:
    """A running identity provider; ``trust`` tells it of a service provider, by the metadata of that."""

    url: str
    folder: Path
    attributes: Mapping[str, list[str]] = field(default_factory=dict)

    def metadata(self, path: str) -> str:
        with NO_PROXY.open(self.url + path, timeout=HANG) as answer:
            return answer.read().decode()


def told(roles: list[str], provider: str, name: str = "ann") -> dict[str, list[str]]:
    """Return what the identity provider says of ann."""
    return {
        "uid": [name],
        "department": ["sales"],
        f"{ATTRIBUTES}Role": [f"{role},{provider}" for role in roles],
        f"{ATTRIBUTES}RoleSessionName": [name],
    }


# --- SimpleSAMLphp ----------------------------------------------------------------------------------------------------


@dataclass
class SimpleSamlPhp(SamlServer):
    """The one with signed responses and assertions, encryption and logout."""

    def trust(self, sp_metadata: str, attributes: Mapping[str, list[str]], **options: object) -> None:
        """Write what it shall know of a service provider, and what it says of ann."""
        entity_id = re.search(r'entityID="([^"]+)"', sp_metadata)[1]
        place = {
            kind: re.search(rf'<md:{kind} [^>]*Location="([^"]+)"', sp_metadata, re.DOTALL)[1]
            for kind in ("AssertionConsumerService", "SingleLogoutService")
        }
        certificate = re.findall(r"<ds:X509Certificate>([^<]+)<", sp_metadata)[-1]
        known = {
            **place,
            "certData": "".join(certificate.split()),
            "NameIDFormat": "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent",
            "simplesaml.nameidattribute": "uid",
            "validate.authnrequest": True,
            "validate.logout": True,
            "saml20.sign.assertion": True,
            "saml20.sign.response": True,
            "sign.logout": True,
            **options,
        }
        _write(self.folder / "metadata/saml20-sp-remote.php", "metadata", {entity_id: known})
        source = {0: "exampleauth:UserPass", f"ann:{PASSWORD}": dict(attributes)}
        _write(self.folder / "authsources.php", "config", {"people": source, "admin": {0: "core:AdminPassword"}})


@contextlib.contextmanager
def simplesamlphp(folder: Path) -> Iterator[SimpleSamlPhp]:
    """Run SimpleSAMLphp with a configuration of its own."""
    if not PHP.exists():
        raise RuntimeError("SimpleSAMLphp is missing: apt-get install --no-install-recommends simplesamlphp php-cli")
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    for name in ("metadata", "cert", "log", "data", "tmp", "sessions"):
        (folder / name).mkdir(parents=True)
    private, certificate = key_pair("simplesamlphp")
    (folder / "cert/idp.pem").write_bytes(private)
    (folder / "cert/idp.crt").write_bytes(certificate)
    config = {
        "baseurlpath": url,
        "certdir": f"{folder}/cert/",
        "loggingdir": f"{folder}/log/",
        "datadir": f"{folder}/data/",
        "tempdir": f"{folder}/tmp",
        "metadatadir": f"{folder}/metadata/",
        "secretsalt": "b8n2c9x1q5v7z4m6k3j0",
        "auth.adminpassword": PASSWORD,
        "technicalcontact_name": "nobody",
        "technicalcontact_email": "nobody@example.com",
        "timezone": "UTC",
        "enable.saml20-idp": True,
        "module.enable": {"exampleauth": True, "core": True, "saml": True},
        "logging.handler": "file",
        "session.cookie.secure": False,
        "session.cookie.samesite": None,
        "session.phpsession.savepath": f"{folder}/sessions",
        "language.cookie.secure": False,
        "language.cookie.samesite": None,
        "authproc.idp": {},
        "authproc.sp": {},
        "metadata.sources": [{"type": "flatfile"}],
        "store.type": "phpsession",
        "production": True,
        "errorreporting": False,
        "trusted.url.domains": [f"127.0.0.1:{port}"],
    }
    _write(folder / "config.php", "config", config)
    hosted = {"host": "__DEFAULT__", "privatekey": "idp.pem", "certificate": "idp.crt", "auth": "people",
              "logouttype": "traditional", "signature.algorithm": "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
              "sign.logout": True, "validate.logout": True}  # fmt: skip
    _write(folder / "metadata/saml20-idp-hosted.php", "metadata", {f"{url}idp": hosted})
    _write(folder / "metadata/saml20-sp-remote.php", "metadata", {})
    _write(folder / "authsources.php", "config", {"people": {0: "exampleauth:UserPass", f"ann:{PASSWORD}": {}}})
    command = [program("php", "php-cli"), "-S", f"127.0.0.1:{port}", "-t", str(PHP), "-d", "opcache.enable=0"]
    more = {"SIMPLESAMLPHP_CONFIG_DIR": str(folder), "PHP_CLI_SERVER_WORKERS": "4"}
    with (folder / "php.log").open("wb") as log, running(command, environment(folder, **more), log):
        eventually(lambda: _answers(f"{url}saml2/idp/metadata.php"))
        yield SimpleSamlPhp(url, folder)


def _write(file: Path, variable: str, value: Mapping) -> None:
    """Write a PHP array; a name may be rewritten while the server runs, it reads it at each request."""
    text = json.dumps(value)
    (file.parent / f".{file.name}.json").write_text(text)
    # PHP reads JSON: no quoting of our own.
    place = f"__DIR__ . '/.{file.name}.json'"
    file.write_text(f"<?php ${variable} = json_decode(file_get_contents({place}), true);\n")


# --- samlp ------------------------------------------------------------------------------------------------------------

SAMLP_SERVER = r"""
const fs = require('fs'), express = require('express'), samlp = require('samlp');
const told = JSON.parse(fs.readFileSync(process.argv[2]));
const app = express();
function Mapper(user) {
  if (!(this instanceof Mapper)) return new Mapper(user);
  this.user = user;
}
Mapper.prototype.getClaims = function () { return this.user.claims; };
Mapper.prototype.getNameIdentifier = function () {
  return {nameIdentifier: this.user.id, nameIdentifierFormat: 'urn:oasis:names:tc:SAML:2.0:nameid-format:persistent'};
};
Mapper.prototype.metadata = [];
const shared = {issuer: told.issuer, cert: told.cert, key: told.key};
app.get('/metadata', samlp.metadata({...shared, profileMapper: Mapper, redirectEndpointPath: '/sso',
                                     postEndpointPath: '/sso'}));
app.get('/sso', (request, response, next) => {
  const known = JSON.parse(fs.readFileSync(told.known));
  const encryption = known.encrypt ? {encryptionPublicKey: known.publicKey, encryptionCert: known.certificate,
      encryptionAlgorithm: 'http://www.w3.org/2009/xmlenc11#aes256-gcm'} : {};
  samlp.auth({...shared, ...encryption, profileMapper: Mapper, recipient: known.acs, destination: known.acs,
              signResponse: true, lifetimeInSeconds: 300, sessionIndex: '_s1', signatureAlgorithm: 'rsa-sha256',
              digestAlgorithm: 'sha256', signatureNamespacePrefix: 'ds',
              getUserFromRequest: () => ({id: 'ann', claims: known.claims}),
              getPostURL: (audience, dom, request, callback) => callback(null, known.acs)})(request, response, next);
});
app.listen(told.port, '127.0.0.1');
"""


@dataclass
class Samlp(SamlServer):
    """The other XML stack; whoever comes is ann."""

    def trust(self, sp_metadata: str, attributes: Mapping[str, list[str]], *, encrypt: bool = False) -> None:
        """Write what it shall know of a service provider, and what it says of ann."""
        acs = re.search(r'<md:AssertionConsumerService [^>]*Location="([^"]+)"', sp_metadata, re.DOTALL)[1]
        body = re.findall(r"<ds:X509Certificate>([^<]+)<", sp_metadata)[-1]
        pem = "-----BEGIN CERTIFICATE-----\n" + "\n".join(re.findall(".{1,64}", "".join(body.split())))
        pem += "\n-----END CERTIFICATE-----\n"
        key = x509.load_pem_x509_certificate(pem.encode()).public_key()
        public = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        known = {"acs": acs, "claims": attributes, "encrypt": encrypt, "certificate": pem, "publicKey": public}
        (self.folder / "known.json").write_text(json.dumps(known))


@contextlib.contextmanager
def samlp(folder: Path) -> Iterator[Samlp]:
    """Run samlp on express."""
    if not (NODE_MODULES / "samlp").exists():
        raise RuntimeError("samlp is missing: make test installs it into .testbed/node")
    port = free_port()
    private, certificate = key_pair("samlp")
    told_ = {"issuer": "urn:samlp", "cert": certificate.decode(), "key": private.decode(), "port": port,
             "known": str(folder / "known.json")}  # fmt: skip
    (folder / "told.json").write_text(json.dumps(told_))
    (folder / "idp.js").write_text(SAMLP_SERVER)
    command = [program("node", "nodejs"), str(folder / "idp.js"), str(folder / "told.json")]
    environ = environment(folder, NODE_PATH=str(NODE_MODULES))
    with (folder / "node.log").open("wb") as log, running(command, environ, log):
        url = f"http://127.0.0.1:{port}"
        eventually(lambda: _answers(f"{url}/metadata"))
        yield Samlp(url, folder)


# --- both -------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def running(command, environ, log) -> Iterator[None]:
    with running_program(command, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log):
        yield


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError), NO_PROXY.open(urllib.request.Request(url), timeout=HANG) as answer:
        return answer.status == 200
    return False
