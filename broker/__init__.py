"""Everything outside: HTTP, browsers, directories, the command line."""
