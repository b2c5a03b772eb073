"""Search and pagination over the data of several accounts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, func, or_, select

PAGE: Final = 200
_LONGEST: Final = 200  # characters of a search query
_MOST_WORDS: Final = 8
_DIGITS: Final = 5  # digits of a page number

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PageRequest:
    """The accounts that the caller may see, the search query, and the page number."""

    accounts: tuple[str, ...]
    query: str = ""
    page: int = 1

    @classmethod
    def of(cls, accounts: tuple[str, ...], query: str = "", page: str = "") -> "PageRequest":
        """Return the request from URL parameters; an invalid page number becomes 1."""
        number = int(page) if page.isascii() and page.isdigit() and len(page) <= _DIGITS else 1
        return cls(accounts, query[:_LONGEST].strip(), max(1, number))

    @property
    def words(self) -> list[str]:
        """Return the words of the search query in lower case; all of them must match."""
        return self.query.lower().split()[:_MOST_WORDS]


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page of search results; ``found`` is the number of all results."""

    rows: tuple[T, ...]
    found: int
    page: int
    query: str

    @property
    def pages(self) -> int:
        """Return the number of pages."""
        return max(1, -(-self.found // PAGE))


def paginate(items: Sequence[T], page_request: PageRequest, text: Callable[[T], str]) -> Page[T]:
    """Return a page of the items whose text contains all words of the search."""
    words = page_request.words
    found = [item for item in items if all(word in text(item).lower() for word in words)] if words else list(items)
    page = _clamp_page(page_request.page, len(found))
    return Page(tuple(found[(page - 1) * PAGE : page * PAGE]), len(found), page, page_request.query)


def query_page(
    tx: Connection,
    query: Select[Any],
    page_request: PageRequest,
    matches_word: Callable[[str], Sequence[ColumnElement[bool]]],
) -> Page[Row[Any]]:
    """Return a page of the rows that match all words; ``matches_word`` returns the alternatives for a word."""
    filtered = query.where(and_(True, *(or_(*matches_word(word)) for word in page_request.words)))  # noqa: FBT003 - of SQL
    count = tx.scalar(select(func.count()).select_from(filtered.order_by(None).subquery())) or 0
    page = _clamp_page(page_request.page, count)
    rows = tx.execute(filtered.limit(PAGE).offset((page - 1) * PAGE)).all()
    return Page(tuple(rows), count, page, page_request.query)


def _clamp_page(page: int, found: int) -> int:
    return min(page, max(1, -(-found // PAGE)))
