"""One request and one answer of the machine API, free of any framework."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request as it came over the wire.

    ``path`` and ``query`` are still percent-encoded; ``headers`` holds (lower-cased name, value) in order of arrival;
    ``source_ip`` is the peer, or the client that a trusted proxy names; ``secure`` says whether TLS was used;
    ``client`` is the registered client of token exchange that brings it, if any.
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
    """An answer: status, headers (name, value), body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = field(repr=False)
