"""Tags of users, roles and policies."""

import pytest
from support.documents import allow, trust

from iam.errors import InvalidInput, LimitExceeded, NoSuchEntity
from iam.operations import tags
from iam.operations.policies.managed import create_policy
from iam.operations.roles import create_role
from iam.operations.users import create_user

NAMES = {
    "user": {"UserName": "x"},
    "role": {"RoleName": "x"},
    "policy": {"PolicyArn": "arn:aws:iam::111122223333:policy/x"},
}


@pytest.fixture(params=NAMES)
def run(request, account):
    """Runs tag, untag or list on a user, role or policy."""
    account.run(create_user, UserName="x")
    account.run(create_role, RoleName="x", AssumeRolePolicyDocument=trust({"AWS": "111122223333"}))
    account.run(create_policy, PolicyName="x", PolicyDocument=allow())

    def _run(verb, who=NAMES[request.param], on=account, **p):
        name = f"list_{request.param}_tags" if verb == "list" else f"{verb}_{request.param}"
        return on.run(getattr(tags, name), **who, **p)

    return _run


def pairs(**tags):
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def test_tags_are_put_changed_and_removed_without_regard_to_case(run):
    run("tag", Tags=pairs(Team="red", cost="1"))
    run("tag", Tags=pairs(TEAM="blue"))
    assert run("list") == {"Tags": pairs(cost="1", TEAM="blue"), "IsTruncated": False}
    run("untag", TagKeys=["team", "none"])
    assert run("list")["Tags"] == pairs(cost="1")


def test_tags_come_in_pages(run):
    run("tag", Tags=pairs(b="", C="", a=""))
    first = run("list", MaxItems=2)
    assert first["Tags"] == pairs(a="", b="")
    assert run("list", MaxItems=2, Marker=first["Marker"])["Tags"] == pairs(C="")


@pytest.mark.parametrize("wrong", [pairs(a="1", A="2"), pairs(**{"aws:x": "1"}), pairs(**{"AWS:x": "1"})])
def test_doubles_and_reserved_names_are_refused_and_nothing_is_put(run, wrong):
    with pytest.raises(InvalidInput):
        run("tag", Tags=[*pairs(z="1"), *wrong])
    assert run("list")["Tags"] == []


def test_the_quota_counts_old_and_new_together(run, account):
    narrow = account.allowing(tags_per_entity=2)
    run("tag", on=narrow, Tags=pairs(a="1", b="1"))
    run("tag", on=narrow, Tags=pairs(A="2", B="2"))
    with pytest.raises(LimitExceeded):
        run("tag", on=narrow, Tags=pairs(c="1"))


@pytest.mark.parametrize("verb", ["tag", "untag", "list"])
def test_what_does_not_exist_has_no_tags(run, verb):
    missing = {"UserName": "none", "RoleName": "none", "PolicyArn": "arn:aws:iam::111122223333:policy/none"}
    with pytest.raises(NoSuchEntity):
        run(verb, who=missing, Tags=pairs(a="1"), TagKeys=["a"])
