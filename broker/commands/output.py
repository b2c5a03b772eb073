"""Output of commands: tables and fields for people, one JSON document for programs."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from iam.clock import from_milliseconds, iso8601

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def print_json(facts: Any) -> None:  # noqa: ANN401 - anything that JSON can hold
    """Print one JSON document on one line, and flush it."""
    sys.stdout.write(json.dumps(facts, ensure_ascii=True) + "\n")
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> None:
    """Print a table; control characters and markup in cells are escaped."""
    table = Table(title=title or None, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(escape_unprintable(str(cell))) for cell in row))
    console = Console()
    if not console.is_terminal:  # a pipe has no width: lines are not wrapped, so that grep and cut work
        console = Console(width=console.measure(table, options=console.options.update(width=10_000)).maximum)
    console.print(table)


def print_fields(facts: Mapping[str, object]) -> None:
    """Print names and values, one per line."""
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        click.echo(f"{name:{width}}  {escape_unprintable(str(value))}")


def escape_unprintable(text: str) -> str:
    """Return a text with control characters escaped: a terminal would let them move the cursor or hide a line."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def format_time(milliseconds: int) -> str:
    """Return a time for people to read, in UTC."""
    return iso8601(from_milliseconds(milliseconds)).replace("T", " ")
