"""A stranger begins sign-ins without end, and never comes back from the identity provider."""

import http.client
import urllib.parse

from redis import Redis
from support.broker_process import ACCOUNT, Broker
from support.saml_idp import metadata
from support.servers import HANG


def begin(broker: Broker, path: str) -> int:
    """Follow a link to the identity provider as far as the redirect, and return its status."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(broker.endpoint).netloc, timeout=HANG)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def test_sign_ins_that_were_only_begun_leave_nothing_on_the_server(served: Broker):
    iam = served.client("iam")
    arn = iam.create_saml_provider(Name="Endless", SAMLMetadataDocument=metadata())["SAMLProviderArn"]
    try:
        with Redis.from_url(served.redis_url) as redis:
            for _ in range(50):
                assert begin(served, f"/saml/{ACCOUNT}/Endless/login") == 303
            assert list(redis.scan_iter("fedgate:web:begun:*")) == []
    finally:
        iam.delete_saml_provider(SAMLProviderArn=arn)
