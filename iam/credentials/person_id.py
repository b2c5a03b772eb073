"""Identifiers of people who sign in to the web pages: ``provider|subject``.

For an IAM user this is ``iam|`` and the user's unique id; for an account's root, ``iam|`` and the account id. For a
person of a directory or identity provider it is ``ldap-provider/corp|…`` with the subject that the provider gave.
"""

from sqlalchemy import Connection, delete

from iam.store.schema import failed_attempt, recovery_code, role_mark, second_factor

IAM_PREFIX = "iam|"


def iam_person_id(account_id: str, user_id: str | None) -> str:
    """Return the person id of a user, or of the account's root if ``user_id`` is None."""
    return IAM_PREFIX + (user_id or account_id)


def iam_subject(person: str) -> str | None:
    """Return the unique id of an IAM user or the account id of a root; None for federated people."""
    return person.removeprefix(IAM_PREFIX) if person.startswith(IAM_PREFIX) else None


def delete_recovery_codes(tx: Connection, person: str) -> None:
    """Delete the recovery codes of a person, which replace a lost factor and are useless without one."""
    tx.execute(delete(recovery_code).where(recovery_code.c.person == person))


def delete_person_data(tx: Connection, person: str) -> None:
    """Delete all data of a person except virtual MFA devices: factors, recovery codes, roles used, failed attempts."""
    for table in (second_factor, recovery_code, role_mark):
        tx.execute(delete(table).where(table.c.person == person))
    tx.execute(delete(failed_attempt).where(failed_attempt.c.subject == person))
