"""The signed metadata of our service providers, signed once an hour at most for each, however often it is asked for.

Anybody may fetch it, and a signature takes some ten milliseconds of a worker.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from broker.providers.saml import messages
from broker.providers.saml.addresses import ServiceProviderUrls
from broker.providers.saml.messages import SigningKey
from iam.clock import to_seconds

_KEPT = 1000  # documents; each has some 8 KB
_SECONDS = 3600  # for which a document is served; it is valid for much longer

_Wanted = tuple[ServiceProviderUrls, tuple[str, ...], int]


@dataclass(frozen=True, slots=True)
class SignedMetadata:
    """Keeps the documents of one worker."""

    _documents: dict[_Wanted, bytes] = field(default_factory=dict)

    def document(self, urls: ServiceProviderUrls, key: SigningKey, certificates: Sequence[str], now: datetime) -> bytes:
        """Return the signed metadata of a service provider, made within the last hour with these certificates."""
        wanted = urls, tuple(certificates), to_seconds(now) // _SECONDS
        document = self._documents.get(wanted)
        if document is None:
            document = messages.metadata(urls, key, certificates, now)
            if len(self._documents) >= _KEPT:
                self._documents.clear()
            self._documents[wanted] = document
        return document
