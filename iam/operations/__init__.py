"""Every operation of the IAM API that is built: one table, name to function."""

from iam.operations.ask import Operation

OPERATIONS: dict[str, Operation] = {}
