"""What goes into an operation and what comes out, as the service model names it."""

from typing import Any

# Parameters as the codec hands them over: str, int, bool, bytes, datetime, list, dict; absent members are left out.
Params = dict[str, Any]
# What an operation answers: the members of its output shape, same types; absent members are left out.
Result = dict[str, Any]
