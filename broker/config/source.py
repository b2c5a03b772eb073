"""Reads values from a TOML text and the environment, and says where each wrong value is."""

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from broker.config.text_file import typographic_characters

# Its keys from the outermost table: ("redis", "url") for redis.url. A table of a list is named by its number, from 1.
SettingPath = tuple[str, ...]

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
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _parse_texts(text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in _parse_list(text)]
    if not all(equals for _name, equals, _value in pairs):
        raise ValueError(text)
    return {name.strip(): value.strip() for name, _equals, value in pairs}


def _is_texts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


VALUE_TYPES: Mapping[object, ValueType] = {
    str: ValueType("a text", _is(str), str),
    int: ValueType("a whole number", _is(int), _parse_int),
    float: ValueType("a number", _is(int, float), float),
    bool: ValueType("true or false", _is(bool), _parse_bool),
    tuple[str, ...]: ValueType("a list of texts", _is_list, _parse_list),
    dict[str, str]: ValueType('a table of texts, such as { name = "value" }', _is_texts, _parse_texts),
    Path: ValueType("a path", _is(str), str),
}


class SettingsReader:
    """Reads one TOML text and one environment, and remembers which settings were read: all others are unknown."""

    def __init__(self, text: str, name: str, folder: Path, environ: Mapping[str, str]) -> None:
        self._text = text
        self._name = name
        self._folder = folder
        self._environ = {key: value for key, value in environ.items() if key.startswith(PREFIX)}
        self._known_paths: set[SettingPath] = set()
        self._known_variables: set[str] = set()
        self._refused: set[SettingPath] = set()
        self.problems: list[Problem] = []
        try:
            self._document: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(Problem(name, "the file", _toml_remedy(text, error))) from error

    def get(self, path: SettingPath, kind: object) -> Any:  # noqa: ANN401 - the kind says what it is
        """Return a setting as its type (the environment wins over the file), or None where it is unset or wrong."""
        self._known_paths.add(path)
        variable = variable_of(path)
        self._known_variables.add(variable)
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
        tables = self._document.get(section, {})
        if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
            self.refuse((section,), f"write [{section}.NAME] and the settings below it")
            return ()
        return tuple(tables)

    def has(self, path: SettingPath) -> bool:
        """Return whether the file or the environment sets a setting, or one below it."""
        variable = variable_of(path)
        below = any(key == variable or key.startswith(f"{variable}_") for key in self._environ)
        return below or self._lookup(path) is not None

    def is_refused(self, path: SettingPath) -> bool:
        """Return whether a problem is noted for a setting."""
        return path in self._refused

    def count(self, path: SettingPath) -> int:
        """Return the number of tables in a list of tables, such as ``[[resource.NAME.route]]``."""
        tables = self._lookup(path)
        if tables is None:
            return 0
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self.refuse(path, f"write [[{'.'.join(path)}]] and the settings below it")
            return 0
        return len(tables)

    def refuse(self, path: SettingPath, remedy: str) -> None:
        """Note a problem with a setting of the file or the environment."""
        self._refused.add(path)
        variable = variable_of(path)
        if variable in self._environ:
            self.problems.append(Problem("environment", variable, remedy))
        else:
            self.problems.append(Problem(self._where(path), ".".join(path), remedy))

    def report_unknown(self, *variables: str) -> None:
        """Note a problem for every setting that was never read; ``variables`` are known ones that are no settings."""
        for path in _leaves(self._document, self._known_paths):
            if path not in self._known_paths and not any(path[: len(refused)] == refused for refused in self._refused):
                self.refuse(path, "unknown setting." + _suggestion(".".join(path), map(".".join, self._known_paths)))
        for name in self._environ.keys() - self._known_variables - set(variables):
            if not _KUBERNETES_VARIABLE.fullmatch(name):
                remedy = "unknown variable." + _suggestion(name, self._known_variables)
                self.problems.append(Problem("environment", name, remedy))

    def _lookup(self, path: SettingPath) -> Any:  # noqa: ANN401 - whatever TOML holds
        value: Any = self._document
        for part in path:
            value = _numbered(value)
            if not isinstance(value, dict) or part not in value:
                return None
            value = value[part]
        return value

    def _where(self, path: SettingPath) -> str:
        line = line_of(self._text, path)
        return f"{self._name}, line {line}" if line else self._name or "settings"


