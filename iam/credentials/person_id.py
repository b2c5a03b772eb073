"""People who sign in to the pages, each one text: ``provider|subject``.

A user's provider is ``iam`` and its subject the unique id; an account's root has the account id there. A person of a
directory or of an identity provider is ``ldap-provider/corp|…``, with the subject that the provider gave.
"""

from sqlalchemy import Connection, delete

from iam.store.schema import failed_attempt, recovery_code, role_mark, second_factor

IAM_PREFIX = "iam|"


def iam_person_id(account_id: str, user_id: str | None) -> str:
    """Return the person who is a user, or an account's root for None."""
    return IAM_PREFIX + (user_id or account_id)


def iam_subject(person: str) -> str | None:
    """Return the unique id of the user that a person is, or the account id of a root; None for everybody else."""
    return person.removeprefix(IAM_PREFIX) if person.startswith(IAM_PREFIX) else None


def delete_recovery_codes(tx: Connection, person: str) -> None:
    """Drop the recovery codes of a person: they stand in for a factor, and so end with the last of them."""
    tx.execute(delete(recovery_code).where(recovery_code.c.person == person))


def delete_person_data(tx: Connection, person: str) -> None:
    """Delete all that is kept of a person beside virtual MFA devices: passkeys, apps, codes, marks, failures."""
    for table in (second_factor, recovery_code, role_mark):
        tx.execute(delete(table).where(table.c.person == person))
    tx.execute(delete(failed_attempt).where(failed_attempt.c.subject == person))
