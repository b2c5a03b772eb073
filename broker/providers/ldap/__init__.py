"""LDAP directories and Active Directory, through ldap3."""
