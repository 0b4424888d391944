"""As fast as the server allows: several calls at a time, near the rate limit one, none while it says wait."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator
from datetime import datetime, timezone
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cueapi import CueAPI

WORKERS = 8
RETRIES = 10
"""Of one call: several calls that wait for the rate limit together are let through one by one."""


class Pace:
    """A client's time and turns; `on_wait` is told the seconds and what is waited for."""

    def __init__(
        self,
        client: CueAPI,
        *,
        workers: int = WORKERS,
        on_wait: Callable[[float, str], None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self.workers = workers
        self.client = client.with_options(max_retries=RETRIES, wait=self._retry)
        self._on_wait = on_wait
        self._sleep = sleep
        self._clock = clock
        self._narrow = threading.Lock()

    @contextlib.contextmanager
    def turn(self) -> Generator[None]:
        """Make a call inside: near the rate limit one thread at a time."""
        left = self.client.last_answer.rate_remaining
        with self._narrow if left is not None and left <= self.workers else contextlib.nullcontext():
            yield

    def wait(self, seconds: float, why: str) -> None:
        """Say what is waited for, and wait."""
        if self._on_wait is not None:
            self._on_wait(seconds, why)
        self._sleep(seconds)

    def now(self) -> datetime:
        """Return the time by the server's clock, in whole seconds, or by ours where it does not say it."""
        return self.client.last_answer.date or self._clock()

    def _retry(self, seconds: float) -> None:
        limited = self.client.last_answer.rate_remaining == 0
        self.wait(seconds, "the server's rate limit" if limited else "the server, to try again")
