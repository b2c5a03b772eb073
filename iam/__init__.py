"""Identity and access management: accounts, principals, credentials, policies and their evaluation."""
