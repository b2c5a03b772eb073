"""The grammar of policies: from JSON to statements, or a refusal in AWS's words.

Pure. Source: IAM User Guide, "Grammar of the IAM JSON policy language" and "IAM JSON policy element reference". The
texts of MalformedPolicyDocument are those of AWS; where AWS says only "Syntax errors in policy.", the place follows.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn

from iam.errors import MalformedPolicyDocument
from iam.policy.conditions import Condition
from iam.policy.issuers import unpinned_claims
from iam.policy.patterns import ARN_PARTS, Dialect, Match, matcher
from iam.policy.principals import EVERYONE, PARTITIONS, PolicyPrincipal, parse_principal
from iam.policy.statement import Effect, PolicyKind, Statement, limits_everyone_by_arn, resource_test, statement_test
from iam.policy.strict_json import Number, load


class _Rules(NamedTuple):
    """What a kind of policy wants, and AWS's words where it does not get it; ``resource`` None: it may be there."""

    principal: bool
    resource: bool | None
    bad_json: str
    no_action: str
    no_resource: str = "Missing required field Resource"
    free_sid: bool = False


_SYNTAX = "Syntax errors in policy."
_OF_AN_IDENTITY = _Rules(
    principal=False,
    resource=True,
    bad_json=_SYNTAX,
    no_action="Policy statement must contain actions.",
    no_resource="Policy statement must contain resources.",
)
_RULES = MappingProxyType(
    {
        PolicyKind.IDENTITY: _OF_AN_IDENTITY,
        PolicyKind.BOUNDARY: _OF_AN_IDENTITY,
        # Organizations User Guide, "SCP syntax": the whole language but principals.
        PolicyKind.GUARDRAIL: _OF_AN_IDENTITY,
        PolicyKind.SESSION: _OF_AN_IDENTITY._replace(bad_json="The policy is not in the valid JSON format."),
        PolicyKind.TRUST: _Rules(
            principal=True,
            resource=False,
            bad_json="This policy contains invalid Json",
            no_action="Missing required field Action",
        ),
        PolicyKind.RESOURCE: _Rules(
            principal=True,
            resource=None,  # left out, the policy is about what it hangs on
            bad_json=_SYNTAX,
            no_action="Missing required field Action",
            free_sid=True,
        ),
    }
)

VERSION_WITH_VARIABLES = "2012-10-17"
_VERSIONS = frozenset({VERSION_WITH_VARIABLES, "2008-10-17"})
_DOCUMENT_ELEMENTS = frozenset({"Version", "Id", "Statement"})
_STATEMENT_ELEMENTS = frozenset(
    "Sid Effect Principal NotPrincipal Action NotAction Resource NotResource Condition".split()  # noqa: SIM905 - a row of names
)
# What a role's trust policy can grant.
TRUST_ACTIONS = tuple(
    f"sts:{name}"
    for name in (
        "AssumeRole",
        "AssumeRoleWithSAML",
        "AssumeRoleWithWebIdentity",
        "AssumeRoleWithLDAPIdentity",
        "TagSession",
        "SetSourceIdentity",
        "SetContext",
    )
)
_IAM_RESOURCES = (
    "user/",
    "federated-user/",
    "role/",
    "group/",
    "instance-profile/",
    "mfa/",
    "server-certificate/",
    "policy/",
    "sms-mfa/",
    "saml-provider/",
    "oidc-provider/",
    "ldap-provider/",
    "report/",
    "access-report/",
)
_ACTION = re.compile(r"(?P<vendor>[^:]*):(?P<name>.*)", re.DOTALL)
_VENDOR = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*", re.ASCII)
_ACTION_NAME = re.compile(r"[\w*?-]+", re.ASCII)
_SID = re.compile(r"[0-9A-Za-z]*", re.ASCII)
_CONDITION_KEY = re.compile(r"[A-Za-z0-9][\w./-]*:[^*?]+", re.ASCII)


