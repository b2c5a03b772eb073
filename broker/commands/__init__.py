"""The commands of ``fedgate``, a file per noun; broker/cli.py has the table that finds them."""
