"""The embedded server over loopback: creates, deliveries, lateness, and what idle cues cost."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

from cueapi import CueAPI
from cueapi_tasks.server.http import HttpServer
from cueapi_tasks.server.schemas import HostedCueIn
from cueapi_tasks.web import Request, Response, wsgi
from tests.support import ACCOUNT, API_KEY, NOON, SECRET, engine_of

from .measure import ROUNDS, Ratio, seconds

HOURLY = "0 * * * *"
FAR = datetime(2099, 1, 1, tzinfo=timezone.utc)


class Receiver:
    """Notes how late each delivery is, by the scheduled moment that it carries."""

    def __init__(self) -> None:
        self.late: list[float] = []
        self.http = HttpServer(wsgi(self._take), host="127.0.0.1", port=0)
        self.http.start()

    def _take(self, request: Request) -> Response:
        scheduled = datetime.fromisoformat(json.loads(request.body)["scheduled_for"])
        self.late.append((datetime.now(timezone.utc) - scheduled).total_seconds())
        return Response(status=200, json={})

    def wait_for(self, count: int) -> None:
        while len(self.late) < count:
            time.sleep(0.005)


class Bench:
    """A server in a process of its own, a receiver and a client."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.receiver = Receiver()
        self.start()

    def start(self) -> None:
        keys = ("--api-key", API_KEY, "--webhook-secret", SECRET)
        command = [sys.executable, "-m", "cueapi_tasks", "server", "--port", "0", "--data", str(self.folder), *keys]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        url = self.process.stdout.readline().split()[2].rstrip(",")
        self.client = CueAPI(API_KEY, base_url=url)

    def stop(self) -> None:
        self.client.close()
        self.process.terminate()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def create(self, name: str, *, at: datetime | None = None) -> str:
        url = self.receiver.http.url
        if at is not None:
            return self.client.cues.create(name, callback=url, at=at).id
        return self.client.cues.create(name, callback=url, cron=HOURLY).id

    def processor_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def megabytes(self) -> float:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextmanager
def bench() -> Iterator[Bench]:
    with TemporaryDirectory() as folder:
        made = Bench(Path(folder))
        yield made
        made.stop()
        made.receiver.http.stop()


def run(size: int) -> list[Ratio]:
    share = min(1.0, size / 20_000)
    with bench() as made:
        found = [_creates(made, max(100, int(1000 * share))), _fires(made, max(100, int(200 * share)))]
        found += [_one_due(made, 3), *_many_due(made, 100)]
        return found + _idle(made, int(10_000 * share))


def at_least(name: str, value: float, target: float, unit: str) -> Ratio:
    """Return a rate as a ratio: the target over it, to be at most 1."""
    return Ratio(
        name=f"{name} / target of {target:g} {unit}", value=target / value, target=1, detail=f"{value:.0f} {unit}"
    )


def at_most(name: str, value: float, target: float, unit: str) -> Ratio:
    """Return an amount as its ratio to the target, to be at most 1."""
    return Ratio(
        name=f"{name} / target of {target:g} {unit}", value=value / target, target=1, detail=f"{value:.2f} {unit}"
    )


def _creates(made: Bench, count: int) -> Ratio:
    begun = time.perf_counter()
    for number in range(count):
        made.create(f"create {number}")
    return at_least(f"{count} creates", count / (time.perf_counter() - begun), 300, "a second")


def _fires(made: Bench, count: int) -> Ratio:
    cue_id = made.create("fired")
    made.receiver.late.clear()
    begun = time.perf_counter()
    for _ in range(count):
        made.client.cues.fire(cue_id)
    made.receiver.wait_for(count)
    return at_least(f"{count} fires delivered", count / (time.perf_counter() - begun), 200, "a second")


def _one_due(made: Bench, times: int) -> Ratio:
    late: list[float] = []
    for number in range(times):
        made.receiver.late.clear()
        made.create(f"one {number}", at=datetime.now(timezone.utc) + timedelta(seconds=0.5))
        made.receiver.wait_for(1)
        late += made.receiver.late
    return at_most("one due cue, lateness in the median", 1000 * statistics.median(late), 20, "ms")


def _many_due(made: Bench, count: int) -> list[Ratio]:
    rounds = [_lateness(made, f"many {number}", count) for number in range(3)]
    first, median, p99 = (statistics.median(figures) for figures in zip(*rounds, strict=True))
    wanted = (("first", first, 20), ("median", median, 100), ("p99", p99, 250))
    return [at_most(f"{count} due at once, {name}", value, target, "ms") for name, value, target in wanted]


def _lateness(made: Bench, name: str, count: int) -> tuple[float, float, float]:
    """Return how late the first, the median and the 99th percentile of many deliveries of one second are, in ms."""
    made.receiver.late.clear()
    at = datetime.now(timezone.utc) + timedelta(seconds=2)
    for number in range(count):
        made.create(f"{name} {number}", at=at)
    made.receiver.wait_for(count)
    late = sorted(1000 * each for each in made.receiver.late)
    return late[0], late[count // 2], late[count * 99 // 100]


def _idle(made: Bench, count: int) -> list[Ratio]:
    for number in range(count):
        made.create(f"idle {number}", at=FAR)
    before = made.processor_seconds()
    threading.Event().wait(5.0)
    share = 100 * (made.processor_seconds() - before) / 5.0
    memory = made.megabytes()
    made.stop()
    begun = time.perf_counter()
    made.start()
    made.client.me()
    ready = time.perf_counter() - begun
    return [
        at_most(f"{count} cues idle", share, 1, "% of a core"),
        at_most(f"{count} cues idle, memory", memory, 150, "MB"),
        at_most(f"start to ready with {count} cues", ready, 1, "s"),
        _tick(count),
    ]


def _tick(count: int) -> Ratio:
    """Compare a tick in which nothing is due, over many cues and over ten."""
    times = {number: _tick_seconds(number) for number in (count, 10)}
    detail = f"{times[count] * 1e6:.0f} us against {times[10] * 1e6:.0f} us"
    return Ratio(
        name=f"tick with {count} cues / with 10, none due", value=times[count] / times[10], target=1.5, detail=detail
    )


def _tick_seconds(count: int) -> float:
    with engine_of() as engine:
        for number in range(count):
            schedule = {"type": "once", "at": FAR}
            body = {"name": str(number), "schedule": schedule, "transport": "worker"}
            engine.cues.create(ACCOUNT, HostedCueIn.model_validate(body), NOON)
        return statistics.median(seconds(lambda: engine.scheduler.tick(NOON), 50) for _ in range(ROUNDS))
