"""Walk a list that the server gives in pages by offset; pure but for the page function handed in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from .exceptions import CueAPIError

Item = TypeVar("Item")
Page = Callable[[int], tuple[Sequence[Item], int]]
"""Returns the items from an offset on, and the total."""

MOST_PASSES = 5


def pages(page: Page[Item], *, key: Callable[[Item], str]) -> Iterator[Item]:
    """Yield each item once, or raise `CueAPIError` (`list_moved`) if the list never stood still.

    The newest rows stand first (contract, Q5): an insert shifts known rows onto the next page, a delete shifts unseen
    ones onto the last. Either shows as a row seen twice or as another total; then the list is read from its start
    again.
    """
    seen: set[str] = set()
    for _ in range(MOST_PASSES):
        walk = _Pass(page, key)
        for item in walk:
            if key(item) not in seen:
                seen.add(key(item))
                yield item
        if walk.steady:
            return
    raise CueAPIError("the list kept changing while it was read; try again", code="list_moved")


class _Pass(Generic[Item]):
    """One walk over all pages; `steady` tells afterwards whether the list stood still meanwhile."""

    def __init__(self, page: Page[Item], key: Callable[[Item], str]) -> None:
        self._page = page
        self._key = key
        self.steady = True

    def __iter__(self) -> Iterator[Item]:
        seen: set[str] = set()
        offset = 0
        items, total = self._page(offset)
        while items:
            seen.update(self._key(item) for item in items)
            yield from items
            offset, before = offset + len(items), total
            if offset >= total:
                break
            items, total = self._page(offset)
            self.steady &= total == before
        self.steady &= len(seen) == offset == total
