"""Listing page by page, never cutting a list off without saying so."""

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer

from p2pet.cli.output import print_line

PAGE_MAX = 1000
LIMIT_MAX = 1_000_000

LimitOption = Annotated[int, typer.Option(min=1, max=LIMIT_MAX, help="At most so many; says so when there are more.")]
T = TypeVar("T")


async def collect(page: Callable[[int, str], Awaitable[tuple[list[T], str]]], limit: int) -> tuple[list[T], bool]:
    """At most `limit` entries of a paged list, and whether there are more. `page` takes size and token."""
    entries: list[T] = []
    token = ""
    while True:
        found, token = await page(min(PAGE_MAX, limit - len(entries)), token)
        entries.extend(found)
        if not token or len(entries) >= limit:
            return entries, bool(token)


def more_line(more: bool, limit: int) -> None:
    """Tells people that a list goes on."""
    if more:
        print_line(f"There are more than these {limit}; raise --limit to see them.")
