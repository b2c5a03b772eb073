"""Reads values out of a TOML text and the environment, and says where each wrong one stands."""

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

PREFIX = "FEDGATE_"
# A Kubernetes Service named "fedgate" adds these to every pod beside it; they are none of ours.
_KUBERNETES_VARIABLE = re.compile(
    r"FEDGATE(_\w+)?_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)"
)
_HEADER = re.compile(r"\s*\[\[?\s*([^\]]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"\s*([A-Za-z0-9_\"'.\s-]+?)\s*=")


@dataclass(frozen=True, slots=True)
class Problem:
    """One wrong setting: where it stands, which it is, and what to do about it."""

    where: str
    key: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.key}: {self.remedy}"


class SettingsError(Exception):
    """The settings cannot be used; ``problems`` has every reason, so that one run shows them all."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class ValueType:
    """A type of setting: its name in messages, which TOML values it takes, and how it reads a variable's text."""

    name: str
    accepts: Callable[[Any], bool]
    parse: Callable[[str], Any]


def _is(*types: type) -> Callable[[Any], bool]:
    # type() and not isinstance: true is an int to Python, not to a reader.
    return lambda value: type(value) in types


def _parse_bool(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


def _parse_int(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise ValueError(text)
    return int(text)


def _parse_list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _is_list(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


VALUE_TYPES: Mapping[object, ValueType] = {
    str: ValueType("a text", _is(str), str),
    int: ValueType("a whole number", _is(int), _parse_int),
    float: ValueType("a number", _is(int, float), float),
    bool: ValueType("true or false", _is(bool), _parse_bool),
    tuple[str, ...]: ValueType("a list of texts", _is_list, _parse_list),
    Path: ValueType("a path", _is(str), str),
}


class SettingsReader:
    """One TOML text and one environment; remembers what was asked for, so that what is left over is unknown."""

    def __init__(self, text: str, name: str, folder: Path, environ: Mapping[str, str]) -> None:
        self._text = text
        self._name = name
        self._folder = folder
        self._environ = {key: value for key, value in environ.items() if key.startswith(PREFIX)}
        self._asked: set[tuple[str, ...]] = set()
        self._asked_variables: set[str] = set()
        self._refused: set[tuple[str, ...]] = set()
        self.problems: list[Problem] = []
        try:
            self._document: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(Problem(name, "the file", f"is not TOML: {error}")) from error

    def get(self, path: tuple[str, ...], kind: object) -> Any:  # noqa: ANN401 - the kind says what it is
        """Return a setting (environment over file) as its kind, or None where it is not set or is wrong."""
        self._asked.add(path)
        variable = variable_of(path)
        self._asked_variables.add(variable)
        rule = VALUE_TYPES[kind]
        value, folder = self._lookup(path), self._folder
        if variable in self._environ:
            try:
                value, folder = rule.parse(self._environ[variable]), Path.cwd()
            except (ValueError, KeyError):
                return self.refuse(path, f"must be {rule.name}")
        if value is None:
            return None
        if not rule.accepts(value):
            return self.refuse(path, f"must be {rule.name}")
        return _convert(kind, value, folder)

    def names(self, section: str) -> tuple[str, ...]:
        """Return the names of a section's tables, such as NAME of ``[directory.NAME]``."""
        found = self._document.get(section, {})
        if not isinstance(found, dict) or not all(isinstance(table, dict) for table in found.values()):
            self.refuse((section,), f"write [{section}.NAME] and the settings below it")
            return ()
        return tuple(found)

    def refuse(self, path: tuple[str, ...], remedy: str) -> None:
        """Note a problem with a setting, wherever it comes from."""
        self._refused.add(path)
        variable = variable_of(path)
        if variable in self._environ:
            self.problems.append(Problem("environment", variable, remedy))
        else:
            self.problems.append(Problem(self._where(path), ".".join(path), remedy))

    def report_unknown(self, *variables: str) -> None:
        """Note a problem for everything that nobody asked for; ``variables`` are known ones beyond the settings."""
        for path in _leaves(self._document, self._asked):
            if path not in self._asked and not any(path[: len(known)] == known for known in self._refused):
                self.refuse(path, "unknown setting." + _closest(".".join(path), map(".".join, self._asked)))
        for name in self._environ.keys() - self._asked_variables - set(variables):
            if not _KUBERNETES_VARIABLE.fullmatch(name):
                remedy = "unknown variable." + _closest(name, self._asked_variables)
                self.problems.append(Problem("environment", name, remedy))

    def _lookup(self, path: tuple[str, ...]) -> Any:  # noqa: ANN401 - whatever TOML holds
        value: Any = self._document
        for part in path:
            if not isinstance(value, dict) or part not in value:
                return None
            value = value[part]
        return value

    def _where(self, path: tuple[str, ...]) -> str:
        line = line_of(self._text, path)
        return f"{self._name}, line {line}" if line else self._name or "settings"


def variable_of(path: tuple[str, ...]) -> str:
    """Return the environment variable that overrides a setting: FEDGATE_REDIS_URL for redis.url.

    What stands in ``[server]`` goes without the section's name, as do key names that say it themselves.
    """
    section, *rest = path
    parts = rest if section in {"server", "keys"} and rest else path
    return PREFIX + re.sub(r"[^A-Z0-9]", "_", "_".join(parts).upper())


def line_of(text: str, path: tuple[str, ...]) -> int:
    """Return the line on which a TOML text sets a key, or opens the table nearest to it; 0 where it does neither."""
    section: tuple[str, ...] = ()
    best, depth = 0, 0
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            section = at = _parts(header[1])
        elif key := _KEY.match(line):
            at = section + _parts(key[1])
        else:
            continue
        if len(at) > depth and at == path[: len(at)]:
            best, depth = number, len(at)
    return best


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))


def _convert(kind: object, value: Any, folder: Path) -> Any:  # noqa: ANN401 - the kind says what it is
    if kind is Path:
        # normpath and not resolve(): a link that an operator made keeps its own name.
        return folder.absolute() / value
    if kind is float:
        return float(value)
    return tuple(value) if isinstance(value, list) else value


def _leaves(table: Mapping[str, Any], asked: set[tuple[str, ...]], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for key, value in table.items():
        here = (*path, key)
        if isinstance(value, dict) and here not in asked:
            found += (
                _leaves(value, asked, here) if value or any(known[: len(here)] == here for known in asked) else [here]
            )
        else:
            found.append(here)
    return found


def _closest(name: str, known: Any) -> str:  # noqa: ANN401 - any iterable of texts
    found = get_close_matches(name, sorted(known), n=1)
    return f" Did you mean {found[0]}?" if found else " Remove it; docs/reference/settings.md lists all."
