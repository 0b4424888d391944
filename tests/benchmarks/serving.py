"""The embedded server over loopback: creates, deliveries, lateness, and what idle cues cost."""

from __future__ import annotations

import json
import os
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

from cueapi import CueAPI
from cueapi_tasks.server.http import HttpServer
from cueapi_tasks.server.main import Server, make_credentials
from cueapi_tasks.web import Request, Response, wsgi

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
    """A server, a receiver and a client."""

    def __init__(self, folder: Path) -> None:
        self.credentials = make_credentials()
        self.folder = folder
        self.receiver = Receiver()
        self.start()

    def start(self) -> None:
        self.server = Server(data=self.folder, credentials=self.credentials)
        self.server.start()
        self.client = CueAPI(self.credentials.api_key, base_url=self.server.url)

    def stop(self) -> None:
        self.client.close()
        self.server.stop()

    def create(self, name: str, *, at: datetime | None = None) -> str:
        schedule = {"cron": HOURLY} if at is None else {"at": at}
        return self.client.cues.create(name, callback=self.receiver.http.url, **schedule).id  # type: ignore[arg-type]


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
    made.receiver.late.clear()
    at = datetime.now(timezone.utc) + timedelta(seconds=2)
    for number in range(count):
        made.create(f"many {number}", at=at)
    made.receiver.wait_for(count)
    late = sorted(1000 * each for each in made.receiver.late)
    wanted = (("first", late[0], 20), ("median", late[count // 2], 100), ("p99", late[count * 99 // 100], 250))
    return [at_most(f"{count} due at once, {name}", value, target, "ms") for name, value, target in wanted]


def _idle(made: Bench, count: int) -> list[Ratio]:
    scheduler = made.server.engine.scheduler
    for number in range(count):
        made.create(f"idle {number}", at=FAR)
    now = datetime.now(timezone.utc)
    full = statistics.median(seconds(lambda: scheduler.tick(now), 50) for _ in range(ROUNDS))
    found = [_cpu(count)]
    made.stop()
    begun = time.perf_counter()
    made.start()
    made.client.me()
    found.append(at_most(f"start to ready with {count} cues", time.perf_counter() - begun, 1, "s"))
    with bench() as other:
        for number in range(10):
            other.create(f"few {number}")
        few = statistics.median(seconds(lambda: other.server.engine.scheduler.tick(now), 50) for _ in range(ROUNDS))
    detail = f"{full * 1e6:.0f} us against {few * 1e6:.0f} us"
    return [
        *found,
        Ratio(name=f"tick with {count} cues / with 10, none due", value=full / few, target=1.5, detail=detail),
        _memory(),
    ]


def _cpu(count: int) -> Ratio:
    before = time.process_time()
    threading.Event().wait(3.0)
    return at_most(f"{count} cues idle", 100 * (time.process_time() - before) / 3.0, 1, "% of a core")


def _memory() -> Ratio:
    pages = int(Path(f"/proc/{os.getpid()}/statm").read_text().split()[1])
    return at_most("memory, server and bench together", pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 150, "MB")
