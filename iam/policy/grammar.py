"""The grammar of policies: parses a JSON document into statements, or raises MalformedPolicyDocument.

Pure. Source: IAM User Guide, "Grammar of the IAM JSON policy language" and "IAM JSON policy element reference". The
messages are those of AWS; where AWS says only "Syntax errors in policy.", the place is added.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn

from iam.errors import MalformedPolicyDocument, excerpt
from iam.policy.conditions import Condition
from iam.policy.issuers import unpinned_claims
from iam.policy.patterns import ARN_PARTS, Dialect, Match, matcher
from iam.policy.principals import EVERYONE, PARTITIONS, PolicyPrincipal, parse_principal
from iam.policy.statement import Effect, PolicyKind, Statement, limits_everyone_by_arn, resource_test, statement_test
from iam.policy.strict_json import Number, load


class _Rules(NamedTuple):
    """The elements that a kind of policy requires, and AWS's messages where they are missing.

    ``principal`` and ``resource``: True is required, False is prohibited, None is optional.
    """

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
        # Organizations User Guide, "SCP syntax": all elements except Principal and NotPrincipal.
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
            resource=None,  # without Resource, the policy is about the resource to which it is attached
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
    "Sid Effect Principal NotPrincipal Action NotAction Resource NotResource Condition".split()  # noqa: SIM905 - a list of names
)
# The actions that a role's trust policy can allow.
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


# The pattern dialects of Action and Resource; in version 2008-10-17 of the language "${" is literal text.
_ACTIONS = Dialect(fold=True)
_RESOURCES = {variables: Dialect(variables, arn=True, resource=True) for variables in (False, True)}


class ParsedDocument(NamedTuple):
    """The parsed elements of a policy document."""

    version: str
    id: str
    statements: tuple[Statement, ...]


def read(text: str, kind: PolicyKind, label: str) -> ParsedDocument:
    """Return the parsed policy of a text; raise MalformedPolicyDocument with AWS's message where it is invalid."""
    document = _document(text, kind)
    version = document.get("Version", "2008-10-17")
    if not isinstance(version, str) or version not in _VERSIONS:
        _refuse(_SYNTAX, "Version")
    identifier = _text(document.get("Id", ""), "Id")
    reader = _StatementReader(kind, _RULES[kind], label, variables=version == VERSION_WITH_VARIABLES)
    statements = tuple(reader.statement(index, element) for index, element in enumerate(_statements(document)))
    sids = [statement.sid for statement in statements if statement.sid]
    if len(set(sids)) != len(sids):
        _refuse("Statement IDs (SID) in a single policy must be unique.")
    return ParsedDocument(version, identifier, statements)


def _refuse(text: str, place: str = "") -> NoReturn:
    # A specific message of AWS is returned unchanged. The general one is the same for all errors, so the place follows.
    full = f"{text} ({place})" if place else text
    raise MalformedPolicyDocument(full if text == _SYNTAX else text, log=full)


def _document(text: str, kind: PolicyKind) -> dict[str, Any]:
    try:
        document = load(text)
    except ValueError as error:
        raise MalformedPolicyDocument(_RULES[kind].bad_json, log=f"{_RULES[kind].bad_json} ({error})") from None
    if not isinstance(document, dict):
        _refuse(_SYNTAX, "a policy is an object")
    _only(document, _DOCUMENT_ELEMENTS, "policy")
    return document


def _only(element: Mapping[str, Any], known: frozenset[str], place: str) -> None:
    for name in element:
        if name not in known:
            _refuse(_SYNTAX, f"{place}: unknown element {name[:64]}")


def _statements(document: Mapping[str, Any]) -> list[Any]:
    element = document.get("Statement")
    statements = [element] if isinstance(element, dict) else element
    if not isinstance(statements, list) or not statements:
        _refuse(_SYNTAX, "Statement")
    return statements


def _text(element: object, place: str) -> str:
    if not isinstance(element, str) or isinstance(element, Number):
        _refuse(_SYNTAX, place)
    return element


def _texts(element: object, place: str) -> tuple[str, ...]:
    return tuple(_text(text, place) for text in (element if isinstance(element, list) else [element]))