def _toml_remedy(text: str, error: tomllib.TOMLDecodeError) -> str:
    """Return what is wrong with a file that is not TOML: what an editor left in the line, where it did."""
    place = re.search(r"line (\d+)", str(error))
    lines = text.splitlines()
    line = lines[int(place[1]) - 1] if place and int(place[1]) <= len(lines) else ""
    if "\r" in text.replace("\r\n", ""):
        return "has lines that end with a carriage return alone: save it with line endings of Unix or Windows"
    typographic = typographic_characters(line)
    if place and typographic:
        return f"is not TOML: in line {place[1]}, {typographic}"
    return f"is not TOML: {error}"


def variable_of(path: SettingPath) -> str:
    """Return the environment variable that overrides a setting: FEDGATE_REDIS_URL for redis.url.

    The sections ``[server]`` and ``[keys]`` are left out of the name.
    """
    section, *rest = path
    parts = rest if section in {"server", "keys"} and rest else path
    return PREFIX + re.sub(r"[^A-Z0-9]", "_", "_".join(parts).upper())


def line_of(text: str, path: SettingPath) -> int:
    """Return the line on which a TOML text sets a key, or opens the table nearest to it; 0 where it does neither."""
    section: SettingPath = ()
    best, depth = 0, 0
    tables: dict[SettingPath, int] = {}  # the number of the current table of each list
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            section = at = _numbered_section(_parts(header[1]), tables, opens=line.lstrip().startswith("[["))
        elif key := _KEY.match(line):
            at = section + _parts(key[1])
        else:
            continue
        if len(at) > depth and at == path[: len(at)]:
            best, depth = number, len(at)
    return best


def _numbered_section(written: SettingPath, tables: dict[SettingPath, int], *, opens: bool) -> SettingPath:
    """Return the path of a header with the numbers of the tables that it is in; ``[[...]]`` opens the next one."""
    section: SettingPath = ()
    for part in written[:-1]:
        section = (*section, part)
        section = (*section, str(tables[section])) if section in tables else section
    section = (*section, *written[-1:])
    if not opens:
        return section
    tables[section] = tables.get(section, 0) + 1
    return (*section, str(tables[section]))


def _numbered(value: Any) -> Any:  # noqa: ANN401 - whatever TOML holds
    """Return a list of tables as a table by their numbers, and any other value as it is."""
    is_list = isinstance(value, list) and value and all(isinstance(table, dict) for table in value)
    return {str(number): table for number, table in enumerate(value, 1)} if is_list else value


def _parts(dotted: str) -> SettingPath:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))


def _convert(kind: object, value: Any, folder: Path) -> Any:  # noqa: ANN401 - the kind says what it is
    if kind is Path:
        # normpath and not resolve(): a link that an operator made keeps its own name.
        return folder.absolute() / value
    if kind is float:
        return float(value)
    return tuple(value) if isinstance(value, list) else value


def _leaves(table: Mapping[str, Any], known_paths: set[SettingPath], path: SettingPath = ()) -> list[SettingPath]:
    """Return the paths of all values; an empty table counts as one unless known settings can be in it."""
    leaves: list[SettingPath] = []
    for key, written in table.items():
        here, value = (*path, key), _numbered(written)
        if not isinstance(value, dict) or here in known_paths:
            leaves.append(here)
        elif value or any(known[: len(here)] == here for known in known_paths):
            leaves += _leaves(value, known_paths, here)
        else:
            leaves.append(here)
    return leaves


def _suggestion(name: str, known_names: Iterable[str]) -> str:
    matches = get_close_matches(name, sorted(known_names), n=1)
    return f" Did you mean {matches[0]}?" if matches else " Remove it; docs/reference/settings.md lists all."
