"""The keys of issuers, fetched and cached: one fetch at a time for each issuer, and at most one in an interval.

A key that the issuer removes is refused within five minutes; while an issuer cannot be reached, its last keys are used
for an hour (THREATS C25 to C28, I10). Tokens with random key ids make no more fetches than that.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from broker.providers.oidc.keys import InvalidJwks, VerificationKey, VerificationKeys, parse_jwks
from broker.providers.oidc.token import UnverifiedToken, verify_signature
from broker.runtime.fetch import FetchBusy, Fetcher, FetchError
from iam.errors import IDPCommunicationError, InvalidIdentityToken
from iam.policy.strict_json import Number, load

log = logging.getLogger(__name__)

_FRESH, _STALE = 300.0, 3600.0  # seconds for which keys are used, and for which where the issuer cannot be reached
_MAX_WAIT = 12.0  # seconds to wait for the fetch of another thread: two documents of at most five seconds each
_INTERVAL = 30.0  # seconds between two fetches, whatever tokens come
_MAX_UNUSED = 500  # characters of the reasons why keys are not used, in one record
_NEVER = float("-inf")
_MAX_DOCUMENT = 200_000  # bytes; issuers have some 20 KB, and an account chooses whose documents every worker reads
MOST_ISSUERS = 500  # whose documents are kept: accounts can create and delete providers without end
_DISCOVERY = "/.well-known/openid-configuration"
NO_KEY = (
    "Couldn't retrieve verification key from your identity provider,"
    " please reference AssumeRoleWithWebIdentity documentation for requirements"
)


_Fetch = Callable[[], tuple[Mapping[str, object], VerificationKeys]]


@dataclass(slots=True)
class _CachedJwks:
    """The documents of one issuer; times are of the monotonic clock. ``lock`` is held during a fetch."""

    found: VerificationKeys = field(default_factory=VerificationKeys)
    discovery_document: Mapping[str, object] = field(default_factory=dict)
    fetched: float = _NEVER
    tried: float = _NEVER
    error: str = "never fetched"
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def keys(self) -> tuple[VerificationKey, ...]:
        return self.found.usable


@dataclass(frozen=True, slots=True)
class JwksStatus:
    """What this process knows of an issuer: how many keys, fetched how many seconds ago, and the last error, if any.

    ``dropped`` are the keys of its set that are not used, each with the reason.
    """

    keys: int
    age: float | None
    wrong: str
    dropped: tuple[str, ...] = ()


class JwksCache:
    """Gives the keys of issuers by URL; ``url_overrides`` has other places for the documents of some.

    ``account_id`` is on whose behalf keys are fetched, should they be: they are kept for all accounts.
    """

    def __init__(
        self, fetcher: Fetcher, *, monotonic: Callable[[], float], url_overrides: dict[str, str] | None = None
    ) -> None:
        self._fetcher = fetcher
        self._monotonic = monotonic
        self._url_overrides = url_overrides or {}
        self._entries: dict[str, _CachedJwks] = {}
        self._entries_lock = threading.Lock()

    def keys(self, issuer: str, account_id: str = "") -> tuple[VerificationKey, ...]:
        """Return the keys of an issuer; raise IDPCommunicationError where there are none, or only old ones.

        While another thread fetches, the cached keys are used; a thread waits only where there are none.
        """
        return self.key_set(issuer, account_id).usable

    def key_set(self, issuer: str, account_id: str = "") -> VerificationKeys:
        """Return the keys as ``keys`` does, with those that are not used and why."""
        entry, fetch = self._entry(issuer), partial(self._fetch, issuer, account_id)
        if self._age(entry) > _FRESH:
            self._refresh(entry, fetch, lambda: self._age(entry) > _FRESH, wait=self._age(entry) > _STALE)
        if self._age(entry) > _STALE:
            raise IDPCommunicationError(NO_KEY, log=f"{issuer[:200]}: {entry.error}")
        return entry.found

    def refetch(
        self, issuer: str, known: tuple[VerificationKey, ...], account_id: str = ""
    ) -> tuple[VerificationKey, ...]:
        """Return the keys of an issuer, fetched again if ``known`` are the cached ones and the interval is over."""
        entry = self._entry(issuer)
        if entry.keys == known:
            fetch = partial(self._fetch, issuer, account_id)
            self._refresh(entry, fetch, lambda: entry.keys == known, wait=True)
        return entry.keys

    def verify(self, token: UnverifiedToken, issuer: str, account_id: str = "") -> None:
        """Raise InvalidIdentityToken where no key of the issuer has signed the token.

        A key id that is not known may be that of a new key: the set is fetched again, at most once in an interval.
        """
        keys = self.keys(issuer, account_id)
        if not verify_signature(token, keys) and not verify_signature(token, self.refetch(issuer, keys, account_id)):
            unused = "; ".join(map(str, self._entry(issuer).found.dropped))[:_MAX_UNUSED]
            log_text = f"kid {token.kid!s:.100}, alg {token.algorithm[:40]}"
            raise InvalidIdentityToken(NO_KEY, log=f"{log_text}; not used: {unused}" if unused else log_text)

    def discovery_document(self, issuer: str, account_id: str = "") -> Mapping[str, object]:
        """Return the issuer's discovery document; raise IDPCommunicationError."""
        self.keys(issuer, account_id)
        return self._entry(issuer).discovery_document

    def status(self, issuer: str) -> JwksStatus | None:
        """Return what is known of an issuer without a fetch; None where there was none yet."""
        entry = self._entries.get(issuer)
        if entry is None or entry.tried == _NEVER:
            return None
        age = None if entry.fetched == _NEVER else self._age(entry)
        return JwksStatus(len(entry.keys), age, entry.error, tuple(map(str, entry.found.dropped)))

    def _entry(self, issuer: str) -> _CachedJwks:
        with self._entries_lock:
            entry = self._entries.pop(issuer, None) or _CachedJwks()
            self._entries[issuer] = entry  # the last one used is the last one to be dropped
            if len(self._entries) > MOST_ISSUERS:
                del self._entries[next(iter(self._entries))]
            return entry

    def _age(self, entry: _CachedJwks) -> float:
        return self._monotonic() - entry.fetched

    def _refresh(self, entry: _CachedJwks, fetch: _Fetch, needed: Callable[[], bool], *, wait: bool) -> None:
        """Fetch, unless another thread did while this one waited, or the last attempt is too recent."""
        if self._monotonic() - entry.tried < _INTERVAL and not entry.lock.locked():
            return
        if not (entry.lock.acquire(timeout=_MAX_WAIT) if wait else entry.lock.acquire(blocking=False)):
            return
        try:
            now = self._monotonic()
            if not needed() or now - entry.tried < _INTERVAL:
                return
            before, entry.tried = entry.tried, now
            try:
                self._update(entry, fetch)
            except FetchBusy as error:  # nobody was asked: other accounts' requests do not wait for the interval
                entry.tried, entry.error = before, str(error)
        finally:
            entry.lock.release()

    def _update(self, entry: _CachedJwks, fetch: _Fetch) -> None:
        try:
            document, found = fetch()
        except FetchBusy:
            raise
        except (FetchError, InvalidJwks) as error:
            entry.error = str(error)
            return
        for dropped in found.dropped:
            if dropped not in entry.found.dropped:  # once, and not at each fetch
                log.warning("a key of %.200s is not used: %a", document.get("issuer"), str(dropped))
        # Also where no key may sign any more: the issuer has removed them.
        entry.found, entry.discovery_document, entry.fetched = found, document, self._monotonic()
        entry.error = ""

    def _fetch(self, issuer: str, account_id: str) -> tuple[Mapping[str, object], VerificationKeys]:
        url, fetcher = self._url_overrides.get(issuer, issuer), self._fetcher.on_behalf_of(account_id)
        document = _parse_object(fetcher.get(url.rstrip("/") + _DISCOVERY))
        if document.get("issuer") != issuer:  # OpenID Connect Discovery, section 4.3: against impersonation
            raise InvalidJwks(f"the discovery document is of another issuer: {document.get('issuer')!s:.200}")
        address = document.get("jwks_uri")
        if not isinstance(address, str) or isinstance(address, Number):
            raise InvalidJwks("the discovery document has no jwks_uri")
        return document, parse_jwks(_text(fetcher.get(address)))


def _parse_object(data: bytes) -> dict[str, object]:
    """Return the members of a discovery document, without those that are null: these are absent."""
    try:
        document = load(_text(data))
    except (ValueError, RecursionError) as error:
        raise InvalidJwks("the discovery document is not JSON") from error
    if not isinstance(document, dict):
        raise InvalidJwks("the discovery document is no JSON object")
    return {name: value for name, value in document.items() if value is not None}


def _text(data: bytes) -> str:
    if len(data) > _MAX_DOCUMENT:
        raise InvalidJwks(f"it is larger than {_MAX_DOCUMENT} bytes")
    try:
        return data.decode("utf-8-sig")  # a byte order mark may be ignored: RFC 8259, section 8.1
    except UnicodeDecodeError as error:
        raise InvalidJwks("it is not UTF-8") from error
