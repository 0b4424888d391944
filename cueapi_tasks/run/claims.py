"""What this process has claimed at the server, and the heartbeats that keep it, from a thread of their own.

A claim is an execution and the id of the worker that claimed it. Whoever takes up a dead worker's executions keeps
them under the dead one's id: the server hands nothing over (contract, section 9.3).
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from cueapi import ConflictError, CueAPIError, CueAPIServerError, CueNotFoundError, NotExecutionOwnerError

from .. import log
from .link import Link
from .runner import Clocks

WORKER_SECONDS = 30.0
"""Between two heartbeats of a worker; after 180 s of silence its old claims are taken away (contract, 9.3, R2)."""
DEAD_SECONDS = 120.0
"""The same for the id of a dead worker: nobody looks at it in a list, it only keeps its claims."""
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
        return self._needed(LONGEST_SECONDS) < self._link.heartbeats_a_minute * LONGEST_SECONDS / 60.0

    def start(self) -> None:
        """Begin to send heartbeats."""
        self._thread.start()

    def close(self, patience: float) -> None:
        """Stop sending them; one that is under way is waited for so many seconds."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(patience)

    def wait_for_turn(self) -> None:
        """Wait where little of the rate limit is left: a claim brings an outcome after it."""
        self._link.wait_for_turn(2)

    def claim(self, execution_id: str) -> None:
        """Claim an execution and keep it; raises what the API answers."""
        with self._link.calling(ConflictError, CueNotFoundError) as client:
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
            with self._link.calling(NotExecutionOwnerError, CueNotFoundError, ConflictError) as client:
                client.executions.heartbeat(execution_id, worker_id=worker_id)
        except NotExecutionOwnerError:
            return Standing.ELSEWHERE
        except CueNotFoundError:
            return Standing.GONE
        except ConflictError:
            return self._claim_again(execution_id, worker_id)
        return Standing.OURS

    def beat(self) -> None:
        """Send the heartbeats that are due, the longest due first, as many as there is room for at one look.

        What the API does not take now is tried again a little later.
        """
        most = math.ceil(self._link.heartbeats_a_minute * LOOK_SECONDS / 60.0)
        self._beat([each for each in self._all() if each[1].due <= self._clocks.steady()][:most])

    def beat_all(self) -> None:
        """Send a heartbeat for each claim now: this process ends, and another one keeps them after a while."""
        self._beat(self._all())

    def forget_worker(self) -> None:
        """Take this worker off the account's list, where nothing that it claimed needs it any more."""
        if not self._claims:
            with self._link.calling(CueNotFoundError) as client:
                client.workers.delete(self.worker_id)

    def _loop(self) -> None:
        while not self._clocks.wait(self._stop, LOOK_SECONDS):
            try:
                self.beat()
            except Exception:
                logger.exception("heartbeats go on after an error that nobody foresaw")

    def _all(self) -> Sequence[tuple[str, Claim]]:
        """Return the claims, that whose heartbeat is due first at the head."""
        with self._lock:
            return sorted(self._claims.items(), key=lambda each: each[1].due)

    def _beat(self, claims: Sequence[tuple[str, Claim]]) -> None:
        if self._clocks.steady() < self._beat_at:
            return
        try:
            for worker_id in self._silent_workers():
                self._beat_worker(worker_id)
            for execution_id, claim in claims:
                self._beat_execution(execution_id, claim)
        except CueAPIError:  # the link has said why
            self._beat_at = self._clocks.steady() + AGAIN_SECONDS

    def _silent_workers(self) -> Sequence[str]:
        """Return the ids whose heartbeat is due: this worker's, and those of the dead that it keeps claims of."""
        spans = {claim.worker_id: DEAD_SECONDS for _, claim in self._all()} | {self.worker_id: WORKER_SECONDS}
        self._beaten = {each: beaten for each, beaten in self._beaten.items() if each in spans}
        now = self._clocks.steady()
        return [each for each, span in spans.items() if now - self._beaten.get(each, -span) >= span]

    def _beat_worker(self, worker_id: str) -> None:
        with self._link.calling() as client:
            client.workers.heartbeat(worker_id, handlers=self._handlers)
        self._beaten[worker_id] = self._clocks.steady()

    def _beat_execution(self, execution_id: str, claim: Claim) -> None:
        try:
            standing = self.settle(execution_id, claim.worker_id)
        except CueAPIServerError:  # perhaps at this one alone
            claim.due = self._clocks.steady() + AGAIN_SECONDS
            return
        with self._lock:
            if self._claims.get(execution_id) is not claim:
                return  # it ended meanwhile
            claim.due = self._clocks.steady() + self._interval()
            if standing is Standing.OURS:
                return
            del self._claims[execution_id]
        log.event(logger, "claim_lost", level=logging.WARNING, execution_id=execution_id, why=standing.value)

    def _interval(self) -> float:
        needed = 60.0 * self._needed(EXECUTION_SECONDS) / self._link.heartbeats_a_minute
        return min(LONGEST_SECONDS, max(EXECUTION_SECONDS, needed))

    def _needed(self, seconds: float) -> float:
        """Return how many heartbeats there are to send in so many seconds, one an execution."""
        dead = len({claim.worker_id for claim in [*self._claims.values()]} - {self.worker_id})
        return len(self) + seconds / WORKER_SECONDS + dead * seconds / DEAD_SECONDS

    def _claim_again(self, execution_id: str, worker_id: str) -> Standing:
        try:
            with self._link.calling(ConflictError, CueNotFoundError) as client:
                client.executions.claim(execution_id, worker_id)
        except ConflictError:
            return self._standing_of(execution_id)
        return Standing.OURS

    def _standing_of(self, execution_id: str) -> Standing:
        """Tell from the execution itself where an execution stands that cannot be claimed."""
        try:
            with self._link.calling(CueNotFoundError) as client:
                execution = client.executions.get(execution_id)
        except CueNotFoundError:
            return Standing.GONE
        if execution.outcome is not None:
            return Standing.GONE
        return Standing.ELSEWHERE if execution.status in ("pending", "delivering") else Standing.NOBODYS
