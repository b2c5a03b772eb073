"""Requests per second and latency of the hot paths, as ratios to a bare Flask view under the same gunicorn, in one run.

The targets take turns, round after round, so that a drift of the machine hits all alike; each ratio is taken within
its round and the median of the rounds is printed. `python bench/run.py --help` for the knobs.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.parse
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from broker.demo.people import LDIF, SERVICE, people
from broker.runtime.launcher import gunicorn_arguments

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))  # slapd is started the same way in the tests

from support.directories import free_port, running_slapd  # noqa: E402 - found through the path above
from support.oidc_issuer import Issuer, jwk  # noqa: E402 - as above
from support.web_server import web_server  # noqa: E402 - as above

MEASURED = ("rps", "p50_ms", "p99_ms")
LDAP = "AssumeRoleWithLDAPIdentity"
PERSON = next(person for person in people(LDIF) if person.name == "dave")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def main():
    options = arguments()
    if shutil.which("wrk") is None:
        sys.exit("wrk is missing: apt-get install wrk")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fg-")))
        server = stack.enter_context(web_server(made(folder / "tls")))
        endpoint, account, directory = stack.enter_context(served(folder, server.ca_file))
        floor_url = stack.enter_context(floor(folder))
        targets = {
            "floor": (floor_url, {**FORM}, f"a={'x' * 500}&b={'y' * 500}"),
            **hot_paths(endpoint, account, server),
        }
        rounds = measure(targets, options, folder, directory)
    report(rounds, options)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="length of one measurement")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--only", help="measure only the paths whose name contains this")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "latest.json")
    return parser.parse_args()


@contextlib.contextmanager
def served(folder, ca_file="", more=""):
    """Serve a fresh installation over a real slapd; yield its endpoint, the account and the directory.

    ``more`` are sections of the settings, in which {account} is the account's id.
    """
    with running_slapd(made(folder / "slapd")) as directory:
        data, config = folder / "data", folder / "fedgate.toml"
        fedgate("init", "--data", data)
        config.write_text(CONFIG.format(port=free_port(), data=data, directory=directory, ca_file=ca_file))
        account = json.loads(fedgate("account", "create", "--config", config, "--json"))
        config.write_text(config.read_text() + more.replace("{account}", account["account_id"]))
        command = [sys.executable, "-m", "broker.cli", "run", "--config", str(config)]
        with (folder / "run.log").open("w") as log, subprocess.Popen(command, stderr=log, stdout=log) as service:
            try:
                endpoint = tomllib.loads(config.read_text())["server"]["public_url"]
                await_ready(endpoint, folder / "run.log", service)
                yield endpoint, account, directory
            finally:
                service.terminate()


CONFIG = """
[server]
bind = "127.0.0.1:{port}"
public_url = "http://127.0.0.1:{port}"
[data]
dir = "{data}"
[outbound]
allowed_networks = ["127.0.0.0/8", "::1/128"]
ca_file = "{ca_file}"
[directory.corp]
type = "ldap"
urls = ["{directory.url}"]
bind_dn = "{SERVICE}"
bind_password = "{directory.bind_password}"
user_base = "{directory.user_base}"
""".replace("{SERVICE}", SERVICE)


def made(folder):
    folder.mkdir()
    return folder


def fedgate(*arguments):
    command = [sys.executable, "-m", "broker.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def await_ready(endpoint, log, service):
    for _ in range(200):
        with contextlib.suppress(OSError), urllib.request.urlopen(endpoint + "/readyz", timeout=5):
            return
        if service.poll() is not None:
            break
        time.sleep(0.1)
    sys.exit(log.read_text())


@contextlib.contextmanager
def floor(folder):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.set_inheritable(True)
        command = gunicorn_arguments("floor:application", fd=listening.fileno(), workers=2)
        with (folder / "floor.log").open("w") as log:
            child = subprocess.Popen(command, pass_fds=[listening.fileno()], cwd=HERE, stderr=log, stdout=log)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        time.sleep(2)
        try:
            yield url
        finally:
            child.terminate()
            child.wait()


def hot_paths(endpoint, account, server):
    """Return name -> (url, headers, body), each signed once: a signature is good for fifteen minutes."""
    root = account["root"]
    admin = administrator(endpoint, root["access_key_id"], root["secret_access_key"])
    iam, sts = (client(name, endpoint, *admin) for name in ("iam", "sts"))
    role = new_role(iam, "Bench", {"AWS": sts.get_caller_identity()["Arn"]}, "sts:AssumeRole")
    provider = f"arn:aws:iam::{account['account_id']}:ldap-provider/corp"
    ldap_role = new_role(iam, "People", {"Federated": provider}, "sts:AssumeRoleWithLDAPIdentity")
    session = sts.assume_role(RoleArn=role, RoleSessionName="bench")["Credentials"]
    long_term = Credentials(*admin)
    temporary = Credentials(session["AccessKeyId"], session["SecretAccessKey"], session["SessionToken"])
    identity = {"Action": "GetCallerIdentity", "Version": "2011-06-15"}
    assume = {"Action": "AssumeRole", "Version": "2011-06-15", "RoleArn": role, "RoleSessionName": "bench"}
    ldap = {
        "Action": "AssumeRoleWithLDAPIdentity",
        "Version": "2011-06-15",
        "LDAPUsername": PERSON.name,
        "LDAPPassword": PERSON.password,
        "RoleArn": ldap_role,
    }
    return {
        "GetCallerIdentity, long-term key": signed(endpoint, identity, long_term),
        "GetCallerIdentity, session": signed(endpoint, identity, temporary),
        "AssumeRole": signed(endpoint, assume, long_term),
        LDAP: (endpoint, {**FORM}, urllib.parse.urlencode(ldap)),
        **web_identities(endpoint, account, iam, server),
    }


def web_identities(endpoint, account, iam, server):
    """Return the paths of tokens, which an issuer has signed for the next hour; its keys are fetched once."""
    issuer = Issuer(server, lambda: datetime.now(UTC), keys=[jwk("RS256", "r"), jwk("ES256", "e")])
    iam.create_open_id_connect_provider(Url=issuer.url, ClientIDList=["app-1"])
    provider = f"arn:aws:iam::{account['account_id']}:oidc-provider/{issuer.arn_part}"
    role = new_role(iam, "Apps", {"Federated": provider}, "sts:AssumeRoleWithWebIdentity")
    form = {"Action": "AssumeRoleWithWebIdentity", "Version": "2011-06-15", "RoleArn": role, "RoleSessionName": "bench"}
    until = int(time.time()) + 3600
    tokens = {kind: issuer.token(kind, kid, exp=until) for kind, kid in (("RS256", "r"), ("ES256", "e"))}
    return {
        f"AssumeRoleWithWebIdentity {kind}": (
            endpoint,
            {**FORM},
            urllib.parse.urlencode(form | {"WebIdentityToken": token}),
        )
        for kind, token in tokens.items()
    }


def client(service, endpoint, key, secret):
    return boto3.client(
        service, endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id=key, aws_secret_access_key=secret
    )


def administrator(endpoint, root_key, root_secret):
    iam = client("iam", endpoint, root_key, root_secret)
    iam.create_user(UserName="admin")
    iam.attach_user_policy(UserName="admin", PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess")
    key = iam.create_access_key(UserName="admin")["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]


def new_role(iam, name, principal, action):
    trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": principal, "Action": action}]}
    return iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]


def ldap_loop(directory, seconds):
    """Return how often a second two processes search and bind, each over two kept connections, nothing around it."""
    script = LOOP.format(directory=directory, SERVICE=SERVICE, person=PERSON, seconds=seconds)
    children = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    return sum(float(child.communicate(timeout=seconds + 30)[0]) for child in children)


LOOP = """
import time
from ldap3 import NONE, Connection, Server
server = Server("{directory.url}", get_info=NONE)
searching = Connection(server, "{SERVICE}", "{directory.bind_password}", auto_bind=True)
binding = Connection(server); binding.open()
count, end = 0, time.monotonic() + {seconds}
while time.monotonic() < end:
    searching.search("{directory.user_base}", "(&(objectClass=person)(uid={person.name}))",
                     attributes=["uid", "entryUUID", "memberOf"])
    assert binding.rebind(searching.response[0]["dn"], "{person.password}")
    count += 1
