"""A worker's way to the API: within its rate limit, what ails it said once, and a rejected key the end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cueapi import APIConnectionError, AuthenticationError, CueAPIError, CueAPIServerError, RateLimitError

from .. import log
from .runner import Clocks

if TYPE_CHECKING:
    from cueapi import CueAPI

SPARE = 0.25
"""The part of a minute's requests that is kept for heartbeats and outcomes: they cannot wait."""
HEARTBEATS = 0.5
"""The part of a minute's requests that heartbeats may take."""
NO_LIMIT = 1_000_000

logger = logging.getLogger("cueapi_tasks.run")


class Watch:
    """Says once that something stopped answering, and once that it answers again."""

    def __init__(self, what: str) -> None:
        self._what = what
        self.error: Exception | None = None

    def failed(self, error: Exception) -> None:
        """Note a failure."""
        known, self.error = self.error, error
        if known is None:
            log.event(logger, f"{self._what}_unavailable", level=logging.ERROR, error=str(error))

    def answered(self) -> None:
        """Note that it answered."""
        known, self.error = self.error, None
        if known is not None:
            log.event(logger, f"{self._what}_available_again")


class Link:
    """One client for all of a worker's calls; `on_rejected` is called once if the key is refused."""

    def __init__(self, client: CueAPI, clocks: Clocks, on_rejected: Callable[[], None]) -> None:
        self.client = client
        self.watch = Watch("api")
        self.rejected: AuthenticationError | None = None
        self._clocks = clocks
        self._on_rejected = on_rejected
        self._turn = threading.Lock()

    @contextmanager
    def calling(self) -> Generator[CueAPI]:
        """Make calls inside; a refusal is an answer too."""
        try:
            yield self.client
        except AuthenticationError as error:
            self.rejected = error
            self._on_rejected()
            raise
        except (APIConnectionError, CueAPIServerError, RateLimitError) as error:
            self.watch.failed(error)
            raise
        except CueAPIError:
            self.watch.answered()
            raise
        self.watch.answered()

    def wait_for_turn(self) -> None:
        """Wait before a call that brings more work, one thread at a time, where little of the limit is left."""
        with self._turn:
            if (seconds := wait_of(*self._rate())) > 0:
                self._clocks.sleep(seconds)

    @property
    def heartbeats_a_minute(self) -> float:
        """How many heartbeats a minute the rate limit has room for."""
        return HEARTBEATS * self._rate()[0]

    def _rate(self) -> tuple[int, int]:
        last = self.client.last_answer
        return (last.rate_limit or NO_LIMIT, NO_LIMIT if last.rate_remaining is None else last.rate_remaining)


def wait_of(limit: int, remaining: int) -> float:
    """Return the seconds to wait before taking more work, given a minute's requests and those that remain of it.

    Below the spare part work goes on at a third of what the limit allows: taking an execution costs a claim, an
    outcome and a part of a poll.
    """
    return 0.0 if remaining >= SPARE * limit else 3 * 60.0 / limit
