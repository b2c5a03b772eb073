"""What a policy decision is, told as plainly as AWS's documentation tells it: no index, nothing prepared, no speed.

It reads the JSON of a policy anew for every question. The engine must agree with it on every policy and request.
True, False and None stand for yes, no, and nobody knows: a value that its operator cannot read, or a variable that has
no value. What nobody knows holds for a Deny and not for an Allow.
"""

import base64
import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from ipaddress import ip_address, ip_network
from operator import eq, ge, gt, le, lt

from iam.policy.statement import PolicyKind
from iam.principal import PrincipalKind

# --- patterns: a list of single signs, of which some are wildcards ----------------------------------------------------

STAR, ONE = object(), object()
STAR_WITHIN, ONE_WITHIN = object(), object()  # they stop at a colon


class Unknown(Exception):
    """A variable without value."""


def signs(pattern, keys, *, variables, wildcards):
    """Return a pattern as signs, and of each whether its author wrote it: a variable's value is ordinary signs."""
    found, at = [], 0
    while at < len(pattern):
        if variables and pattern.startswith("${", at):
            end = pattern.index("}", at)
            found += [(sign, False) for sign in value_of(pattern[at + 2 : end], keys)]
            at = end + 1
            continue
        sign = pattern[at]
        special = {"*": STAR, "?": ONE}.get(sign) if wildcards else None
        found.append((special or sign, True))
        at += 1
    return found


def value_of(inner, keys):
    if inner in {"*", "?", "$"}:
        return inner
    name, comma, default = inner.partition(",")
    values = keys.get(name.strip().lower(), ())
    if len(values) == 1:
        return values[0]
    if comma:
        return default.strip()[1:-1]
    raise Unknown


def fits(pattern, text):
    """Return whether signs match a whole text: a star any run, a question mark any one sign."""

    def one(sign, actual):
        return sign is ONE or (sign is ONE_WITHIN and actual != ":") or sign == actual

    @cache
    def from_here(at, to):
        if at == len(pattern):
            return to == len(text)
        if pattern[at] in (STAR, STAR_WITHIN):
            more = to < len(text) and (pattern[at] is STAR or text[to] != ":")
            return from_here(at + 1, to) or (more and from_here(at, to + 1))
        return to < len(text) and one(pattern[at], text[to]) and from_here(at + 1, to + 1)

    return from_here(0, 0)


def like(pattern, text, keys, *, variables, wildcards=True, fold=False):
    if fold:
        pattern, text, keys = pattern.lower(), text.lower(), {key: [one.lower() for one in keys[key]] for key in keys}
    try:
        found = signs(pattern, keys, variables=variables, wildcards=wildcards)
    except Unknown:
        return None
    return fits(tuple(sign for sign, _ in found), text)


def arn_parts(pattern, keys, *, variables):
    """Part a pattern at the author's first five colons."""
    parts = [[]]
    for sign, written in signs(pattern, keys, variables=variables, wildcards=True):
        if sign == ":" and written and len(parts) < 6:
            parts.append([])
        else:
            parts[-1].append(sign)
    return parts


def arn_like(pattern, text, keys, *, variables):
    """Compare part by part: "Amazon Resource Name (ARN) condition operators"."""
    if set(pattern) == {"*"}:
        return True
    try:
        parts = arn_parts(pattern, keys, variables=variables)
    except Unknown:
        return None
    if len(parts) < 6:  # the ARN is the value of a variable
        return fits(tuple(parts[0]), text)
    actual = text.split(":", 5)
    return len(actual) == 6 and all(fits(tuple(part), one) for part, one in zip(parts, actual, strict=True))


def resource_like(pattern, text, keys, *, variables):
    """Compare as Resource does: "Wildcard characters in resource ARNs" and "Incomplete ARN"."""
    if set(pattern) == {"*"}:
        return True
    try:
        parts = arn_parts(pattern, keys, variables=variables)
    except Unknown:
        return None
    if any(":" in part for part in parts[:5]):  # from a variable: a value makes no parts
        return False
    stopping = {STAR: STAR_WITHIN, ONE: ONE_WITHIN}
    for part in parts[:5]:
        part[:-1] = [stopping.get(sign, sign) for sign in part[:-1]]
        part[-1:] = [sign if sign is STAR else stopping.get(sign, sign) for sign in part[-1:]]
    completed = [*parts, *[[STAR]] * (6 - len(parts))]
    as_written = [parts] if len(parts) == 6 or any(part[-1:] == [STAR] for part in parts) else []
    return any(
        fits(tuple(sign for at, part in enumerate(form) for sign in ([":"] * (at > 0) + part)), text)
        for form in [completed, *as_written]
    )


def any_of(verdicts):
    verdicts = list(verdicts)
    return True if True in verdicts else None if None in verdicts else False


def all_of(verdicts):
    verdicts = list(verdicts)
    return False if False in verdicts else None if None in verdicts else True


def opposite(verdict):
    return None if verdict is None else not verdict


# --- conditions -------------------------------------------------------------------------------------------------------


