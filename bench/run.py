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
import urllib.parse
import urllib.request
from pathlib import Path

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from broker.launcher import gunicorn_arguments

HERE = Path(__file__).parent
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def main():
    options = arguments()
    if shutil.which("wrk") is None:
        sys.exit("wrk is missing: apt-get install wrk")
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as demo, floor(Path(folder)) as floor_url:
        targets = {"floor": (floor_url, {**FORM}, f"a={'x' * 500}&b={'y' * 500}"), **hot_paths(demo)}
        rounds = measure(targets, options, Path(folder))
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
def served(folder):
    command = [
        sys.executable,
        "-m",
        "broker.cli",
        "demo",
        "--data",
        str(folder / "data"),
        "--bind",
        "127.0.0.1:0",
        "--json",
    ]
    with (
        (folder / "demo.log").open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as demo,
    ):
        line = demo.stdout.readline()
        if not line:
            sys.exit((folder / "demo.log").read_text())
        try:
            yield json.loads(line)
        finally:
            demo.terminate()


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


def hot_paths(demo):
    """Return name -> (url, headers, body), each signed once: a signature is good for fifteen minutes."""
    endpoint, admin = demo["endpoint"], demo["admin"]
    client = {"endpoint_url": endpoint, "region_name": "us-east-1"}
    keys = {"aws_access_key_id": admin["access_key_id"], "aws_secret_access_key": admin["secret_access_key"]}
    iam, sts = boto3.client("iam", **client, **keys), boto3.client("sts", **client, **keys)
    me = sts.get_caller_identity()["Arn"]
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": me}, "Action": ["sts:AssumeRole", "sts:TagSession"]}],
    }
    role = iam.create_role(RoleName="Bench", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    session = sts.assume_role(RoleArn=role, RoleSessionName="bench")["Credentials"]
    long_term = Credentials(admin["access_key_id"], admin["secret_access_key"])
    temporary = Credentials(session["AccessKeyId"], session["SecretAccessKey"], session["SessionToken"])
    person = next(user for user in demo["directory"]["users"] if has_role(demo, user))
    ldap_role = next(role["arn"] for role in demo["roles"] if set(role["trusted_groups"]) & set(person["groups"]))
    identity = {"Action": "GetCallerIdentity", "Version": "2011-06-15"}
    assume = {"Action": "AssumeRole", "Version": "2011-06-15", "RoleArn": role, "RoleSessionName": "bench"}
    ldap = {
        "Action": "AssumeRoleWithLDAPIdentity",
        "Version": "2011-06-15",
        "LDAPUsername": person["name"],
        "LDAPPassword": person["password"],
        "RoleArn": ldap_role,
    }
    return {
        "GetCallerIdentity, long-term key": signed(endpoint, identity, long_term),
        "GetCallerIdentity, session": signed(endpoint, identity, temporary),
        "AssumeRole": signed(endpoint, assume, long_term),
        "AssumeRoleWithLDAPIdentity": (endpoint, {**FORM}, urllib.parse.urlencode(ldap)),
    }


def has_role(demo, user):
    return any(set(role["trusted_groups"]) & set(user["groups"]) for role in demo["roles"])


def signed(endpoint, parameters, credentials):
    request = AWSRequest("POST", endpoint + "/", data=urllib.parse.urlencode(parameters), headers={**FORM})
    SigV4Auth(credentials, "sts", "us-east-1").add_auth(request)
    return endpoint, dict(request.headers.items()), request.data


def measure(targets, options, folder):
    chosen = {
        name: what for name, what in targets.items() if name == "floor" or not options.only or options.only in name
    }
    for name, (url, headers, body) in chosen.items():
        check(name, url, headers, body)
    rounds = []
    for number in range(options.rounds):
        figures = {name: load(folder, *what, options) for name, what in chosen.items()}
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
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
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
