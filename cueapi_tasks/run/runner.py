"""An execution that this process has claimed: run it, write its end down, report it; the same however it came."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .. import log
from ..declare.context import Context
from ..declare.policy import RUN
from ..declare.spec import Owner
from ..errors import LedgerError, RunError
from .delivery import Delivery, Job
from .dispatch import Stage, dispatch
from .ledger.base import Answer, Claimed, Entry, Ledger, Report
from .outcome import Outcome, Result, skipped
from .report import Reporter

FINISH_SECONDS = 5.0
"""How long a finished run tries to be written down."""
SLOW_SECONDS = 25.0
"""What a run by webhook safely has: CueAPI gives up after 30."""
PAUSE_SECONDS = 0.25
"""Between two tries to write to the ledger."""

logger = logging.getLogger("cueapi_tasks.run")


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """A process's time, handed in by tests: wall clock, steady clock, and two ways to wait."""

    now: Callable[[], float] = time.time
    steady: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    wait: Callable[[threading.Event, float], bool] = threading.Event.wait
    """Waits for an event, at most so many seconds; True if it came."""


class Runner:
    """Runs what is claimed, and ends it."""

    def __init__(self, *, ledger: Ledger, reporter: Reporter, stage: Stage, clocks: Clocks) -> None:
        self._ledger = ledger
        self._reporter = reporter
        self._stage = stage
        self._clocks = clocks

    def run(self, job: Job, claim: Claimed) -> Result:
        """Return how the attempt ended: by a run, or by a reason not to run."""
        started = self._clocks.steady()
        result = self._unfit(job, claim) or dispatch(
            job.task, context_of(job, claim), self._stage, timeout=job.policy.timeout
        )
        _log_run(job.delivery, result, self._clocks.steady() - started)
        return result

    def end(self, job: Job, claim: Claimed, result: Result, *, until: float | None = None) -> Answer:
        """Write the end down and report it, unless another owner has the execution now; return the answer.

        Where somebody waits for that until a moment on the steady clock, the report may follow later.
        """
        status = "success" if result.outcome.success else "failure"
        answer = Answer(status=result.status, body={"status": status, "reason": result.reason})
        if self._finished(job.delivery, claim, answer, result.outcome):
            delivery = job.delivery
            self._reporter.report(
                Report(execution_id=delivery.execution_id, task=delivery.task, outcome=result.outcome),
                within=None if until is None else until - self._clocks.steady(),
            )
            if result.cause is not None:
                self._stage.hooks.failed(context_of(job, claim), result.cause)
        return answer

    def _unfit(self, job: Job, claim: Claimed) -> Result | None:
        """Return the end of an execution that must not run, or None for one that may."""
        if claim.decision not in (RUN, None):
            return skipped(claim.decision)
        if claim.crashed and job.policy.after_crash == "fail":
            crashed = RunError("crashed", "the process died in the middle of the run, and after_crash='fail'")
            return self._stage.failure(crashed, reason="crashed", final=True)
        if claim.crashed and claim.starts > job.delivery.max_attempts:
            died = RunError("process_died", f"process died {claim.starts - 1} times in this run")
            return self._stage.failure(died, reason="process_died", final=True)
        return None

    def _finished(self, delivery: Delivery, claim: Claimed, answer: Answer, outcome: Outcome) -> bool:
        """Write the end down; True if this run's outcome is the one to report.

        When the ledger cannot be written any more the outcome is reported all the same: the function has run. So it is
        after a failure of which nobody knows what it wrote.
        """
        failures: list[LedgerError] = []
        try:
            done = self.written(
                lambda: self._ledger.finish(delivery.execution_id, claim.token, answer, outcome), failures.append
            )
        except LedgerError as error:
            logger.error("the end of %s could not be written down: %s", delivery.execution_id, error)
            return True
        if not done and not failures:
            lost = "another process took it, since this one's lease had run out; its outcome counts"
            log.event(logger, "run_lost", level=logging.WARNING, **_facts(delivery), why=lost)
        return done or bool(failures)

    def written(self, write: Callable[[], bool], failed: Callable[[LedgerError], object] = lambda _: None) -> bool:
        """Return what `write` answers, tried again for `FINISH_SECONDS`; `failed` is told of each failure."""
        deadline = self._clocks.steady() + FINISH_SECONDS
        while True:
            try:
                return write()
            except LedgerError as error:
                failed(error)
                if self._clocks.steady() >= deadline:
                    raise
                self._clocks.sleep(PAUSE_SECONDS)


def entry_of(job: Job, owner: Owner) -> Entry:
    """Return what the ledger keeps of an execution."""
    delivery = job.delivery
    return Entry(
        execution_id=delivery.execution_id,
        scope=owner.scope,
        task=delivery.task,
        cue_id=delivery.cue_id,
        transport=delivery.transport,
        attempt=delivery.attempt,
        max_attempts=delivery.max_attempts,
        decision=job.decide(),
        exclusive=job.policy.overlap == "skip",
    )


def context_of(job: Job, claim: Claimed) -> Context:
    """Return the run's facts; a later attempt that was turned away while this one ran may be the last."""
    return job.delivery.context(is_last_attempt=claim.attempt >= job.delivery.max_attempts)


def _facts(delivery: Delivery) -> dict[str, Any]:
    return {"task": delivery.task, "execution_id": delivery.execution_id, "attempt": delivery.attempt}


def _log_run(delivery: Delivery, result: Result, seconds: float) -> None:
    slow = seconds > SLOW_SECONDS and delivery.transport == "webhook"
    level = logging.INFO if result.outcome.success else logging.WARNING
    if not slow and not logger.isEnabledFor(level):
        return
    run = _facts(delivery)
    took = round(seconds, 3)
    error = result.outcome.evidence.get("error")
    log.event(logger, "ran", level=level, **run, reason=result.reason, seconds=took, error=error)
    if slow:
        remedy = "CueAPI gives a webhook 30 s: declare the task with transport='worker', or hand its work to a queue"
        log.event(logger, "slow_run", level=logging.WARNING, **run, seconds=took, remedy=remedy)