def number(text):
    return Decimal(text) if re.fullmatch(r"[+-]?\d+(\.\d+)?", text, re.ASCII) else None


def date(text):
    if re.fullmatch(r"-?\d{5,}", text, re.ASCII):
        return Decimal(text)
    try:
        found = datetime.fromisoformat(text if len(text) > 4 else f"{text}-01-01")
    except ValueError:
        return None
    return Decimal((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())


def boolean(text):
    return {"true": True, "false": False}.get(text.lower())


def binary(text):
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return None


def typed(read, compare):
    def match(wanted, actual, _keys, _variables):
        found = read(actual)
        return None if found is None else compare(found, read(wanted))

    return match


def inside(wanted, actual, _keys, _variables):
    try:
        found = ip_address(actual)
    except ValueError:
        return None
    return (getattr(found, "ipv4_mapped", None) or found) in as_ipv4(ip_network(wanted, strict=False))


def as_ipv4(network):
    mapped = network.version == 6 and network.prefixlen >= 96 and network.network_address.ipv4_mapped
    return ip_network((int(mapped), network.prefixlen - 96)) if mapped else network


def text(**dialect):
    def match(wanted, actual, keys, variables):
        return like(wanted, actual, keys, variables=variables, **dialect)

    return match


def arn(wanted, actual, keys, variables):
    return arn_like(wanted, actual, keys, variables=variables)


MATCHES = {
    "StringEquals": text(wildcards=False),
    "StringEqualsIgnoreCase": text(wildcards=False, fold=True),
    "StringLike": text(),
    "Bool": typed(boolean, eq),
    "BinaryEquals": typed(binary, eq),
    "IpAddress": inside,
    "ArnEquals": arn,
    "ArnLike": arn,
}
for kind, reader in (("Numeric", number), ("Date", date)):
    for name, comparison in (
        ("Equals", eq),
        ("LessThan", lt),
        ("LessThanEquals", le),
        ("GreaterThan", gt),
        ("GreaterThanEquals", ge),
    ):
        MATCHES[kind + name] = typed(reader, comparison)
NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "NumericNotEquals": "NumericEquals",
    "DateNotEquals": "DateEquals",
    "NotIpAddress": "IpAddress",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
}
TEXTUAL = ("String", "Arn")


def holds(operator, key, wanted, keys, *, variables):
    """Return whether one condition holds: IAM User Guide, "Condition operators" and "Multivalued context keys"."""
    actual = tuple(keys.get(key.lower(), ()))
    if operator == "Null":
        return any(boolean(one) is (not actual) for one in wanted)
    qualifier, _, rest = operator.rpartition(":")
    base = rest.removesuffix("IfExists")
    negated = base in NEGATED
    matches = MATCHES[NEGATED.get(base, base)]

    def one_value(value):
        found = any_of(matches(one, value, keys, variables) for one in wanted)
        # No value equals a variable that has none: a positive comparison with it is false.
        return False if found is None and not negated and base.startswith(TEXTUAL) else found

    if not actual or (qualifier and actual == ("",)):
        if rest.endswith("IfExists"):
            return True
        return {"ForAllValues": True, "ForAnyValue": False, "": negated}[qualifier]
    found = [one_value(value) for value in actual]
    if not qualifier:
        return opposite(any_of(found)) if negated else any_of(found)
    each = [opposite(one) if negated else one for one in found]
    return all_of(each) if qualifier == "ForAllValues" else any_of(each)


# --- statements -------------------------------------------------------------------------------------------------------


def listed(found):
    return found if isinstance(found, list) else [found]


def about_action(statement, action):
    named = statement.get("Action", statement.get("NotAction"))
    covered = any(like(one, action, {}, variables=False, fold=True) for one in listed(named))
    return covered if "Action" in statement else not covered


def about_resource(statement, resource, keys, *, variables):
    named = statement.get("Resource", statement.get("NotResource"))
    if named is None:
        return True
    found = any_of(resource_like(one, resource, keys, variables=variables) for one in listed(named))
    if "Resource" in statement:
        return found is True
    return found is False or (found is None and statement["Effect"] == "Deny")


def conditions_hold(statement, keys, *, variables):
    verdict = all_of(
        holds(operator, key, [plain(one) for one in listed(wanted)], keys, variables=variables)
        for operator, block in statement.get("Condition", {}).items()
        for key, wanted in block.items()
    )
    return verdict or (verdict is None and statement["Effect"] == "Deny")


def plain(value):
    return str(value).lower() if isinstance(value, bool) else str(value)


# --- principals: how firmly a statement names the caller --------------------------------------------------------------

ACCOUNT, ENTITY, CALLER = 1, 2, 3
OUTSIDE = (PrincipalKind.FEDERATED, PrincipalKind.SERVICE)


