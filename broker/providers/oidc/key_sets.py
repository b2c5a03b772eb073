"""The keys of issuers, fetched and kept: one fetch at a time for each issuer, and no more than one in an interval.

A key that the issuer takes away is refused within five minutes; an issuer that is away is believed by its last good
keys for an hour (THREATS C25 to C28, I10). Whoever brings random key ids costs the issuer nothing.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from broker.providers.oidc.keys import InvalidJwks, VerificationKey, parse_jwks
from broker.providers.oidc.token import UnverifiedToken, verify_signature
from broker.runtime.fetch import Fetcher, FetchError
from iam.errors import IDPCommunicationError, InvalidIdentityToken
from iam.policy.strict_json import Number, load

_FRESH, _STALE = 300.0, 3600.0  # seconds: how long keys are taken as they are, and how long where the issuer is away
_WAIT = 12.0  # seconds for who waits for another's fetch, which takes two documents
_INTERVAL = 30.0  # seconds between two fetches, whatever comes
_NEVER = float("-inf")
_DISCOVERY = "/.well-known/openid-configuration"
NO_KEY = (
    "Couldn't retrieve verification key from your identity provider,"
    " please reference AssumeRoleWithWebIdentity documentation for requirements"
)


@dataclass(slots=True)
class _CachedJwks:
    """What is known of one issuer; times are of the monotonic clock."""

    keys: tuple[VerificationKey, ...] = ()
    about: Mapping[str, object] = field(default_factory=dict)
    fetched: float = _NEVER
    tried: float = _NEVER
    wrong: str = "never fetched"
    turn: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True, slots=True)
class JwksStatus:
    """What this process knows of an issuer: how many keys, since how many seconds, and what went wrong at last."""

    keys: int
    age: float | None
    wrong: str


class JwksCache:
    """Gives the keys of issuers, named by their addresses; ``elsewhere`` has other places for their documents."""

    def __init__(
        self, fetcher: Fetcher, *, monotonic: Callable[[], float], url_overrides: dict[str, str] | None = None
    ) -> None:
        self._fetcher = fetcher
        self._monotonic = monotonic
        self._elsewhere = url_overrides or {}
        self._kept: dict[str, _CachedJwks] = {}
        self._guard = threading.Lock()

    def keys(self, issuer: str) -> tuple[VerificationKey, ...]:
        """Return the keys of an issuer; raise IDPCommunicationError where there are none that may be believed.

        While somebody fetches them anew, those that are there still serve; only who has none waits.
        """
        kept = self._of(issuer)
        if self._age(kept) > _FRESH:
            self._refresh(issuer, kept, lambda: self._age(kept) > _FRESH, wait=self._age(kept) > _STALE)
        if self._age(kept) > _STALE:
            raise IDPCommunicationError(NO_KEY, log=f"{issuer[:200]}: {kept.wrong}")
        return kept.keys

    def refetch(self, issuer: str, known: tuple[VerificationKey, ...]) -> tuple[VerificationKey, ...]:
        """Return the keys of an issuer, fetched again if these are what is known and the interval is over."""
        kept = self._of(issuer)
        if kept.keys == known:
            self._refresh(issuer, kept, lambda: kept.keys == known, wait=True)
        return kept.keys

    def verify(self, token: UnverifiedToken, issuer: str) -> None:
        """Raise InvalidIdentityToken where no key of the issuer has signed the token.

        A key id that is not known may be that of a new key: the set is fetched again, at most once in an interval.
        """
        keys = self.keys(issuer)
        if not verify_signature(token, keys) and not verify_signature(token, self.refetch(issuer, keys)):
            raise InvalidIdentityToken(NO_KEY, log=f"kid {token.kid!s:.100}")

    def discovery_document(self, issuer: str) -> Mapping[str, object]:
        """Return what the issuer's discovery document says; raise IDPCommunicationError."""
        self.keys(issuer)
        return self._of(issuer).about

    def status(self, issuer: str) -> JwksStatus | None:
        """Return what is known of an issuer without asking it; None where nobody has asked it yet."""
        kept = self._kept.get(issuer)
        if kept is None or kept.tried == _NEVER:
            return None
        return JwksStatus(len(kept.keys), None if kept.fetched == _NEVER else self._age(kept), kept.wrong)

    def _of(self, issuer: str) -> _CachedJwks:
        with self._guard:
            return self._kept.setdefault(issuer, _CachedJwks())

    def _age(self, kept: _CachedJwks) -> float:
        return self._monotonic() - kept.fetched

    def _refresh(self, issuer: str, kept: _CachedJwks, wanted: Callable[[], bool], *, wait: bool) -> None:
        """Fetch, unless somebody else did while this one waited, or somebody tried a moment ago."""
        if self._monotonic() - kept.tried < _INTERVAL and not kept.turn.locked():
            return
        if not (kept.turn.acquire(timeout=_WAIT) if wait else kept.turn.acquire(blocking=False)):
            return
        try:
            now = self._monotonic()
            if not wanted() or now - kept.tried < _INTERVAL:
                return
            kept.tried = now
            try:
                about, keys = self._fetch(issuer)
            except (FetchError, InvalidJwks) as error:
                kept.wrong = str(error)
                return
            # What the issuer says counts, also where it says that no key may sign any more.
            kept.keys, kept.about, kept.fetched = keys, about, self._monotonic()
            kept.wrong = ""
        finally:
            kept.turn.release()

    def _fetch(self, issuer: str) -> tuple[Mapping[str, object], tuple[VerificationKey, ...]]:
        place = self._elsewhere.get(issuer, issuer)
        about = _object(self._fetcher.get(place.rstrip("/") + _DISCOVERY))
        if about.get("issuer") != issuer:  # OpenID Connect Discovery, section 4.3
            raise InvalidJwks(f"the discovery document is of another issuer: {about.get('issuer')!s:.200}")
        address = about.get("jwks_uri")
        if not isinstance(address, str) or isinstance(address, Number):
            raise InvalidJwks("the discovery document has no jwks_uri")
        keys = parse_jwks(_text(self._fetcher.get(address)))
        return about, keys


def _object(data: bytes) -> dict[str, object]:
    try:
        found = load(_text(data))
    except (ValueError, RecursionError) as error:
        raise InvalidJwks("the discovery document is not JSON") from error
    if not isinstance(found, dict):
        raise InvalidJwks("the discovery document is no JSON object")
    return found


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidJwks("it is not UTF-8") from error
