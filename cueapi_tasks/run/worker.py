"""The pull road: a process that takes executions from the server's queue, runs them, and drains when it is told to."""

from __future__ import annotations

import logging
import platform
import random
import re
import threading
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from cueapi import CueAPIError

from .. import log
from ..declare.registry import Registry
from ..declare.spec import Owner, cue_name
from ..errors import LedgerError
from .claims import Claims
from .delivery import Claimable, Job, from_queue, job_of
from .dispatch import Stage
from .holder import Holder
from .intake import Intake, Lanes
from .lane import Lane
from .lease import LeaseKeeper
from .ledger.base import Ledger
from .ledger.memory import MemoryLedger
from .link import Link
from .report import Reporter
from .runner import Clocks, Runner

if TYPE_CHECKING:
    from cueapi import CueAPI

CATCH_UP_SECONDS = 30.0
"""Between two looks at outcomes that could not be reported."""
NAME_SECONDS = 60.0
"""Between two tries to see what is deployed."""

logger = logging.getLogger("cueapi_tasks.run")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """How much a worker does at a time; durations in seconds."""

    concurrency: int = 10
    """Threads for plain functions."""
    async_concurrency: int = 100
    """`async def` tasks at a time, on one event loop."""
    poll_interval: float = 5.0
    """Between two polls of a queue in which nothing waits."""
    grace: float = 25.0
    """How long a drain lets runs end; Kubernetes kills after 30 s."""