def names(kind, named, who):
    outside = who.kind in OUTSIDE
    if named == "*" and kind in ("AWS", "*"):
        return ACCOUNT if outside else ENTITY
    if kind == "AWS" and named in (who.account_id, f"arn:aws:iam::{who.account_id}:root"):
        return 0 if outside else ACCOUNT
    if kind == "AWS" and named == who.entity_arn:
        return CALLER if who.kind is PrincipalKind.USER else ENTITY
    if kind == "AWS" and named == who.arn:
        return CALLER if who.kind in (PrincipalKind.ROLE_SESSION, PrincipalKind.FEDERATED_USER) else 0
    if kind == "Federated":
        mine = who.arn == named or who.arn.endswith(f":oidc-provider/{named}")
        return CALLER if who.kind is PrincipalKind.FEDERATED and mine else 0
    if kind == "Service":
        return CALLER if who.kind is PrincipalKind.SERVICE and who.arn == named else 0
    return 0


def grips(block, who):
    pairs = [("*", "*")] if block == "*" else [(kind, one) for kind, found in block.items() for one in listed(found)]
    return {names(kind, one, who) for kind, one in pairs}


def names_everyone(block):
    return block == "*" or "*" in listed(block.get("AWS", []))


PICKS = ("StringEquals", "StringEqualsIgnoreCase", "StringLike", "ArnEquals", "ArnLike")


def principal_match(statement, who, *, bounded):
    if "Principal" in statement:
        held = max(grips(statement["Principal"], who))
        picked = {
            key.lower()
            for operator, block in statement.get("Condition", {}).items()
            if operator.removeprefix("ForAnyValue:") in PICKS
            for key in block
        }
        by_arn = names_everyone(statement["Principal"]) and "aws:principalarn" in picked
        return CALLER if held == ENTITY and by_arn else held
    listed_here = grips(statement["NotPrincipal"], who)
    if statement["Effect"] == "Allow":
        return 0 if any(listed_here) else ACCOUNT
    if bounded:
        return ACCOUNT
    needed = {
        PrincipalKind.ROOT: {ACCOUNT},
        PrincipalKind.USER: {ACCOUNT, CALLER},
        PrincipalKind.ROLE_SESSION: {ACCOUNT, ENTITY, CALLER},
        PrincipalKind.FEDERATED_USER: {ACCOUNT, CALLER},
    }.get(who.kind, {CALLER})
    return 0 if needed <= listed_here else ACCOUNT


# --- the decision -----------------------------------------------------------------------------------------------------


def applying(policies, context, *, with_principal=False, bounded=False):
    """Return what applies, as (policy's place, statement's place, effect, grip)."""
    found = []
    for place, policy in enumerate(policies):
        document = json.loads(policy.text)
        variables = document.get("Version") == "2012-10-17"
        for number_, statement in enumerate(listed(document["Statement"])):
            held = principal_match(statement, context.principal, bounded=bounded) if with_principal else CALLER
            if (
                held
                and about_action(statement, context.action)
                and about_resource(statement, context.resource, context.keys, variables=variables)
                and conditions_hold(statement, context.keys, variables=variables)
            ):
                found.append((place, number_, statement["Effect"], held))
    return found


def allows(found):
    return [one for one in found if one[2] == "Allow"]


def decide(context, layers):
    """Return (why, layer): IAM User Guide, "Determining whether a request is allowed or denied within an account"."""
    who = context.principal
    root, maker_is_root = who.kind is PrincipalKind.ROOT, who.entity_arn == f"arn:aws:iam::{who.account_id}:root"
    session = layers.session
    if who.kind is PrincipalKind.FEDERATED_USER and session is None:
        session = ()
    resource_layer = "resource-based policy"
    if layers.resource is not None and any(one.kind is PolicyKind.TRUST for one in layers.resource):
        resource_layer = "role trust policy"
    policies = {
        "service control policy": layers.guardrails,
        resource_layer: layers.resource,
        "identity-based policy": () if root else layers.identity,
        "permissions boundary": None if root else layers.boundary,
        "session policy": None if root else session,
    }
    found = {
        name: applying(
            some,
            context,
            with_principal=name == resource_layer,
            bounded=policies["permissions boundary"] is not None,
        )
        for name, some in policies.items()
        if some is not None
    }
    for name, here in found.items():
        if any(one[2] == "Deny" for one in here):
            return "explicitDeny", name

    held = max((one[3] for one in allows(found.get(resource_layer, []))), default=0)
    if who.kind in OUTSIDE:
        return ("allowed", resource_layer) if held == CALLER else ("implicitDeny", resource_layer)

    def withholds(name):
        return name in found and not allows(found[name])

    at_home = layers.resource_account in ("", who.account_id)
    by_identity = bool(allows(found["identity-based policy"]))
    granted_by = resource_layer if held and not by_identity else "identity-based policy"
    if withholds("service control policy"):
        return "implicitDeny", "service control policy"
    if at_home and (root or held == CALLER):
        return "allowed", granted_by
    must_be_named = not at_home or resource_layer == "role trust policy"
    if must_be_named and not held:
        return "implicitDeny", resource_layer
    owner = root or (who.kind is PrincipalKind.FEDERATED_USER and maker_is_root)
    if not (by_identity or owner or (at_home and held == ENTITY)):
        return "implicitDeny", "identity-based policy"
    for name in ("permissions boundary", "session policy"):
        if withholds(name):
            return "implicitDeny", name
    return "allowed", granted_by
