"""The commands about policies: lint, policy test, explain, who-can, called in this process."""

import json

import pytest
from click.testing import CliRunner
from support.administrator import Administrator, allow, deny, statements, trust

from broker.cli import main
from iam import guardrails
from iam.guardrails import Guardrail
from iam.limits import Limits


def fedgate(*arguments, status=0, env=None):
    done = CliRunner().invoke(main, list(map(str, arguments)), env=env)
    assert done.exit_code == status, done.output
    return done.output


@pytest.fixture
def write(tmp_path):
    def written(name, text):
        file = tmp_path / name
        file.write_text(text if isinstance(text, str) else json.dumps(text))
        return file

    return written


# --- lint -------------------------------------------------------------------------------------------------------------


def test_a_policy_without_a_fault_has_no_finding(write):
    good = write("good.json", allow("s3:GetObject", "arn:aws:s3:::b/*"))
    assert fedgate("lint", good) == "no findings in 1 file\n"
    assert json.loads(fedgate("lint", good, "--json")) == []


def test_findings_are_told_with_file_line_level_and_place(write):
    text = json.dumps(json.loads(allow("s3:GetObjet", "*")), indent=2)
    file = write("typo.json", text)
    told = fedgate("lint", file, status=1)
    assert f"{file}:3: ERROR INVALID_ACTION (Statement[0].Action)\n    s3:GetObjet: the service s3 has no such" in told
    assert told.endswith("1 finding in 1 file\n")
    (one,) = json.loads(fedgate("lint", file, "--json", status=1))
    assert (one["file"], one["line"], one["level"], one["code"]) == (str(file), 3, "ERROR", "INVALID_ACTION")


def test_a_suggestion_alone_is_no_failure(write):
    file = write("twice.json", allow(["s3:*", "s3:GetObject"], "arn:aws:s3:::b/*"))
    assert "SUGGESTION REDUNDANT_ACTION" in fedgate("lint", file)


def test_the_line_of_a_statement_is_that_of_its_first_sign(write):
    text = allow("no:Such", "arn:aws:s3:::b").replace('"Statement": ', '"Statement": [\n\n\n')[:-1] + "]}"
    (one,) = json.loads(fedgate("lint", write("two.json", text), "--json"))
    assert (one["line"], one["code"]) == (4, "INVALID_SERVICE_IN_ACTION")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("{", "Expecting property name"),
        (allow(Extra="x"), "Statement[0]: unknown element Extra"),
        (allow(Condition={"StringEqual": {"aws:x": "y"}}), "Invalid Condition type : StringEqual (Statement[0].Cond"),
    ],
)
def test_what_aws_refuses_is_refused_with_its_place(write, text, place):
    told = fedgate("lint", write("bad.json", text), status=1)
    assert "ERROR MalformedPolicyDocument" in told
    assert place in told


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (trust({"AWS": "*"}), "trust"),
        (allow(Principal={"AWS": "*"}), "resource"),
        (trust({"Service": "ec2.amazonaws.com"}, Resource="*"), "resource"),
    ],
)
def test_what_a_policy_is_its_elements_tell(write, text, kind):
    file, status = write("p.json", text), 1 if '"AWS": "*"' in text else 0
    told = fedgate("lint", file, "--json", status=status)
    assert told == fedgate("lint", file, "--json", "--kind", kind, status=status)


def test_a_kind_that_the_elements_contradict_is_refused(write):
    assert "Has prohibited field Resource" in fedgate("lint", write("p.json", allow()), "--kind", "trust", status=1)


# --- policy test ------------------------------------------------------------------------------------------------------

