"""A worker's way to the API: within its rate limit, what ails it said once, and a rejected key the end."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cueapi import AuthenticationError, CueAPIError

from .. import log
from .runner import Clocks

if TYPE_CHECKING:
    from cueapi import CueAPI

TIMEOUT = 10.0
"""Seconds that a request may take; none is sent again at once, since every caller has a way to go on without it."""
SPARE = 0.25
"""The part of a minute's requests that is kept for heartbeats and outcomes: they cannot wait."""
HEARTBEATS = 0.5
"""The part of a minute's requests that heartbeats may take."""
NO_LIMIT = 1_000_000
RECENT_SECONDS = 2.0
"""How long requests that were allowed may not have been counted by the newest answer."""
LONGEST_SECONDS = 10.0
"""The longest wait for a turn."""
SLICE_SECONDS = 0.5
"""How soon a wait is given up when the worker is to stop."""
CLOCK_SECONDS = 30.0
"""How far this machine's clock may be from the server's."""

logger = logging.getLogger("cueapi_tasks.run")


class Watch:
    """Says once that something stopped answering, and once that it answers again."""

    def __init__(self, what: str) -> None:
        self._what = what
        self.error: Exception | None = None
        self._lock = threading.Lock()

    def failed(self, error: Exception) -> None:
        """Note a failure."""
        if self._changed(error):
            log.event(logger, f"{self._what}_unavailable", level=logging.ERROR, error=str(error))

    def answered(self) -> None:
        """Note that it answered."""
        if self.error is not None and self._changed(None):
            log.event(logger, f"{self._what}_available_again")

    def _changed(self, error: Exception | None) -> bool:
        """Note how it is, and tell whether that is news."""
        with self._lock:
            known, self.error = self.error, error
        return (known is None) != (error is None)


class Link:
    """One client for all of a worker's calls, until `stopping`; `on_rejected` is called once if the key is refused."""

    def __init__(
        self, client: CueAPI, clocks: Clocks, on_rejected: Callable[[], None], stopping: threading.Event
    ) -> None:
        self.client = client.with_options(timeout=TIMEOUT, max_retries=0)
        self.watch = Watch("api")
        self.rejected: AuthenticationError | None = None
        self.stopping = stopping
        self._clocks = clocks
        self._on_rejected = on_rejected
        self._turn = threading.Lock()
        self._allowed: deque[tuple[float, int]] = deque()
        """When how many requests were allowed, on the steady clock."""
        self._ahead = 0.0

    @contextmanager
    def calling(self, *refusals: type[CueAPIError]) -> Generator[CueAPI]:
        """Make calls inside; `refusals` are answers like any other, and whatever else is raised ails the API."""
        try:
            yield self.client
        except refusals:
            self._answered()
            raise
        except AuthenticationError as error:
            self.rejected = error
            self._on_rejected()
            raise
        except CueAPIError as error:
            self.watch.failed(error)
            raise
        self._answered()

    def wait_for_turn(self, requests: int) -> None:
        """Wait before calls that bring more work, one thread at a time, where little of the limit is left."""
        with self._turn:
            left = wait_of(*self._rate(), requests)
            while left > 0 and not self.stopping.is_set():
                self._clocks.sleep(min(SLICE_SECONDS, left))
                left -= SLICE_SECONDS
            self._allowed.append((self._clocks.steady(), requests))

    @property
    def heartbeats_a_minute(self) -> float:
        """How many heartbeats a minute the rate limit has room for."""
        return HEARTBEATS * (self.client.last_answer.rate_limit or NO_LIMIT)

    def now(self) -> float:
        """Return the server's time in unix seconds: it says what is due."""
        return self._clocks.now() + self._ahead

    def _answered(self) -> None:
        self.watch.answered()
        date = self.client.last_answer.date
        ahead = 0.0 if date is None else date.timestamp() + 0.5 - self._clocks.now()
        ahead = ahead if abs(ahead) > CLOCK_SECONDS else 0.0
        if ahead and not self._ahead:
            remedy = "set this machine's clock; until then the server's counts"
            log.event(logger, "clock_differs", level=logging.WARNING, seconds=round(ahead), remedy=remedy)
        self._ahead = ahead

    def _rate(self) -> tuple[int, int]:
        """Return a minute's requests, and what is left of them once those that were just allowed are counted."""
        recent = self._clocks.steady() - RECENT_SECONDS
        while self._allowed and self._allowed[0][0] < recent:
            self._allowed.popleft()
        last = self.client.last_answer
        if last.rate_limit is None or last.rate_remaining is None:
            return NO_LIMIT, NO_LIMIT
        return last.rate_limit, last.rate_remaining - sum(requests for _, requests in self._allowed)


def wait_of(limit: int, remaining: int, requests: int) -> float:
    """Return the seconds to wait before so many requests, given a minute's requests and those that remain of it.

    What is left of the spare part is spread over the coming minute: what was spent comes back as it grows old.
    """
    return 0.0 if remaining >= SPARE * limit else min(LONGEST_SECONDS, requests * 60.0 / max(1, remaining))
