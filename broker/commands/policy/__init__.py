"""Commands about policies: explain, lint, test, guardrail."""
