import json

import pytest

from iam.policy.document import Policy, PolicyKind
from iam.policy.lint.findings import Level
from iam.policy.lint.policies import CHECKS, lint
from iam.policy.lint.providers import named_groups
from iam.service_data import ServiceData

SERVICES = ServiceData()
IDENTITY, TRUST, RESOURCE = PolicyKind.IDENTITY, PolicyKind.TRUST, PolicyKind.RESOURCE


def found(*statements, kind=IDENTITY, version="2012-10-17"):
    document = {"Version": version, "Statement": list(statements)}
    return lint(Policy.parse(json.dumps(document), kind), SERVICES)


def codes(*statements, **more):
    return [one.code for one in found(*statements, **more)]


def permits(effect="Allow", **more):
    return {"Effect": effect, "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*"} | more


def trusts(effect="Allow", **more):
    return {"Effect": effect, "Action": "sts:AssumeRole", "Principal": {"AWS": "111122223333"}} | more


def when(operator, key, *values):
    return {"Condition": {operator: {key: list(values)}}}


def both(*conditions):
    return {"Condition": {name: keys for one in conditions for name, keys in one["Condition"].items()}}


@pytest.mark.parametrize("kind", [IDENTITY, TRUST])
def test_an_ordinary_policy_has_no_finding(kind):
    assert codes(permits() if kind is IDENTITY else trusts(), kind=kind) == []


