"""Every setting: its name, its default, its one-line description, and which values are refused.

Settings come from one TOML file and from the environment, which wins; they are read once.
"""

import base64
import binascii
import hashlib
import os
import re
import ssl
import tempfile
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from ipaddress import ip_address, ip_network
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple, get_type_hints
from urllib.parse import parse_qs, quote, urlsplit

from broker.config.source import Problem, SettingsError, SettingsReader, variable_of
from broker.providers.ldap.provider import LdapConfig
from broker.web.core.appearance import VARIABLES, colours_remedy, link_remedy, logo_remedy
from broker.web.oauth.clients import ENTRY
from iam.limits import Limits

__all__ = [
    "SettingDescription",
    "Settings",
    "SettingsError",
    "describe_settings",
    "embedded_socket",
    "parse_master_key",
]

CONFIG_VARIABLE: Final = "FEDGATE_CONFIG"
MASTER_KEY_VARIABLE: Final = "FEDGATE_MASTER_KEY"
# Read elsewhere: by the launcher's children, by `fedgate login`.
_OTHER_VARIABLES: Final = (CONFIG_VARIABLE, MASTER_KEY_VARIABLE, "FEDGATE_PASSWORD", "FEDGATE_ENDPOINT")
_MASTER_KEY_BYTES: Final = 32
# sockaddr_un has 108 bytes with the final zero; Redis adds a suffix of its own while it starts.
_LONGEST_SOCKET: Final = 90
_MOST_WORKERS: Final = 64
_MOST_SKEW: Final = 300  # seconds
_LEAST_IDLE: Final = 60  # seconds
_DAY: Final = 86_400  # seconds
_PROVIDER: Final = re.compile(r"arn:aws:iam::[0-9]{12}:(?:saml|oidc)-provider/\S+")
_REALM: Final = re.compile(rf"[^\s=@\\]+={_PROVIDER.pattern}")
_DIGEST_OF_NOTHING: Final = hashlib.sha256().hexdigest()

Default = Callable[[Path], Any]


