"""SIGKILL under load: what was acknowledged is there, what was due is delivered, what had succeeded is not delivered again."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cueapi import APIConnectionError, CueAPI, CueAPIError
from cueapi_tasks.server.http import HttpServer
from cueapi_tasks.web import Request, Response, wsgi

from .support import API_KEY, SECRET

pytestmark = pytest.mark.slow

KILLS = 20
PATIENCE = 60.0


class Receiver:
    """Answers 200 and remembers when each execution was delivered."""

    def __init__(self) -> None:
        self.delivered: dict[str, list[float]] = {}
        self._lock = threading.Lock()
        self.http = HttpServer(wsgi(self._take), host="127.0.0.1", port=0)
        self.http.start()

    def _take(self, request: Request) -> Response:
        execution_id: str = json.loads(request.body)["execution_id"]
        with self._lock:
            self.delivered.setdefault(execution_id, []).append(time.monotonic())
        return Response(status=200, json={})


class Load:
    """Creates, fires and reports for as long as it runs, and remembers what the server acknowledged."""

    def __init__(self, client: CueAPI, callback: str) -> None:
        self._client, self._callback = client, callback
        self.cues: list[str] = []
        self.fired: list[str] = []
        self.outcomes: list[str] = []
        self._stop = threading.Event()
        steps = (self._create, self._fire, self._report)
        self._threads = [threading.Thread(target=self._repeat, args=(step,)) for step in steps]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, step: Callable[[], None]) -> None:
        while not self._stop.wait(0.002):
            with contextlib.suppress(APIConnectionError):
                step()

    def _create(self) -> None:
        name, retry = f"c{time.monotonic_ns()}", {"max_attempts": 10, "backoff_minutes": [0]}
        cue = self._client.cues.create(name, cron="0 9 * * *", callback=self._callback, retry=retry)
        self.cues.append(cue.id)

    def _fire(self) -> None:
        if self.cues:
            self.fired.append(self._client.cues.fire(random.choice(self.cues[-20:])).id)

    def _report(self) -> None:
        if len(self.fired) > len(self.outcomes):
            execution_id = self.fired[len(self.outcomes)]
            with contextlib.suppress(CueAPIError):
                self._client.executions.report_outcome(execution_id, success=True, result="r")
            if self._client.executions.get(execution_id).outcome is not None:
                self.outcomes.append(execution_id)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.http.stop()


def start(data: Path, port: int) -> subprocess.Popen[bytes]:
    credentials = ("--api-key", API_KEY, "--webhook-secret", SECRET)
    arguments = [sys.executable, "-m", "cueapi_tasks", "server", "--port", str(port), "--data", str(data), *credentials]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return process
        assert process.poll() is None, "the server did not start"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def all_executions(client: CueAPI) -> dict[str, Any]:
    found: dict[str, Any] = {}
    while True:
        page = client.executions.list(limit=100, offset=len(found))
        found |= {execution.id: execution for execution in page.executions}
        if len(found) >= page.total:
            return found


def test_nothing_acknowledged_is_lost_and_nothing_that_succeeded_comes_again(
    tmp_path: Path, receiver: Receiver
) -> None:
    port, chance = free_port(), random.Random(7)
    client = CueAPI(API_KEY, base_url=f"http://127.0.0.1:{port}", max_retries=0)
    process = start(tmp_path, port)
    client.cues.create("each second", cron="* * * * * *", callback=receiver.http.url)
    succeeded: dict[str, float] = {}
    load = Load(client, receiver.http.url)
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.1, 0.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process = start(tmp_path, port)
        page = client.executions.list(status="success", limit=100)
        known = time.monotonic()
        succeeded = {execution.id: known for execution in page.executions} | succeeded
    load.stop()
    client.cues.pause(client.cues.list(limit=100, offset=len(load.cues)).cues[-1].id)
    wait_until_delivered(client)
    check(client, load, receiver, succeeded)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    client.close()


def wait_until_delivered(client: CueAPI) -> None:
    deadline = time.monotonic() + PATIENCE
    while any(client.executions.list(status=status).total for status in ("pending", "delivering", "retrying")):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def check(client: CueAPI, load: Load, receiver: Receiver, succeeded: dict[str, float]) -> None:
    executions = all_executions(client)
    assert len(load.cues) > KILLS
    assert len(load.fired) > KILLS
    assert {*load.cues} <= {cue.id for cue in client.cues.iter()}
    assert {*load.fired} <= executions.keys()
    assert [each for each in load.outcomes if executions[each].outcome is None] == []
    assert {execution.status for execution in executions.values()} == {"success"}
    assert executions.keys() <= receiver.delivered.keys()
    again = [each for each, when in succeeded.items() if any(at > when for at in receiver.delivered[each])]
    assert succeeded
    assert again == []