@dataclass(frozen=True, slots=True)
class _StatementReader:
    """Parses the statements of one policy."""

    kind: PolicyKind
    rules: _Rules
    label: str
    variables: bool

    def statement(self, index: int, element: object) -> Statement:
        place = f"Statement[{index}]"
        if not isinstance(element, dict):
            _refuse(_SYNTAX, place)
        self._elements(element, place)
        principals, not_principals = self._pair(element, "Principal", place, self._principals)
        actions, not_actions = self._pair(element, "Action", place, self._actions)
        resources, not_resources = self._pair(element, "Resource", place, self._resources)
        effect = _effect(element, place)
        denies = effect is Effect.DENY
        conditions = tuple(self._conditions(element.get("Condition", {}), f"{place}.Condition"))
        matches_resource = resource_test(
            self._resource_matcher(resources or not_resources, place), negated=bool(not_resources), denies=denies
        )
        statement = Statement(
            policy=self.label,
            index=index,
            sid=self._sid(element, place),
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

    def _elements(self, element: Mapping[str, Any], place: str) -> None:
        """Check which elements are present, before their values are parsed."""
        _only(element, _STATEMENT_ELEMENTS, place)
        for name, allowed in (("Principal", self.rules.principal), ("Resource", self.rules.resource)):
            for present in (name, f"Not{name}"):
                if present in element and allowed is False:
                    _refuse(f"Has prohibited field {present}", place)
        missing = {"Principal": "Missing required field Principal"} if self.rules.principal else {}
        missing |= {"Action": self.rules.no_action}
        missing |= {"Resource": self.rules.no_resource} if self.rules.resource else {}
        if "Effect" not in element:
            _refuse("Missing required field Effect", place)
        for name, message in missing.items():
            if name not in element and f"Not{name}" not in element:
                _refuse(message, place)
            if name in element and f"Not{name}" in element:
                _refuse(_SYNTAX, f"{place}: both {name} and Not{name}")

    def _sid(self, element: Mapping[str, Any], place: str) -> str:
        sid = _text(element.get("Sid", ""), f"{place}.Sid")
        if not self.rules.free_sid and not _SID.fullmatch(sid):
            _refuse(
                "Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular expression "
                "[0-9A-Za-z]*",
                place,
            )
        return sid

    def _pair(
        self, element: Mapping[str, Any], name: str, place: str, parse: Callable[[Any, str], tuple[Any, ...]]
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Return the values of an element and of its Not form; at most one of them is present."""
        parsed = []
        for element_name in (name, f"Not{name}"):
            values = parse(element[element_name], f"{place}.{element_name}") if element_name in element else ()
            if element_name in element and not values:
                self._empty(name)
            parsed.append(values)
        return parsed[0], parsed[1]

    def _empty(self, name: str) -> NoReturn:
        messages = {"Action": self.rules.no_action, "Resource": self.rules.no_resource}
        text = messages.get(name, "Missing required field Principal")
        _refuse(text if text.endswith(".") else f"{text} cannot be empty!")

    def _principals(self, element: object, place: str) -> tuple[PolicyPrincipal, ...]:
        if element == "*":
            return (EVERYONE,)
        if not isinstance(element, dict):
            _refuse(f'Invalid principal in policy: "{_shorten(element)}"', place)
        return tuple(
            self._principal(kind, text) for kind, texts in element.items() for text in _texts(texts, f"{place}.{kind}")
        )

    def _principal(self, kind: str, text: str) -> PolicyPrincipal:
        principal = parse_principal(kind, text)
        if principal is None and kind == "Federated":
            _refuse("Federated principals must be valid domain names or SAML metadata ARNs")
        if principal is None or (kind == "CanonicalUser" and self.kind is PolicyKind.TRUST):
            _refuse(f'Invalid principal in policy: "{kind[:64].upper()}":"{_shorten(text)}"')
        return principal

    def _actions(self, element: object, place: str) -> tuple[str, ...]:
        return tuple(_action(text) for text in _texts(element, place))

    def _resources(self, element: object, place: str) -> tuple[str, ...]:
        return tuple(_resource(text) for text in _texts(element, place))

    def _resource_matcher(self, texts: tuple[str, ...], place: str) -> Match | None:
        if not texts:
            return None
        try:
            return matcher(texts, _RESOURCES[self.variables])
        except ValueError as error:
            _refuse(_SYNTAX, f"{place}.Resource: {error}")

    def _conditions(self, element: object, place: str) -> Iterator[Condition]:
        if not isinstance(element, dict):
            _refuse(_SYNTAX, place)
        for operator, keys in element.items():
            if not isinstance(keys, dict) or not keys:
                _refuse(_SYNTAX, f"{place}.{operator[:64]}")
            for key, values in keys.items():
                yield self._condition(operator, key, values, place)

    def _condition(self, operator: str, key: str, values: object, place: str) -> Condition:
        place = f"{place}.{operator[:64]}.{key[:128]}"
        if not _CONDITION_KEY.fullmatch(key):
            _refuse("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.", place)
        expected = tuple(_condition_value(value, place) for value in (values if isinstance(values, list) else [values]))
        if not expected:  # a negated operator without values would be true for every request
            _refuse(_SYNTAX, place)
        try:
            return Condition.of(operator, key, expected, variables=self.variables)
        except KeyError:
            _refuse(f"Invalid Condition type : {operator[:64]}", place)
        except ValueError as error:
            _refuse(_SYNTAX, f"{place}: {error}")


def _effect(element: Mapping[str, Any], place: str) -> Effect:
    effect = _text(element["Effect"], f"{place}.Effect")
    if effect not in {"Allow", "Deny"}:
        _refuse(_SYNTAX, f"{place}.Effect")
    return Effect(effect)


def _condition_value(value: object, place: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):  # strict_json keeps a number as its text, unchanged
        _refuse(_SYNTAX, place)
    return str(value)


def _shorten(value: object) -> str:
    return excerpt(value) if isinstance(value, str) else type(value).__name__


def _action(text: str) -> str:
    if text == "*":
        return text
    match = _ACTION.fullmatch(text)
    if not match:
        _refuse("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.", _shorten(text))
    if match["vendor"] != "*" and not _VENDOR.fullmatch(match["vendor"]):
        _refuse(f"Vendor {_shorten(match['vendor'])} is not valid")
    if not _ACTION_NAME.fullmatch(match["name"]):
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
