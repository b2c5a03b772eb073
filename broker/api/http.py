"""Request and response of the API, independent of any framework."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request as received.

    ``path`` and ``query`` are still percent-encoded; ``headers`` has (lower-case name, value) in order of arrival;
    ``source_ip`` is the peer, or the client that a trusted proxy names, or empty where that name is no address: it is
    then in ``unread_address``. ``secure`` is true for TLS; ``client`` is the registered client of token exchange that
    sent it, if any.
    """

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    source_ip: str
    secure: bool = False
    client: str = ""
    peer: str = ""
    unread_address: str = ""

    @property
    def counted_address(self) -> str:
        """Return the address under which failures count: the peer's where the client's cannot be read."""
        return self.source_ip or self.peer

    @property
    def recorded_address(self) -> str:
        """Return what the audit record shows: the address, or what a proxy wrote in its place."""
        return self.source_ip or self.unread_address

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
