"""Who exists, and what they may do: accounts, principals, policies, decisions."""
