"""How long a policy decision takes, beside cedarpy (Cedar's Rust engine) on equivalent policies, in one run.

One thread. Both engines hold their policies parsed; each round measures all of them in turn, and ratios are taken
within a round. `python bench/policy.py --help` for the knobs.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cedarpy

from iam.policy.decide import Layers, RequestContext, decide
from iam.policy.document import Policy, PolicyKind
from iam.policy.policy_set import PolicySet
from iam.principal import Principal, PrincipalKind

HERE = Path(__file__).parent
SIZES = (10, 100, 1_000, 10_000)
ACCOUNT = "111122223333"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/eng"
CALLER = Principal(
    PrincipalKind.ROLE_SESSION,
    ACCOUNT,
    f"arn:aws:sts::{ACCOUNT}:assumed-role/eng/ann",
    "AROAX:ann",
    ROLE,
    "AROAX",
    "eng",
)
WANTED = 5  # the statement that the request meets
KEYS = {
    "aws:principaltag/team": (f"team{WANTED}",),
    "aws:sourceip": ("10.1.2.3",),
    "aws:securetransport": ("true",),
    "aws:currenttime": ("2026-11-25T12:00:00Z",),
    "aws:principalarn": (ROLE,),
}
# What the request asks for, and the service of statement n, when all others are of other services, or all of one.
SERVICES = {
    "other services": lambda number: "s3" if number == WANTED else f"service{number}",
    "one service": lambda _: "s3",
}
REQUEST = RequestContext("s3:GetObject", f"arn:aws:s3:::bucket-{WANTED}/report.csv", CALLER, KEYS)


def statement(number: int, service: str) -> dict[str, object]:
    """Return statement n: a wildcard in the action and the resource, and a condition on a tag."""
    return {
        "Effect": "Allow",
        "Action": [f"{service}:Get*", f"{service}:List*"],
        "Resource": f"arn:aws:{service}:::bucket-{number}/*",
        "Condition": {"StringEquals": {"aws:PrincipalTag/team": f"team{number}"}},
    }


def policy(count: int, service: Callable[[int], str], kind: PolicyKind = PolicyKind.IDENTITY) -> Policy:
    statements = [statement(number, service(number)) for number in range(count)]
    return Policy.parse(json.dumps({"Version": "2012-10-17", "Statement": statements}), kind)


def cedar(count: int, service: Callable[[int], str]) -> cedarpy.PolicySet:
    """Return the same in Cedar: the same patterns for action and resource, the same value for the tag."""
    return cedarpy.PolicySet.from_str("\n".join(cedar_policy(number, service(number)) for number in range(count)))


def cedar_policy(number: int, service: str) -> str:
    return (
        "permit(principal, action, resource) when {"
        f' (context.action like "{service}:Get*" || context.action like "{service}:List*")'
        f' && context.resource like "arn:aws:{service}:::bucket-{number}/*"'
        f' && context.team == "team{number}" }};'
    )


def cedar_question(policies: cedarpy.PolicySet) -> Callable[[], object]:
    entities = cedarpy.Entities.from_json_str("[]")
    request = {
        "principal": {"type": "Role", "id": ROLE},
        "action": {"type": "Action", "id": REQUEST.action},
        "resource": {"type": "Resource", "id": REQUEST.resource},
        "context": {
            "action": REQUEST.action,
            "resource": REQUEST.resource,
            "team": KEYS["aws:principaltag/team"][0],
            **{name.partition(":")[2]: value for name, (value,) in KEYS.items()},
        },
    }
    return lambda: cedarpy.is_authorized(request, policies, entities)


def questions() -> dict[str, Callable[[], object]]:
    """Return name -> what is timed; each is asked once first, and must allow."""
    found: dict[str, Callable[[], object]] = {}
    for where, service in SERVICES.items():
        for count in SIZES:
            layers = Layers(identity=PolicySet([policy(count, service)]))
            found[f"fedgate, {count}, {where}"] = lambda layers=layers: decide(REQUEST, layers)
            found[f"cedarpy, {count}, {where}"] = cedar_question(cedar(count, service))
    ten = policy(10, SERVICES["other services"])
    text = (
        policy(2, SERVICES["one service"])
        .text.replace("bucket-1", f"bucket-{WANTED}")
        .replace("team1", f"team{WANTED}")
    )
    session = PolicySet([Policy.parse(text, PolicyKind.SESSION)])
    three = Layers(identity=PolicySet([ten]), boundary=PolicySet([ten]), session=session)
    found["fedgate, three layers"] = lambda: decide(REQUEST, three)

    def cold() -> object:
        parsed = PolicySet([Policy.parse(text, PolicyKind.SESSION)])
        return decide(REQUEST, three._replace(boundary=None, session=parsed))

    found["fedgate, cold session policy of two statements"] = cold
    for name, ask in found.items():
        if not ask().allowed:
            sys.exit(f"{name} does not allow")
    return found


def timed(ask: Callable[[], object], seconds: float) -> float:
    """Return microseconds for one call: the best of five spells."""
    start = time.perf_counter()
    ask()
    once = time.perf_counter() - start
    calls = max(1, int(seconds / 5 / max(once, 1e-7)))
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(calls):
            ask()
        best = min(best, (time.perf_counter() - start) / calls)
    return best * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.3, help="length of one measurement")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "policy.json")
    options = parser.parse_args()
    asked = questions()
    rounds = [{name: timed(ask, options.seconds) for name, ask in asked.items()} for _ in range(options.rounds)]
    report(rounds, options.out)


def median(rounds: list[dict[str, float]], value: Callable[[dict[str, float]], float]) -> float:
    return statistics.median(map(value, rounds))


def report(rounds: list[dict[str, float]], out: Path) -> None:
    result: dict[str, float] = {}

    def line(name: str, value: Callable[[dict[str, float]], float], unit: str) -> None:
        result[f"{name} ({unit})"] = found = round(median(rounds, value), 2)
        sys.stdout.write(f"{name:58}{found:12.2f} {unit}\n")

    for name in rounds[0]:
        line(name, lambda figures, name=name: figures[name], "us")
    for where in SERVICES:
        for count in SIZES:
            mine, theirs = f"fedgate, {count}, {where}", f"cedarpy, {count}, {where}"
            line(f"cedarpy / fedgate, {count}, {where}", lambda one, a=theirs, b=mine: one[a] / one[b], "times")
        most, least = f"fedgate, {SIZES[-1]}, {where}", f"fedgate, {SIZES[0]}, {where}"
        line(f"fedgate, {SIZES[-1]} / {SIZES[0]}, {where}", lambda one, a=most, b=least: one[a] / one[b], "times")
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps({"median": result, "rounds": rounds}, indent=1))


if __name__ == "__main__":
    main()
