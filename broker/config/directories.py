"""The [directory.NAME] sections: which keys they have, and how each becomes a provider's configuration."""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Final, get_type_hints

from broker.config.source import Problem, SettingsError, SettingsReader
from broker.config.text_file import NotText, decode_text, read_secret_file
from broker.providers.ldap.config import LdapConfig

PROVIDERS: Final = {"ldap": LdapConfig}

DIRECTORY_SETTINGS: Final[Mapping[str, str]] = {
    "type": 'The kind of directory; "ldap" also means Active Directory.',
    "urls": "ldaps://HOST, ldap://HOST (with start_tls beyond this machine) or ldapi://PATH, tried in order.",
    "user_base": "DN below which people are searched.",
    "bind_dn": "DN of the account that searches; empty searches anonymously.",
    "bind_password": "Its password; better in bind_password_file or in the environment.",
    "bind_password_file": "File with its password (mode 600); a line break at its end is ignored.",
    "user_filter": "Filter that finds a person; holds {username}.",
    "username_attribute": "Attribute with the login name, as policies see it.",
    "id_attribute": "Attribute with the stable id; empty takes objectGUID, entryUUID, ipaUniqueID or nsUniqueId.",
    "login_domains": "Domains whose DOMAIN\\name and name@domain mean name.",
    "member_of_attribute": "Attribute of a person that lists groups; empty reads none.",
    "group_base": "DN below which groups are searched; empty searches none.",
    "group_filter": "Filter that finds a person's groups; holds {dn} or {username}.",
    "nested_groups": "Follow the groups of groups.",
    "attributes": "Attributes that policies can use as ldap:NAME.",
    "start_tls": "Encrypt an ldap:// connection with StartTLS.",
    "ca_file": "PEM file of the authorities to trust; empty trusts the system's.",
    "insecure_skip_tls_verify": "Accept any certificate; refused outside development.",
    "connect_timeout": "Seconds to wait for a connection.",
    "receive_timeout": "Seconds to wait for a whole answer.",
    "pool_size": "Idle connections kept, of each of the two kinds.",
    "max_in_flight": "Connections in use at once, of each of the two kinds.",
    "accounts": "Accounts whose roles may trust this directory; empty: all, and the first account's without RoleArn.",
    "password_change": "Let people change their password here.",
    "password_change_url": "Where they change it instead; the sign-in page links to it.",
}


def read_directories(source: SettingsReader, names: Iterable[str], *, development: bool) -> dict[str, LdapConfig]:
    """Return the configurations by name; a directory with problems is left out, and they are noted in the source."""
    configs = {name: _read_directory(source, name, development=development) for name in names}
    return {name: config for name, config in configs.items() if config is not None}


def _read_directory(source: SettingsReader, name: str, *, development: bool) -> LdapConfig | None:
    section, problems_before = ("directory", name), len(source.problems)
    kind = source.get((*section, "type"), str)
    if kind not in PROVIDERS:
        source.refuse((*section, "type"), "must be one of " + ", ".join(PROVIDERS))
    values = _read_values(source, section, read_password_file=kind in PROVIDERS)
    if kind in PROVIDERS:
        _check_values(source, section, values, development=development)
    return _build_config(source, name, values) if len(source.problems) == problems_before else None


def _read_values(source: SettingsReader, section: tuple[str, str], *, read_password_file: bool) -> dict[str, Any]:
    """Return the values that are set, by field of LdapConfig."""
    types = get_type_hints(LdapConfig)
    names = [field.name for field in fields(LdapConfig) if field.name != "name"]
    values = {name: source.get((*section, name), types[name]) for name in names}
    file = source.get((*section, "bind_password_file"), Path)
    if read_password_file and file is not None and values["bind_password"] is None:
        values["bind_password"] = _read_password(source, (*section, "bind_password_file"), file)
    return {name: value for name, value in values.items() if value is not None}


def _check_values(
    source: SettingsReader, section: tuple[str, str], values: Mapping[str, Any], *, development: bool
) -> None:
    if values.get("insecure_skip_tls_verify") and not development:
        source.refuse((*section, "insecure_skip_tls_verify"), "remove it and set ca_file; it is for development only")
    for field in fields(LdapConfig):
        if field.default is MISSING and field.name not in values and field.name != "name":
            source.refuse((*section, field.name), f"is missing: {DIRECTORY_SETTINGS[field.name]}")


def _build_config(source: SettingsReader, name: str, values: Mapping[str, Any]) -> LdapConfig | None:
    try:
        return LdapConfig(name=name, **values)
    except ValueError as error:
        key, remedy = _split_config_error(str(error))
        source.refuse(("directory", name, key) if key else ("directory", name), remedy)
        return None


def _split_config_error(message: str) -> tuple[str, str]:
    """Return the key that LdapConfig's error names, or "", and the rest of its sentence."""
    sentence = message.rpartition("': ")[2] if message.startswith("directory ") else message
    key, colon, rest = sentence.partition(": ")
    return (key, rest) if colon and key in DIRECTORY_SETTINGS else ("", sentence)


def _read_password(source: SettingsReader, path: tuple[str, ...], file: Path) -> str:
    try:
        return read_secret_file(file).rstrip("\r\n")
    except OSError as error:
        source.refuse(path, f"{file} cannot be read: {error}")
    except ValueError as error:
        source.refuse(path, str(error))
    return ""


def directory_names(file: Path) -> tuple[str, ...]:
    """Return the names of the directories of a settings file, without reading any secret; raise SettingsError."""
    try:
        text = decode_text(file.read_bytes())
    except (OSError, NotText) as error:
        raise SettingsError(Problem(str(file), "the file", f"cannot be read: {error}")) from error
    return SettingsReader(text, file.name, file.absolute().parent, {}).names("directory")