def _setting(section: str, description: str, *, default: object, shown: str = "") -> dict[str, Any]:
    """Return a field's metadata; a callable ``default`` is given the data folder, ``shown`` says what it comes to."""
    return {"section": section, "description": description, "default": default, "shown": shown}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that an operator decides. Paths are absolute; ``redis_url`` is never empty."""

    bind: str = field(
        metadata=_setting("server", "Address and port to listen on; port 0 takes a free one.", default="127.0.0.1:8080")
    )
    public_url: str = field(
        metadata=_setting(
            "server",
            "The address that clients use, without a slash at the end; https:// beyond this machine.",
            default="",
            shown="http:// and bind",
        )
    )
    workers: int = field(
        metadata=_setting("server", "How many worker processes serve requests; one for each core.", default=2)
    )
    worker_connections: int = field(
        metadata=_setting("server", "How many requests one worker serves at the same time.", default=1000)
    )
    trusted_proxies: tuple[str, ...] = field(
        metadata=_setting(
            "server", "Networks (CIDR) whose X-Forwarded-For and X-Forwarded-Proto are believed.", default=()
        )
    )
    allow_password_in_query: bool = field(
        metadata=_setting(
            "server",
            "Accept LDAPPassword in the query string of a POST, as some MinIO clients send it.",
            default=False,
        )
    )
    regions: tuple[str, ...] = field(
        metadata=_setting("server", "Regions that a signature may name.", default=(), shown="any")
    )
    development: bool = field(
        metadata=_setting("server", "Allow what is unsafe outside a trial: plain http, unverified TLS.", default=False)
    )
    data_dir: Path = field(
        metadata=_setting(
            "data", "Folder of the database, keys, audit log and embedded Redis.", default=Path("fedgate-data")
        )
    )
    database_url: str = field(
        repr=False,
        metadata=_setting(
            "database",
            "sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME.",
            default=lambda folder: f"sqlite:///{folder / 'fedgate.db'}",
            shown="sqlite:///DATA/fedgate.db",
        ),
    )
    redis_url: str = field(
        repr=False,
        metadata=_setting(
            "redis",
            "redis://HOST:PORT/DB or unix://PATH; empty starts an embedded server.",
            default="",
            shown="embedded",
        ),
    )
    master_key_file: Path = field(
        metadata=_setting(
            "keys",
            "File with the key that seals secrets at rest (base64, 32 bytes, mode 600).",
            default=lambda folder: folder / "keys" / "master.key",
            shown="DATA/keys/master.key",
        )
    )
    audit_dir: Path = field(
        metadata=_setting(
            "audit", "Folder of the audit log.", default=lambda folder: folder / "audit", shown="DATA/audit"
        )
    )
    audit_sync: str = field(
        metadata=_setting(
            "audit", 'When records reach the disk: "group" every flush_ms, "always" one by one.', default="group"
        )
    )
    audit_flush_ms: int = field(
        metadata=_setting(
            "audit", "Milliseconds between two flushes; a power cut may cost so much of the log.", default=200
        )
    )
    saml_clock_skew: int = field(
        metadata=_setting(
            "saml", "Seconds by which the clock of an identity provider may differ from ours, up to 300.", default=60
        )
    )
    web_identity_clock_skew: int = field(
        metadata=_setting(
            "web_identity", "Seconds by which the clock of an issuer may differ from ours, up to 300.", default=60
        )
    )
    web_identity_google_url: str = field(
        metadata=_setting("web_identity", "Where Google's documents are.", default="https://accounts.google.com")
    )
    web_identity_cognito_url: str = field(
        metadata=_setting(
            "web_identity",
            "Where those of Amazon Cognito's identity pools are.",
            default="https://cognito-identity.amazonaws.com",
        )
    )
    web_identity_amazon_url: str = field(
        metadata=_setting(
            "web_identity", "Where tokens of Login with Amazon are asked about.", default="https://api.amazon.com"
        )
    )
    web_identity_facebook_url: str = field(
        metadata=_setting(
            "web_identity", "Where tokens of Facebook are asked about.", default="https://graph.facebook.com"
        )
    )
    web_identity_github_url: str = field(
        metadata=_setting("web_identity", "Where people sign in to GitHub.", default="https://github.com")
    )
    web_identity_github_api_url: str = field(
        metadata=_setting("web_identity", "Where GitHub is asked about them.", default="https://api.github.com")
    )
    token_exchange_clients: tuple[str, ...] = field(
        metadata=_setting(
            "token_exchange", "Clients with a secret, each as NAME:SHA256-OF-THE-SECRET in hexadecimal.", default=()
        )
    )
    token_exchange_registered_only: bool = field(
        metadata=_setting("token_exchange", "Let nobody but these clients exchange tokens.", default=False)
    )
    outbound_allowed_networks: tuple[str, ...] = field(
        metadata=_setting(
            "outbound",
            "Private networks (CIDR) from which documents such as SAML metadata may be fetched.",
            default=(),
        )
    )
    outbound_ca_file: str = field(
        metadata=_setting(
            "outbound", "PEM file of the authorities to trust when fetching; empty trusts the system's.", default=""
        )
    )
    pages_idle: int = field(
        metadata=_setting("pages", "Seconds after which a browser that does nothing is signed out.", default=3600)
    )
    pages_lifetime: int = field(
        metadata=_setting("pages", "Seconds after which a browser is signed out whatever it does.", default=43_200)
    )
    pages_recheck: int = field(
        metadata=_setting(
            "pages",
            "Seconds after which a directory is asked anew about somebody who is signed in;"
            " before credentials it always is.",
            default=300,
        )
    )
    pages_organisation: str = field(
        metadata=_setting("pages", "Name above every page: that of your organisation.", default="Fedgate")
    )
    pages_logo_file: str = field(
        metadata=_setting("pages", "SVG, PNG or WebP file shown beside the name; empty shows none.", default="")
    )
    pages_colours: tuple[str, ...] = field(
        metadata=_setting(
            "pages",
            "Colours, each as NAME=#LIGHT or NAME=#LIGHT/#DARK; names: " + ", ".join(VARIABLES) + ".",
            default=(),
        )
    )
    pages_help_url: str = field(
        metadata=_setting("pages", "Where people get help; linked below every page.", default="")
    )
    pages_status_url: str = field(metadata=_setting("pages", "Where people see what is out of order.", default=""))
    pages_privacy_url: str = field(metadata=_setting("pages", "Where your privacy notice is.", default=""))
    pages_notice: str = field(metadata=_setting("pages", "A sentence shown above the sign-in form.", default=""))
    pages_maintenance: bool = field(
        metadata=_setting("pages", "Let nobody sign in for now, and say so; the API is not touched.", default=False)
    )
    pages_identifier_first: bool = field(
        metadata=_setting("pages", "Ask for the user name alone first, then for what it needs.", default=False)
    )
    pages_realms: tuple[str, ...] = field(
        metadata=_setting(
            "pages",
            "Who proves people of a domain, each as DOMAIN=PROVIDER, the ARN of a SAML or OpenID Connect provider.",
            default=(),
        )
    )
    pages_second_factor: tuple[str, ...] = field(
        metadata=_setting(
            "pages",
            'Whose people must have a second factor: names of directories, ARNs of providers, or "iam" for all users.',
            default=(),
        )
    )
    pages_other_roles: bool = field(
        metadata=_setting(
            "pages", "Show people the roles that trust their directory, but not them, and why not.", default=True
        )
    )
    master_key: bytes = field(repr=False)
    redis_embedded: bool
    limits: Limits
    directories: Mapping[str, LdapConfig] = field(repr=False)

    @classmethod
    def read(cls, config: Path | None = None, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Return the settings of a TOML file (else $FEDGATE_CONFIG, else none) and environment; raise SettingsError."""
        named = environ.get(CONFIG_VARIABLE)
        config = config or (Path(named) if named else None)
        if config is None:
            return _read(SettingsReader("", "", Path.cwd(), environ), environ)
        try:
            text = config.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(Problem(str(config), "the file", f"cannot be read: {error}")) from error
        return _read(SettingsReader(text, config.name, config.absolute().parent, environ), environ)


