"""Attack: whoever may choose the name of a session takes the name of somebody whose sessions are to be revoked."""

import contextlib

from botocore.credentials import Credentials
from support.broker_process import Broker, allow, role_arn


def keys(answer) -> Credentials:
    made = answer["Credentials"]
    return Credentials(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])


def test_a_session_that_was_given_somebody_s_name_does_not_take_their_place(served: Broker):
    iam = served.client("iam")
    iam.create_user(UserName="mallory")
    iam.put_user_policy(UserName="mallory", PolicyName="p", PolicyDocument=allow("sts:*"))
    made = iam.create_access_key(UserName="mallory")["AccessKey"]
    with contextlib.closing(served.client("sts", Credentials(made["AccessKeyId"], made["SecretAccessKey"]))) as sts:
        token = keys(sts.get_federation_token(Name="bob", Policy=allow("sts:*")))
    erin = served.credentials("erin", "Reader")
    with contextlib.closing(served.client("sts", erin)) as sts:
        chained = keys(sts.assume_role(RoleArn=role_arn("Chained"), RoleSessionName="bob"))
    bob = served.credentials("bob", "Reader")
    person = served.session(bob)["person"]
    assert served.session(token)["arn"].endswith("/bob")
    assert served.session(chained)["arn"].endswith("/bob")

    told = served.fedgate("sessions", "revoke", "--person", "Bob")

    assert told["revoked"] == [{"kind": "person", "subject": person}]
    assert served.codes(bob) == {"InvalidClientTokenId"}
    assert (served.code(token), served.code(chained)) == ("", "")
