"""The compiled service model: the input and output of each operation.

Pure; broker/api/model.py compiles it from the model files.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """One type of the model. Shapes are compared by identity, so that they can be keys of a cache.

    ``members`` of a list has one entry, "member"; that of a map has two, "key" and "value". ``minimum`` and ``maximum``
    limit the value of an integer, the length of a string in characters, or the size of a list. ``pattern`` is the text
    of the model and ``regex`` its translation to Python.
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
    """One operation: ``service`` is sts or iam; ``unsigned`` is true if requests need no signature."""

    service: str
    name: str
    version: str
    unsigned: bool
    input: Shape | None
    output: Shape | None
    result_wrapper: str | None
    namespace: str