TAGS = ("ForAllValues:StringEquals", "aws:TagKeys", "a")
# Each check: a statement in which it finds something, and one that differs in what makes it harmless.
EXAMPLES = [
    ("INVALID_ACTION", permits(Action="s3:GetObjet"), permits(Action="s3:getobject")),
    ("INVALID_ACTION", permits(Action="s3:*Objet"), permits(Action="s3:*Object")),
    ("INVALID_ACTION", {"Effect": "Deny", "NotAction": "iam:ListUser", "Resource": "*"},
     {"Effect": "Deny", "NotAction": "iam:ListUsers", "Resource": "*"}),
    ("INVALID_SERVICE_IN_ACTION", permits(Action="files:Read"), permits(Action="*")),
    ("ALLOW_WITH_NOT_ACTION", {"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"},
     {"Effect": "Deny", "NotAction": "iam:*", "Resource": "*"}),
    ("PASS_ROLE_WITH_STAR_IN_RESOURCE", permits(Action="iam:PassRole", Resource="*"),
     permits(Action="iam:PassRole", Resource="*", **when("StringEquals", "iam:PassedToService", "ec2.amazonaws.com"))),
    ("PASS_ROLE_WITH_STAR_IN_RESOURCE", permits(Action="iam:*", Resource="*"),
     permits(Action="iam:*", Resource="arn:aws:iam::111122223333:user/*")),
    ("REDUNDANT_ACTION", permits(Action=["s3:Get*", "s3:GetObject"]), permits(Action=["s3:Get*", "s3:PutObject"])),
    ("NEGATED_OPERATOR_WITH_ALLOW", permits(**when("StringNotEquals", "aws:PrincipalTag/x", "a")),
     permits("Deny", **when("StringNotEquals", "aws:PrincipalTag/x", "a"))),
    ("NEGATED_OPERATOR_WITH_ALLOW", permits(**when("NotIpAddress", "aws:SourceIp", "10.0.0.0/8")),
     permits(**both(when("NotIpAddress", "aws:SourceIp", "10.0.0.0/8"), when("Null", "aws:SourceIp", "false")))),
    ("FORALLVALUES_WITH_ABSENT_KEY", permits(**when(*TAGS)), permits("Deny", **when(*TAGS))),
    ("FORALLVALUES_WITH_ABSENT_KEY", permits(**both(when(*TAGS), when("Null", "aws:TagKeys", "true"))),
     permits(**both(when(*TAGS), when("Null", "aws:TagKeys", "false")))),
    ("FORALLVALUES_WITH_ABSENT_KEY", permits("Deny", **when("ForAllValues:StringEquals", "aws:username", "a")),
     permits("Deny", **when("ForAnyValue:StringEquals", "aws:TagKeys", "a"))),
    ("MULTIVALUED_KEY_WITHOUT_QUALIFIER", permits(**when("StringEquals", "aws:TagKeys", "a")),
     permits(**when("ForAnyValue:StringEquals", "aws:TagKeys", "a"))),
    ("INVALID_CONDITION_KEY", permits(**when("StringEquals", "aws:PrincipleTag/x", "a")),
     permits(**when("StringEquals", "AWS:principaltag/x", "a"))),
    ("MISMATCHED_CONDITION_TYPE", permits(**when("NumericEquals", "aws:SecureTransport", "1")),
     permits(**when("Bool", "aws:SecureTransport", "true"))),
    ("MISMATCHED_CONDITION_TYPE", permits(**when("IpAddress", "aws:CurrentTime", "10.0.0.1")),
     permits(**when("IpAddress", "aws:SourceIp", "10.0.0.1"))),
    ("WILDCARD_WITHOUT_LIKE_OPERATOR", permits(**when("StringEquals", "aws:username", "a*")),
     permits(**when("StringEquals", "aws:username", "a${*}"))),
    ("KEY_KNOWN_TO_THE_STORE_ONLY", permits("Deny", **when("StringEquals", "s3:ExistingObjectTag/x", "a")),
     permits("Deny", **when("StringEquals", "s3:RequestObjectTag/x", "a"))),
    ("KEY_KNOWN_TO_THE_STORE_ONLY", permits(**when("StringEquals", "aws:username", "${s3:BucketTag/x}")),
     permits(**when("StringEquals", "aws:username", "${aws:PrincipalTag/x}"))),
    ("KEY_KNOWN_TO_THE_STORE_ONLY", permits(Resource="arn:aws:s3:::b/${s3:ExistingObjectTag/x}"),
     permits(Resource="arn:aws:s3:::b/${aws:PrincipalTag/x}")),
    ("KEY_KNOWN_TO_THE_STORE_ONLY", permits("Deny", Resource="arn:aws:s3:::b/${s3:existingobjecttag/x}"),
     permits("Deny", Resource="arn:aws:s3:::b/k")),
    ("EMPTY_CONDITION_VALUE", permits(**when("StringEquals", "aws:username", "")),
     permits(**when("StringEquals", "aws:username", "a"))),
]  # fmt: skip
OF_TRUST = [
    ("ALLOW_WITH_NOT_PRINCIPAL", {"Effect": "Allow", "NotPrincipal": {"AWS": "111122223333"}},
     {"Effect": "Deny", "NotPrincipal": {"AWS": "111122223333"}}),
    ("TRUST_TO_EVERYONE", trusts(Principal="*"), trusts("Deny", Principal="*")),
    ("TRUST_TO_EVERYONE", trusts(Principal={"AWS": ["*", "111122223333"]}),
     trusts(Principal={"AWS": "*"}, **when("StringEquals", "aws:PrincipalAccount", "111122223333"))),
    ("TRUST_TO_EVERYONE", trusts(Principal="*", **when("StringNotEquals", "aws:PrincipalAccount", "1")),
     trusts(Principal="*", **when("StringEquals", "sts:ExternalId", "secret"))),
    ("TRUST_TO_EVERYONE", trusts(Principal="*", **when("StringEqualsIfExists", "aws:PrincipalTag/x", "1")),
     trusts(Principal="*", **when("StringEquals", "aws:PrincipalTag/x", "1"))),
]  # fmt: skip


@pytest.mark.parametrize(("code", "questionable", "harmless"), EXAMPLES)
def test_a_check_finds_what_it_looks_for_and_nothing_beside_it(code, questionable, harmless):
    assert code in codes(questionable)
    assert code not in codes(harmless)


@pytest.mark.parametrize(("code", "questionable", "harmless"), OF_TRUST)
@pytest.mark.parametrize("kind", [TRUST, RESOURCE])
def test_a_check_of_principals_finds_what_it_looks_for(code, questionable, harmless, kind):
    more = {"Action": "sts:AssumeRole"}
    assert code in codes(questionable | more, kind=kind)
    assert code not in codes(harmless | more, kind=kind)


def groups(*values, operator="ForAnyValue:StringEquals", key="ldap:groups"):
    of_directory = {"Principal": {"Federated": "arn:aws:iam::111122223333:ldap-provider/corp"}}
    action = {"Action": "sts:AssumeRoleWithLDAPIdentity"}
    return trusts(**of_directory | action | when(operator, key, *values))