print(count / {seconds})
"""


def signed(endpoint, parameters, credentials):
    request = AWSRequest("POST", endpoint + "/", data=urllib.parse.urlencode(parameters), headers={**FORM})
    SigV4Auth(credentials, "sts", "us-east-1").add_auth(request)
    return endpoint, dict(request.headers.items()), request.data


def measure(targets, options, folder, directory):
    wanted = options.only or ""
    chosen = {name: what for name, what in targets.items() if name == "floor" or wanted in name}
    for name, (url, headers, body) in chosen.items():
        check(name, url, headers, body)
    rounds = []
    for number in range(options.rounds):
        figures = {name: load(folder, *what, options) for name, what in chosen.items()}
        if LDAP in chosen:
            figures["a bare ldap3 loop"] = {"rps": ldap_loop(directory, options.seconds), "p50_ms": 0.0, "p99_ms": 0.0}
        rounds.append(figures)
        sys.stderr.write(f"round {number + 1} of {options.rounds}\n")
    return rounds


def check(name, url, headers, body):
    data = body.encode() if isinstance(body, str) else body
    with urllib.request.urlopen(urllib.request.Request(url + "/", data, headers), timeout=10) as answer:
        if answer.status != 200:
            sys.exit(f"{name} answers {answer.status}")


def load(folder, url, headers, body, options):
    text = body if isinstance(body, str) else body.decode()
    lines = [f'wrk.method="POST"\nwrk.body={json.dumps(text)}']
    lines += [f"wrk.headers[{json.dumps(name)}]={json.dumps(value)}" for name, value in headers.items()]
    script = folder / "request.lua"
    script.write_text("\n".join(lines))
    command = [
        "wrk",
        "-t1",
        f"-c{options.connections}",
        f"-d{options.seconds}s",
        "--latency",
        "-s",
        str(script),
        url + "/",
    ]
    out = subprocess.run([*command, url + "/"], capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        sys.exit(out)
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])
    return {"rps": rate, "p50_ms": latency(out, 50), "p99_ms": latency(out, 99)}


def latency(out, percent):
    number, unit = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)", out).groups()
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def report(rounds, options):
    result = {}
    sys.stdout.write(f"{'path':36}{'requests/s':>12}{'ratio to F':>12}{'p50 ms':>10}{'p99 ms':>10}\n")
    for name in rounds[0]:
        ratio = statistics.median(figures[name]["rps"] / figures["floor"]["rps"] for figures in rounds)
        middle = {
            key: statistics.median(figures[name][key] for figures in rounds) for key in ("rps", "p50_ms", "p99_ms")
        }
        result[name] = {"ratio": round(ratio, 3), **{key: round(value, 3) for key, value in middle.items()}}
        sys.stdout.write(
            f"{name:36}{middle['rps']:12.0f}{ratio:12.2f}{middle['p50_ms']:10.2f}{middle['p99_ms']:10.2f}\n"
        )
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps({"cores": os.cpu_count(), "rounds": rounds, "median": result}, indent=1))


if __name__ == "__main__":
    main()
