"""Request and response of the API, independent of any framework."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request as received.

    ``path`` and ``query`` are still percent-encoded; ``headers`` has (lower-case name, value) in order of arrival;
    ``source_ip`` is the peer, or the client that a trusted proxy names; ``secure`` is true for TLS; ``client`` is the
    registered client of token exchange that sent it, if any.
    """

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    source_ip: str
    secure: bool = False
    client: str = ""

    def header(self, name: str) -> str | None:
        """Return the first value of a header (name in lower case), or None."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A response: status, headers (name, value) and body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = field(repr=False)
