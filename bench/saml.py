"""AssumeRoleWithSAML beside a stock python3-saml endpoint and the bare Flask view, under the same gunicorn, in one run.

Every request of Fedgate brings an assertion of its own, just issued: one that was used before would be refused. Both
get the same responses, with a signed assertion of the usual size. `python bench/saml.py --help` for the knobs.
"""

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import urllib.parse
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import run

from broker.runtime.launcher import gunicorn_arguments

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from support.saml_idp import ATTRIBUTES, AWS, ENTITY_ID, Response, der, encoded, key_pair, metadata, signed  # noqa: E402

FLOOR, STOCK, OURS = "floor", "stock python3-saml", "AssumeRoleWithSAML"
BODY = f"a={'x' * 500}&b={'y' * 500}"
SCRIPT = """
local bodies, at = {}, 0
for line in io.lines("FILE") do bodies[#bodies + 1] = line end
local headers = {["Content-Type"] = "application/x-www-form-urlencoded"}
request = function()
  at = at + 1
  return wrk.format("POST", "/", headers, bodies[at] or "Action=TooFew")
end
"""


def main():
    options = arguments()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fg-")))
        endpoint, account, _ = stack.enter_context(run.served(folder))
        role, provider = furnish(endpoint, account)
        targets = {
            FLOOR: stack.enter_context(run.floor(folder)),
            STOCK: stack.enter_context(stock(folder)),
            OURS: endpoint,
        }
        pool = stack.enter_context(ProcessPoolExecutor(os.cpu_count()))
        rounds = [
            one_round(folder, pool, targets, (role, provider), number, options) for number in range(options.rounds)
        ]
    report(rounds, options)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--most", type=int, default=2500, help="requests a second that there are responses for")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "saml.json")
    return parser.parse_args()


def furnish(endpoint, account):
    root = account["root"]
    iam = run.client("iam", endpoint, root["access_key_id"], root["secret_access_key"])
    provider = iam.create_saml_provider(Name="Corp", SAMLMetadataDocument=metadata())["SAMLProviderArn"]
    condition = {"StringEquals": {"saml:aud": AWS}}
    statement = {"Effect": "Allow", "Principal": {"Federated": provider}, "Action": "sts:AssumeRoleWithSAML"}
    document = {"Version": "2012-10-17", "Statement": [statement | {"Condition": condition}]}
    made = iam.create_role(RoleName="Bench", AssumeRolePolicyDocument=json.dumps(document))
    return made["Role"]["Arn"], provider


@contextlib.contextmanager
def stock(folder):
    settings = {
        "strict": True,
        "sp": {"entityId": "urn:amazon:webservices", "assertionConsumerService": {"url": AWS}},
        "idp": {"entityId": ENTITY_ID, "singleSignOnService": {"url": "https://idp.example.com/sso"},
                "x509cert": der(key_pair()[1])},
        "security": {"wantAssertionsSigned": True, "rejectDeprecatedAlgorithm": True},
    }  # fmt: skip
    file = folder / "stock.json"
    file.write_text(json.dumps(settings))
    with socket.create_server(("127.0.0.1", 0)) as listening, (folder / "stock.log").open("w") as log:
        command = gunicorn_arguments("stock_saml:application", fd=listening.fileno(), workers=2)
        listening.set_inheritable(True)
        environ = {**os.environ, "STOCK_SAML_SETTINGS": str(file)}
        child = subprocess.Popen(command, pass_fds=[listening.fileno()], cwd=HERE, stderr=log, stdout=log, env=environ)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            child.terminate()
            child.wait()


def bodies(key, role, provider, numbers, now):
    """Return forms, each with a response of its own."""
    attributes = {
        f"{ATTRIBUTES}Role": (f"{role},{provider}",),
        f"{ATTRIBUTES}RoleSessionName": ("ann@example.com",),
        **{f"urn:oid:2.5.4.{number}": (f"value {number} of some length",) for number in range(10, 20)},
    }
    found = []
    for number in numbers:
        made = Response(now=now, id=f"_r{number}", assertion_id=f"_a{number}", attributes=attributes)
        form = {"Action": "AssumeRoleWithSAML", "Version": "2011-06-15", "RoleArn": role, "PrincipalArn": provider}
        found.append(urllib.parse.urlencode(form | {"SAMLAssertion": encoded(signed(made, key=key))}))
    return found


def one_round(folder, pool, targets, names, number, options):
    count = options.most * options.seconds
    now = datetime.now(UTC).replace(microsecond=0)
    parts = [range(number * count + start, (number + 1) * count, 8) for start in range(8)]
    made = [one for part in pool.map(work, [(key_pair(), *names, part, now) for part in parts]) for one in part]
    file = folder / "bodies.txt"
    file.write_text("\n".join(made) + "\n")
    figures = {FLOOR: run.load(folder, targets[FLOOR], run.FORM, BODY, options)}
    for name in (STOCK, OURS):
        figures[name] = load(folder, targets[name], file, options)
    sys.stderr.write(f"round {number + 1} of {options.rounds}\n")
    return figures


def work(given):
    return bodies(*given)


def load(folder, url, file, options):
    script = folder / "saml.lua"
    script.write_text(SCRIPT.replace("FILE", str(file)))
    command = [
        "wrk",
        "-t1",
        f"-c{options.connections}",
        f"-d{options.seconds}s",
        "--latency",
        "--timeout",
        "10s",
        "-s",
        str(script),
    ]
    out = subprocess.run([*command, url + "/"], capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        sys.exit(f"{url}: {out}")
    rate = float(run.re.search(r"Requests/sec:\s+([\d.]+)", out)[1])
    return {"rps": rate, "p50_ms": run.latency(out, 50), "p99_ms": run.latency(out, 99)}


def report(rounds, options):
    def middle(name, other):
        return statistics.median(figures[name]["rps"] / figures[other]["rps"] for figures in rounds)

    sys.stdout.write(f"{'endpoint':24}{'requests/s':>12}{'to stock':>10}{'to F':>8}{'p50 ms':>9}{'p99 ms':>9}\n")
    for name in (FLOOR, STOCK, OURS):
        rate, half, most = (statistics.median(one[name][key] for one in rounds) for key in run.MEASURED)
        sys.stdout.write(
            f"{name:24}{rate:12.0f}{middle(name, STOCK):10.2f}{middle(name, FLOOR):8.2f}{half:9.2f}{most:9.2f}\n"
        )
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps({"cores": os.cpu_count(), "rounds": rounds}, indent=1))


if __name__ == "__main__":
    main()
