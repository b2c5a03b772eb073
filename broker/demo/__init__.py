"""The demo: a directory of a few people in one LDIF file, served over LDAP on loopback, and a sample account."""
