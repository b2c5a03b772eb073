"""Read-only views of the IAM data of several accounts for administrators: no secrets, and security findings.

Every query is limited to the given accounts, because an administrator may see only some of them.
"""