# How actions and resources are written; in the older version of the language a variable's signs are ordinary.
_ACTIONS = Dialect(fold=True)
_RESOURCES = {variables: Dialect(variables, arn=True, resource=True) for variables in (False, True)}


class ParsedDocument(NamedTuple):
    """What was read of a policy document."""

    version: str
    id: str
    statements: tuple[Statement, ...]


def read(text: str, kind: PolicyKind, label: str) -> ParsedDocument:
    """Return what a text says as a policy of this kind; MalformedPolicyDocument says in AWS's words why it is none."""
    document = _document(text, kind)
    version = document.get("Version", "2008-10-17")
    if not isinstance(version, str) or version not in _VERSIONS:
        _refuse(_SYNTAX, "Version")
    identifier = _text(document.get("Id", ""), "Id")
    reader = _StatementReader(kind, _RULES[kind], label, variables=version == VERSION_WITH_VARIABLES)
    statements = tuple(reader.statement(at, found) for at, found in enumerate(_statements(document)))
    sids = [statement.sid for statement in statements if statement.sid]
    if len(set(sids)) != len(sids):
        _refuse("Statement IDs (SID) in a single policy must be unique.")
    return ParsedDocument(version, identifier, statements)


def _refuse(text: str, place: str = "") -> NoReturn:
    # Where AWS has a sentence for what is wrong, that is the message; where it has only one for all, the place helps.
    full = f"{text} ({place})" if place else text
    raise MalformedPolicyDocument(full if text == _SYNTAX else text, log=full)


def _document(text: str, kind: PolicyKind) -> dict[str, Any]:
    try:
        found = load(text)
    except ValueError as wrong:
        raise MalformedPolicyDocument(_RULES[kind].bad_json, log=f"{_RULES[kind].bad_json} ({wrong})") from None
    if not isinstance(found, dict):
        _refuse(_SYNTAX, "a policy is an object")
    _only(found, _DOCUMENT_ELEMENTS, "policy")
    return found


def _only(found: Mapping[str, Any], known: frozenset[str], place: str) -> None:
    for name in found:
        if name not in known:
            _refuse(_SYNTAX, f"{place}: unknown element {name[:64]}")


def _statements(document: Mapping[str, Any]) -> list[Any]:
    found = document.get("Statement")
    listed = [found] if isinstance(found, dict) else found
    if not isinstance(listed, list) or not listed:
        _refuse(_SYNTAX, "Statement")
    return listed


def _text(found: object, place: str) -> str:
    if not isinstance(found, str) or isinstance(found, Number):
        _refuse(_SYNTAX, place)
    return found


def _texts(found: object, place: str) -> tuple[str, ...]:
    return tuple(_text(one, place) for one in (found if isinstance(found, list) else [found]))


