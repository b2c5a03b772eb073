"""Real OpenID Connect providers of other makers, over TLS: oidc-provider, a certified one, and oauth2-mock-server."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support.broker_process import environment
from support.http_browser import trusting
from support.saml_servers import NODE_MODULES, running
from support.servers import eventually, free_port, program
from support.web_server import certificates

OIDC_PROVIDER = r"""
import fs from 'node:fs';
import https from 'node:https';
const told = JSON.parse(fs.readFileSync(process.argv[2]));
const {default: Provider} = await import(told.modules + '/oidc-provider/lib/index.js');
const pem = fs.readFileSync(told.pem);
const clients = JSON.parse(fs.readFileSync(told.clients));
const provider = new Provider(told.issuer, {
  clients,
  cookies: {keys: ['a key of the tests']},
  pkce: {required: () => true},
  claims: {openid: ['sub'], profile: ['preferred_username', 'department'], email: ['email']},
  conformIdTokenClaims: false,
  features: {devInteractions: {enabled: true}, rpInitiatedLogout: {enabled: true}, backchannelLogout: {enabled: true}},
  findAccount: (ctx, id) => ({accountId: id, claims: () => ({
    sub: id, preferred_username: id, department: 'sales', email: `${id}@example.com`})}),
  fetch: (url, options) => fetch(url, {...options}),
});
provider.proxy = false;
https.createServer({key: pem, cert: pem}, provider.callback()).listen(told.port, '127.0.0.1');
"""

OAUTH2_MOCK_SERVER = r"""
const fs = require('fs'), https = require('https');
const {OAuth2Issuer, OAuth2Service} = require('oauth2-mock-server');
const told = JSON.parse(fs.readFileSync(process.argv[2]));
const pem = fs.readFileSync(told.pem);
(async () => {
  const issuer = new OAuth2Issuer();
  issuer.url = told.issuer;
  await issuer.keys.generate('RS256');
  const service = new OAuth2Service(issuer);
  service.on('beforeTokenSigning', token => Object.assign(token.payload, {sub: 'job-1', aud: 'app-1'}));
  // Its keys can be changed from outside, as an operator would.
  https.createServer({key: pem, cert: pem}, async (request, response) => {
    if (request.url === '/rotate') { await issuer.keys.generate('ES256'); return response.end('{}'); }
    if (request.url === '/sign') {
      const token = await issuer.buildToken({kid: [...issuer.keys.toJSON()].at(-1).kid, expiresIn: 600,
        scopesOrTransform: (header, payload) => Object.assign(payload, {sub: 'job-1', aud: 'app-1'})});
      return response.end(token);
    }
    service.requestHandler(request, response);
  }).listen(told.port, '127.0.0.1');
})();
"""


@dataclass
class OidcServer:
    """A running provider; its certificate is of the authority in ``ca_file``."""

    url: str
    folder: Path
    ca_file: Path

    def get(self, path: str) -> str:
        return trusting(self.ca_file).get(self.url + path).body


def place(folder: Path) -> OidcServer:
    """Return where a provider will be: who knows it first can register it, and it then knows who it is for."""
    ca_file, _ = certificates(folder)
    return OidcServer(f"https://localhost:{free_port()}", folder, ca_file)


@contextlib.contextmanager
def oidc_provider(server: OidcServer, clients: list[dict]) -> Iterator[None]:
    """Run oidc-provider for clients."""
    with _serving(server, "idp.mjs", OIDC_PROVIDER, clients):
        yield


@contextlib.contextmanager
def oauth2_mock_server(server: OidcServer) -> Iterator[None]:
    """Run oauth2-mock-server."""
    with _serving(server, "idp.js", OAUTH2_MOCK_SERVER, []):
        yield


@contextlib.contextmanager
def _serving(server: OidcServer, name: str, text: str, clients: list[dict]) -> Iterator[None]:
    if not (NODE_MODULES / "oidc-provider").exists():
        raise RuntimeError("oidc-provider is missing: make test installs it into .testbed/node")
    folder = server.folder
    (folder / "clients.json").write_text(json.dumps(clients))
    told = {"issuer": server.url, "port": int(server.url.rpartition(":")[2]), "pem": str(folder / "own.pem"),
            "modules": str(NODE_MODULES), "clients": str(folder / "clients.json")}  # fmt: skip
    (folder / "told.json").write_text(json.dumps(told))
    (folder / name).write_text(text)
    command = [program("node", "nodejs"), str(folder / name), str(folder / "told.json")]
    more = {"NODE_PATH": str(NODE_MODULES), "NODE_EXTRA_CA_CERTS": str(server.ca_file)}
    with (folder / "node.log").open("wb") as log, running(command, environment(folder, **more), log):
        eventually(lambda: _answers(server))
        yield


def _answers(server: OidcServer) -> bool:
    with contextlib.suppress(OSError):
        return "jwks_uri" in server.get("/.well-known/openid-configuration")
    return False
