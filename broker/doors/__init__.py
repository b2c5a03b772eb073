"""How programs on other machines receive credentials."""
