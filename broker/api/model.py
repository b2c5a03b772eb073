"""Reads the service models of STS and IAM: those in botocore, and Fedgate's own operations in the same format.

It uses only the data files of botocore: importing its loader would take ten times as long as reading two files, and the
loader also reads models from the home folder.
"""

import gzip
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any

import botocore

from broker.api.shape import OperationModel, Shape

__all__ = ["Api", "OperationModel", "Shape", "load_models"]

# The versions of these two APIs have never changed.
_VERSIONS = {"sts": "2011-06-15", "iam": "2010-05-08"}
_ADDITIONS = ("sts",)

# Python has no \p. The models use one combination of it; with "_" that equals Python's \w and the separators (Z). Any
# other use of \p does not compile, which stops the start instead of weakening a check.
_LETTERS_SEPARATORS_NUMBERS = r"\p{L}\p{Z}\p{N}_"
_TRANSLATED = r"\w \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"


class Api:
    """All operations of the models, by name and version; ``statuses`` has the HTTP status of each error code.

    ``default_namespace`` is the XML namespace of responses to requests that name no operation.
    """

    def __init__(
        self, operations: Iterable[OperationModel], statuses: Mapping[str, int], default_namespace: str
    ) -> None:
        self._operations = {(operation.name, operation.version): operation for operation in operations}
        self.statuses = statuses
        self.default_namespace = default_namespace

    def find(self, action: str, version: str | None) -> OperationModel | None:
        """Return the operation with this name and API version (a date), or None."""
        return self._operations.get((action, version or ""))

    def operations(self) -> tuple[OperationModel, ...]:
        """Return all operations of all services."""
        return tuple(self._operations.values())


@cache
def load_models(additional_sts_models: tuple[bytes, ...] = ()) -> Api:
    """Return all models, compiled; cached, because it takes tens of milliseconds."""
    models = {service: _read(service) for service in _VERSIONS}
    for text in additional_sts_models:
        _add(models["sts"], text)
    operations = [operation for service, model in models.items() for operation in _operations(service, model)]
    statuses = {code: status for model in models.values() for code, status in _statuses(model)}
    return Api(operations, statuses, models["sts"]["metadata"]["xmlNamespace"])


def _read(service: str) -> dict[str, Any]:
    packed = resources.files(botocore).joinpath("data", service, _VERSIONS[service], "service-2.json.gz").read_bytes()
    model: dict[str, Any] = json.loads(gzip.decompress(packed))
    if service in _ADDITIONS:
        _add(model, resources.files("broker.api").joinpath("models", f"{service}-extra.json").read_bytes())
    return model


def _add(model: dict[str, Any], text: bytes) -> None:
    """Add the operations and shapes of another model in the same format."""
    added = json.loads(text)
    for part in ("operations", "shapes"):
        model[part].update(added[part])


def _operations(service: str, model: dict[str, Any]) -> Iterator[OperationModel]:
    shapes: dict[str, Shape] = {}
    metadata = model["metadata"]
    for name, operation in model["operations"].items():
        takes, answers = operation.get("input"), operation.get("output")
        yield OperationModel(
            service=service,
            name=name,
            version=metadata["apiVersion"],
            unsigned=operation.get("authtype") == "none",
            input=_compile_shape(takes["shape"], model["shapes"], shapes) if takes else None,
            output=_compile_shape(answers["shape"], model["shapes"], shapes) if answers else None,
            result_wrapper=answers["resultWrapper"] if answers else None,
            namespace=metadata["xmlNamespace"],
        )


def _compile_shape(name: str, raw: Mapping[str, Any], done: dict[str, Shape]) -> Shape:
    """Return a shape with all shapes that it refers to, each compiled once; no shape of these services is recursive."""
    if name not in done:
        stated = raw[name]
        refers = stated.get("members") or {role: stated[role] for role in ("member", "key", "value") if role in stated}
        done[name] = Shape(
            name=name,
            kind=stated["type"],
            members={member: _compile_shape(to["shape"], raw, done) for member, to in refers.items()},
            required=frozenset(stated.get("required", ())),
            minimum=stated.get("min"),
            maximum=stated.get("max"),
            pattern=stated.get("pattern", ""),
            regex=translate_pattern(stated["pattern"]) if "pattern" in stated else None,
            enum=tuple(stated.get("enum", ())),
            sensitive=stated.get("sensitive", False),
        )
    return done[name]


def translate_pattern(pattern: str) -> re.Pattern[str]:
    r"""Return a Java pattern as a Python pattern, for ``fullmatch``; in Java ``\w`` and ``\d`` are ASCII only."""
    if r"\p" in pattern:
        return re.compile(pattern.replace(_LETTERS_SEPARATORS_NUMBERS, _TRANSLATED))
    return re.compile(pattern, re.ASCII)


def _statuses(model: dict[str, Any]) -> Iterator[tuple[str, int]]:
    for shape in model["shapes"].values():
        if error := shape.get("error"):
            yield error["code"], error["httpStatusCode"]
