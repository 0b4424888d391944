"""Three workers on one ledger, killed at random and cut off from the API: nothing is lost, and no success runs again."""

from __future__ import annotations

import json
import random
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cueapi import CueAPI
from cueapi_tasks import CueTasks
from cueapi_tasks.deploy.apply import apply
from cueapi_tasks.deploy.pace import Pace
from cueapi_tasks.deploy.plan import Intent, plan
from cueapi_tasks.run.ledger import open_ledger
from cueapi_tasks.server.main import Clock, Credentials, Server
from cueapi_tasks.server.profile import CORE, Profile

from .labouring import make_app
from .support import API_KEY, ROOT, SECRET

pytestmark = pytest.mark.slow

EXECUTIONS = 1000
KILLS = 15
CUTS = 4
RATE = 30.0
WORKERS = 3
CONCURRENCY = 30
PATIENCE = 150.0
MOST_WAITING = 150
"""Executions that wait for a worker: the core gives up what nobody claims for 900 s."""


class Proxy:
    """A real TCP connection to the server that can be cut."""

    def __init__(self, port: int) -> None:
        self.cut = threading.Event()
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self.cut.set()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        with closing(client):
            if self.cut.is_set():
                return
            with closing(socket.create_connection(("127.0.0.1", self._port))) as server:
                self._pass(client, server)

    def _pass(self, client: socket.socket, server: socket.socket) -> None:
        other = {client: server, server: client}
        try:
            while not self.cut.is_set():
                for ready in select.select([client, server], [], [], 0.05)[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    other[ready].sendall(data)
        except OSError:
            return


class Workers:
    """Processes on one ledger; a dead one is replaced."""

    def __init__(self, folder: Path, ledger: str, url: str, clock: Clock, environment: str | None = None) -> None:
        self._settings = {
            "folder": str(folder),
            "ledger": ledger,
            "rate": RATE,
            "began": clock._began.isoformat(),
            "api_key": API_KEY,
            "url": url,
            "concurrency": CONCURRENCY,
            "environment": environment,
        }
        self._log = (folder / "log").open("ab")
        self._processes = [self._start() for _ in range(WORKERS)]

    def tend(self) -> None:
        """Replace the dead."""
        for number, process in enumerate(self._processes):
            if process.poll() is not None:
                self._processes[number] = self._start()

    def signal_one(self, number: int, chance: random.Random) -> None:
        victim = chance.choice(self._processes)
        victim.send_signal(number)
        victim.wait(60)

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
        assert [process.wait(60) for process in self._processes] == [0] * WORKERS
        self._log.close()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.labouring", json.dumps(self._settings)]
        return subprocess.Popen(command, cwd=ROOT, stdout=self._log, stderr=self._log)


@pytest.fixture
def clock() -> Clock:
    return Clock(RATE)


@pytest.fixture(params=["default", "core"])
def server(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Server]:
    credentials = Credentials(api_key=API_KEY, webhook_secret=SECRET)
    profile = Profile(quirks=CORE) if request.param == "core" else Profile()
    made = Server(data=tmp_path / "server", credentials=credentials, clock=clock, profile=profile)
    made.start()
    yield made
    made.stop()


def deploy(client: CueAPI, app: CueTasks, clock: Clock) -> str:
    made = plan(app.specs(), client.cues.iter(), owner=app.owner, intent=Intent(now=clock()))
    assert apply(made, Pace(client), lambda change: None).failures == ()
    return next(cue.id for cue in client.cues.iter() if cue.name == f"{app.owner.scope}/work")


def until(condition: Callable[[], bool], each: Callable[[], None]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        each()
        time.sleep(0.05)


def count(client: CueAPI, **filters: Any) -> int:
    return client.executions.list(limit=1, **filters).total


@pytest.mark.parametrize(
    ("server", "shared_ledger"),
    [("default", "sqlite"), ("core", "sqlite"), ("default", "redis"), ("core", "postgres")],
    indirect=True,
)
def test_each_execution_ends_once_and_no_success_runs_again(
    tmp_path: Path, server: Server, shared_ledger: str, clock: Clock
) -> None:
    chance = random.Random(7)
    proxy = Proxy(server.http.port)
    workers = Workers(tmp_path, shared_ledger, proxy.url, clock)
    with CueAPI(API_KEY, base_url=server.url) as client:
        cue_id = deploy(client, make_app(), clock)
        fired: list[str] = []
        for number in range(1, EXECUTIONS + 1):
            fired.append(client.cues.fire(cue_id).id)
            if number % 10 == 0:
                workers.tend()
                until(lambda: count(client, status="pending") < MOST_WAITING, workers.tend)
            if number % (EXECUTIONS // KILLS) == 0:
                workers.signal_one(signal.SIGTERM if number % 4 == 0 else signal.SIGKILL, chance)
            if number % (EXECUTIONS // CUTS) == EXECUTIONS // CUTS // 2:
                proxy.cut.set()
                threading.Timer(2.0, proxy.cut.clear).start()
        until(lambda: count(client, outcome_state="reported_success") == len(fired), workers.tend)
        until(lambda: count(client, status="success") == len(fired), workers.tend)
    workers.stop()
    proxy.close()
    assert_no_success_ran_again((tmp_path / "effects").read_text(), fired)
    with closing(open_ledger(shared_ledger)) as ledger:
        assert ledger.lapsed("billing", transport="worker", limit=1) == []
        assert ledger.unreported("billing", limit=1) == []


def assert_no_success_ran_again(effects: str, fired: list[str]) -> None:
    """Read what happened in the order in which it reached the disk."""
    recorded: set[str] = set()
    started: Counter[str] = Counter()
    attempts: Counter[int] = Counter()
    for line in effects.splitlines():
        what, execution_id, attempt = line.split()
        if what == "started":
            assert execution_id not in recorded, f"{execution_id} ran again after its success was recorded"
            started[execution_id] += 1
            attempts[int(attempt)] += 1
        else:
            assert execution_id not in recorded
            recorded.add(execution_id)
    assert {*started} == {*fired}
    assert recorded <= {*fired}
    assert len(fired) - len(recorded) <= KILLS  # a kill may come between a record in the ledger and its line here
    assert attempts[2] > EXECUTIONS / 20  # the retries
    assert sum(started.values()) > len(fired) + attempts[2]  # kills did find runs


def test_two_environments_on_one_account_run_their_own(tmp_path: Path, server: Server, clock: Clock) -> None:
    names = ("staging", "production")
    folders = [tmp_path / name for name in names]
    with CueAPI(API_KEY, base_url=server.url) as client:
        cues = [deploy(client, make_app(environment=name), clock) for name in names]
        for folder in folders:
            folder.mkdir()
        workers = [
            Workers(folder, f"sqlite:///{folder / 'ledger.db'}", server.url, clock, name)
            for folder, name in zip(folders, names, strict=True)
        ]
        fired = [{client.cues.fire(cue_id).id for _ in range(100)} for cue_id in cues]
        until(lambda: count(client, status="success") == 200, lambda: None)
    for group in workers:
        group.stop()
    ran = [{line.split()[1] for line in (folder / "effects").read_text().splitlines()} for folder in folders]
    assert ran == fired