LIKE, FOLDED = "ForAnyValue:StringLike", "ForAnyValue:StringEqualsIgnoreCase"


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        (groups("CN=Cloud Admins, OU=Groups,DC=corp"), "write cn=Cloud Admins,ou=Groups,dc=corp."),
        (groups("cn=a,dc=b", "cn = x"), "cn = x equals the name of no group: write cn=x."),
        (groups("cn=a;b", operator=LIKE), "cn=a;b equals the name of no group: a name is written like cn=engineering,"),
        (groups("cn=a, dc=b", operator=FOLDED), "write cn=a,dc=b."),
        (groups("CN=a", operator="ForAllValues:StringNotEquals"), "write cn=a."),
        (groups("cn=a,dc=b", key="ldap:group-names"), "cn=a,dc=b is a distinguished name: compare it with ldap:groups"),
        (groups('CN="Contractors, External";O=Acme'), "write cn=Contractors\\, External,o=Acme."),
        (groups("OID.2.5.4.3=a,commonName=b"), "write cn=a,cn=b."),
        (groups("uid=1+CN=a"), "write cn=a+uid=1."),
        (groups("cn=Pru\u0308fer"), "write cn=Pr\u00fcfer."),
        (groups("CN=" + "x" * 500), "CN=" + "x" * 157 + "... equals the name of no group"),
    ],
)
def test_a_group_that_no_directory_can_name_is_found(statement, text):
    told = [one for one in found(statement, kind=TRUST) if one.code == "GROUP_NEVER_MATCHES"]
    assert [(one.level, one.statement) for one in told] == [(Level.ERROR, 0)]
    assert text in told[0].text
    assert told[0].place.startswith("Condition.")


def test_a_word_where_most_directories_give_distinguished_names_is_found():
    (told,) = [one for one in found(groups("engineering"), kind=TRUST) if one.code == "GROUP_WITHOUT_DN"]
    assert told.level == Level.WARNING
    assert "compare words with ldap:group-names" in told.text


@pytest.mark.parametrize(
    "statement",
    [
        groups("cn=Cloud Admins,ou=Groups,dc=corp", r"cn=a\, b+uid=x,dc=y", r"cn=\ a\ ,1.2.3=b", r"cn=a\0ab"),
        groups("cn=*,ou=Groups", "*", operator=LIKE),
        groups("CN=a,DC=b", operator=FOLDED),
        groups("cn=${aws:username},dc=b", ""),
        groups("engineering", "a=b", key="ldap:group-names"),
        groups("engineering", key="ldap:department"),
        groups("true", operator="Null"),
    ],
)
def test_a_group_that_a_directory_can_name_is_not_found(statement):
    assert not [one for one in found(statement, kind=TRUST) if one.code.startswith("GROUP_")]


def test_the_groups_that_a_statement_names_whole_are_known():
    conditions = both(
        when("ForAnyValue:StringEquals", "ldap:groups", "cn=a,dc=b", "CN=c", "staff", "cn=${aws:username}"),
        when("ForAnyValue:StringLike", "ldap:groups", "cn=d,dc=b", "cn=*,dc=b"),
        when("StringEquals", "ldap:sub", "cn=e,dc=b"),
        when("Null", "ldap:groups", "false"),
    )
    policy = Policy.parse(json.dumps({"Version": "2012-10-17", "Statement": groups() | conditions}), TRUST)
    assert sorted(named_groups(policy.statements[0])) == ["cn=a,dc=b", "cn=d,dc=b"]


def test_a_provider_that_does_not_exist_is_found_where_that_is_known():
    named = {"Federated": ["arn:aws:iam::111122223333:ldap-provider/crop", "accounts.google.com"]}
    action = {"Action": "sts:AssumeRoleWithLDAPIdentity"}
    mine = when("StringEquals", "accounts.google.com:aud", "mine")
    denied = {"Effect": "Deny", "NotPrincipal": named, **action}
    statements = [trusts(Principal=named, **action | mine), denied, trusts()]
    policy = Policy.parse(json.dumps({"Version": "2012-10-17", "Statement": statements}), TRUST)

    def told(exists):
        return [(one.level, one.location) for one in lint(policy, SERVICES, exists) if one.code == "UNKNOWN_PROVIDER"]

    everywhere = [(Level.ERROR, "Statement[0].Principal"), (Level.ERROR, "Statement[1].NotPrincipal")]
    assert told(lambda name: "crop" not in name) == everywhere
    assert told(lambda _name: None) == []
    assert "UNKNOWN_PROVIDER" not in [one.code for one in lint(policy, SERVICES)]


