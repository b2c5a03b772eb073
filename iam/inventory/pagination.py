"""Whose things are looked at, which of them, and how many at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, func, or_, select

PAGE: Final = 200
_LONGEST: Final = 200  # characters of a search
_MOST_WORDS: Final = 8
_DIGITS: Final = 5  # of the number of a page

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PageRequest:
    """The accounts that somebody may see, what is looked for in them, and the number of the page."""

    accounts: tuple[str, ...]
    query: str = ""
    page: int = 1

    @classmethod
    def of(cls, accounts: tuple[str, ...], query: str = "", page: str = "") -> "PageRequest":
        """Return a scope from what an address says; what is no number is the first page."""
        number = int(page) if page.isascii() and page.isdigit() and len(page) <= _DIGITS else 1
        return cls(accounts, query[:_LONGEST].strip(), max(1, number))

    @property
    def words(self) -> list[str]:
        """Return the words of the search, in lower case: each must be found."""
        return self.query.lower().split()[:_MOST_WORDS]


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page of what was found."""

    rows: tuple[T, ...]
    found: int
    page: int
    query: str

    @property
    def pages(self) -> int:
        """Return how many pages there are."""
        return max(1, -(-self.found // PAGE))


def paginate(things: Sequence[T], page_request: PageRequest, text: Callable[[T], str]) -> Page[T]:
    """Return a page of things whose texts have all words of a search."""
    words = page_request.words
    found = [one for one in things if all(word in text(one).lower() for word in words)] if words else list(things)
    page = _clamp_page(page_request.page, len(found))
    return Page(tuple(found[(page - 1) * PAGE : page * PAGE]), len(found), page, page_request.query)


def query_page(
    tx: Connection,
    query: Select[Any],
    page_request: PageRequest,
    matches_word: Callable[[str], Sequence[ColumnElement[bool]]],
) -> Page[Row[Any]]:
    """Return a page of rows that have all words of a search; ``fits`` gives the places where one word may be."""
    wanted = query.where(and_(True, *(or_(*matches_word(word)) for word in page_request.words)))  # noqa: FBT003 - of SQL
    count = tx.scalar(select(func.count()).select_from(wanted.order_by(None).subquery())) or 0
    page = _clamp_page(page_request.page, count)
    rows = tx.execute(wanted.limit(PAGE).offset((page - 1) * PAGE)).all()
    return Page(tuple(rows), count, page, page_request.query)


def _clamp_page(page: int, found: int) -> int:
    return min(page, max(1, -(-found // PAGE)))
