"""What accounts can make every worker read and keep of issuers: documents of limited size, of limited number."""

import json
from dataclasses import dataclass, field, replace

import pytest
from support.oidc_issuer import jwk

from broker.providers.oidc import key_sets
from broker.providers.oidc.key_sets import JwksCache
from broker.runtime.fetch import FetchBusy
from iam.errors import IDPCommunicationError

BUSY = "111122223333"  # an account on whose behalf nothing can be fetched now
KEYS = json.dumps({"keys": [jwk("ES256", "k1")]})


@dataclass
class Documents:
    """Every issuer there is, with the same keys."""

    padding: str = ""
    asked: list[str] = field(default_factory=list)
    account_id: str = ""

    def on_behalf_of(self, account_id: str) -> "Documents":
        return replace(self, account_id=account_id)

    def get(self, url: str, **_headers: str) -> bytes:
        if self.account_id == BUSY:
            raise FetchBusy("too many names are being looked up for this account")
        self.asked.append(url)
        issuer, found, _ = url.partition("/.well-known/")
        if not found:
            return (KEYS + self.padding).encode()
        return json.dumps({"issuer": issuer, "jwks_uri": f"{issuer}/keys"}).encode()


def test_a_document_that_is_too_large_is_not_parsed():
    with pytest.raises(IDPCommunicationError) as refused:
        JwksCache(Documents(padding=" " * 200_000), monotonic=lambda: 0.0).keys("https://large.example")
    assert "larger than 200000 bytes" in refused.value.log


def test_of_more_issuers_than_are_kept_the_one_that_was_used_last_is_kept_longest():
    documents = Documents()
    cache = JwksCache(documents, monotonic=lambda: 0.0)
    for number in range(key_sets.MOST_ISSUERS):
        cache.keys(f"https://i{number}.example")
    cache.keys("https://i0.example")
    cache.keys("https://new.example")
    assert cache.status("https://i1.example") is None
    assert cache.status("https://i0.example").keys == 1
    assert documents.asked.count("https://i0.example/keys") == 1


def test_an_account_for_which_too_much_is_fetched_keeps_nobody_else_from_the_keys_of_an_issuer():
    documents = Documents()
    cache = JwksCache(documents, monotonic=lambda: 0.0)
    for _ in range(3):
        with pytest.raises(IDPCommunicationError) as refused:
            cache.keys("https://shared.example", BUSY)
        assert "too many names" in refused.value.log
    assert len(cache.keys("https://shared.example", "444455556666")) == 1  # at once: no interval has begun
    assert len(cache.keys("https://shared.example", BUSY)) == 1
