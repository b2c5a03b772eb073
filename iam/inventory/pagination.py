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
class Scope:
    """The accounts that somebody may see, what is looked for in them, and the number of the page."""

    accounts: tuple[str, ...]
    query: str = ""
    page: int = 1

    @classmethod
    def of(cls, accounts: tuple[str, ...], query: str = "", page: str = "") -> "Scope":
        """Return a scope from what an address says; what is no number is the first page."""
        number = int(page) if page.isascii() and page.isdigit() and len(page) <= _DIGITS else 1
        return cls(accounts, query[:_LONGEST].strip(), max(1, number))

    @property
    def words(self) -> list[str]:
        """Return the words of the search, in lower case: each must be found."""
        return self.query.lower().split()[:_MOST_WORDS]


@dataclass(frozen=True, slots=True)
class Slice(Generic[T]):
    """A page of what was found."""

    rows: tuple[T, ...]
    found: int
    page: int
    query: str

    @property
    def pages(self) -> int:
        """Return how many pages there are."""
        return max(1, -(-self.found // PAGE))


def sliced(things: Sequence[T], scope: Scope, text: Callable[[T], str]) -> Slice[T]:
    """Return a page of things whose texts have all words of a search."""
    words = scope.words
    found = [one for one in things if all(word in text(one).lower() for word in words)] if words else list(things)
    page = _within(scope.page, len(found))
    return Slice(tuple(found[(page - 1) * PAGE : page * PAGE]), len(found), page, scope.query)


def rows_of(
    tx: Connection, query: Select[Any], scope: Scope, fits: Callable[[str], Sequence[ColumnElement[bool]]]
) -> Slice[Row[Any]]:
    """Return a page of rows that have all words of a search; ``fits`` gives the places where one word may be."""
    wanted = query.where(and_(True, *(or_(*fits(word)) for word in scope.words)))  # noqa: FBT003 - of SQL
    count = tx.scalar(select(func.count()).select_from(wanted.order_by(None).subquery())) or 0
    page = _within(scope.page, count)
    rows = tx.execute(wanted.limit(PAGE).offset((page - 1) * PAGE)).all()
    return Slice(tuple(rows), count, page, scope.query)


def _within(page: int, found: int) -> int:
    return min(page, max(1, -(-found // PAGE)))
