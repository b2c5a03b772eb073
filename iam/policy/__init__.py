"""The policy language: parse (document), match (patterns, conditions), decide."""
