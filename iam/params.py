"""The types of an operation's parameters and result, named as in the service model."""

from typing import Any

# Decoded parameters: str, int, bool, bytes, datetime, list, dict; absent members are omitted.
Params = dict[str, Any]
# The members of the output shape, with the same types; absent members are omitted.
Result = dict[str, Any]