CASES = """
[policies]
identity = ["developer.json"]
boundary = "boundary.json"

[[cases]]
name = "developers read their own bucket"
principal = "arn:aws:iam::111122223333:user/ann"
action = "s3:GetObject"
resource = "arn:aws:s3:::ann/k"
expect = "allow"

[[cases]]
principal = "arn:aws:iam::111122223333:user/ann"
action = ["s3:GetObject", "s3:PutObject"]
resource = ["arn:aws:s3:::bob/k", "arn:aws:s3:::bob/l"]
expect = "implicit-deny"

[[cases]]
principal = "arn:aws:iam::111122223333:user/ann"
action = "s3:DeleteObject"
resource = "arn:aws:s3:::ann/k"
context = { "aws:MultiFactorAuthPresent" = true, "aws:TagKeys" = ["a", "b"] }
expect = "allow"
"""
CASE = "[[cases]]\nprincipal = 'p'\naction = 'a:b'\nexpect = 'deny'"
NO_MFA = {"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}}


@pytest.fixture
def cases(write):
    own = allow("s3:*", "arn:aws:s3:::${aws:username}/*")
    write("developer.json", statements(own, deny("s3:Delete*", Condition=NO_MFA)))
    write("boundary.json", allow("s3:*"))
    return write("cases.toml", CASES)


def test_cases_that_come_out_as_expected_pass(cases):
    assert fedgate("policy", "test", cases) == "6 passed, 0 failed\n"
    outcomes = json.loads(fedgate("policy", "test", cases, "--json"))
    assert [one["decision"] for one in outcomes] == ["allowed", *["implicitDeny"] * 4, "allowed"]
    assert outcomes[0]["name"] == "developers read their own bucket"


def test_a_case_that_fails_is_explained(cases, write):
    file = write("changed.toml", CASES.replace("= true", "= false"))
    told = fedgate("policy", "test", cases, file, status=1)
    assert f"FAILED {file}: s3:DeleteObject on arn:aws:s3:::ann/k: expected allow" in told
    assert "BoolIfExists aws:MultiFactorAuthPresent: expected false, actual false" in told
    assert told.endswith("11 passed, 1 failed\n")


def test_yaml_reads_everything_as_it_is_written(write):
    file = write(
        "cases.yaml",
        """
cases:
  - principal: arn:aws:iam::111122223333:root
    action: s3:GetObject
    resource: arn:aws:s3:::b/2026-01-01
    context: {aws:CurrentTime: 2026-01-01, k:n: 010, aws:SecureTransport: true}
    expect: allow
    policies:
      guardrails:
        - Version: 2012-10-17
          Statement:
            - Effect: Allow
              Action: s3:*
              Resource: arn:aws:s3:::b/2026-01-01
              Condition:
                StringEquals: {k:n: 010}
                Bool: {aws:SecureTransport: true}
                DateEquals: {aws:CurrentTime: 2026-01-01T00:00:00Z}
  - {principal: ec2.amazonaws.com, action: sts:AssumeRole, expect: allow,
     policies: {resource: {Version: 2012-10-17, Statement: {Effect: Allow, Principal: {Service: ec2.amazonaws.com},
                Action: sts:AssumeRole}}}}
""",
    )
    assert fedgate("policy", "test", file) == "2 passed, 0 failed\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cases = 1", "a case is a table"),
        ("x = 1", "unknown: x"),
        ("[[cases]]\nprincipal = 'p'", "action, expect is missing"),
        ("[[cases]]\nprincipal = 'p'\naction = 'a:b'\nexpect = 'maybe'", "expect is one of allow, deny"),
        (f"{CASE}\ncontext = 'x'", "context is a table"),
        ("[[cases]]\nprinciple = 'p'", "unknown: principle"),
        (
            "[policies]\nidentity = ['gone.json']\n[[cases]]\nprincipal = 'p'\naction = 'a:b'\nexpect = 'deny'",
            "gone.json",
        ),
        ("[policies]\nidentity = ['{']\n[[cases]]\nprincipal = 'p'\naction = 'a:b'\nexpect = 'deny'", "Syntax errors"),
        ("[policies]\nideal = []\n[[cases]]\nprincipal = 'p'\naction = 'a:b'\nexpect = 'deny'", "unknown: ideal"),
        ("[", "cases.toml"),
        ("cases = []", "there are no cases"),
        ("[policies]", "there are no cases"),
        (CASE.replace("a:b", "ab"), "ab is no action"),
        (CASE.replace("'deny'", "['deny']"), "expect is one of"),
        ("a = " + "[" * 50_000, "nested too deeply"),
        (f"[policies]\nresource = ['{allow()}']\n{CASE}", "Missing required field Principal"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_with_the_place(write, text, told):
    assert told in fedgate("policy", "test", write("cases.toml", text), status=1)


def test_a_file_that_is_no_text_is_told(write, tmp_path):
    latin = tmp_path / "latin.toml"
    latin.write_bytes("# é".encode("latin-1"))
    naming = write("naming.toml", f"[policies]\nidentity = ['latin.toml']\n{CASE}")
    for arguments in (("policy", "test", latin), ("policy", "test", naming), ("lint", latin),
                      ("guardrail", "set", "g", latin, "--account", "111122223333")):  # fmt: skip
        assert f"{latin} is not UTF-8 in line 1: save it as UTF-8" in fedgate(*arguments, status=1)
    assert "No such file" in fedgate("guardrail", "set", "g", "gone.json", "--account", "111122223333", status=1)


def test_dates_of_toml_are_what_policies_have_as_texts(write):
    file = write(
        "dates.toml",
        """
[[cases]]
principal = "arn:aws:sts::111122223333:federated-user/fay"
action = "s3:GetObject"
context = { "aws:CurrentTime" = "2026-01-01T00:00:00Z" }
expect = "allow"
[cases.policies.identity]
Version = 2012-10-17
Statement = [{ Effect = "Allow", Action = "*", Resource = "*", Condition.DateEquals."aws:CurrentTime" = 2026-01-01 }]
[cases.policies.session]
Version = 2012-10-17
[cases.policies.session.Statement]
Effect = "Allow"
Action = "*"
Resource = "*"
Condition.ArnEquals."aws:PrincipalArn" = "arn:aws:sts::111122223333:federated-user/fay"
Condition.DateLessThan."aws:CurrentTime" = 2026-01-01T00:00:01Z
""",
    )
    assert fedgate("policy", "test", file) == "1 passed, 0 failed\n"


def test_a_list_in_yaml_is_no_file_of_cases(write):
    assert "there are no cases" in fedgate("policy", "test", write("cases.yaml", "- a"), status=1)


# --- against an installation ------------------------------------------------------------------------------------------


@pytest.fixture
def admin(installation):
    admin = Administrator.of_a_new_account(installation)
    admin.user("ann", allow("s3:GetObject", "arn:aws:s3:::${aws:username}/*"), allow("iam:*", Condition=NO_MFA_ALLOW))
    admin.do("CreateUser", UserName="bob")
    admin.role(
        "ops", None, allow("iam:ListUsers"), deny("iam:ListUsers", Condition={"Bool": {"aws:ViaAWSService": "true"}})
    )
    admin.role("people", trust({"Federated": f"arn:aws:iam::{admin.account_id}:ldap-provider/corp"},
                               "sts:AssumeRoleWithLDAPIdentity",
                               Condition={"ForAnyValue:StringEquals": {"ldap:group-names": "eng"}}))  # fmt: skip
    return admin


NO_MFA_ALLOW = {"Bool": {"aws:MultiFactorAuthPresent": "true"}}


def explain(admin, principal, action, *more, status=0):
    arguments = ("--principal", principal, "--action", action, *more)
    return fedgate("explain", *arguments, "--json", status=status, env=admin.installation.environ)


def explained(admin, *arguments, status=0):
    return json.loads(explain(admin, *arguments, status=status))


def test_a_stored_principal_is_explained_with_what_is_known_of_it(admin):
    ann = admin.arn("user", "ann")
    found = explained(admin, ann, "s3:GetObject", "--resource", "arn:aws:s3:::ann/k")
    assert (found["decision"], found["layer"]) == ("allowed", "identity-based policy")
    found = explained(admin, ann, "s3:GetObject", "--resource", "arn:aws:s3:::bob/k", status=3)
    assert found["needed"][0]["nearest"]["misses"][0]["part"] == "resource"


def test_what_is_not_known_is_told_and_can_be_given(admin):
    ann = admin.arn("user", "ann")
    found = explained(admin, ann, "iam:ListUsers", status=3)
    assert (found["unknownKeys"], found["couldBeAllowed"]) == (["aws:MultiFactorAuthPresent"], True)
    given = ("--context", "aws:MultiFactorAuthPresent=true")
    found = explained(admin, ann, "iam:ListUsers", *given)
    assert (found["decision"], found["unknownKeys"]) == ("allowed", [])
    told = fedgate("explain", "--principal", ann, "--action", "iam:ListUsers", status=3, env=admin.installation.environ)
    assert (
        "Unknown, treated as absent: aws:MultiFactorAuthPresent. With other values the request could be allowed."
        in told
    )
    assert "--context aws:MultiFactorAuthPresent=..." in told


def test_roles_sessions_root_providers_and_services_are_principals(admin):
    account = admin.account_id
    assert explained(admin, admin.arn("role", "ops"), "iam:ListUsers")["decision"] == "allowed"
    session = f"arn:aws:sts::{account}:assumed-role/ops/ann"
    assert explained(admin, session, "iam:ListUsers")["principal"]["arn"] == session
    assert explained(admin, f"arn:aws:iam::{account}:root", "iam:ListUsers")["decision"] == "allowed"
    people = admin.arn("role", "people")
    provider = f"arn:aws:iam::{account}:ldap-provider/corp"
    asked = (provider, "sts:AssumeRoleWithLDAPIdentity", "--resource", people)
    found = explained(admin, *asked, status=3)
    assert (found["layer"], found["unknownKeys"]) == ("role trust policy", ["ldap:group-names"])
    assert explained(admin, *asked, "-c", "ldap:group-names=eng", "-c", "ldap:group-names=x")["decision"] == "allowed"
    assert explained(admin, "ec2.amazonaws.com", "sts:AssumeRole", "--resource", people, status=3)


def test_a_session_policy_and_a_guardrail_count(admin, write):
    narrow = write("session.json", allow("s3:*"))
    found = explained(admin, admin.arn("role", "ops"), "iam:ListUsers", "--session-policy", narrow, status=3)
    assert found["layer"] == "session policy"
    with admin.installation.store.write() as tx:
        guardrails.put(tx, Guardrail(admin.account_id, "g", allow("s3:*"), 0), Limits())
    found = explained(admin, f"arn:aws:iam::{admin.account_id}:root", "iam:ListUsers", status=3)
    assert found["layer"] == "service control policy"


@pytest.mark.parametrize(
    ("principal", "action", "told"),
    [
        ("arn:aws:iam::{account}:user/nobody", "iam:ListUsers", "does not exist"),
        ("arn:aws:iam::{account}:role/nobody", "iam:ListUsers", "does not exist"),
        ("arn:aws:sts::{account}:assumed-role/nobody/x", "iam:ListUsers", "does not exist"),
        ("arn:aws:sts::{account}:assumed-role/ops", "iam:ListUsers", "does not exist"),
        ("arn:aws:iam::{account}:policy/p", "iam:ListUsers", "is not a principal"),
        ("arn:aws:iam::aws:user/p", "iam:ListUsers", "it has no account"),
        ("ann", "iam:ListUsers", "is not a principal"),
        ("arn:aws:iam::{account}:user/ann", "ListUsers", "is not an action"),
    ],
)
def test_a_question_about_nobody_or_nothing_is_refused(admin, principal, action, told):
    assert told in explain(admin, principal.format(account=admin.account_id), action, status=1)


def test_what_no_policy_decides_is_told_as_the_rule_that_it_is(admin):
    root, ann, ops = f"arn:aws:iam::{admin.account_id}:root", admin.arn("user", "ann"), admin.arn("role", "ops")
    found = explained(admin, root, "sts:AssumeRole", "--resource", ops, status=3)
    assert (found["allowed"], found["rule"]) == (False, "Roles may not be assumed by root accounts.")
    assert "GetSessionToken" in explained(admin, ops, "sts:getsessiontoken", status=3)["rule"]
    assert "GetFederationToken" in explained(admin, ops, "sts:GetFederationToken", status=3)["rule"]
    assert explained(admin, ann, "sts:GetSessionToken")["rule"] == "GetSessionToken needs no permission."
    assert explained(admin, ops, "sts:GetCallerIdentity")["decision"] == "allowed"
    assert "rule" not in explained(admin, ann, "sts:GetFederationToken", status=3)
    asked = ("explain", "--principal", root, "--action", "sts:AssumeRole")
    told = fedgate(*asked, status=3, env=admin.installation.environ)
    assert told.startswith("DENIED  by a fixed rule: Roles may not be assumed by root accounts.\n")
    assert who(admin, "sts:GetFederationToken").keys() == {"root"}
    assert who(admin, "sts:GetSessionToken") == {"root": ("yes", []), "user/ann": ("yes", []), "user/bob": ("yes", [])}


RULES = [
    ("user/ann", "sts:AssumeRoleWithSAML", "role/ops", "takes no signed requests"),
    ("ldap-provider/corp", "sts:AssumeRole", "role/people", "can call only AssumeRoleWithLDAPIdentity"),
    ("ldap-provider/corp", "sts:AssumeRoleWithSAML", "role/people", "can call only AssumeRoleWithLDAPIdentity"),
    ("saml-provider/idp", "sts:AssumeRoleWithSAML", "", "only for roles of its own account"),
    ("oidc-provider/id.example.com:8443/x", "sts:AssumeRoleWithWebIdentity", "", "only for roles of its own account"),
    ("user/ann", "iam:GetUser", "", "only resources of the caller's own account"),
]


@pytest.mark.parametrize(("principal", "action", "resource", "rule"), RULES)
def test_what_the_gate_never_puts_to_policies_is_denied_by_a_rule(admin, principal, action, resource, rule):
    kind, _, name = principal.partition("/")
    on = admin.arn(*resource.split("/")) if resource else "arn:aws:iam::999999999999:role/theirs"
    assert rule in explained(admin, admin.arn(kind, name), action, "--resource", on, status=3)["rule"]


def test_the_sessions_of_users_are_limited_as_at_the_gate(admin):
    admin.do("PutUserPolicy", UserName="bob", PolicyName="p", PolicyDocument=allow("*"))
    bob, at = admin.arn("user", "bob"), ("-c", "aws:TokenIssueTime=2026-01-01T00:00:00Z")
    assert explained(admin, bob, "iam:ListUsers")["allowed"]
    assert "only with MFA" in explained(admin, bob, "iam:ListUsers", *at, status=3)["rule"]
    with_mfa = ("-c", "aws:MultiFactorAuthPresent=true")
    assert explained(admin, bob, "iam:ListUsers", *with_mfa)["allowed"]
    assert "GetFederationToken" in explained(admin, bob, "sts:GetFederationToken", *with_mfa, status=3)["rule"]
    fay = f"arn:aws:sts::{admin.account_id}:federated-user/fay"
    assert "GetUser" in explained(admin, fay, "iam:GetUser", status=3)["rule"]
    assert explained(admin, fay, "sts:GetCallerIdentity")["allowed"]
    assert "explain that user instead" in explain(admin, fay, "s3:GetObject", status=1)


def test_a_role_that_does_not_exist_is_denied_and_a_role_must_be_named(admin):
    admin.do("PutUserPolicy", UserName="bob", PolicyName="p", PolicyDocument=allow("*"))
    bob, nobody = admin.arn("user", "bob"), admin.arn("role", "nobody")
    found = explained(admin, bob, "sts:AssumeRole", "--resource", nobody, status=3)
    assert (found["decision"], found["layer"]) == ("explicitDeny", "role trust policy")
    assert "give the role's ARN" in explain(admin, bob, "sts:AssumeRole", status=1)


def test_a_provider_that_is_known_by_its_name_alone_is_a_principal(admin):
    mine = {"StringEquals": {"accounts.google.com:aud": "client"}}
    trusted = trust({"Federated": "accounts.google.com"}, "sts:AssumeRoleWithWebIdentity", Condition=mine)
    role = admin.role("google", trusted)
    asked = ("sts:AssumeRoleWithWebIdentity", "--resource", role, "-c", "accounts.google.com:aud=client")
    assert explained(admin, "accounts.google.com", *asked)["allowed"]
    assert list(who(admin, "sts:AssumeRoleWithWebIdentity", role)) == ["oidc-provider/accounts.google.com"]


def test_users_who_may_change_their_password_need_no_policy_for_it(admin):
    ann, bob = admin.arn("user", "ann"), admin.arn("user", "bob")
    own = ("iam:ChangePassword", "--resource", bob)
    explained(admin, bob, *own, status=3)
    admin.do("UpdateAccountPasswordPolicy", AllowUsersToChangePassword="true")
    assert explained(admin, bob, *own)["layer"] == "resource-based policy"
    explained(admin, ann, *own, status=3)
    assert explained(admin, bob, "iam:GetAccountPasswordPolicy")["allowed"]
    admin.do("PutUserPolicy", UserName="bob", PolicyName="p", PolicyDocument=deny("iam:ChangePassword"))
    assert explained(admin, bob, *own, status=3)["decision"] == "explicitDeny"


def test_a_question_about_no_action_or_no_account_is_refused(admin):
    assert "is not an action" in fedgate("who-can", "ListUsers", status=1, env=admin.installation.environ)
    nowhere = ("who-can", "iam:ListUsers", "--account", "999999999999")
    assert "There is no account 999999999999" in fedgate(*nowhere, status=1, env=admin.installation.environ)


def test_a_case_against_the_installation_follows_the_rules_as_well(admin, write):
    ops, root = admin.arn("role", "ops"), f"arn:aws:iam::{admin.account_id}:root"
    file = write("rules.toml", f"""
cases = [
  {{ principal = "{ops}", action = "sts:GetCallerIdentity", expect = "allow" }},
  {{ principal = "{root}", action = "sts:AssumeRole", resource = "{ops}", expect = "deny" }},
  {{ principal = "{ops}", action = "sts:GetSessionToken", expect = "allow" }},
]
""")  # fmt: skip
    told = fedgate("policy", "test", file, status=1, env=admin.installation.environ)
    assert "by a fixed rule: Cannot call GetSessionToken with session credentials." in told
    assert told.endswith("2 passed, 1 failed\n")


def test_a_malformed_context_is_a_wrong_command_line(admin):
    assert "write KEY=VALUE" in explain(admin, admin.arn("user", "ann"), "iam:ListUsers", "-c", "mfa", status=2)


def who(admin, *arguments):
    found = json.loads(fedgate("who-can", *arguments, "--json", env=admin.installation.environ))
    mine = [one for one in found if admin.account_id in one["principal"]]
    return {one["principal"].rpartition(":")[2]: (one["answer"], one["if"]) for one in mine}


def test_who_can_lists_who_surely_may_and_who_may_under_conditions(admin):
    assert who(admin, "iam:ListUsers") == {
        "root": ("yes", []),
        "user/ann": ("if", ["Bool aws:MultiFactorAuthPresent true"]),
        "role/ops": ("yes", []),
    }
    assert who(admin, "iam:ListUsers", "-c", "aws:MultiFactorAuthPresent=false").keys() == {"root", "role/ops"}
    assert who(admin, "s3:GetObject", "arn:aws:s3:::bob/k") == {"root": ("yes", [])}


def test_who_can_assume_a_role_names_providers_and_never_root(admin):
    people = admin.arn("role", "people")
    assert who(admin, "sts:AssumeRoleWithLDAPIdentity", people) == {
        "ldap-provider/corp": ("if", ["ForAnyValue:StringEquals ldap:group-names eng"])
    }
    admin.do("PutUserPolicy", UserName="bob", PolicyName="p", PolicyDocument=allow("sts:AssumeRole"))
    assert who(admin, "sts:AssumeRole", admin.arn("role", "ops"), "--account", admin.account_id) == {
        "user/bob": ("yes", [])
    }


def test_a_deny_that_might_apply_is_told_as_an_exception(admin):
    fenced = statements(allow("sqs:*"), deny("sqs:*", Condition={"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}))
    admin.do("PutUserPolicy", UserName="bob", PolicyName="p", PolicyDocument=fenced)
    assert who(admin, "sqs:SendMessage")["user/bob"] == ("if", ["unless NotIpAddress aws:SourceIp 10.0.0.0/8"])
    table = fedgate("who-can", "sqs:SendMessage", env=admin.installation.environ)
    assert "unless NotIpAddress aws:SourceIp" in table


def test_cases_without_policies_are_put_to_the_installation(admin, write):
    ann = admin.arn("user", "ann")
    case = {"principal": ann, "action": "s3:GetObject", "resource": "arn:aws:s3:::ann/k", "expect": "allow"}
    file = write("cases.yaml", {"cases": [case, case | {"resource": "arn:aws:s3:::bob/k", "expect": "deny"}]})
    assert fedgate("policy", "test", file, env=admin.installation.environ) == "2 passed, 0 failed\n"
    nobody = write("nobody.yaml", {"cases": [case | {"principal": ann + "a"}]})
    assert "does not exist" in fedgate("policy", "test", nobody, status=1, env=admin.installation.environ)