class Worker:
    """Runs one app's executions in one environment until it is told to stop."""

    def __init__(
        self,
        *,
        registry: Registry,
        owner: Owner,
        client: CueAPI,
        ledger: Ledger,
        reporter: Reporter,
        stage: Stage,
        former: Owner | None = None,
        options: WorkerOptions | None = None,
        clocks: Clocks | None = None,
        chance: Callable[[], float] = random.random,
        lanes: Lanes | None = None,
    ) -> None:
        self.still_running: Sequence[str] = ()
        """The executions that a drain has not seen end."""
        self.id = f"{owner.scope[:100]}-{_host()}-{uuid.uuid4().hex[:12]}"
        self._registry = registry
        self._owner = owner
        self._former = former
        self._owners = (owner,) if former is None else (owner, former)
        self._ledger = ledger
        self._reporter = reporter
        self._stage = stage
        self._options = options or WorkerOptions()
        self._clocks = clocks or Clocks()
        self._level = logging.INFO
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._lanes = lanes or Lanes(
            plain=Lane(self._options.concurrency, "run", self._wake.set),
            asynchronous=Lane(self._options.async_concurrency, "async", self._wake.set),
        )
        self._link = Link(client, self._clocks, on_rejected=self.stop, stopping=self._stop)
        self._leases = LeaseKeeper(ledger)
        self._claims = Claims(self._link, self.id, self._handlers(), self._clocks)
        self._holder = Holder(
            owner=owner,
            job_of=self._job,
            ledger=ledger,
            leases=self._leases,
            claims=self._claims,
            runner=Runner(ledger=ledger, reporter=reporter, stage=stage, clocks=self._clocks),
            clocks=self._clocks,
            now=self._link.now,
        )
        self._intake = Intake(
            scopes=[each.scope for each in self._owners],
            job_of=self._job,
            link=self._link,
            ledger=ledger,
            claims=self._claims,
            holder=self._holder,
            lanes=self._lanes,
            poll_interval=self._options.poll_interval,
            clocks=self._clocks,
            chance=chance,
        )
        self._stop_at = self._catch_up_at = self._name_at = self._clocks.steady()
        self._unforeseen: Exception | None = None

    def run(self, *, once: bool = False) -> Sequence[str]:
        """Work until `stop`, or with `once` until nothing is due; drain, and return what is `still_running`.

        Raises:
            AuthenticationError: The API refused the key.
            CueAPIError: With `once`, the API could not be asked.
            LedgerError: With `once`, the ledger could not be used.
        """
        self._level = self._holder.waiting_level = logging.DEBUG if once else logging.INFO  # what cron calls is quiet
        self._start()
        while not self._stop.is_set():
            pause = self._turn()
            if once and self._is_over:
                self._claims.beat_all()
                self.stop()
                break
            self._clocks.wait(self._wake, pause)
            self._wake.clear()
        self.still_running = self._drain()
        failure = self._link.rejected or (self._failure if once else None)
        if failure is not None:
            raise failure
        return self.still_running

    def stop(self) -> None:
        """Begin to drain; from any thread, but not from a signal's handler in the thread that runs."""
        if not self._stop.is_set():
            self._stop_at = self._clocks.steady()
        self._stop.set()
        self._wake.set()

    def retries(self, execution_id: str) -> bool:
        """Tell whether an execution failed here and waits for its next attempt."""
        return self._holder.retries(execution_id)

    def turn(self) -> float:
        """Do what there is to do now; return the seconds until there may be more."""
        if self._clocks.steady() >= self._name_at:
            self._name_undeployed()
        if self._clocks.steady() >= self._catch_up_at:
            self._catch_up_at = self._clocks.steady() + CATCH_UP_SECONDS
            self._reporter.catch_up()
        return self._intake.turn()

    @property
    def idle(self) -> bool:
        """Whether no thread of its slots is at work."""
        return self._lanes.idle

    @property
    def _is_over(self) -> bool:
        """Whether nothing is due, or what is cannot be had; what runs is waited for."""
        return self._intake.done or (self._failure is not None and self.idle)

    @property
    def _failure(self) -> Exception | None:
        watches = (self._link.watch, self._intake.ledger_watch, self._intake.writing_watch)
        failures = [*(watch.error for watch in watches), self._intake.source.failure, self._unforeseen]
        return next((failure for failure in failures if failure is not None), None)

    def _start(self) -> None:
        tasks = ",".join(self._handlers())
        facts = {"worker": self.id, "tasks": tasks}
        log.event(logger, "worker_started", level=self._level, **facts, concurrency=self._options.concurrency)
        if isinstance(self._ledger, MemoryLedger):
            logger.warning("the ledger is in memory: what this process holds or could not report ends with it")
        if not self._handlers():
            logger.warning("%r declares no task with transport='worker'", self._owner.scope)
        self._claims.beat()
        self._claims.start()

    def _turn(self) -> float:
        """Do one turn; whatever fails in it fails no further."""
        self._unforeseen = None
        try:
            return self.turn()
        except LedgerError as error:
            self._intake.ledger_watch.failed(error)
        except Exception as error:
            self._unforeseen = error
            logger.exception("the worker goes on after an error in its loop")
        return self._options.poll_interval

    def _name_undeployed(self) -> None:
        """Say once which tasks nothing will ever fire."""
        try:
            deployed = {cue.name for cue in self._intake.source.cues()}
        except CueAPIError:
            self._name_at = self._clocks.steady() + NAME_SECONDS
            return  # the link has said why
        self._name_at = float("inf")
        specs = [spec for spec in self._registry.specs(self._owner, None, self._former) if spec.transport == "worker"]
        missing = [spec.name for spec in specs if not deployed & {spec.name, *spec.former_names}]
        if missing:
            facts = {"tasks": ",".join(missing), "remedy": "run cueapi-tasks deploy"}
            log.event(logger, "not_deployed", level=logging.WARNING, **facts)

    def _drain(self) -> Sequence[str]:
        """Let runs end, give back what waits or goes on, and close; return what goes on."""
        log.event(logger, "draining", level=self._level, grace=self._options.grace)
        deadline = self._stop_at + self._options.grace
        self._holder.stop()
        while not self.idle and (seconds := deadline - self._clocks.steady()) > 0:
            self._clocks.wait(self._wake, seconds)
            self._wake.clear()
        self._close(patience=max(0.0, deadline - self._clocks.steady()))
        left = self._holder.abandon()  # last: from then on another worker may begin what still runs here
        if self.idle:
            self._ledger.close()
        log.event(logger, "drained", level=logging.INFO if left else self._level, still_running=len(left))
        return left

    def _close(self, patience: float) -> None:
        """End what this worker does beside its runs; what hangs in a call is waited for so many seconds."""
        self._claims.close(patience)
        self._leases.close()
        self._lanes.plain.close()
        self._lanes.asynchronous.close()
        if self.idle:
            if self._link.watch.error is None:
                with suppress(CueAPIError):
                    self._claims.forget_worker()
            self._stage.loop.close()
        self._reporter.close()

    def _handlers(self) -> Sequence[str]:
        """Return the names of the tasks that workers run, as they stand in `payload.task`."""
        pulled = [task for task in self._registry if any(each.transport == "worker" for each in task.declared)]
        return [cue_name(self._owner, task.name, None) for task in pulled]

    def _job(self, item: Claimable, attempt: int = 1) -> Job | None:
        now = datetime.fromtimestamp(self._link.now(), timezone.utc)
        delivery = from_queue(item, self._owners, self._registry.find, attempt=attempt, now=now)
        return None if delivery is None else job_of(delivery, self._registry.get(delivery.task))


def _host() -> str:
    """Return this machine's name as it may stand in a header."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", platform.node()[:100])