PEOPLE = {"Federated": "arn:aws:iam::111122223333:ldap-provider/corp"}
ONLY_TICKET = both(when("ForAllValues:StringEquals", "aws:TagKeys", "Ticket"), when("Null", "aws:TagKeys", "false"))
CHOSEN = [
    (trusts(Principal=PEOPLE, Action=["sts:AssumeRoleWithLDAPIdentity", "sts:TagSession"]),
     trusts(Principal=PEOPLE, Action=["sts:AssumeRoleWithLDAPIdentity", "sts:TagSession"], **ONLY_TICKET)),
    (trusts(Principal=PEOPLE, Action=["sts:AssumeRoleWithLDAPIdentity", "sts:SetSourceIdentity"]),
     trusts(Principal=PEOPLE, Action="sts:AssumeRoleWithLDAPIdentity")),
    (trusts(Principal=PEOPLE, Action="sts:*"), trusts("Deny", Principal=PEOPLE, Action="sts:*")),
    (trusts(Principal={"AWS": "*"}, Action=["sts:AssumeRole", "sts:tagsession"]),
     trusts(Principal={"AWS": "111122223333"}, Action=["sts:AssumeRole", "sts:TagSession"])),
    (trusts(Principal=PEOPLE, Action="sts:TagSession", **when("ForAnyValue:StringEquals", "aws:TagKeys", "Ticket")),
     trusts(Principal={"Federated": "arn:aws:iam::111122223333:saml-provider/corp"},
            Action=["sts:AssumeRoleWithSAML", "sts:TagSession", "sts:SetSourceIdentity"])),
    (trusts(Principal=PEOPLE, Action="sts:SetSourceIdentity", **when("StringNotEquals", "sts:SourceIdentity", "root")),
     trusts(Principal=PEOPLE, Action="sts:SetSourceIdentity", **when("StringEquals", "sts:SourceIdentity", "batch"))),
    (trusts(Principal=PEOPLE, Action="sts:TagSession", **when("Null", "aws:TagKeys", "false")),
     trusts(Principal=PEOPLE, Action="sts:TagSession", **when("StringEquals", "aws:TagKeys", "Ticket"))),
]  # fmt: skip


@pytest.mark.parametrize(("questionable", "harmless"), CHOSEN)
def test_a15_a_trust_policy_that_lets_callers_choose_tags_or_source_identity_is_reported(questionable, harmless):
    assert "SESSION_CHOOSES_TAGS" in codes(questionable, kind=TRUST)
    assert "SESSION_CHOOSES_TAGS" not in codes(harmless, kind=TRUST)


ROOT, USER = {"AWS": "arn:aws:iam::111122223333:root"}, {"AWS": "arn:aws:iam::444455556666:user/ci"}
SESSION = {"AWS": "arn:aws:sts::111122223333:assumed-role/build/ci"}
TAGGED, NAMED = ["sts:AssumeRole", "sts:TagSession"], ["sts:AssumeRole", "sts:SetSourceIdentity"]
CHOSEN_BY_CALLERS = [
    (trusts(Principal=ROOT, Action=TAGGED), trusts("Deny", Principal=ROOT, Action=TAGGED)),
    (trusts(Principal=USER, Action=NAMED), trusts(Principal=USER)),
    (trusts(Principal=SESSION, Action="sts:*"), trusts(Principal={"Service": "ec2.amazonaws.com"}, Action="sts:*")),
    (trusts(Principal=ROOT, Action=TAGGED, **when("StringEquals", "aws:RequestTag/Team", "red")),
     trusts(Principal=ROOT, Action=TAGGED, **ONLY_TICKET)),
    (trusts(Principal=ROOT, Action=NAMED, **when("StringNotEquals", "sts:SourceIdentity", "root")),
     trusts(Principal=ROOT, Action=NAMED, **when("StringEquals", "sts:SourceIdentity", "${aws:username}"))),
]  # fmt: skip


