"""What this process has claimed at the server, and the heartbeats that keep it, from a thread of their own.

A claim is an execution and the id of the worker that claimed it. Whoever takes up a dead worker's executions keeps
them under the dead one's id: the server hands nothing over (contract, section 9.3).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from cueapi import ConflictError, CueAPIError, CueNotFoundError, NotExecutionOwnerError

from .. import log
from .link import Link
from .runner import Clocks

WORKER_SECONDS = 30.0
"""Between two heartbeats of a worker; after 180 s of silence its old claims are taken away (contract, 9.3, R2)."""
EXECUTION_SECONDS = 60.0
"""Between two heartbeats of an execution; after 300 s of silence the core gives it up (contract, 9.3, R1)."""
LONGEST_SECONDS = 240.0
"""How far they may stretch to stay within the rate limit."""
LOOK_SECONDS = 5.0
"""Between two looks at what is due."""
AGAIN_SECONDS = 20.0
"""Between two tries while the API fails."""

logger = logging.getLogger("cueapi_tasks.run")


class Standing(Enum):
    """Whose an execution is, as the server sees it."""

    OURS = "our claim stands, or the dead worker's whose execution it was"
    NOBODYS = "the server gave it up, and takes an outcome all the same (contract, 9.3, R1)"
    ELSEWHERE = "another worker has claimed it, or may at any moment"
    GONE = "it has an outcome, or is deleted"


@dataclass(slots=True)
class Claim:
    """One claim at the server."""

    worker_id: str
    due: float
    """When its next heartbeat is, on the steady clock."""


class Claims:
    """The server's side of the executions that one worker holds."""

    def __init__(self, link: Link, worker_id: str, handlers: Sequence[str], clocks: Clocks) -> None:
        self.worker_id = worker_id
        self._handlers = handlers
        self._link = link
        self._clocks = clocks
        self._claims: dict[str, Claim] = {}
        self._beaten: dict[str, float] = {}
        self._beat_at = clocks.steady()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="cueapi-tasks-heartbeats", daemon=True)

    def __len__(self) -> int:
        return len(self._claims)

    @property
    def room(self) -> bool:
        """Whether one more claim could be kept alive within the rate limit."""
        return len(self) < self._link.heartbeats_a_minute * LONGEST_SECONDS / 60.0

    def start(self) -> None:
        """Begin to send heartbeats."""
        self._thread.start()

    def close(self) -> None:
        """Stop sending them."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def claim(self, execution_id: str) -> None:
        """Claim an execution and keep it; raises what the API answers."""
        with self._link.calling() as client:
            client.executions.claim(execution_id, self.worker_id)
        self.keep(execution_id, self.worker_id)

    def keep(self, execution_id: str, worker_id: str, *, at_once: bool = False) -> None:
        """Send heartbeats for a claim that was made, by this worker or by one that is dead."""
        wait = 0.0 if at_once else EXECUTION_SECONDS
        with self._lock:
            self._claims[execution_id] = Claim(worker_id, self._clocks.steady() + wait)

    def drop(self, execution_id: str) -> None:
        """Send no more heartbeats for it."""
        with self._lock:
            self._claims.pop(execution_id, None)

    def settle(self, execution_id: str, worker_id: str) -> Standing:
        """Ask whose an execution is that was claimed under `worker_id`, or was about to be, claiming it if it waits.

        A claim that the server took away is made again under the same id: it is what the ledger says, and whoever
        takes the execution up next asks by it. Raises `CueAPIError` where the API cannot say.
        """
        try:
            with self._link.calling() as client:
                client.executions.heartbeat(execution_id, worker_id=worker_id)
        except NotExecutionOwnerError:
            return Standing.ELSEWHERE
        except CueNotFoundError:
            return Standing.GONE
        except ConflictError:
            return self._claim_again(execution_id, worker_id)
        return Standing.OURS

    def beat(self) -> None:
        """Send the heartbeats that are due; what the API does not take now is tried again a little later."""
        if self._clocks.steady() < self._beat_at:
            return
        try:
            for worker_id in sorted({self.worker_id, *(claim.worker_id for _, claim in self._all())}):
                self._beat_worker(worker_id)
            for execution_id, claim in self._all():
                if claim.due <= self._clocks.steady():
                    self._beat_execution(execution_id, claim)
        except CueAPIError:  # the link has said why
            self._beat_at = self._clocks.steady() + AGAIN_SECONDS

    def forget_worker(self) -> None:
        """Take this worker off the account's list, where nothing that it claimed needs it any more."""
        if not self._claims:
            with self._link.calling() as client:
                client.workers.delete(self.worker_id)

    def _loop(self) -> None:
        while not self._clocks.wait(self._stop, LOOK_SECONDS):
            self.beat()

    def _all(self) -> Sequence[tuple[str, Claim]]:
        with self._lock:
            return [*self._claims.items()]

    def _beat_worker(self, worker_id: str) -> None:
        now = self._clocks.steady()
        if now - self._beaten.get(worker_id, -WORKER_SECONDS) < WORKER_SECONDS:
            return
        with self._link.calling() as client:
            client.workers.heartbeat(worker_id, handlers=self._handlers)
        self._beaten[worker_id] = now

    def _beat_execution(self, execution_id: str, claim: Claim) -> None:
        standing = self.settle(execution_id, claim.worker_id)
        with self._lock:
            if self._claims.get(execution_id) is not claim:
                return  # it ended meanwhile
            claim.due = self._clocks.steady() + self._interval()
            if standing is Standing.OURS:
                return
            del self._claims[execution_id]
        log.event(logger, "claim_lost", level=logging.WARNING, execution_id=execution_id, why=standing.value)

    def _interval(self) -> float:
        needed = 60.0 * len(self._claims) / self._link.heartbeats_a_minute
        return min(LONGEST_SECONDS, max(EXECUTION_SECONDS, needed))

    def _claim_again(self, execution_id: str, worker_id: str) -> Standing:
        try:
            with self._link.calling() as client:
                client.executions.claim(execution_id, worker_id)
        except ConflictError:
            with self._link.calling() as client:
                execution = client.executions.get(execution_id)
            if execution.outcome is not None:
                return Standing.GONE
            return Standing.ELSEWHERE if execution.status in ("pending", "delivering") else Standing.NOBODYS
        return Standing.OURS
