"""The service model, compiled: what each operation takes and answers.

Pure; broker/api/model.py reads these from the model files.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """One type of the model. Shapes are compared by identity, so that they can key a cache.

    A list has one of ``members``, "member", and a map two, "key" and "value". ``minimum`` and ``maximum`` bound an
    integer's value, a string's length in characters, or a list's size. ``pattern`` is the text that AWS wrote, and
    ``regex`` its translation.
    """

    name: str
    kind: str
    members: Mapping[str, "Shape"] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    minimum: int | None = None
    maximum: int | None = None
    pattern: str = ""
    regex: re.Pattern[str] | None = None
    enum: tuple[str, ...] = ()
    sensitive: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class OperationModel:
    """One operation: ``service`` is sts or iam, ``unsigned`` says that it is called without a signature."""

    service: str
    name: str
    version: str
    unsigned: bool
    input: Shape | None
    output: Shape | None
    result_wrapper: str | None
    namespace: str
