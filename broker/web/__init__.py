"""What people see: sign-in, the choice of a role, credentials."""