def embedded_socket(data_dir: Path) -> Path:
    """Return where the embedded Redis of a data folder listens: in it, or in a short private folder."""
    socket = data_dir / "redis" / "redis.sock"
    if len(os.fsencode(socket)) <= _LONGEST_SOCKET:
        return socket
    mark = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"fedgate-{os.getuid()}-{mark}" / "redis.sock"


def parse_master_key(text: str) -> bytes:
    """Return the 32 bytes of a key written in base64; raise ValueError."""
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except binascii.Error as error:
        raise ValueError("is not base64") from error
    if len(key) != _MASTER_KEY_BYTES:
        raise ValueError(f"holds {len(key)} bytes, not {_MASTER_KEY_BYTES}")
    return key


# --- reading ----------------------------------------------------------------------------------------------------------


def _path(name: str, section: str) -> tuple[str, str]:
    return section, name.removeprefix(section + "_")


def _read(source: SettingsReader, environ: Mapping[str, str]) -> Settings:
    values = _plain_values(source)
    development = bool(values["development"])
    problems = [(path, remedy) for path, remedy in _check_values(values) if remedy]
    directories = _directories(source, development=development)
    remedy = "" if source.problems else _second_factor_remedy(values["pages_second_factor"], directories)
    problems += [(("pages", "second_factor"), remedy)] if remedy else []
    limits = _limits(source)
    for path, remedy in problems:
        source.refuse(path, remedy)
    source.report_unknown(*_OTHER_VARIABLES)
    master_key = b""
    if not source.problems:
        master_key = _master_key(source, values["master_key_file"], environ.get(MASTER_KEY_VARIABLE))
    if source.problems:
        raise SettingsError(*source.problems)
    embedded = not values["redis_url"]
    if embedded:
        values["redis_url"] = "unix://" + quote(str(embedded_socket(values["data_dir"])))
    values["public_url"] = _as_browsers_write(values["public_url"].rstrip("/")) or f"http://{values['bind']}"
    return Settings(
        **values,
        master_key=master_key,
        redis_embedded=embedded,
        limits=limits,
        directories=MappingProxyType(directories),
    )


