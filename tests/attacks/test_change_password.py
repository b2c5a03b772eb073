"""Somebody with a user's access key guesses the user's password with many ChangePassword at once (J09)."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from support.broker_process import allow

GUESSES, LIMIT = 40, 5
PASSWORD = "Quill-of-41-herons"


def test_of_forty_guesses_at_once_no_more_than_five_are_judged_and_nobody_else_waits(attacked):
    iam = attacked.client("iam")
    iam.create_user(UserName="ann")
    iam.create_login_profile(UserName="ann", Password=PASSWORD)
    iam.put_user_policy(UserName="ann", PolicyName="own", PolicyDocument=allow("iam:ChangePassword"))
    key = iam.create_access_key(UserName="ann")["AccessKey"]
    thief = attacked.client("iam", Credentials(key["AccessKeyId"], key["SecretAccessKey"]))

    def guess(number):
        try:
            thief.change_password(OldPassword=f"Guess-of-{number}-herons", NewPassword="Ferry.past.7.islets")
        except ClientError as error:
            return error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        return "changed", 200

    with ThreadPoolExecutor(GUESSES + 1) as pool:
        guesses = [pool.submit(guess, number) for number in range(GUESSES)]
        others = pool.submit(lambda: [iam.create_group(GroupName=f"g{number}") for number in range(5)])
        told = Counter(one.result() for one in guesses)
    assert told.pop(("AccessDenied", 403)) == LIMIT
    # On a busy machine some wait for the database until they are turned away: they were not judged either.
    assert set(told) <= {("Throttling", 429), ("ServiceUnavailable", 503), ("ServiceFailure", 500)}
    assert len(others.result()) == 5
