"""A worker in a process of its own, on a clock that runs as fast as the server's; see test_worker_crash."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from cueapi import CueAPI
from cueapi_tasks import Context, CueTasks
from cueapi_tasks.run import lease, report
from cueapi_tasks.run.ledger import open_ledger
from cueapi_tasks.run.ledger.base import Answer, Claim, Entry, Lapsed, Ledger
from cueapi_tasks.run.outcome import Outcome
from cueapi_tasks.run.report import Reporter
from cueapi_tasks.run.runner import Clocks
from cueapi_tasks.run.worker import Worker, WorkerOptions

LONG_SECONDS = 330.0
"""A run that the core would give up without heartbeats."""


class Effects:
    """An append-only file that is on the disk before a call returns."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(self, what: str, execution_id: str, attempt: int = 0) -> None:
        os.write(self._file, f"{what} {execution_id} {attempt}\n".encode())
        os.fsync(self._file)


class Hasty:
    """A ledger whose durations are those of the fast clock; it notes each success before it says so."""

    def __init__(self, inner: Ledger, rate: float, effects: Effects) -> None:
        self._inner = inner
        self._rate = rate
        self._effects = effects

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def hold(self, entry: Entry, *, lease: float) -> Claim:
        return self._inner.hold(entry, lease=lease / self._rate)

    def renew(self, tokens: Sequence[str], *, lease: float) -> None:
        self._inner.renew(tokens, lease=lease / self._rate)

    def postpone(self, execution_id: str, token: str, *, attempt: int, delay: float) -> bool:
        return self._inner.postpone(execution_id, token, attempt=attempt, delay=delay / self._rate)

    def lapsed(self, scope: str, *, transport: str, limit: int) -> Sequence[Lapsed]:
        found = self._inner.lapsed(scope, transport=transport, limit=limit)
        return [replace(each, retry_in=each.retry_in * self._rate) for each in found]

    def finish(self, execution_id: str, token: str, answer: Answer, outcome: Outcome) -> bool:
        done = self._inner.finish(execution_id, token, answer, outcome)
        if done:
            self._effects.note("recorded", execution_id)
        return done


def make_app(effects: Effects | None = None, rate: float = 1.0, environment: str | None = None) -> CueTasks:
    """Return the app; of each ten executions one raises at first, and one is long."""
    app = CueTasks("billing", transport="worker", environment=environment)
    retry = {"max_attempts": 10, "backoff_minutes": [2, 5]}

    @app.schedule(cron="0 9 * * *", retry=retry)
    def work(ctx: Context) -> str:
        assert effects is not None
        effects.note("started", ctx.execution_id, ctx.attempt)
        kind = int(ctx.execution_id[-2:], 16) % 10
        if kind == 0 and ctx.attempt == 1:
            raise ValueError("not yet")
        time.sleep(LONG_SECONDS / rate if kind == 1 else 0.01)
        return "done"

    return app


def fast_clocks(began: datetime, rate: float) -> Clocks:
    """Return clocks that show what the server's shows."""

    def wait(event: threading.Event, seconds: float) -> bool:
        return event.wait(min(seconds, 3600.0) / rate)

    return Clocks(
        now=lambda: began.timestamp() + (time.time() - began.timestamp()) * rate,
        steady=lambda: time.monotonic() * rate,
        sleep=lambda seconds: time.sleep(seconds / rate),
        wait=wait,
    )


def work(settings: Mapping[str, Any]) -> None:
    """Pull and run until SIGTERM."""
    rate: float = settings["rate"]
    vars(lease)["RENEW_SECONDS"] /= rate
    report.RETRY_SECONDS /= rate
    effects = Effects(Path(settings["folder"]) / "effects")
    app = make_app(effects, rate, settings["environment"])
    ledger = Hasty(open_ledger(settings["ledger"]), rate, effects)
    client = CueAPI(settings["api_key"], base_url=settings["url"], timeout=3.0)
    reporting = CueAPI(settings["api_key"], base_url=settings["url"], timeout=3.0, max_retries=0)
    worker = Worker(
        registry=app.registry,
        owner=app.owner,
        client=client,
        ledger=ledger,
        reporter=Reporter(ledger, app.owner.scope, lambda: reporting),
        stage=app.stage,
        options=WorkerOptions(concurrency=settings["concurrency"]),
        clocks=fast_clocks(datetime.fromisoformat(settings["began"]), rate),
    )
    thread = threading.Thread(target=worker.run)
    signal.signal(signal.SIGTERM, lambda number, frame: worker.stop())
    thread.start()
    while thread.is_alive():
        thread.join(0.2)
    os._exit(0)


if __name__ == "__main__":
    work(json.loads(sys.argv[1]))
