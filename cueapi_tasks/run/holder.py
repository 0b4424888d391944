"""One execution's road through a worker: held in the ledger, claimed at the server, run, ended or kept for later."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cueapi import ConflictError, CueAPIError

from .. import log
from ..declare.spec import Owner, Retry
from ..errors import LedgerError
from .claims import Claims, Standing
from .delivery import Claimable, Job, stamped
from .lease import LeaseKeeper
from .ledger.base import LEASE_SECONDS, Claimed, Entry, Lapsed, Ledger
from .outcome import Result
from .runner import Clocks, Runner, entry_of

AGAIN_SECONDS = 10.0
"""After this an execution is looked at again whose standing the API could not say."""
ELSEWHERE_SECONDS = 300.0
"""After this one is looked at again that was ours and that another worker has: the core gives it up by then."""

JobOf = Callable[[Claimable, int], Job | None]
"""Returns an attempt of an execution beside what this code declares for it; None if it is not this app's."""

logger = logging.getLogger("cueapi_tasks.run")


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """An execution that the ledger holds for this process."""

    item: Claimable
    task: str
    token: str
    attempt: int
    starts: int
    worker_id: str
    """Under which it was claimed at the server."""

    @property
    def id(self) -> str:
        """The execution's."""
        return self.item.execution_id

    @property
    def facts(self) -> dict[str, Any]:
        """What the log says of it."""
        return {"task": self.task, "execution_id": self.id, "attempt": self.attempt}


Parked = tuple[float, Held]
"""When it is due, on the steady clock, and what."""


