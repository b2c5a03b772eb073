"""The HTTP API of the demo: reports behind Fedgate's middleware, for whoever a policy allows to read or write them.

Run as ``python -m broker.demo.reports --fd N --authorizer unix:/PATH``; it serves on an inherited listening socket.
"""

import argparse
import json
import socket
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final

from werkzeug.serving import WSGIRequestHandler, make_server

from broker.authz.middleware import PRINCIPAL, Authorizer, FedgateWSGI

_CURL: Final = (
    'curl --aws-sigv4 aws:amz:us-east-1:execute-api -u "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY"'
    ' -H "x-amz-security-token: $AWS_SESSION_TOKEN"'
)
_PYTHON: Final = """\
python3 - <<'END'
import boto3, botocore.auth, botocore.awsrequest, urllib.request
request = botocore.awsrequest.AWSRequest("GET", "{url}")
botocore.auth.SigV4Auth(boto3.Session().get_credentials(), "execute-api", "us-east-1").add_auth(request)
print(urllib.request.urlopen(urllib.request.Request(request.url, headers=dict(request.headers))).read().decode())
END"""


def signed_requests(url: str) -> tuple[str, str, str]:
    """Return commands that sign requests with the credentials of a shell: a read, a deletion, and a read by boto3."""
    report = f"{url}/finance"
    return f"{_CURL} {report}", f"{_CURL} -X DELETE {report}", _PYTHON.format(url=report)


def reports(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:  # noqa: ANN401 - WSGI's own callable
    """Answer one request that may pass: with the report that its path names, and who asked for it."""
    answer = {
        "report": environ["PATH_INFO"].strip("/") or "index",
        "method": environ["REQUEST_METHOD"],
        "sent by": environ[PRINCIPAL].arn,
    }
    body = json.dumps(answer, indent=4).encode() + b"\n"
    status = HTTPStatus.OK
    start_response(
        f"{status.value} {status.phrase}", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    )
    return (body,)


class _Quiet(WSGIRequestHandler):
    """Writes no line for each request: the terminal belongs to the demo."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Write nothing."""


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--authorizer", required=True)
    arguments = parser.parse_args()
    with socket.socket(fileno=arguments.fd) as listening:
        host, port = listening.getsockname()[:2]
        application = FedgateWSGI(reports, Authorizer(arguments.authorizer))
        server = make_server(host, port, application, threaded=True, request_handler=_Quiet, fd=listening.detach())
        server.serve_forever()


if __name__ == "__main__":
    main()
