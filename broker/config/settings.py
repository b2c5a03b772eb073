"""Every setting with its type, default, description and rule, and how all of them are read.

Settings come from one TOML file and from the environment, which wins; they are read once, when a process starts.
"""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final
from urllib.parse import quote, urlsplit

from broker.authz.resource import Resource
from broker.config import checks
from broker.config.directories import read_directories
from broker.config.master_key import MASTER_KEY_VARIABLE, read_master_key
from broker.config.resources import authz_bind, read_authz_secret, read_resources
from broker.config.setting import Setting, declared_settings
from broker.config.source import Problem, SettingsError, SettingsReader
from broker.config.text_file import NotText, decode_text
from broker.providers.ldap.config import LdapConfig
from iam.limits import Limits

__all__ = ["Settings", "SettingsError", "embedded_socket"]

CONFIG_VARIABLE: Final = "FEDGATE_CONFIG"
# Known variables that are no settings: read by the launcher's worker processes and by `fedgate login`.
_OTHER_VARIABLES: Final = (
    CONFIG_VARIABLE,
    MASTER_KEY_VARIABLE,
    "FEDGATE_PASSWORD",
    "FEDGATE_TOKEN_CODE",
    "FEDGATE_ENDPOINT",
)
# sockaddr_un has 108 bytes with the final zero; Redis adds a suffix of its own while it starts.
_MAX_SOCKET_PATH: Final = 90
_DEFAULT_PORTS: Final = {"https": ":443", "http": ":80"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that an operator can set. Paths are absolute; ``redis_url`` is never empty."""

    bind: Annotated[
        str,
        Setting(
            "server",
            "Address and port to listen on; port 0 takes a free one.",
            default="127.0.0.1:8080",
            check=checks.host_and_port,
        ),
    ]
    public_url: Annotated[
        str,
        Setting(
            "server",
            "The address that clients use, without a slash at the end; https:// beyond this machine.",
            default="",
            default_text="http:// and bind",
            check_with=checks.public_url,
        ),
    ]
    workers: Annotated[
        int, Setting("server", "Number of worker processes; one for each core.", default=2, check=checks.between(1, 64))
    ]
    worker_connections: Annotated[
        int,
        Setting(
            "server", "Number of requests that one worker serves at the same time.", default=1000, check=checks.positive
        ),
    ]
    trusted_proxies: Annotated[
        tuple[str, ...],
        Setting(
            "server",
            "Networks (CIDR) of the proxies that are believed about a client's address and TLS.",
            default=(),
            check=checks.networks,
            check_with=checks.not_everybody,
        ),
    ]
    forwarded_headers: Annotated[
        str,
        Setting(
            "server",
            'Which headers of trusted_proxies are read: "x-forwarded" (X-Forwarded-For and -Proto) or "forwarded"'
            " (RFC 7239); the other family is ignored.",
            default="x-forwarded",
            check=checks.one_of("x-forwarded", "forwarded"),
        ),
    ]
    body_memory: Annotated[
        int,
        Setting(
            "server",
            "Megabytes of request bodies above 32 KB that one worker holds at the same time; half of it is for callers"
            " who name an access key. What does not fit is answered 503.",
            default=64,
            check=checks.between(20, 100_000),
        ),
    ]
    allow_password_in_query: Annotated[
        bool,
        Setting(
            "server", "Accept LDAPPassword in the query string of a POST, as some MinIO clients send it.", default=False
        ),
    ]
    regions: Annotated[
        tuple[str, ...], Setting("server", "Regions that a signature may name.", default=(), default_text="any")
    ]
    development: Annotated[
        bool, Setting("server", "Allow what is unsafe outside a trial: plain http, unverified TLS.", default=False)
    ]
    data_dir: Annotated[
        Path,
        Setting("data", "Folder of the database, keys, audit log and embedded Redis.", default=Path("fedgate-data")),
    ]
    database_url: Annotated[
        str,
        Setting(
            "database",
            "sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME.",
            default=lambda folder: f"sqlite:///{folder / 'fedgate.db'}",
            default_text="sqlite:///DATA/fedgate.db",
            check=checks.database_url,
        ),
    ] = field(repr=False)
    redis_url: Annotated[
        str,
        Setting(
            "redis",
            "redis://:PASSWORD@HOST:PORT/DB or unix://PATH; empty starts an embedded server. Only a server on this"
            " machine may be without a password.",
            default="",
            default_text="embedded",
            check=checks.redis_url,
        ),
    ] = field(repr=False)
    master_key_file: Annotated[
        Path,
        Setting(
            "keys",
            "File with the key that seals secrets at rest (base64, 32 bytes, mode 600).",
            default=lambda folder: folder / "keys" / "master.key",
            default_text="DATA/keys/master.key",
        ),
    ]
    audit_dir: Annotated[
        Path,
        Setting(
            "audit", "Folder of the audit log.", default=lambda folder: folder / "audit", default_text="DATA/audit"
        ),
    ]
    audit_sync: Annotated[
        str,
        Setting(
            "audit",
            'When records reach the disk: "group" every flush_ms, "always" one by one.',
            default="group",
            check=checks.one_of("group", "always"),
        ),
    ]
    audit_flush_ms: Annotated[
        int,
        Setting(
            "audit",
            "Milliseconds between two flushes; a power cut can lose the records of that time.",
            default=200,
            check=checks.between(10, 10_000),
        ),
    ]
    audit_segment_megabytes: Annotated[
        int,
        Setting(
            "audit",
            "Megabytes at which a file of the log is sealed and the next one begins.",
            default=256,
            check=checks.between(1, 100_000),
        ),
    ]
    audit_strangers_per_minute: Annotated[
        int,
        Setting(
            "audit",
            "Refusals of unknown callers that get a record of their own, for each worker; all others of a minute share"
            " one record, RefusedRequests.",
            default=300,
            check=checks.between(1, 1_000_000),
        ),
    ]
    saml_clock_skew: Annotated[
        int,
        Setting(
            "saml",
            "Seconds by which the clock of an identity provider may differ from ours, up to 300.",
            default=60,
            check=checks.between(0, 300),
        ),
    ]
    web_identity_clock_skew: Annotated[
        int,
        Setting(
            "web_identity",
            "Seconds by which the clock of an issuer may differ from ours, up to 300.",
            default=60,
            check=checks.between(0, 300),
        ),
    ]
    web_identity_max_age: Annotated[
        int,
        Setting(
            "web_identity",
            "Seconds since its issue (iat) for which a token is accepted, even if it is valid for longer.",
            default=86_400,
            check=checks.at_least(60),
        ),
    ]
    web_identity_contact_issuers: Annotated[
        bool,
        Setting(
            "web_identity",
            "Contact the issuer of a new OpenID Connect provider that is created without thumbprints, as AWS does.",
            default=False,
        ),
    ]
    web_identity_google_url: Annotated[
        str,
        Setting(
            "web_identity", "Base URL of Google's OpenID Connect documents.", default="https://accounts.google.com"
        ),
    ]
    web_identity_cognito_url: Annotated[
        str,
        Setting(
            "web_identity",
            "Base URL of the documents of Amazon Cognito identity pools.",
            default="https://cognito-identity.amazonaws.com",
        ),
    ]
    web_identity_amazon_url: Annotated[
        str,
        Setting(
            "web_identity",
            "Base URL at which tokens of Login with Amazon are verified.",
            default="https://api.amazon.com",
        ),
    ]
    web_identity_facebook_url: Annotated[
        str,
        Setting(
            "web_identity", "Base URL at which tokens of Facebook are verified.", default="https://graph.facebook.com"
        ),
    ]
    web_identity_github_url: Annotated[
        str, Setting("web_identity", "Base URL at which people sign in to GitHub.", default="https://github.com")
    ]
    web_identity_github_api_url: Annotated[
        str, Setting("web_identity", "Base URL of GitHub's API.", default="https://api.github.com")
    ]
    token_exchange_clients: Annotated[
        tuple[str, ...],
        Setting(
            "token_exchange",
            "Clients with a secret, each as NAME:SHA256-OF-THE-SECRET in hexadecimal.",
            default=(),
            check=checks.exchange_clients,
        ),
    ]
    token_exchange_registered_only: Annotated[
        bool,
        Setting(
            "token_exchange",
            "Let only these clients exchange tokens.",
            default=False,
            check_with=checks.registered_clients_exist,
        ),
    ]
    outbound_allowed_networks: Annotated[
        tuple[str, ...],
        Setting(
            "outbound",
            "Private networks (CIDR) from which documents such as SAML metadata may be fetched.",
            default=(),
            check=checks.networks,
        ),
    ]
    outbound_ca_file: Annotated[
        str,
        Setting(
            "outbound",
            "PEM file of the authorities to trust when fetching; empty trusts the system's.",
            default="",
            check=checks.ca_file,
        ),
    ]
    pages_idle: Annotated[
        int,
        Setting(
            "pages",
            "Seconds without a request after which a browser session ends.",
            default=3600,
            check=checks.at_least(60),
        ),
    ]
    pages_lifetime: Annotated[
        int,
        Setting(
            "pages",
            "Seconds after which a browser session ends in any case.",
            default=43_200,
            check_with=checks.session_lifetime,
        ),
    ]
    pages_recheck: Annotated[
        int,
        Setting(
            "pages",
            "Seconds after which the directory is asked again about a signed-in person; for credentials it always is.",
            default=300,
            check=checks.not_negative,
        ),
    ]
    pages_organisation: Annotated[
        str,
        Setting(
            "pages", "Name of your organisation, shown above every page.", default="Fedgate", check=checks.not_blank
        ),
    ]
    pages_logo_file: Annotated[
        str,
        Setting(
            "pages",
            "SVG, PNG or WebP file shown beside the name; empty shows none.",
            default="",
            check=checks.logo_file,
        ),
    ]
    pages_colours: Annotated[
        tuple[str, ...],
        Setting(
            "pages",
            "Colours, each as NAME=#LIGHT or NAME=#LIGHT/#DARK; names: " + ", ".join(checks.COLOUR_NAMES) + ".",
            default=(),
            check=checks.colours,
        ),
    ]
    pages_help_url: Annotated[
        str, Setting("pages", "URL at which people get help; linked below every page.", default="", check=checks.link)
    ]
    pages_status_url: Annotated[str, Setting("pages", "URL of your status page.", default="", check=checks.link)]
    pages_privacy_url: Annotated[str, Setting("pages", "URL of your privacy notice.", default="", check=checks.link)]
    pages_notice: Annotated[str, Setting("pages", "Text shown above the sign-in form.", default="")]
    pages_maintenance: Annotated[
        bool, Setting("pages", "Refuse all sign-ins in the browser and say why; the API keeps working.", default=False)
    ]
    pages_identifier_first: Annotated[
        bool, Setting("pages", "Ask for the user name first, and for the password on the next page.", default=False)
    ]
    pages_realms: Annotated[
        tuple[str, ...],
        Setting(
            "pages",
            "Identity providers of user name domains, each as DOMAIN=ARN of a SAML or OpenID Connect provider.",
            default=(),
            check=checks.realms,
        ),
    ]
    pages_second_factor: Annotated[
        tuple[str, ...],
        Setting(
            "pages",
            "Providers whose people must use a second factor, on the pages, at the STS and at /oauth2/token: directory"
            ' names and provider ARNs; "iam" is for IAM users on the pages.',
            default=(),
            check_with=checks.second_factor,
        ),
    ]
    pages_second_factor_exempt: Annotated[
        tuple[str, ...],
        Setting(
            "pages",
            "Providers whose people may take roles without it where no page asks them: at the STS, at /oauth2/token and"
            " with IdP-initiated SAML; such as one that asks for a second factor itself.",
            default=(),
            check_with=checks.second_factor_exempt,
        ),
    ]
    pages_operators: Annotated[
        tuple[str, ...],
        Setting(
            "pages",
            "Who sees all accounts, people and audit records on /admin: directory groups, each as the directory, a"
            " vertical bar and the DN; or ARNs of IAM users, roles or root users.",
            default=(),
            check_with=checks.operators,
        ),
    ]
    pages_other_roles: Annotated[
        bool,
        Setting("pages", "Show people also the roles that trust their directory but not them, and why.", default=True),
    ]
    authz_bind: Annotated[
        str,
        Setting(
            "authz",
            "HOST:PORT or unix:/PATH at which reverse proxies ask whether requests may pass; empty: nowhere.",
            default="",
            check=authz_bind,
        ),
    ]

    master_key: bytes = field(repr=False)
    redis_embedded: bool
    limits: Limits
    directories: Mapping[str, LdapConfig] = field(repr=False)
    resources: Mapping[str, Resource]
    authz_secret: str = field(repr=False)

    @classmethod
    def read(cls, config: Path | None = None, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Return the settings of a TOML file (else $FEDGATE_CONFIG, else none) and environment; raise SettingsError."""
        named = environ.get(CONFIG_VARIABLE)
        config = config or (Path(named) if named else None)
        if config is None:
            return _read_settings(SettingsReader("", "", Path.cwd(), environ), environ)
        try:
            text = decode_text(config.read_bytes())
        except OSError as error:
            raise SettingsError(Problem("settings file", str(config), f"cannot be read: {error.strerror}")) from error
        except NotText as error:
            raise SettingsError(Problem(str(config), "the file", str(error))) from error
        return _read_settings(SettingsReader(text, config.name, config.absolute().parent, environ), environ)


def embedded_socket(data_dir: Path) -> Path:
    """Return where the embedded Redis of a data folder listens: in it, or in a short private folder."""
    socket = data_dir / "redis" / "redis.sock"
    if len(os.fsencode(socket)) <= _MAX_SOCKET_PATH:
        return socket
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"fedgate-{os.getuid()}-{digest}" / "redis.sock"


# --- reading ----------------------------------------------------------------------------------------------------------


def _read_settings(source: SettingsReader, environ: Mapping[str, str]) -> Settings:
    """Return the settings; raise SettingsError with every problem."""
    values = _read_values(source)
    names = source.names("directory")
    directories = read_directories(source, names, development=values["development"])
    limits = _read_limits(source)
    resources = read_resources(source, source.names("resource"))
    authz_secret = read_authz_secret(source, values["authz_bind"])
    _check_values(source, {**values, "directory_names": names})
    source.report_unknown(*_OTHER_VARIABLES)
    master_key = b""
    if not source.problems:
        master_key = read_master_key(source, values["master_key_file"], environ.get(MASTER_KEY_VARIABLE))
    if source.problems:
        raise SettingsError(*source.problems)
    return Settings(
        **values | _completed(values),
        master_key=master_key,
        redis_embedded=not values["redis_url"],
        limits=limits,
        directories=MappingProxyType(directories),
        resources=MappingProxyType(resources),
        authz_secret=authz_secret,
    )


def _read_values(source: SettingsReader) -> dict[str, Any]:
    """Return the value, or the default, of each setting by field name."""
    values: dict[str, Any] = {}
    # The data folder comes first: other defaults lie in it.
    for name, path, kind, setting in sorted(declared_settings(Settings), key=lambda one: one.field != "data_dir"):
        value = source.get(path, kind)
        if value is None:
            value = setting.default_in(values.get("data_dir", Path()))
        values[name] = Path.cwd() / value if kind is Path else value
    return values


def _check_values(source: SettingsReader, values: Mapping[str, Any]) -> None:
    for name, path, _, setting in declared_settings(Settings):
        problem = setting.problem(values[name], values)
        if problem:
            source.refuse(path, problem)


def _read_limits(source: SettingsReader) -> Limits:
    values = {limit.name: source.get(("limits", limit.name), int) for limit in fields(Limits)}
    for name, value in values.items():
        if value is not None and (problem := checks.positive(value)):
            source.refuse(("limits", name), problem)
    return Limits(**{name: value for name, value in values.items() if value is not None})


def _completed(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings whose empty value stands for something that others decide."""
    socket = quote(str(embedded_socket(values["data_dir"])))
    return {
        "redis_url": values["redis_url"] or f"unix://{socket}",
        "public_url": _normalize_url(values["public_url"].rstrip("/")) or f"http://{values['bind']}",
    }


def _normalize_url(url: str) -> str:
    """Return a URL as browsers write its origin: scheme and host in lower case, without the scheme's default port."""
    parts = urlsplit(url)
    scheme, host = parts.scheme.lower(), parts.netloc.lower()
    return url and f"{scheme}://{host.removesuffix(_DEFAULT_PORTS.get(scheme, ':'))}{parts.path}"
