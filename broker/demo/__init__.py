"""A directory to try Fedgate with: a handful of people in one file, served over real LDAP on loopback."""
