"""Inline policies of users, groups and roles."""

import pytest
from support.documents import allow, trust

from iam.errors import LimitExceeded, MalformedPolicyDocument, NoSuchEntity
from iam.operations.groups import create_group
from iam.operations.policies import inline
from iam.operations.roles import create_role
from iam.operations.users import create_user

KINDS = ["user", "group", "role"]


@pytest.fixture(params=KINDS)
def kind(request, account):
    """A user, group or role of the name x."""
    account.run(create_user, UserName="x")
    account.run(create_group, GroupName="x")
    account.run(create_role, RoleName="x", AssumeRolePolicyDocument=trust({"AWS": "111122223333"}))
    return request.param


@pytest.fixture
def run(account, kind):
    """Runs put, get, delete or list on x, or on another name."""

    def _run(verb, name="x", on=account, **p):
        noun = "policies" if verb == "list" else "policy"
        operation = getattr(inline, f"{verb}_{kind}_{noun}")
        return on.run(operation, **{f"{kind.title()}Name": name}, **p)

    return _run


def test_a_policy_comes_back_byte_for_byte(run, kind):
    odd = allow().replace(",", " ,\n")
    run("put", PolicyName="p", PolicyDocument=odd)
    answer = run("get", PolicyName="p")
    assert answer == {f"{kind.title()}Name": "x", "PolicyName": "p", "PolicyDocument": odd}


def test_a_second_put_replaces_the_first(run):
    run("put", PolicyName="p", PolicyDocument=allow())
    run("put", PolicyName="p", PolicyDocument=allow("s3:PutObject"))
    assert run("get", PolicyName="p")["PolicyDocument"] == allow("s3:PutObject")
    assert run("list") == {"PolicyNames": ["p"], "IsTruncated": False}


def test_names_come_in_pages(run):
    for name in "cab":
        run("put", PolicyName=name, PolicyDocument=allow())
    first = run("list", MaxItems=2)
    assert first["PolicyNames"] == ["a", "b"]
    assert run("list", MaxItems=2, Marker=first["Marker"])["PolicyNames"] == ["c"]


@pytest.mark.parametrize("verb", ["get", "delete"])
def test_an_unknown_policy_is_named_in_the_refusal(run, kind, verb):
    with pytest.raises(NoSuchEntity) as caught:
        run(verb, PolicyName="none")
    assert caught.value.message == f"The {kind} policy with name none cannot be found."


@pytest.mark.parametrize("verb", ["get", "delete", "put", "list"])
def test_an_unknown_entity_is_named_in_the_refusal(run, kind, verb):
    with pytest.raises(NoSuchEntity) as caught:
        run(verb, name="nobody", PolicyName="p", PolicyDocument=allow())
    assert caught.value.message == f"The {kind} with name nobody cannot be found."


def test_a_deleted_policy_is_gone(run):
    run("put", PolicyName="p", PolicyDocument=allow())
    run("delete", PolicyName="p")
    assert run("list")["PolicyNames"] == []


def test_all_policies_of_an_entity_share_its_room(run, account, kind):
    length = len(allow().replace(" ", ""))
    narrow = account.allowing(**{f"inline_policies_size_{kind}": 2 * length})
    for name in ("a", "b", "b"):
        run("put", on=narrow, PolicyName=name, PolicyDocument=allow())
    with pytest.raises(LimitExceeded) as caught:
        run("put", on=narrow, PolicyName="c", PolicyDocument=allow())
    assert caught.value.message == f"Maximum policy size of {2 * length} bytes exceeded for {kind} x"


def test_what_is_no_identity_policy_is_refused(run):
    with pytest.raises(MalformedPolicyDocument):
        run("put", PolicyName="p", PolicyDocument=trust({"AWS": "*"}))
    assert run("list")["PolicyNames"] == []