class Holder:
    """What a worker has in hand: in a slot, or parked until its time."""

    def __init__(
        self,
        *,
        owner: Owner,
        job_of: JobOf,
        ledger: Ledger,
        leases: LeaseKeeper,
        claims: Claims,
        runner: Runner,
        clocks: Clocks,
        now: Callable[[], float],
    ) -> None:
        """Take, besides its neighbours, `now`: the server's time in unix seconds."""
        self.given_back = False
        """Whether there may be something to take up in the ledger."""
        self.waiting_level = logging.INFO
        """How it is logged that something was taken up that goes on to wait."""
        self.troubled = False
        """Whether the API did not say if it granted a claim."""
        self._owner = owner
        self._job_of = job_of
        self._ledger = ledger
        self._leases = leases
        self._claims = claims
        self._runner = runner
        self._clocks = clocks
        self._now = now
        self._busy: set[str] = set()
        self._held: dict[str, Held] = {}
        self._later: dict[str, Parked] = {}
        self._parked: dict[str, Parked] = {}
        self._stopping = False

    def __contains__(self, execution_id: str) -> bool:
        return execution_id in self._busy or execution_id in self._parked

    def retries(self, execution_id: str) -> bool:
        """Tell whether an execution is parked for an attempt after its first."""
        parked = self._parked.get(execution_id)
        return parked is not None and parked[1].attempt > 1

    def is_busy(self, execution_id: str) -> bool:
        """Tell whether an execution is in a slot."""
        return execution_id in self._busy

    def enter(self, execution_id: str) -> None:
        """Note that an execution goes into a slot; the same one never does twice at a time."""
        self._parked.pop(execution_id, None)
        self._busy.add(execution_id)

    def leave(self, execution_id: str) -> None:
        """Park an execution that leaves its slot and is to be kept, and let go of any other."""
        parked = self._later.pop(execution_id, None)
        if parked is not None:
            self._parked[execution_id] = parked
        elif (held := self._held.pop(execution_id, None)) is not None:
            self._leases.drop(held.token)
            self._claims.drop(execution_id)
        self._busy.discard(execution_id)

    def due(self) -> Sequence[Held]:
        """Return what is parked and due."""
        now = self._clocks.steady()
        return [held for moment, held in [*self._parked.values()] if moment <= now]

    def next_due(self) -> float:
        """Return when the next parked execution becomes due, on the steady clock."""
        now = self._clocks.steady()
        return min((moment for moment, _ in [*self._parked.values()] if moment > now), default=float("inf"))

    def take(self, item: Claimable) -> None:
        """Take an execution that waits; one that is fired for later keeps no slot."""
        self._claims.wait_for_turn()
        held = self._hold(item, 1, self._claims.worker_id)
        if held is None:
            return
        try:
            self._claims.claim(held.id)
        except CueAPIError as error:  # whose it is will be asked when it is taken up
            self.troubled |= not isinstance(error, ConflictError)
            self._give_back(held)
            return
        if not self._run_later(held, 0.0):
            self._attempt(held)

    def take_up(self, lapsed: Lapsed) -> None:
        """Take what a dead worker left, or one that drained."""
        held = self._hold(Claimable.from_json(lapsed.delivery), lapsed.attempt, lapsed.delivery["worker_id"])
        if held is None:
            return
        later = self._run_later(held, lapsed.retry_in)
        level = self.waiting_level if later else logging.INFO
        log.event(logger, "taken_up", level=level, **held.facts, retry_in=round(lapsed.retry_in, 3))
        if later:
            self._claims.keep(held.id, held.worker_id, at_once=True)
        else:
            self.resume(held)

    def resume(self, held: Held) -> None:
        """Run what was held for some time, if it is still ours."""
        try:
            standing = self._claims.settle(held.id, held.worker_id)
        except CueAPIError:
            self._park(held, AGAIN_SECONDS)
            return
        if standing is Standing.GONE or (standing is Standing.ELSEWHERE and held.starts == 0):
            self._ledger.forget(held.id, held.token)
        elif standing is Standing.ELSEWHERE:
            self._ledger.postpone(held.id, held.token, attempt=held.attempt, delay=ELSEWHERE_SECONDS)
            self._give_back(held)
        else:
            if standing is Standing.OURS:
                self._claims.keep(held.id, held.worker_id)
            self._attempt(held)

    def stop(self) -> None:
        """Start nothing any more, and give back what is parked."""
        self._stopping = True
        self._leave_to_others([held for _, held in [*self._parked.values()]])

    def abandon(self) -> Sequence[str]:
        """Give back what is still in hand; return what of it runs."""
        left = [*self._held.values()]
        running = [held for held in left if held.id in self._busy]
        self._leave_to_others(left, running)
        return [held.id for held in running]

    def _hold(self, item: Claimable, attempt: int, worker_id: str) -> Held | None:
        """Hold it in the ledger; None if another worker has it, or it ended."""
        job = self._job_of(item, attempt)
        if job is None or self._stopping:
            return None
        claim = self._ledger.hold(self._entry(job, item, worker_id), lease=LEASE_SECONDS)
        if not isinstance(claim, Claimed):
            return None
        held = Held(
            item=item,
            task=job.delivery.task,
            token=claim.token,
            attempt=claim.attempt,
            starts=claim.starts,
            worker_id=worker_id,
        )
        if (before := self._held.get(held.id)) is not None:  # whose lease ran out unnoticed
            self._leases.drop(before.token)
        self._leases.keep(held.token)
        self._held[held.id] = held
        return held

    def _run_later(self, held: Held, delay: float) -> bool:
        """Park what is not due yet: a retry, or a fire for later."""
        seconds = max(delay, held.item.scheduled_for.timestamp() - self._now())
        if seconds > 0:
            self._park(held, seconds)
        return seconds > 0

    def _attempt(self, held: Held) -> None:
        if self._stopping:
            self._give_back(held)
            return
        job = self._job_of(held.item, held.attempt)
        if job is None:
            return
        claim = self._ledger.start(self._entry(job, held.item, held.worker_id), held.token)
        if claim is None:
            return  # its lease ran out, and another worker has it
        result = self._runner.run(job, claim)
        delay = _retry_delay(job, result)
        if delay is None or not self._postponed(replace(held, starts=claim.starts), delay):
            self._runner.end(job, claim, result)

    def _postponed(self, held: Held, delay: float) -> bool:
        """Keep it for its next attempt; False if another worker has it now."""
        later = replace(held, attempt=held.attempt + 1)
        try:
            if not self._ledger.postpone(held.id, held.token, attempt=later.attempt, delay=delay):
                return False
        except LedgerError as error:
            logger.warning("a retry is known to this process alone: %s", error)
        log.event(logger, "retry_waits", **later.facts, retry_in=delay)
        self._park(later, delay)
        return True

    def _park(self, held: Held, seconds: float) -> None:
        if self._stopping:
            self._give_back(held)
            return
        self._held[held.id] = held
        self._later[held.id] = (self._clocks.steady() + seconds, held)

    def _give_back(self, held: Held) -> None:
        """Leave it to whoever looks at the ledger next, which may be this worker."""
        self._abandon([held])
        self.given_back = True

    def _leave_to_others(self, left: Sequence[Held], running: Sequence[Held] = ()) -> None:
        """Give back at the end, when what runs is still to be waited for, whatever the ledger says.

        What is cut off has not crashed, and begins again, unless its task must not begin twice.
        """
        try:
            for held in running:
                if (job := self._job_of(held.item, held.attempt)) and job.policy.after_crash == "rerun":
                    self._ledger.postpone(held.id, held.token, attempt=held.attempt, delay=0.0)
            self._abandon(left)
        except LedgerError as error:
            logger.error("what this worker holds is free when its leases end: %s", error)

    def _abandon(self, left: Sequence[Held]) -> None:
        for held in left:
            self._leases.drop(held.token)
        if left:
            self._ledger.abandon([held.token for held in left])

    def _entry(self, job: Job, item: Claimable, worker_id: str) -> Entry:
        kept = stamped(item, job.delivery, self._owner).to_json()
        return replace(entry_of(job, self._owner), delivery={**kept, "worker_id": worker_id})


def _retry_delay(job: Job, result: Result) -> float | None:
    """Return the seconds until the next attempt, or None where this one was the last."""
    delivery = job.delivery
    if result.outcome.success or result.final or result.unfit or delivery.attempt >= delivery.max_attempts:
        return None
    return (Retry() if job.declared is None else job.declared.retry).delay(delivery.attempt)