def _plain_values(source: SettingsReader) -> dict[str, Any]:
    kinds = get_type_hints(Settings)
    values: dict[str, Any] = {}
    stated = [one for one in fields(Settings) if one.metadata]
    # The data folder comes first: other defaults lie in it.
    for one in sorted(stated, key=lambda one: one.name != "data_dir"):
        value = source.get(_path(one.name, one.metadata["section"]), kinds[one.name])
        default = one.metadata["default"]
        if value is None:
            value = default(values["data_dir"]) if callable(default) else default
        values[one.name] = Path.cwd() / value if kinds[one.name] is Path else value
    return values


def _limits(source: SettingsReader) -> Limits:
    given = {one.name: source.get(("limits", one.name), int) for one in fields(Limits)}
    for name, value in given.items():
        if value is not None and value < 1:
            source.refuse(("limits", name), "must be above zero")
    return Limits(**{name: value for name, value in given.items() if value is not None})


def _master_key(source: SettingsReader, file: Path, variable: str | None) -> bytes:
    try:
        if variable is not None:
            return parse_master_key(variable)
        _require_private(file)
        return parse_master_key(file.read_text(encoding="ascii"))
    except FileNotFoundError:
        remedy = f"{file} does not exist: `fedgate init` makes it, or set {MASTER_KEY_VARIABLE}"
    except OSError as error:
        remedy = f"{file} cannot be read: {error.strerror}"
    except ValueError as error:
        remedy = str(error)
    if variable is not None:
        source.problems.append(Problem("environment", MASTER_KEY_VARIABLE, remedy))
    else:
        source.refuse(("keys", "master_key_file"), remedy)
    return b""


def _require_private(file: Path) -> None:
    if file.stat().st_mode & 0o077:
        raise ValueError(f"{file} can be read by others: chmod 600 {file}")


# --- directories ------------------------------------------------------------------------------------------------------

PROVIDERS: Final = {"ldap": LdapConfig}

DIRECTORY_SETTINGS: Final[Mapping[str, str]] = {
    "type": 'The kind of directory; "ldap" also means Active Directory.',
    "urls": "ldaps://HOST, ldap://HOST (with start_tls beyond this machine) or ldapi://PATH, tried in order.",
    "user_base": "DN below which people are searched.",
    "bind_dn": "DN of the account that searches; empty searches anonymously.",
    "bind_password": "Its password; better in bind_password_file or in the environment.",
    "bind_password_file": "File with its password; a line end at the end is not part of it.",
    "user_filter": "Filter that finds a person; holds {username}.",
    "username_attribute": "Attribute with the login name, as policies see it.",
    "id_attribute": "Attribute with the stable id; empty takes objectGUID, entryUUID, ipaUniqueID or nsUniqueId.",
    "login_domains": "Domains whose DOMAIN\\name and name@domain mean name.",
    "member_of_attribute": "Attribute of a person that lists groups; empty reads none.",
    "group_base": "DN below which groups are searched; empty searches none.",
    "group_filter": "Filter that finds a person's groups; holds {dn} or {username}.",
    "nested_groups": "Follow the groups of groups.",
    "attributes": "Attributes that policies may ask for as ldap:NAME.",
    "start_tls": "Encrypt an ldap:// connection with StartTLS.",
    "ca_file": "PEM file of the authorities to trust; empty trusts the system's.",
    "insecure_skip_tls_verify": "Believe any certificate; refused outside development.",
    "connect_timeout": "Seconds to wait for a connection.",
    "receive_timeout": "Seconds to wait for a whole answer.",
    "pool_size": "Idle connections kept, of each of the two kinds.",
    "max_in_flight": "Connections in use at once, of each of the two kinds.",
    "password_change": "Let people change their password here.",
    "password_change_url": "Where they change it instead; the sign-in page names it.",
}


