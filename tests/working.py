"""A worker beside an account in one process, on a hand-set clock: no port, no sleep, no thread that matters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from cueapi import Execution
from cueapi_tasks import CueTasks
from cueapi_tasks.run.intake import Lanes
from cueapi_tasks.run.lane import Lane
from cueapi_tasks.run.ledger.base import Ledger
from cueapi_tasks.run.ledger.memory import MemoryLedger
from cueapi_tasks.run.report import Reporter
from cueapi_tasks.run.runner import Clocks
from cueapi_tasks.run.worker import Worker, WorkerOptions
from cueapi_tasks.server.profile import CORE, Limits, Profile

from .remote import Remote

CORE_PROFILE = Profile(quirks=CORE)
MOST_TURNS = 1000
"""In which no time passes."""


class Inline(Executor):
    """Runs each step where it is submitted."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        fn(*args, **kwargs)
        return Future()


class InlineReporter(Reporter):
    """Reports where it is told to, however young an outcome is."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._born = float("inf")

    def catch_up(self) -> None:
        self._round()

    def close(self) -> None:
        """Leave the client open, which the test goes on to use."""


class Workplace:
    """An account, a ledger, and the workers of one app and of others."""

    def __init__(self, app: CueTasks, profile: Profile | None = None, ledger: Ledger | None = None) -> None:
        self.app = app
        self.remote = Remote(profile)
        self.clock = self.remote.clock
        self.client = self.remote.client
        self.ledger = ledger or MemoryLedger()
        self._workers: list[Worker] = []
        self.deploy(app)

    def deploy(self, app: CueTasks) -> None:
        assert self.remote.apply(self.remote.plan(app.specs(), app.owner)).failures == ()

    def cue_id(self, name: str) -> str:
        return next(cue.id for cue in self.client.cues.iter() if cue.name == name)

    def fire(self, name: str = "billing/report", **options: Any) -> str:
        self.clock.advance(milliseconds=1)
        return self.client.cues.fire(self.cue_id(name), **options).id

    def worker(self, app: CueTasks | None = None, *, slots: int = 10, behind: float = 0.0, **options: Any) -> Worker:
        """Return a worker whose clock is so many seconds behind the server's."""
        mine = app or self.app
        clocks = Clocks(
            now=lambda: self.clock.timestamp() - behind, steady=self.clock.timestamp, sleep=self.remote.wait
        )
        made = Worker(
            registry=mine.registry,
            owner=mine.owner,
            former=mine.former_owner,
            client=self.client.with_options(max_retries=0),
            ledger=self.ledger,
            stage=mine.stage,
            reporter=InlineReporter(
                self.ledger,
                mine.owner.scope,
                lambda: self.client.with_options(max_retries=0),
                former=mine.former_owner and mine.former_owner.scope,
            ),
            options=WorkerOptions(**options),
            clocks=clocks,
            chance=lambda: 0.5,
            lanes=Lanes(plain=inline_lane(slots), asynchronous=inline_lane(slots)),
        )
        self._workers.append(made)
        return made

    def work(self, *workers: Worker, seconds: float = 0.0) -> None:
        """Let workers do what there is to do, for so long."""
        end = self.clock.now + timedelta(seconds=seconds)
        restless = 0
        while restless < MOST_TURNS:
            pause = min(worker.turn() for worker in workers)
            left = (end - self.clock.now).total_seconds()
            if left <= 0 < pause:
                return
            restless = restless + 1 if pause == 0 else 0
            if pause > 0:
                self.pass_time(max(0.001, min(pause, left)), *workers)
        raise AssertionError("the workers never rest")

    def pass_time(self, seconds: float, *workers: Worker) -> None:
        """Let time pass at the server, and heartbeats be sent as they become due."""
        end = self.clock.now + timedelta(seconds=seconds)
        while self.clock.now < end:
            self.remote.wait(min(5.0, (end - self.clock.now).total_seconds()))
            for worker in workers:
                worker._claims.beat()

    def get(self, execution_id: str) -> Execution:
        return self.client.executions.get(execution_id)

    def succeeded(self, execution_id: str) -> bool:
        outcome = self.get(execution_id).outcome
        return outcome is not None and outcome.success

    def error(self, execution_id: str) -> str | None:
        outcome = self.get(execution_id).outcome
        return None if outcome is None else outcome.error

    def close(self) -> None:
        for worker in self._workers:
            worker._leases.close()
        self.remote.close()


@contextmanager
def workplace(app: CueTasks, profile: Profile | None = None, ledger: Ledger | None = None) -> Iterator[Workplace]:
    made = Workplace(app, profile, ledger)
    yield made
    made.close()


def inline_lane(slots: int) -> Lane:
    return Lane(slots, "test", lambda: None, Inline())


def limited(requests: int) -> Profile:
    return Profile(limits=Limits(requests_per_minute=requests))
