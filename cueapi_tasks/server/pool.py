"""Threads for deliveries that do not keep a process alive: what hangs when it stops is delivered again later."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

Work = Callable[[], None]


class DaemonPool:
    """Runs work in up to `size` daemon threads, made as they are needed."""

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._work: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._unfinished = 0

    def submit(self, work: Work) -> None:
        """Run the work as soon as a thread is free; it must not raise."""
        with self._lock:
            self._unfinished += 1
            if self._unfinished > len(self._threads) and len(self._threads) < self._size:
                self._start()
        self._work.put(work)

    def stop(self, patience: float) -> None:
        """Take no more work; wait up to `patience` seconds for what is under way, and leave the rest behind."""
        for _ in self._threads:
            self._work.put(None)
        deadline = time.monotonic() + patience
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name=f"{self._name}-{len(self._threads)}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            with self._lock:
                self._unfinished -= 1