def _directories(source: SettingsReader, *, development: bool) -> dict[str, LdapConfig]:
    found = {name: _directory(source, name, development=development) for name in source.names("directory")}
    return {name: config for name, config in found.items() if config is not None}


def _directory(source: SettingsReader, name: str, *, development: bool) -> LdapConfig | None:
    here = ("directory", name)
    kind = source.get((*here, "type"), str)
    if kind not in PROVIDERS:
        source.refuse((*here, "type"), "must be one of " + ", ".join(PROVIDERS))
    kinds = get_type_hints(LdapConfig)
    before = len(source.problems)
    given = {
        one.name: source.get((*here, one.name), kinds[one.name]) for one in fields(LdapConfig) if one.name != "name"
    }
    password_file = source.get((*here, "bind_password_file"), Path)
    given = {key: value for key, value in given.items() if value is not None}
    if kind not in PROVIDERS:
        return None
    if password_file is not None and "bind_password" not in given:
        given["bind_password"] = _password(source, (*here, "bind_password_file"), password_file)
    if given.get("insecure_skip_tls_verify") and not development:
        source.refuse((*here, "insecure_skip_tls_verify"), "remove it and set ca_file; it is for development only")
    for one in fields(LdapConfig):
        if one.default is MISSING and one.name not in given and one.name != "name":
            source.refuse((*here, one.name), f"is missing: {DIRECTORY_SETTINGS[one.name]}")
    if len(source.problems) > before:
        return None
    try:
        return LdapConfig(name=name, **given)
    except ValueError as error:
        key, sentence = _split_config_error(str(error))
        source.refuse((*here, key) if key else here, sentence)
        return None


def _split_config_error(message: str) -> tuple[str, str]:
    """Return which setting a config class complains about, and the rest of its sentence."""
    sentence = message.rpartition("': ")[2] if message.startswith("directory ") else message
    key, colon, rest = sentence.partition(": ")
    return (key, rest) if colon and key in DIRECTORY_SETTINGS else ("", sentence)