@pytest.mark.parametrize(("questionable", "harmless"), CHOSEN_BY_CALLERS)
def test_a15_callers_of_assume_role_who_choose_tags_or_source_identity_are_reported(questionable, harmless):
    assert "CALLER_CHOOSES_TAGS" in codes(questionable, kind=TRUST)
    assert "CALLER_CHOOSES_TAGS" not in codes(harmless, kind=TRUST)


def test_a15_what_everybody_may_choose_is_reported_once():
    told = codes(trusts(Principal={"AWS": ["*", "111122223333"]}, Action=TAGGED), kind=TRUST)
    assert "SESSION_CHOOSES_TAGS" in told
    assert "CALLER_CHOOSES_TAGS" not in told


def test_every_check_has_an_example():
    chosen = {"SESSION_CHOOSES_TAGS", "CALLER_CHOOSES_TAGS"}
    assert {code for code, _, _ in EXAMPLES + OF_TRUST} | chosen == CHECKS.keys()


@pytest.mark.parametrize(
    ("resource", "level"), [("arn:aws:s3:::b", Level.WARNING), ("arn:aws:s3:::${aws:username}", Level.ERROR)]
)
def test_the_older_language_is_found_and_is_an_error_where_a_variable_is_meant(resource, level):
    (one,) = found(permits(Resource=resource), version="2008-10-17")
    assert (one.code, one.level, one.location) == ("MISSING_VERSION", level, "Version")


def test_keys_of_directories_and_issuers_are_known():
    conditions = {
        "ForAnyValue:StringEquals": {"ldap:groups": ["cn=a"]},
        "StringEquals": {"ldap:mail": "a@b.example", "id.example.com/realm:sub": "x", "saml:sub": "y"},
    }
    provider = {"Federated": "arn:aws:iam::111122223333:ldap-provider/corp"}
    assert codes(trusts(Principal=provider, Condition=conditions), kind=TRUST) == []


def test_the_gravest_findings_come_first_and_each_tells_its_place():
    all_of_them = found(
        permits(Action=["s3:*", "s3:GetObject"]),
        permits(Action="s3:Nothing", **when("StringNotEquals", "aws:username", "a")),
    )
    assert [(one.level, one.statement) for one in all_of_them] == [
        (Level.ERROR, 1),
        (Level.SECURITY_WARNING, 1),
        (Level.SUGGESTION, 0),
    ]
    where = "Statement[1].Condition.StringNotEquals.aws:username"
    assert all_of_them[1].location == where
    assert str(all_of_them[1]) == f"SECURITY_WARNING NEGATED_OPERATOR_WITH_ALLOW {where}"


def test_what_an_author_wrote_stays_on_one_line():
    (one, *_) = found(permits(**when("StringEquals", "aws:a\nb", "x")))
    assert "\n" not in one.location


@pytest.mark.parametrize("name", ["AdministratorAccess", "IAMUserChangePassword", "AmazonS3ReadOnlyAccess"])
def test_policies_of_aws_are_not_called_wrong(name):
    from iam.policy.managed import load  # noqa: PLC0415 - for one test

    policy = next(one.policy for one in load().values() if one.name == name)
    assert [one for one in lint(policy, SERVICES) if one.level in (Level.ERROR, Level.SECURITY_WARNING)] == []


def test_of_a_hopeless_policy_the_first_hundred_findings_are_told():
    assert len(found(permits(Action=[f"nowhere:Do{number}" for number in range(500)]))) == 100


def test_what_an_author_wrote_is_told_shortened():
    (key, wild) = found(permits(**when("StringEquals", f"aws:{'k' * 9_000}", "*" * 9_000, "?")))
    assert {key.code, wild.code} == {"INVALID_CONDITION_KEY", "WILDCARD_WITHOUT_LIKE_OPERATOR"}
    for one in (key, wild):
        assert len(one.location) < 200
        assert len(one.text) < 500


def test_of_the_patterns_in_a_statement_the_first_twenty_are_compared_with_its_actions():
    patterns = [f"s3:{letter}x*" for letter in "abcdefghijklmnopqrst"]
    assert "REDUNDANT_ACTION" in codes(permits(Action=[*patterns, "s3:Exact"]))
    assert "REDUNDANT_ACTION" not in codes(permits(Action=[*patterns, "s3:Put*", "s3:PutObject"]))
