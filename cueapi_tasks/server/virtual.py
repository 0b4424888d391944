"""The virtual shell around the engine: the same rules on a clock that jumps from event to event, in one thread."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from .engine import Engine
from .records import Answered, Attempt, Notice

Deliver = Callable[[Attempt, datetime], Answered]
"""Makes a delivery at a moment and says how it was answered."""


class SettableClock(Protocol):
    """A clock that stands still until it is moved."""

    now: datetime


class VirtualServer:
    """Runs an engine through time without a thread, a socket or a sleep."""

    def __init__(
        self,
        engine: Engine,
        clock: SettableClock,
        deliver: Deliver,
        notify: Callable[[Notice], None] | None = None,
    ) -> None:
        self.engine = engine
        self._clock = clock
        self._deliver = deliver
        self._notify = notify

    def run_until(self, end: datetime) -> int:
        """Let everything happen that is due up to a moment, which the clock then shows; return the attempts made."""
        made = 0
        while (due := self.engine.scheduler.next_due()) is not None and due <= end:
            self._clock.now = max(self._clock.now, due)
            made += self.run_due()
        self._clock.now = max(self._clock.now, end)
        return made

    def run_due(self) -> int:
        """Let happen what is due now; return the attempts made."""
        scheduler = self.engine.scheduler
        attempts = scheduler.tick(self._clock.now)
        for attempt in attempts:
            scheduler.attempted(attempt, self._deliver(attempt, self._clock.now), self._clock.now)
        for notice in scheduler.take_notices():
            if self._notify is not None:
                self._notify(notice)
        return len(attempts)
