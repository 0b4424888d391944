"""Planning and deploying many tasks, against a loop of the official SDK's `create` and on its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from cueapi import Cue, CueAPI
from cueapi_tasks.declare.schedules import recurring
from cueapi_tasks.declare.spec import CueSpec, Owner
from cueapi_tasks.deploy import normal
from cueapi_tasks.deploy.apply import apply
from cueapi_tasks.deploy.pace import Pace
from cueapi_tasks.deploy.plan import Intent, plan
from cueapi_tasks.server.main import DATABASE
from cueapi_tasks.server.schemas import HostedCueIn
from tests.remote import Remote
from tests.support import ACCOUNT, API_KEY, NOON, ROOT, engine_of

from .measure import Ratio, seconds
from .serving import Bench, at_most, bench

CALLBACK = "http://receiver.test/cueapi"
LATENCY = 0.025
"""Seconds added to each answer."""
OFFICIAL = """
import sys, time
from cueapi import CueAPI
client = CueAPI(sys.argv[1], base_url=sys.argv[2])
begun = time.perf_counter()
for number in range(int(sys.argv[4])):
    cron = f"{number % 60} {number % 24} * * *"
    client.cues.create(name=f"{sys.argv[3]}-{number}", cron=cron, callback="http://receiver.test/cueapi", payload={"task": "t"})
print(time.perf_counter() - begun)
"""
PLAN = """
import resource, sys, time
from cueapi_tasks.cli.main import main
begun = time.perf_counter()
code = main(["plan", "app.py", "--json", "--revision", "1"])
print(time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, code, file=sys.stderr)
"""
APP = """
from cueapi_tasks import CueTasks
cue = CueTasks("billing", callback="http://receiver.test/cueapi")
for number in range(%d):
    cue.schedule(cron=f"{number %% 60} {number %% 24} * * *", task=f"task{number}")(lambda: None)
"""


def run(size: int) -> list[Ratio]:
    share = min(1.0, size / 20_000)
    return [*_in_sync(1000), *_first_deploys(max(60, int(1000 * share))), *_memory(max(1000, int(10_000 * share)))]


def specs(app: str, count: int) -> list[CueSpec]:
    return [
        CueSpec(
            owner=Owner(app=app),
            task=f"task{number}",
            name=f"{app}/task{number}",
            schedule_name=None,
            schedule=recurring(f"{number % 60} {number % 24} * * *", "UTC"),
            callback=CALLBACK,
            payload={},
        )
        for number in range(count)
    ]


def _in_sync(count: int) -> list[Ratio]:
    remote, wanted = Remote(), specs("billing", count)
    assert remote.apply(remote.plan(wanted, Owner(app="billing"))).failures == ()
    requests, writes = remote.line.requests, len(remote.line.writes)
    cues = list(remote.client.cues.iter())
    assert (remote.line.requests - requests, len(remote.line.writes) - writes) == (count // 100, 0)
    step = partial(_plan, wanted, cues)
    assert not step()
    ratio = at_most(f"plan of {count} tasks in sync", min(seconds(step, 1) for _ in range(5)) * 1000, 100, "ms")
    remote.close()
    return [ratio]


def _plan(wanted: Sequence[CueSpec], cues: Iterable[Cue]) -> bool:
    return bool(plan(wanted, cues, owner=Owner(app="billing"), intent=Intent(now=NOON)).changed)


def _first_deploys(count: int) -> list[Ratio]:
    with TemporaryDirectory() as folder, bench() as made:
        python = _official(Path(folder))
        near = sorted((_duel(made, python, made.client.base_url, count) for _ in range(3)), key=_share)[1]
        slow = Relay(int(made.client.base_url.rpartition(":")[2]))
        far = _duel(made, python, slow.url, count)
        slow.stop()
    return [
        Ratio(
            name=f"first deploy of {count} / official SDK in a loop",
            value=_share(near),
            target=1,
            detail=_pair(near),
            enforced=False,  # eight threads of one interpreter gain nothing where nothing has to be waited for
        ),
        Ratio(name="the same with 25 ms of latency", value=_share(far), target=1 / 3, detail=_pair(far)),
    ]


def _share(times: tuple[float, float]) -> float:
    return times[0] / times[1]


def _pair(times: tuple[float, float]) -> str:
    return f"{times[0]:.2f} s against {times[1]:.2f} s"


def _official(folder: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "cueapi-sdk==0.1.3"], check=True)
    return python


def _duel(made: Bench, python: Path, url: str, count: int) -> tuple[float, float]:
    """Return the seconds of our first deploy, its list and its verification included, and of the official loop."""
    label = f"n{time.monotonic_ns()}"
    arguments = [str(python), "-c", OFFICIAL, API_KEY, url, label, str(count)]
    owner, wanted = Owner(app=label), specs(label, count)
    with CueAPI(API_KEY, base_url=url) as client:
        begun = time.perf_counter()
        intent = Intent(now=datetime.now(timezone.utc))
        report = apply(plan(wanted, client.cues.iter(), owner=owner, intent=intent), Pace(client), lambda change: None)
        assert report.failures == ()
        assert not plan(wanted, client.cues.iter(), owner=owner, intent=intent).changed
        ours = time.perf_counter() - begun
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, cwd=python.parent)
    return ours, float(done.stdout)


class Relay:
    """A line to a port on which every answer takes some time longer."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._port))
            for source, target, delay in ((near, far, 0.0), (far, near, LATENCY)):
                threading.Thread(target=self._copy, args=(source, target, delay), daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket, delay: float) -> None:
        while data := source.recv(65536):
            time.sleep(delay)
            target.sendall(data)
        target.close()


def _memory(count: int) -> list[Ratio]:
    whole, peak = _planned(count)
    tenth, _ = _planned(count // 10)
    return [
        at_most(f"peak memory of a plan of {count} tasks in sync", peak, 250, "MB"),
        Ratio(
            name=f"time of a plan of {count} tasks / 10 x that of {count // 10}",
            value=whole / (10 * tenth),
            target=1.5,
            detail=f"{whole:.2f} s against {tenth:.2f} s",
        ),
    ]


def _fill(path: Path, count: int) -> None:
    """Make the cues of an app straight in the server's file."""
    with engine_of(path) as engine:
        for spec in specs("billing", count):
            schedule = {"type": "recurring", "cron": normal.of_spec(spec)["schedule.cron"], "timezone": "UTC"}
            callback = {"url": CALLBACK, "method": "POST"}
            body = {"name": spec.name, "schedule": schedule, "callback": callback, "payload": spec.wire_payload()}
            engine.cues.create(ACCOUNT, HostedCueIn.model_validate(body), NOON)


def _planned(count: int) -> tuple[float, float]:
    """Return the seconds and megabytes of a `plan` in a process of its own, all in sync."""
    with TemporaryDirectory() as folder:
        data = Path(folder)
        _fill(data / DATABASE, count)
        (data / "app.py").write_text(APP % count)
        made = Bench(data)
        environment = {
            "CUEAPI_API_KEY": API_KEY, "CUEAPI_BASE_URL": made.client.base_url,
            "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        done = subprocess.run([sys.executable, "-c", PLAN], cwd=data, capture_output=True, text=True, env=environment)
        made.stop()
        made.receiver.http.stop()
    assert json.loads(done.stdout)["summary"]["keep"] == count, done.stderr
    taken, megabytes, _ = done.stderr.splitlines()[-1].split()
    return float(taken), float(megabytes)
