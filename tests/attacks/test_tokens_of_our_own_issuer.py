"""Attack: a web identity token, fetched in time, begins a new session after the one that asked for it was revoked.

An account may trust our own issuer, so that the token of GetWebIdentityToken proves an identity here as well. It lives
for up to an hour, and so would whoever stole a session: token, session, token, and so on.
"""

import json
from pathlib import Path

import pytest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from support.broker_process import Broker, allow, document, fetch, role_arn
from support.servers import eventually
from support.web_server import WebServer, web_server

AUDIENCE = "https://sts.example"


class Front(dict):
    """Answers of a broker by path, under the path of its public address: the proxy that speaks TLS for it."""

    broker: Broker | None = None

    def get(self, path, _default=None):
        assert self.broker is not None
        answer = fetch(self.broker.endpoint + path.removeprefix("/fed"))

        def send(handler):
            handler.send_response(answer.status)
            handler.send_header("Content-Length", str(len(answer.body)))
            handler.end_headers()
            handler.wfile.write(answer.body)

        return send


@pytest.fixture
def broker(new_broker, tmp_path_factory):
    with web_server(tmp_path_factory.mktemp("tls")) as front:
        front.answers = Front()
        front.answers.broker = made = new_broker(server={"public_url": front.url("/fed")}, more=_outbound(front))
        yield made


def _outbound(front: WebServer) -> str:
    entries = {"allowed_networks": ["127.0.0.0/8", "::1/128"], "ca_file": str(Path(front.ca_file or ""))}
    return "\n".join(["[outbound]", *(f"{name} = {json.dumps(value)}" for name, value in entries.items())])


def trust_our_own_issuer(broker: Broker) -> None:
    iam = broker.client("iam")
    issuer = iam.enable_outbound_web_identity_federation()["IssuerIdentifier"]
    arn = iam.create_open_id_connect_provider(Url=issuer, ClientIDList=[AUDIENCE])["OpenIDConnectProviderArn"]
    federated = {"Effect": "Allow", "Principal": {"Federated": arn}, "Action": "sts:AssumeRoleWithWebIdentity"}
    broker.role("Again", document(federated), allow("sts:GetWebIdentityToken"))


def token(broker: Broker, session: Credentials) -> str:
    sts = broker.client("sts", session)
    return sts.get_web_identity_token(Audience=[AUDIENCE], SigningAlgorithm="ES384")["WebIdentityToken"]


def assume(broker: Broker, jwt: str) -> Credentials:
    sts = broker.client("sts")
    given = {"RoleArn": role_arn("Again"), "RoleSessionName": "again", "WebIdentityToken": jwt}
    answer = sts.assume_role_with_web_identity(**given)["Credentials"]
    return Credentials(answer["AccessKeyId"], answer["SecretAccessKey"], answer["SessionToken"])


def test_no_token_of_our_own_issuer_outlives_a_revocation(broker):
    trust_our_own_issuer(broker)
    stolen = broker.role_for("alice", "Job", allow("sts:GetWebIdentityToken"))
    jwt = eventually(lambda: token(broker, stolen))
    made = [assume(broker, jwt)]
    made.append(assume(broker, token(broker, made[0])))
    kept = [jwt, token(broker, made[0]), token(broker, made[1])]
    assert [broker.code(session) for session in made] == ["", ""]

    person = broker.session(stolen)["person"]
    broker.fedgate("sessions", "revoke", "--person", person)

    for session in [stolen, *made]:
        assert broker.codes(session) == {"InvalidClientTokenId"}
    for one in kept:
        with pytest.raises(ClientError, match="The session that asked for the token has ended"):
            assume(broker, one)
    honest = broker.credentials("alice", "Job")
    assert broker.code(assume(broker, token(broker, honest))) == ""
