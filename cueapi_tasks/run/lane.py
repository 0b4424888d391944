"""A number of slots, each for one execution at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor

Step = Callable[[], None]


class Lane:
    """Runs steps on so many threads; `freed` is called after each."""

    def __init__(self, size: int, name: str, freed: Step, pool: Executor | None = None) -> None:
        self._pool = pool or ThreadPoolExecutor(size, thread_name_prefix=f"cueapi-tasks-{name}")
        self._freed = freed
        self._free = self._size = size
        self._lock = threading.Lock()

    @property
    def free(self) -> bool:
        """Whether there is a free slot."""
        return self._free > 0

    @property
    def idle(self) -> bool:
        """Whether nothing runs."""
        return self._free == self._size

    def submit(self, step: Step) -> None:
        """Run a step in a slot; ask for a free one before."""
        with self._lock:
            self._free -= 1
        self._pool.submit(self._run, step)

    def close(self) -> None:
        """Take no more steps; what runs goes on."""
        self._pool.shutdown(wait=False)

    def _run(self, step: Step) -> None:
        try:
            step()
        finally:
            with self._lock:
                self._free += 1
            self._freed()
