from support.policies import policy, statement

from iam.policy.context_keys import context_keys_in, variable_keys


def names(*statements, version="2012-10-17"):
    return context_keys_in(policy(*statements).statements, version)


BOTH = statement(
    Resource=["arn:aws:s3:::${aws:username}/${*}", "arn:aws:s3:::${aws:PrincipalTag/team, 'x'}/*"],
    Condition={
        "StringLike": {"s3:prefix": ["${AWS:Username}", "${$}", "a${k:one}b"]},
        "Bool": {"aws:SecureTransport": "true"},
    },
)


def test_the_keys_of_conditions_and_variables_are_listed_once_as_they_are_first_written():
    assert names(BOTH) == ("s3:prefix", "aws:SecureTransport", "aws:username", "aws:PrincipalTag/team", "k:one")


def test_the_older_language_has_no_variables():
    assert names(BOTH, version="2008-10-17") == ("s3:prefix", "aws:SecureTransport")


def test_signs_are_no_variables():
    assert list(variable_keys(["${*}${?}${$}", "${", "$a:b", "${a:b"])) == []