def _password(source: SettingsReader, path: tuple[str, ...], file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        source.refuse(path, f"{file} cannot be read: {error}")
        return ""


# --- what is refused --------------------------------------------------------------------------------------------------


def _check_values(values: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield each checked setting's path and the remedy, empty where nothing is wrong."""
    yield ("server", "bind"), _bind_remedy(values["bind"])
    yield ("server", "public_url"), _public_url_remedy(values)
    skew_fits = 0 <= values["saml_clock_skew"] <= _MOST_SKEW
    yield ("saml", "clock_skew"), "" if skew_fits else f"must be 0 to {_MOST_SKEW}"
    skew_fits = 0 <= values["web_identity_clock_skew"] <= _MOST_SKEW
    yield ("web_identity", "clock_skew"), "" if skew_fits else f"must be 0 to {_MOST_SKEW}"
    yield ("token_exchange", "clients"), _clients_remedy(values["token_exchange_clients"])
    nobody = values["token_exchange_registered_only"] and not values["token_exchange_clients"]
    yield ("token_exchange", "registered_only"), "nobody could exchange: set token_exchange.clients" if nobody else ""
    yield ("outbound", "allowed_networks"), _networks_remedy(values["outbound_allowed_networks"])
    yield ("outbound", "ca_file"), _ca_remedy(values["outbound_ca_file"])
    idle, lifetime = values["pages_idle"], values["pages_lifetime"]
    yield ("pages", "idle"), "" if idle >= _LEAST_IDLE else f"must be at least {_LEAST_IDLE}"
    yield ("pages", "lifetime"), "" if idle <= lifetime <= _DAY else f"must be at least pages.idle, at most {_DAY}"
    yield ("pages", "recheck"), "" if values["pages_recheck"] >= 0 else "must not be below zero"
    yield ("pages", "organisation"), "" if values["pages_organisation"].strip() else "must be a name, or left out"
    yield ("pages", "logo_file"), logo_remedy(values["pages_logo_file"])
    yield ("pages", "colours"), colours_remedy(values["pages_colours"])
    yield ("pages", "realms"), _realms_remedy(values["pages_realms"])
    for name in ("help_url", "status_url", "privacy_url"):
        yield ("pages", name), link_remedy(values[f"pages_{name}"])
    yield ("server", "workers"), "" if 1 <= values["workers"] <= _MOST_WORKERS else f"must be 1 to {_MOST_WORKERS}"
    yield ("server", "worker_connections"), "" if values["worker_connections"] > 0 else "must be above zero"
    yield ("server", "trusted_proxies"), _proxies_remedy(values["trusted_proxies"], development=values["development"])
    yield ("database", "url"), _database_remedy(values["database_url"])
    yield ("redis", "url"), _redis_remedy(values["redis_url"])
    yield ("audit", "sync"), "" if values["audit_sync"] in {"group", "always"} else 'must be "group" or "always"'
    yield ("audit", "flush_ms"), "" if 10 <= values["audit_flush_ms"] <= 10_000 else "must be 10 to 10000"  # noqa: PLR2004 - both said in the sentence


def _bind_remedy(bind: str) -> str:
    host, colon, port = bind.rpartition(":")
    right = colon and host and port.isascii() and port.isdigit() and int(port) < 2**16
    return "" if right else 'must be "HOST:PORT", such as "127.0.0.1:8080"'


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _public_url_remedy(values: Mapping[str, Any]) -> str:
    url = urlsplit(values["public_url"])
    hosts = [values["bind"].rpartition(":")[0]]
    if values["public_url"]:
        if url.scheme not in {"http", "https"} or not url.hostname or url.query or url.fragment or url.username:
            return "must be http://HOST or https://HOST, with a port or a path at most"
        hosts.append(url.hostname)
    if values["development"] or url.scheme == "https" or all(not host or _is_local(host) for host in hosts):
        return ""
    return "passwords and keys would cross the network in clear: set the https:// address of the proxy in front of bind"


def _clients_remedy(entries: tuple[str, ...]) -> str:
    for number, entry in enumerate(entries, 1):
        if not ENTRY.fullmatch(entry) or entry.endswith(
            _DIGEST_OF_NOTHING
        ):  # which is not repeated: it may be the secret itself
            return f"client {number} must be NAME:DIGEST, with the SHA-256 of a secret in 64 hexadecimal digits"
    return ""


def _networks_remedy(networks: tuple[str, ...]) -> str:
    for text in networks:
        try:
            ip_network(text)
        except ValueError:
            return f"{text} is not a network such as 10.0.0.0/8"
    return ""


def _ca_remedy(file: str) -> str:
    if not file:
        return ""
    try:
        ssl.create_default_context(cafile=file)
    except OSError as error:  # ssl.SSLError is one
        return f"{file} cannot be read: {error.strerror or error}"
    return ""


def _realms_remedy(realms: tuple[str, ...]) -> str:
    domains = [text.partition("=")[0].casefold() for text in realms]
    for text in realms:
        if not _REALM.fullmatch(text):
            return f"{text} is not DOMAIN=ARN, such as partner.example=arn:aws:iam::111122223333:saml-provider/Partner"
    twice = next((domain for domain in domains if domains.count(domain) > 1), "")
    return f"{twice} is named twice: the people of a domain have one provider" if twice else ""


def _second_factor_remedy(whose: tuple[str, ...], directories: Container[str]) -> str:
    """Return what is wrong with a name: whoever mistypes one would believe that its people are asked."""
    for text in whose:
        if text != "iam" and text not in directories and not _PROVIDER.fullmatch(text):
            return f'{text} is no directory of these settings, no ARN of a provider, and not "iam"'
    return ""


def _as_browsers_write(url: str) -> str:
    """Return an address with scheme and host in small letters, and without the port that its scheme has anyway."""
    parts = urlsplit(url)
    scheme, host = parts.scheme.lower(), parts.netloc.lower()
    usual = {"https": ":443", "http": ":80"}.get(scheme, ":")
    return url and f"{scheme}://{host.removesuffix(usual)}{parts.path}"


def _proxies_remedy(networks: tuple[str, ...], *, development: bool) -> str:
    for text in networks:
        try:
            network = ip_network(text)
        except ValueError:
            return f"{text} is not a network such as 10.0.0.0/8"
        if network.prefixlen == 0 and not development:
            return f"{text} lets anybody claim any address: name the networks of your proxies"
    return ""


class _UnsupportedScheme(NamedTuple):
    schemes: tuple[str, ...]
    remedy: str


_DATABASES: Final = ("sqlite", "postgresql+psycopg")


def _database_remedy(url: str) -> str:
    scheme, colon, rest = url.partition("://")
    if not colon or scheme not in _DATABASES:
        return "must be sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
    if scheme == "sqlite" and not rest.lstrip("/"):
        return "must name a file: sqlite:////var/lib/fedgate/fedgate.db"
    if any(option.startswith("ssl") for option in parse_qs(urlsplit(url).query)):
        return "TLS options for PostgreSQL are not built yet: use a unix socket or a private network"
    return ""


_UNSUPPORTED: Final = (
    _UnsupportedScheme(("rediss",), "TLS to Redis is not built yet: use unix://, or redis:// on a private network"),
    _UnsupportedScheme(
        ("sentinel", "redis+sentinel", "redis-sentinel"),
        "Redis Sentinel is not built yet: name one server with redis://",
    ),
    _UnsupportedScheme(
        ("cluster", "redis+cluster", "redis-cluster"), "Redis Cluster is not built yet: name one server with redis://"
    ),
)


def _redis_remedy(url: str) -> str:
    if not url:
        return ""
    parts = urlsplit(url)
    for refused in _UNSUPPORTED:
        if parts.scheme in refused.schemes:
            return refused.remedy
    right = (parts.scheme == "redis" and parts.hostname) or (parts.scheme == "unix" and parts.path)
    return "" if right else "must be redis://HOST:PORT/DB, unix://PATH, or empty for the embedded server"


# --- descriptions -----------------------------------------------------------------------------------------------------


class SettingDescription(NamedTuple):
    """One setting as its reference page lists it."""

    section: str
    key: str
    variable: str
    default: str
    description: str


def describe_settings() -> Iterator[SettingDescription]:
    """Yield every setting; ``NAME`` stands for a directory's own name."""
    for one in fields(Settings):
        if one.metadata:
            section, key = _path(one.name, one.metadata["section"])
            shown = one.metadata["shown"] or _toml(one.metadata["default"])
            yield SettingDescription(section, key, variable_of((section, key)), shown, one.metadata["description"])
    for limit in fields(Limits):
        words = limit.name.replace("_", " ")
        variable = variable_of(("limits", limit.name))
        yield SettingDescription("limits", limit.name, variable, str(limit.default), f"Quota: {words}.")
    defaults = {one.name: one.default for one in fields(LdapConfig)}
    for key, description in DIRECTORY_SETTINGS.items():
        default = defaults.get(key, "")
        path = ("directory", "NAME", key)
        yield SettingDescription(
            "directory.NAME", key, variable_of(path), "" if default is MISSING else _toml(default), description
        )


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    return str(value) if isinstance(value, int | float) else f'"{value}"'
