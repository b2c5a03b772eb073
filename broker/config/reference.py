"""Descriptions of all settings, for the reference page docs/reference/settings.md."""

from collections.abc import Iterator
from dataclasses import MISSING, fields
from typing import NamedTuple

from broker.config.directories import DIRECTORY_SETTINGS
from broker.config.resources import AUTHZ_SETTINGS, BACKEND_SETTINGS, RESOURCE_SETTINGS, ROUTE_SETTINGS, DeclaredKeys
from broker.config.setting import declared_settings
from broker.config.settings import Settings
from broker.config.source import SettingPath, variable_of
from broker.providers.ldap.config import LdapConfig
from iam.limits import Limits


class SettingDescription(NamedTuple):
    """One row of the reference page."""

    section: str
    key: str
    variable: str
    default: str
    description: str


def describe_settings() -> Iterator[SettingDescription]:
    """Yield every setting; ``NAME`` stands for a directory or a resource, ``N`` for the number of a route."""
    for _, path, _, setting in declared_settings(Settings):
        default = setting.default_text or _toml(setting.default)
        yield SettingDescription(*path, variable_of(path), default, setting.description)
    yield from _describe_declared(("authz",), AUTHZ_SETTINGS)
    yield from _describe_limits()
    yield from _describe_directories()
    yield from _describe_declared(("resource", "NAME"), RESOURCE_SETTINGS)
    yield from _describe_declared(("resource", "NAME", "backend"), BACKEND_SETTINGS)
    yield from _describe_declared(("resource", "NAME", "route", "N"), ROUTE_SETTINGS)


def _describe_limits() -> Iterator[SettingDescription]:
    for limit in fields(Limits):
        variable = variable_of(("limits", limit.name))
        description = f"Quota: {limit.name.replace('_', ' ')}."
        yield SettingDescription("limits", limit.name, variable, str(limit.default), description)


def _describe_directories() -> Iterator[SettingDescription]:
    defaults = {field.name: field.default for field in fields(LdapConfig)}
    for key, description in DIRECTORY_SETTINGS.items():
        default = defaults.get(key, "")
        text = "" if default is MISSING else _toml(default)
        yield SettingDescription("directory.NAME", key, variable_of(("directory", "NAME", key)), text, description)


def _describe_declared(path: SettingPath, declared: DeclaredKeys) -> Iterator[SettingDescription]:
    section = ".".join(part for part in path if part != "N")
    for key, (_type, default, description) in declared.items():
        yield SettingDescription(section, key, variable_of((*path, key)), _toml(default), description)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, dict):
        return "{}"
    return str(value) if isinstance(value, int | float) else f'"{value}"'
