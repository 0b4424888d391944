"""Four receivers on one ledger, killed at random and at each step: nothing is lost, and no success runs again."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cueapi import CueAPI
from cueapi_tasks import CueTasks
from cueapi_tasks.deploy.apply import apply
from cueapi_tasks.deploy.pace import Pace
from cueapi_tasks.deploy.plan import Intent, plan
from cueapi_tasks.server.main import Clock, Credentials, Server

from .crashing import STEPS
from .support import API_KEY, ROOT, SECRET

pytestmark = pytest.mark.slow

EXECUTIONS = 2000
KILLS = 30
RATE = 20.0
RECEIVERS = 4
PATIENCE = 120.0


class Receivers:
    """Processes that share one listening socket and one ledger; a dead one is replaced."""

    def __init__(self, folder: Path, ledger: str, server: Server, clock: Clock) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._settings = {
            "folder": str(folder),
            "ledger": ledger,
            "rate": RATE,
            "began": clock._began.isoformat(),
            "api_key": API_KEY,
            "secret": SECRET,
            "url": server.url,
            "fd": self._listener.fileno(),
        }
        self._folder = folder
        self._starts = 0
        self._processes = [self._start() for _ in range(RECEIVERS)]

    def steps_left(self) -> list[str]:
        """Return the steps at which none has died yet."""
        return [step for step in STEPS if not (self._folder / f"died-{step}").exists()]

    def tend(self) -> None:
        """Replace the dead."""
        for number, process in enumerate(self._processes):
            if process.poll() is not None:
                self._processes[number] = self._start()

    def kill_one(self, chance: random.Random) -> None:
        victim = chance.choice(self._processes)
        victim.send_signal(signal.SIGKILL)
        victim.wait()

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        self._listener.close()

    def _start(self) -> subprocess.Popen[bytes]:
        left = self.steps_left()
        step = left[self._starts % len(left)] if left else ""
        self._starts += 1
        settings = json.dumps({**self._settings, "step": step})
        command = [sys.executable, "-m", "tests.crashing", settings]
        return subprocess.Popen(command, cwd=ROOT, pass_fds=[self._listener.fileno()], stderr=subprocess.DEVNULL)


@pytest.fixture
def clock() -> Clock:
    return Clock(RATE)


@pytest.fixture
def server(tmp_path: Path, clock: Clock) -> Iterator[Server]:
    made = Server(
        data=tmp_path / "server", credentials=Credentials(api_key=API_KEY, webhook_secret=SECRET), clock=clock
    )
    made.start()
    yield made
    made.stop()


def deploy(client: CueAPI, callback: str, clock: Clock) -> str:
    app = CueTasks("billing", callback=callback)
    retry = {"max_attempts": 10, "backoff_minutes": [1]}
    app.schedule(cron="0 9 * * *", task="work", retry=retry)(lambda: None)
    made = plan(app.specs(), client.cues.iter(), owner=app.owner, intent=Intent(now=clock()))
    assert apply(made, Pace(client), lambda change: None).failures == ()
    return next(iter(client.cues.iter())).id


def until(condition: Callable[[], bool], each: Callable[[], None]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        each()
        time.sleep(0.05)


def test_nothing_is_lost_and_no_success_runs_again(
    tmp_path: Path, shared_ledger: str, server: Server, clock: Clock
) -> None:
    chance = random.Random(6)
    receivers = Receivers(tmp_path, shared_ledger, server, clock)
    with CueAPI(API_KEY, base_url=server.url) as client:
        cue_id = deploy(client, receivers.url, clock)
        fired: list[str] = []
        kills = 0
        for number in range(EXECUTIONS):
            fired.append(client.cues.fire(cue_id).id)
            if number % 10 == 0:
                receivers.tend()
            if number % (EXECUTIONS // KILLS) == EXECUTIONS // KILLS - 1:
                receivers.kill_one(chance)
                kills += 1
        until(
            lambda: client.executions.list(outcome_state="reported_success", limit=1).total == len(fired),
            receivers.tend,
        )
        assert client.executions.list(outcome_state="reported_failure", limit=1).total == 0
    receivers.stop()
    assert kills == KILLS
    assert receivers.steps_left() == []
    assert_no_success_ran_again((tmp_path / "effects").read_text(), fired)


def assert_no_success_ran_again(effects: str, fired: list[str]) -> None:
    """Read what happened in the order in which it reached the disk."""
    recorded: Counter[str] = Counter()
    started: Counter[str] = Counter()
    for line in effects.splitlines():
        what, execution_id = line.split()
        if what == "started":
            assert recorded[execution_id] == 0, f"{execution_id} ran again after its success was recorded"
            started[execution_id] += 1
        else:
            recorded[execution_id] += 1
    assert {*started} == {*fired}
    assert all(count == 1 for count in recorded.values())
    assert sum(started.values()) > len(fired)  # kills did find runs
