"""The worker against the official one, with a trivial task each, and how soon after it is due a run begins."""

from __future__ import annotations

import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support import API_KEY, ROOT

from .measure import Ratio
from .serving import Bench, at_least, at_most, bench

CONCURRENCY = 8
APP = """
import time
from cueapi_tasks import Context, CueTasks
cue = CueTasks("pulled", transport="worker")

@cue.schedule(cron="0 0 1 1 *")
def work(ctx: Context) -> str:
    return str(time.time() - ctx.scheduled_for.timestamp())
"""


def run(size: int) -> list[Ratio]:
    share = min(1.0, size / 20_000)
    with bench() as made, TemporaryDirectory() as folder:
        rate = _ours(made, Path(folder), max(100, int(500 * share)))
        official = _official(made, Path(folder), 5 * CONCURRENCY)
        late = _lateness(made, Path(folder), max(11, int(41 * share)))
    return [
        at_least(f"executions by a worker of {CONCURRENCY} slots", rate, 60, "1/s"),
        Ratio(
            name="the official worker's rate / ours",
            value=official / rate,
            target=1 / 10,
            detail=f"{official:.1f} against {rate:.1f} 1/s",
        ),
        at_most("median from due to begun, idle, polling every second", late, 0.8, "s"),
    ]


def _ours(made: Bench, folder: Path, count: int) -> float:
    """Return the executions a second, the process's start included."""
    (folder / "app.py").write_text(APP)
    environment = _environment(made, folder)
    subprocess.run([*_command("deploy"), "--yes"], cwd=folder, env=environment, check=True, capture_output=True)
    _fire(made, "pulled/work", count)
    begun = time.perf_counter()
    command = [*_command("worker"), "--once", "--concurrency", str(CONCURRENCY)]
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    taken = time.perf_counter() - begun
    assert made.client.executions.list(status="success", limit=1).total == count
    return count / taken


def _official(made: Bench, folder: Path, count: int) -> float:
    """Return the executions a second of cueapi-worker 0.3.0 as it comes, with `true` as the handler."""
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    programs = folder / "venv" / "bin"
    subprocess.run([programs / "pip", "install", "--quiet", "cueapi-worker==0.3.0"], check=True)
    config = {
        "api_key": API_KEY,
        "api_base": made.client.base_url,
        "max_concurrent": CONCURRENCY,
        "handlers": {"official": "true"},
    }
    (folder / "worker.yaml").write_text(json.dumps(config))
    made.client.cues.create("official", cron="0 0 1 1 *", transport="worker", payload={"task": "official"})
    before = made.client.executions.list(status="success", limit=1).total
    _fire(made, "official", count)
    command = [str(programs / "cueapi-worker"), "start", "--config", str(folder / "worker.yaml")]
    begun = time.perf_counter()
    with _running(command, folder, {**os.environ, "HOME": str(folder)}):
        while made.client.executions.list(status="success", limit=1).total < before + count:
            time.sleep(0.05)
        return count / (time.perf_counter() - begun)


def _lateness(made: Bench, folder: Path, count: int) -> float:
    """Return the median seconds from a fire to the beginning of its run."""
    chance = random.Random(7)
    late: list[float] = []
    with _running([*_command("worker"), "--poll-interval", "1"], folder, _environment(made, folder)):
        for _ in range(count):
            time.sleep(0.5 + chance.random())
            (execution_id,) = _fire(made, "pulled/work", 1)
            while (outcome := made.client.executions.get(execution_id).outcome) is None:
                time.sleep(0.05)
            late.append(float(outcome.result or "nan"))
    return statistics.median(late[1:])


def _fire(made: Bench, name: str, count: int) -> list[str]:
    cue_id = next(cue.id for cue in made.client.cues.iter() if cue.name == name)
    return [made.client.cues.fire(cue_id).id for _ in range(count)]


def _command(verb: str) -> list[str]:
    return [sys.executable, "-m", "cueapi_tasks", verb, "app.py"]


def _environment(made: Bench, folder: Path) -> dict[str, str]:
    return {
        "CUEAPI_API_KEY": API_KEY, "CUEAPI_BASE_URL": made.client.base_url,
        "CUEAPI_LEDGER": f"sqlite:///{folder / 'ledger.db'}", "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT),
    }  # fmt: skip


@contextmanager
def _running(command: list[str], folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=quiet, stderr=quiet) as process:
        yield
        process.send_signal(signal.SIGTERM)
        process.wait(60)
