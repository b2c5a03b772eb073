"""Passwords, MFA factors and recovery codes of users, account roots and federated people."""
