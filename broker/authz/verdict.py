"""What a proxy is told of a request that may pass: the principal, and the signature for the store behind.

Pure.
"""

from typing import Final
from urllib.parse import quote, urlencode

from broker.authz.resign import Resigned
from broker.authz.resource import ResourceKind
from broker.authz.service_state import ServiceState
from iam.principal import PrincipalKind

_ENVOY_REMOVES: Final = "x-envoy-auth-headers-to-remove"
Headers = tuple[tuple[str, str], ...]

# Printable ASCII but for the percent sign, which begins what is encoded.
_PLAIN: Final = "".join(map(chr, range(0x21, 0x7F))).replace("%", "")


def passed_headers(state: ServiceState) -> Headers:
    """Return the headers of the answer for a request that may pass.

    All are always there, empty where nothing is to say: a proxy that copies them replaces what the client sent by
    these names.
    """
    caller = state.signer
    grant = caller.session.grant if caller.session else None
    known = caller.principal.kind is not PrincipalKind.ANONYMOUS
    return (
        ("X-Fedgate-Principal", _encode(caller.principal.arn if known else "")),
        ("X-Fedgate-Account", caller.principal.account_id),
        ("X-Fedgate-Session", caller.session.id if caller.session else ""),
        ("X-Fedgate-Source-Identity", _encode((grant.source_identity if grant else None) or "")),
        ("X-Fedgate-Tags", urlencode(caller.tags)),
        ("X-Fedgate-Content-Sha256", _declared(state)),
        ("X-Fedgate-Request-Id", state.id),
        *_for_store(state.resigned),
    )


def _for_store(resigned: Resigned | None) -> Headers:
    """Return the headers that replace the client's before the request goes to a store, and the URI to forward.

    Envoy removes the headers that the first of them lists; other proxies have the list in their configuration.
    """
    if resigned is None:
        return ()
    return (
        (_ENVOY_REMOVES, ",".join(resigned.strip)),
        ("X-Fedgate-Uri", resigned.uri),
        *resigned.headers,
    )


def _declared(state: ServiceState) -> str:
    """Return the hash of the body that the signature covers, for services whose own protocol does not carry it."""
    return state.payload_hash if state.resource and state.resource.kind is ResourceKind.HTTP else ""


def _encode(text: str) -> str:
    return quote(text, safe=_PLAIN)
