"""Walk a list that the server gives in pages by offset; pure but for the page function handed in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def pages(page: Callable[[int], tuple[list[Item], int]], *, key: Callable[[Item], str]) -> Iterator[Item]:
    """Yield each item once; `page(offset)` returns the items from there and the total.

    Rows are inserted and deleted while the list is read, and the newest stand first: an insert shifts known rows
    onto the next page (dropped by `key`), a delete shifts unseen rows onto the last one. When the number seen
    does not reach the total, the list is read once more from its start.
    """
    seen: set[str] = set()
    for _ in range(2):
        offset, total = 0, 1
        while offset < total:
            items, total = page(offset)
            fresh = [item for item in items if key(item) not in seen]
            seen.update(key(item) for item in fresh)
            yield from fresh
            if not items:
                break
            offset += len(items)
        if len(seen) >= total:
            return
