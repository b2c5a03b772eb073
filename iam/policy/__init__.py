"""The IAM policy language: parsing (document), matching (patterns, conditions) and evaluation (decide)."""