@dataclass(frozen=True, slots=True)
class _StatementReader:
    """Reads the statements of one policy."""

    kind: PolicyKind
    rules: _Rules
    label: str
    variables: bool

    def statement(self, index: int, found: object) -> Statement:
        place = f"Statement[{index}]"
        if not isinstance(found, dict):
            _refuse(_SYNTAX, place)
        self._elements(found, place)
        principals, not_principals = self._pair(found, "Principal", place, self._principals)
        actions, not_actions = self._pair(found, "Action", place, self._actions)
        resources, not_resources = self._pair(found, "Resource", place, self._resources)
        effect = _effect(found, place)
        denies = effect is Effect.DENY
        conditions = tuple(self._conditions(found.get("Condition", {}), f"{place}.Condition"))
        matches_resource = resource_test(
            self._resource_matcher(resources or not_resources, place), negated=bool(not_resources), denies=denies
        )
        statement = Statement(
            policy=self.label,
            index=index,
            sid=self._sid(found, place),
            effect=effect,
            denies=denies,
            principals=principals,
            not_principals=not_principals,
            actions=actions,
            not_actions=not_actions,
            resources=resources,
            not_resources=not_resources,
            conditions=conditions,
            limited_by_arn=limits_everyone_by_arn(principals, conditions),
            matches_action=matcher(actions or not_actions, _ACTIONS, unknown=False),
            matches_resource=matches_resource,
            applies=statement_test(matches_resource, conditions, denies=denies),
        )
        if self.kind is PolicyKind.TRUST:
            _check_trust(statement)
        return statement

    def _elements(self, found: Mapping[str, Any], place: str) -> None:
        """Check which elements there are, before what they say."""
        _only(found, _STATEMENT_ELEMENTS, place)
        for name, wanted in (("Principal", self.rules.principal), ("Resource", self.rules.resource)):
            for present in (name, f"Not{name}"):
                if present in found and wanted is False:
                    _refuse(f"Has prohibited field {present}", place)
        missing = {"Principal": "Missing required field Principal"} if self.rules.principal else {}
        missing |= {"Action": self.rules.no_action}
        missing |= {"Resource": self.rules.no_resource} if self.rules.resource else {}
        if "Effect" not in found:
            _refuse("Missing required field Effect", place)
        for name, words in missing.items():
            if name not in found and f"Not{name}" not in found:
                _refuse(words, place)
            if name in found and f"Not{name}" in found:
                _refuse(_SYNTAX, f"{place}: both {name} and Not{name}")

    def _sid(self, found: Mapping[str, Any], place: str) -> str:
        sid = _text(found.get("Sid", ""), f"{place}.Sid")
        if not self.rules.free_sid and not _SID.fullmatch(sid):
            _refuse(
                "Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular expression "
                "[0-9A-Za-z]*",
                place,
            )
        return sid

    def _pair(
        self, found: Mapping[str, Any], name: str, place: str, read: Callable[[Any, str], tuple[Any, ...]]
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Read an element and its Not form, of which at most one is there."""
        both = []
        for present in (name, f"Not{name}"):
            values = read(found[present], f"{place}.{present}") if present in found else ()
            if present in found and not values:
                self._empty(name)
            both.append(values)
        return both[0], both[1]

    def _empty(self, name: str) -> NoReturn:
        words = {"Action": self.rules.no_action, "Resource": self.rules.no_resource}
        text = words.get(name, "Missing required field Principal")
        _refuse(text if text.endswith(".") else f"{text} cannot be empty!")

    def _principals(self, found: object, place: str) -> tuple[PolicyPrincipal, ...]:
        if found == "*":
            return (EVERYONE,)
        if not isinstance(found, dict):
            _refuse(f'Invalid principal in policy: "{_shorten(found)}"', place)
        return tuple(
            self._principal(kind, text) for kind, listed in found.items() for text in _texts(listed, f"{place}.{kind}")
        )

    def _principal(self, kind: str, text: str) -> PolicyPrincipal:
        one = parse_principal(kind, text)
        if one is None and kind == "Federated":
            _refuse("Federated principals must be valid domain names or SAML metadata ARNs")
        if one is None or (kind == "CanonicalUser" and self.kind is PolicyKind.TRUST):
            _refuse(f'Invalid principal in policy: "{kind[:64].upper()}":"{_shorten(text)}"')
        return one

    def _actions(self, found: object, place: str) -> tuple[str, ...]:
        return tuple(_action(text) for text in _texts(found, place))

    def _resources(self, found: object, place: str) -> tuple[str, ...]:
        return tuple(_resource(text) for text in _texts(found, place))

    def _resource_matcher(self, texts: tuple[str, ...], place: str) -> Match | None:
        if not texts:
            return None
        try:
            return matcher(texts, _RESOURCES[self.variables])
        except ValueError as wrong:
            _refuse(_SYNTAX, f"{place}.Resource: {wrong}")

    def _conditions(self, found: object, place: str) -> Iterator[Condition]:
        if not isinstance(found, dict):
            _refuse(_SYNTAX, place)
        for operator, keys in found.items():
            if not isinstance(keys, dict) or not keys:
                _refuse(_SYNTAX, f"{place}.{operator[:64]}")
            for key, values in keys.items():
                yield self._condition(operator, key, values, place)

    def _condition(self, operator: str, key: str, values: object, place: str) -> Condition:
        place = f"{place}.{operator[:64]}.{key[:128]}"
        if not _CONDITION_KEY.fullmatch(key):
            _refuse("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.", place)
        wanted = tuple(_condition_value(one, place) for one in (values if isinstance(values, list) else [values]))
        if not wanted:  # a negated operator without values would hold for everybody
            _refuse(_SYNTAX, place)
        try:
            return Condition.of(operator, key, wanted, variables=self.variables)
        except KeyError:
            _refuse(f"Invalid Condition type : {operator[:64]}", place)
        except ValueError as wrong:
            _refuse(_SYNTAX, f"{place}: {wrong}")


def _effect(found: Mapping[str, Any], place: str) -> Effect:
    effect = _text(found["Effect"], f"{place}.Effect")
    if effect not in {"Allow", "Deny"}:
        _refuse(_SYNTAX, f"{place}.Effect")
    return Effect(effect)


def _condition_value(found: object, place: str) -> str:
    if isinstance(found, bool):
        return "true" if found else "false"
    if not isinstance(found, str):  # a number is a text here, as its author wrote it
        _refuse(_SYNTAX, place)
    return str(found)


def _shorten(found: object) -> str:
    return found[:256] if isinstance(found, str) else type(found).__name__


def _action(text: str) -> str:
    if text == "*":
        return text
    found = _ACTION.fullmatch(text)
    if not found:
        _refuse("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.", _shorten(text))
    if found["vendor"] != "*" and not _VENDOR.fullmatch(found["vendor"]):
        _refuse(f"Vendor {_shorten(found['vendor'])} is not valid")
    if not _ACTION_NAME.fullmatch(found["name"]):
        _refuse(_SYNTAX, f"action {_shorten(text)}")
    return text


def _resource(text: str) -> str:
    if text == "*":
        return text
    if not text.startswith("arn:"):
        _refuse(f'Resource {_shorten(text)} must be in ARN format or "*".')
    parts = text.split(":", ARN_PARTS - 1)
    if "" in parts[1:3]:
        _refuse("The policy failed legacy parsing", _shorten(text))
    if parts[1] not in PARTITIONS and parts[1] != "*":
        _refuse(f'Partition "{_shorten(parts[1])}" is not valid for resource "{_shorten(text)}".')
    if len(parts) < 3 or not _VENDOR.fullmatch(parts[2]):  # noqa: PLR2004 - the third part is the service
        _refuse("Resource vendor must be fully qualified and cannot contain regexes.", _shorten(text))
    if parts[2] == "iam":
        _check_iam_resource(text, parts[3:])
    return text


def _check_iam_resource(text: str, parts: Sequence[str]) -> None:
    region, *_account, resource = parts if len(parts) == ARN_PARTS - 3 else ("", "*")
    if region not in {"", "*"}:
        _refuse(f"IAM resource {_shorten(text)} cannot contain region information.")
    if resource != "*" and not resource.startswith((*_IAM_RESOURCES, "root")):
        _refuse(f'IAM resource path must either be "*" or start with {", ".join(_IAM_RESOURCES)}.', _shorten(text))


def _check_trust(statement: Statement) -> None:
    if not statement.actions or not all(map(_only_of_trust, statement.actions)):
        _refuse("AssumeRole policy may only specify STS AssumeRole actions.")
    missing = statement.effect is Effect.ALLOW and unpinned_claims(statement.principals, statement.conditions)
    if missing:
        _refuse(f"Trust policy of a shared OIDC provider must evaluate the claim {missing}.")


def _only_of_trust(action: str) -> bool:
    if not action.lower().startswith("sts:"):
        return False
    covers = matcher([action], _ACTIONS)
    return any(covers(known, {}) for known in TRUST_ACTIONS)
