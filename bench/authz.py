"""Decisions of the authorizer per second, as ratios to a bare Flask view under the same gunicorn, in one run.

Where nginx is installed, also nginx with the authorizer in front of a trivial upstream, as a ratio to nginx with an
``auth_request`` that always passes in front of the same upstream. The targets take turns, round after round, and each
ratio is taken within its round. `python bench/authz.py --help` for the knobs.
"""

import argparse
import contextlib
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from run import FORM, HERE, administrator, client, floor, latency, new_role, served

sys.path.insert(0, str(HERE.parent / "tests"))

from support.directories import free_port

HOST = "store.example.com"
AUTHZ = """
[authz]
bind = "127.0.0.1:{port}"
[resource.store]
kind = "s3"
hosts = ["{HOST}"]
account = "{account}"
audit = "{audit}"
"""
READ = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::bench/${aws:PrincipalTag/team}/*"}
TRIVIAL = """
from flask import Flask
application = Flask("trivial")
@application.get("/", defaults={"path": ""})
@application.get("/<path:path>")
def view(path):
    return ""
"""


def main():
    options = arguments()
    if shutil.which("wrk") is None:
        sys.exit("wrk is missing: apt-get install wrk")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fg-")))
        port = free_port()
        more = AUTHZ.replace("{port}", str(port)).replace("{HOST}", HOST).replace("{audit}", options.audit)
        endpoint, account, _ = stack.enter_context(served(folder, more=more))
        floor_url = stack.enter_context(floor(folder))
        headers = signed_headers(session(endpoint, account))
        question = {**headers, **asked_by_nginx()}
        targets = {
            "floor": ("POST", f"{floor_url}/", {**FORM}, f"a={'x' * 500}&b={'y' * 500}"),
            "a decision": ("GET", f"http://127.0.0.1:{port}/authz/nginx", question, ""),
            **behind_nginx(stack, folder, port, headers),
        }
        for name, target in targets.items():
            check(name, folder, *target)
        rounds = [measured(folder, targets, options, number) for number in range(options.rounds)]
    report(rounds)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="length of one measurement")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--audit", default="all", choices=("all", "writes", "denials"))
    return parser.parse_args()


def session(endpoint, account):
    """Return the credentials of a role session with a tag, which the role's policy uses."""
    root = account["root"]
    admin = administrator(endpoint, root["access_key_id"], root["secret_access_key"])
    iam, sts = (client(name, endpoint, *admin) for name in ("iam", "sts"))
    trusted, actions = {"AWS": sts.get_caller_identity()["Arn"]}, ["sts:AssumeRole", "sts:TagSession"]
    role = new_role(iam, "Reader", trusted, actions)
    policy = json.dumps({"Version": "2012-10-17", "Statement": [READ]})
    iam.put_role_policy(RoleName="Reader", PolicyName="read", PolicyDocument=policy)
    tags = [{"Key": "team", "Value": "red"}]
    made_now = sts.assume_role(RoleArn=role, RoleSessionName="bench", Tags=tags)["Credentials"]
    return Credentials(made_now["AccessKeyId"], made_now["SecretAccessKey"], made_now["SessionToken"])


def signed_headers(credentials):
    """Return the headers of one signed request: a signature is good for fifteen minutes."""
    request = AWSRequest("GET", f"http://{HOST}/bench/red/key")
    S3SigV4Auth(credentials, "s3", "us-east-1").add_auth(request)
    return {"Host": HOST, **dict(request.headers.items())}


def asked_by_nginx():
    return {
        "X-Original-Method": "GET",
        "X-Original-URI": "/bench/red/key",
        "X-Fedgate-Forwarded-For": "192.0.2.7",
        "X-Fedgate-Forwarded-Proto": "https",
    }


# --- nginx ------------------------------------------------------------------------------------------------------------

NGINX = """
worker_processes 2; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log; worker_rlimit_nofile 4096;
events {{ worker_connections 1024; }}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    upstream fedgate {{ server 127.0.0.1:{authz}; keepalive 32; }}
    upstream trivial {{ server {trivial}; keepalive 32; }}
    server {{ listen 127.0.0.1:{asked};
        location / {{ auth_request /ask; {forward} }}
        location = /ask {{ internal; proxy_pass http://fedgate/authz/nginx; {question} }} }}
    server {{ listen 127.0.0.1:{passed};
        location / {{ auth_request /ask; {forward} }}
        location = /ask {{ internal; proxy_pass http://trivial/; {question} }} }}
}}
"""
FORWARD = 'proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass http://trivial;'
QUESTION = """proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass_request_body off;
    proxy_set_header Content-Length ""; proxy_set_header Host $http_host;
    proxy_set_header X-Original-Method $request_method; proxy_set_header X-Original-URI $request_uri;
    proxy_set_header X-Fedgate-Forwarded-For $remote_addr; proxy_set_header X-Fedgate-Forwarded-Proto $scheme;"""


def behind_nginx(stack, folder, authz, headers):
    """Return the two targets behind nginx, or none where it is not installed."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        sys.stderr.write("nginx is missing: apt-get install nginx-light\n")
        return {}
    trivial = stack.enter_context(flask_upstream(folder))
    asked, passed = free_port(), free_port()
    config = folder / "nginx.conf"
    ports = {"authz": authz, "trivial": trivial, "asked": asked, "passed": passed}
    config.write_text(NGINX.format(folder=folder, forward=FORWARD, question=QUESTION, **ports))
    child = subprocess.Popen([program, "-c", str(config), "-e", str(folder / "nginx.log")])
    stack.callback(child.wait)
    stack.callback(child.terminate)
    time.sleep(1)
    return {
        "nginx, auth_request that passes": ("GET", f"http://127.0.0.1:{passed}/bench/red/key", headers, ""),
        "nginx, authorizer": ("GET", f"http://127.0.0.1:{asked}/bench/red/key", headers, ""),
    }


@contextlib.contextmanager
def flask_upstream(folder):
    """Serve a view that answers nothing, which is upstream and trivial target at once; yield its address."""
    (folder / "trivial.py").write_text(TRIVIAL)
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "trivial:application", "--bind", f"127.0.0.1:{port}"]
    command += ["--workers", "2", "--worker-class", "gevent", "--keep-alive", "75", "--log-level", "warning"]
    with (folder / "trivial.log").open("w") as log:
        child = subprocess.Popen(command, cwd=folder, stderr=log, stdout=log)
    time.sleep(2)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        child.terminate()
        child.wait()


# --- measuring --------------------------------------------------------------------------------------------------------


def check(name, folder, method, url, headers, body):
    command = ["curl", "-s", "-o", str(folder / "answer"), "-w", "%{http_code}", "-X", method, url]
    command += [argument for pair in headers.items() for argument in ("-H", ": ".join(pair))]
    status = subprocess.run([*command, "-d", body] if body else command, capture_output=True, text=True, check=True)
    if status.stdout != "200":
        logs = "".join(one.read_text() for one in folder.glob("*.log"))
        sys.exit(f"{name} answers {status.stdout}: {(folder / 'answer').read_text()}\n{logs}")


def measured(folder, targets, options, number):
    figures = {name: load(folder, *target, options) for name, target in targets.items()}
    sys.stderr.write(f"round {number + 1} of {options.rounds}\n")
    return figures


def load(folder, method, url, headers, body, options):
    lines = [f"wrk.method={json.dumps(method)}\nwrk.body={json.dumps(body)}"]
    lines += [f"wrk.headers[{json.dumps(name)}]={json.dumps(value)}" for name, value in headers.items()]
    script = folder / "request.lua"
    script.write_text("\n".join(lines))
    command = ["wrk", "-t1", f"-c{options.connections}", f"-d{options.seconds}s", "--latency", "-s", str(script), url]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        sys.exit(out)
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])
    return {"rps": rate, "p50_ms": latency(out, 50), "p99_ms": latency(out, 99)}


def report(rounds):
    bases = {"nginx, authorizer": "nginx, auth_request that passes"}
    sys.stdout.write(f"{'path':36}{'requests/s':>12}{'ratio':>8}{'p50 ms':>10}{'p99 ms':>10}  ratio to\n")
    for name in rounds[0]:
        base = bases.get(name, "floor")
        ratio = statistics.median(figures[name]["rps"] / figures[base]["rps"] for figures in rounds)
        rate, p50, p99 = (statistics.median(one[name][key] for one in rounds) for key in ("rps", "p50_ms", "p99_ms"))
        sys.stdout.write(f"{name:36}{rate:12.0f}{ratio:8.2f}{p50:10.2f}{p99:10.2f}  {base}\n")


if __name__ == "__main__":
    main()
