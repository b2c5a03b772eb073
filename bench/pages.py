"""Server time of the pages, as multiples of the bare Flask view under the same gunicorn in one run, and their weights.

One request at a time, so that the median is the time that the server takes and not that of a queue. The targets take
turns, round after round. `python bench/pages.py --help` for the knobs.
"""

import argparse
import contextlib
import gzip
import html
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from dataclasses import dataclass
from http.cookiejar import CookieJar
from pathlib import Path

import run

HERE = Path(__file__).parent
FLOOR, GOAL = "floor", "GET /portal, 1000 roles"
GOAL_MS = 50
FEW, MANY, TAKEN = 20, 1000, 100
OPEN = 3 / 5  # of the roles trust the group that the person is in


def main():
    options = arguments()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fg-")))
        targets = {FLOOR: Target(stack.enter_context(run.floor(folder)) + "/", "POST", body=f"a={'x' * 500}&b=y")}
        weights = {}
        for count in (FEW, MANY):
            endpoint, account, _directory = stack.enter_context(run.served(run.made(folder / str(count))))
            furnish(endpoint, account, count)
            browser = Browser(endpoint).sign_in()
            targets |= pages(browser, account, count)
            weights |= weigh(browser, count)
        rounds = []
        for number in range(options.rounds):
            rounds.append({name: load(folder, target, options.seconds) for name, target in targets.items()})
            sys.stderr.write(f"round {number + 1} of {options.rounds}\n")
    report(rounds, weights, options)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="length of one measurement")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "pages.json")
    return parser.parse_args()


@dataclass(frozen=True)
class Target:
    """What one request looks like."""

    url: str
    method: str = "GET"
    cookie: str = ""
    body: str = ""


def furnish(endpoint, account, count):
    """Make roles that name the directory; the person may take some of them."""
    root = account["root"]
    iam = run.client("iam", endpoint, root["access_key_id"], root["secret_access_key"])
    provider = f"arn:aws:iam::{account['account_id']}:ldap-provider/corp"
    for number in range(count):
        group = "contractors" if number < count * OPEN else "finance"
        statement = {
            "Effect": "Allow",
            "Principal": {"Federated": provider},
            "Action": "sts:AssumeRoleWithLDAPIdentity",
            "Condition": {"ForAnyValue:StringEquals": {"ldap:group-names": [group]}},
        }
        iam.create_role(
            RoleName=f"Role{number:04}",
            AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
            Description=f"What team {number} does from day to day",
        )


class Browser:
    """Keeps cookies and posts forms."""

    def __init__(self, endpoint):
        self.endpoint = endpoint
        self.cookies = CookieJar()
        kept = urllib.request.HTTPCookieProcessor(self.cookies)
        self.opener = urllib.request.build_opener(kept, urllib.request.ProxyHandler({}))

    def get(self, path, fields=None):
        data = None if fields is None else urllib.parse.urlencode(fields).encode()
        with self.opener.open(urllib.request.Request(self.endpoint + path, data), timeout=60) as answer:
            return answer.read()

    def sign_in(self):
        form = hidden(self.get("/login"))
        self.get("/login", form | {"username": run.PERSON.name, "password": run.PERSON.password})
        return self

    @property
    def cookie(self):
        return "; ".join(f"{one.name}={one.value}" for one in self.cookies)


def hidden(page):
    found = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page.decode())
    return {name: html.unescape(value) for name, value in found}


def pages(browser, account, count):
    """Return the requests to an installation with so many roles; the larger one has live credentials to list."""
    url, cookie = browser.endpoint, browser.cookie
    role = f"arn:aws:iam::{account['account_id']}:role/Role0000"
    form = {"form_token": hidden(browser.get("/portal"))["form_token"], "roleIndex": role}
    shown = {f"GET /portal, {count} roles": Target(url + "/portal", cookie=cookie)}
    taking = {f"POST /portal, {count} roles": Target(url + "/portal", "POST", cookie, urllib.parse.urlencode(form))}
    if count != FEW:
        return shown | taking
    for _time in range(TAKEN):
        browser.get("/portal", form)
    listed = {f"GET /sessions, {TAKEN} credentials": Target(url + "/sessions", cookie=cookie)}
    return {"GET /login": Target(url + "/login")} | shown | listed


def weigh(browser, count):
    """Return the bytes of the pages, as they are and as a proxy in front would send them."""
    if count != FEW:
        return {f"/portal, {count} roles": sizes(browser.get("/portal"))}
    fresh = Browser(browser.endpoint)
    page = fresh.get("/login").decode()
    parts = re.findall(r'(?:href|src)="(/static/[^"]*)"', page)
    return {
        "/login": sizes(page.encode()),
        **{part.partition("?")[0]: sizes(fresh.get(part)) for part in parts},
        f"/portal, {count} roles": sizes(browser.get("/portal")),
        f"/sessions, {TAKEN} credentials": sizes(browser.get("/sessions")),
    }


def sizes(octets):
    return {"bytes": len(octets), "gzipped": len(gzip.compress(octets))}


def load(folder, target, seconds):
    headers = run.FORM if target.body else {}
    headers = headers | ({"Cookie": target.cookie} if target.cookie else {})
    lines = [f"wrk.method={json.dumps(target.method)}\nwrk.body={json.dumps(target.body)}"]
    lines += [f"wrk.headers[{json.dumps(name)}]={json.dumps(value)}" for name, value in headers.items()]
    script = folder / "page.lua"
    script.write_text("\n".join(lines))
    command = ["wrk", "-t1", "-c1", f"-d{seconds}s", "--latency", "--timeout", "10s", "-s", str(script), target.url]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        sys.exit(f"{target.url}: {out}")
    return {"p50_ms": run.latency(out, 50), "p99_ms": run.latency(out, 99)}


def report(rounds, weights, options):
    result = {}
    sys.stdout.write(f"{'page':36}{'p50 ms':>10}{'times F':>10}{'p99 ms':>10}\n")
    for name in rounds[0]:
        times = statistics.median(one[name]["p50_ms"] / one[FLOOR]["p50_ms"] for one in rounds)
        half, most = (statistics.median(one[name][key] for one in rounds) for key in ("p50_ms", "p99_ms"))
        result[name] = {"p50_ms": round(half, 3), "times_floor": round(times, 1), "p99_ms": round(most, 3)}
        sys.stdout.write(f"{name:36}{half:10.2f}{times:10.1f}{most:10.2f}\n")
    sys.stdout.write(f"\n{'weight':36}{'bytes':>10}{'gzipped':>10}\n")
    for name, size in weights.items():
        sys.stdout.write(f"{name:36}{size['bytes']:10}{size['gzipped']:10}\n")
    verdict = "below" if result[GOAL]["p50_ms"] < GOAL_MS else "NOT below"
    sys.stdout.write(f"\n{GOAL}: {verdict} {GOAL_MS} ms\n")
    options.out.parent.mkdir(exist_ok=True)
    told = {"cores": os.cpu_count(), "rounds": rounds, "median": result, "weights": weights}
    options.out.write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
