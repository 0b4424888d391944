"""`worker` as a program: real processes against a real server, ended by signals."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from cueapi import CueAPI
from cueapi_tasks.server.main import Server

from .support import API_KEY

PATIENCE = 30.0
APP = """
import time
from pathlib import Path
from cueapi_tasks import Context, CueTasks
cue = CueTasks("app", transport="worker")

@cue.schedule(cron="0 9 * * *")
def work(ctx: Context) -> str:
    with Path("effects").open("a") as effects:
        print(ctx.execution_id, ctx.attempt, file=effects)
    end = time.monotonic() + (Path("seconds").exists() and float(Path("seconds").read_text()))
    while time.monotonic() < end:
        time.sleep(0.01)
    return "done"
"""


class Place:
    """A folder with an app that is deployed on a server of its own."""

    def __init__(self, folder: Path, server: Server, client: CueAPI) -> None:
        self.folder = folder
        self.client = client
        self._environment = {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            "CUEAPI_API_KEY": API_KEY,
            "CUEAPI_BASE_URL": server.url,
            "CUEAPI_LEDGER": f"sqlite:///{folder / 'ledger.db'}",
        }
        (folder / "app.py").write_text(APP)

    @contextmanager
    def run(self, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
        """Run the command while the block does."""
        with subprocess.Popen(
            [sys.executable, "-m", "cueapi_tasks", *arguments],
            cwd=self.folder,
            env={**self._environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def end(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """Run the command to its end."""
        with self.run(*arguments, **environment) as process:
            text, _ = process.communicate(timeout=PATIENCE)
            return process.returncode, text

    def fire(self) -> str:
        return self.client.cues.fire(next(iter(self.client.cues.iter())).id).id

    def revoke_key(self) -> None:
        headers = {"Authorization": f"Bearer {API_KEY}", "X-Confirm-Destructive": "true"}
        assert httpx.post(f"{self._environment['CUEAPI_BASE_URL']}/v1/auth/key/regenerate", headers=headers).is_success

    def effects(self) -> list[str]:
        return (self.folder / "effects").read_text().split("\n")[:-1]

    def succeeded(self, execution_id: str) -> bool:
        outcome = self.client.executions.get(execution_id).outcome
        return outcome is not None and outcome.success


@pytest.fixture
def place(tmp_path: Path, server: Server, client: CueAPI) -> Place:
    made = Place(tmp_path, server, client)
    assert made.end("deploy", "app", "--yes")[0] == 0
    return made


def read_until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    return next(line for line in process.stdout if text in line)


def test_once_runs_what_is_due_and_exits(place: Place) -> None:
    fired = [place.fire(), place.fire()]
    code, text = place.end("worker", "app", "--once", "--log-format", "json")
    lines = [json.loads(line) for line in text.splitlines()]
    assert code == 0
    assert {(line["event"], line["task"], line["execution_id"]) for line in lines} == {
        (event, "work", each) for event in ("ran", "reported") for each in fired
    }
    assert all(place.succeeded(each) for each in fired)
    assert place.end("worker", "app", "--once") == (0, "")


def test_sigterm_lets_runs_end_and_takes_nothing_new(place: Place) -> None:
    (place.folder / "seconds").write_text("1")
    first = place.fire()
    with place.run("worker", "app", "--concurrency", "1") as process:
        read_until(process, "worker_started")
        while not (place.folder / "effects").exists():
            pass
        second = place.fire()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    assert place.succeeded(first)
    assert place.client.executions.get(second).status == "pending"
    assert place.client.workers.list() == []


def test_what_does_not_end_within_the_grace_is_left_to_the_next_worker_at_once(place: Place) -> None:
    (place.folder / "seconds").write_text("3600")
    fired = place.fire()
    with place.run("worker", "app", "--grace", "0.1") as process:
        while not (place.folder / "effects").exists():
            pass
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
    (place.folder / "seconds").write_text("0")
    assert place.end("worker", "app", "--once")[0] == 0
    assert place.succeeded(fired)
    assert place.effects() == [f"{fired} 1"] * 2


def test_a_second_signal_ends_it_at_once(place: Place) -> None:
    (place.folder / "seconds").write_text("3600")
    place.fire()
    with place.run("worker", "app") as process:
        while not (place.folder / "effects").exists():
            pass
        process.send_signal(signal.SIGTERM)
        read_until(process, "draining")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 128 + signal.SIGTERM


def test_a_rejected_key_ends_it_with_1_and_the_remedy(place: Place) -> None:
    code, text = place.end("worker", "app", CUEAPI_API_KEY="cue_sk_" + "0" * 32)
    assert code == 1
    assert "error [invalid_api_key]" in text
    assert "check CUEAPI_API_KEY" in text


def test_every_line_of_its_log_is_json_to_the_end(place: Place) -> None:
    (place.folder / "app.py").write_text(APP.replace('return "done"', 'raise ValueError("two\\nlines")'))
    place.fire()
    code, text = place.end("worker", "app", "--once", "--log-format", "json")
    lines = [json.loads(line) for line in text.splitlines()]
    assert code == 0
    assert [line["event"] for line in lines if "traceback" not in line] == ["ran", "retry_waits"]
    assert any("ValueError: two" in line.get("traceback", "") for line in lines)
    rejected = place.end("worker", "app", "--log-format", "json", CUEAPI_API_KEY="cue_sk_" + "0" * 32)
    last = json.loads(rejected[1].splitlines()[-1])
    assert (rejected[0], last["event"], last["code"]) == (1, "failed", "invalid_api_key")


def test_a_signal_while_the_app_is_imported_ends_it_with_0(place: Place) -> None:
    waits = "print('importing', flush=True)\nwhile not Path('go').exists(): time.sleep(0.01)\n"
    (place.folder / "app.py").write_text(APP + waits)
    with place.run("worker", "app") as process:
        read_until(process, "importing")
        process.send_signal(signal.SIGTERM)
        (place.folder / "go").touch()
        text, _ = process.communicate(timeout=PATIENCE)
        assert (process.returncode, text) == (0, "")


@pytest.mark.slow
def test_an_api_that_hangs_does_not_hold_up_the_end(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        with place.run("worker", "app", CUEAPI_BASE_URL=url) as process, deaf.accept()[0]:
            process.send_signal(signal.SIGTERM)
            assert process.wait(25.0) == 0


def test_a_key_that_is_revoked_ends_it_with_1_though_a_run_goes_on(place: Place) -> None:
    (place.folder / "seconds").write_text("3600")
    place.fire()
    with place.run("worker", "app", "--grace", "0.1", "--poll-interval", "0.1") as process:
        while not (place.folder / "effects").exists():
            pass
        place.revoke_key()
        text, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 1
    assert "check CUEAPI_API_KEY" in text


def test_a_base_url_that_is_none_is_no_outage(place: Place) -> None:
    code, text = place.end("worker", "app", CUEAPI_BASE_URL="localhost:8700")
    assert code == 1
    assert "error [bad_base_url]: CUEAPI_BASE_URL 'localhost:8700' must begin with http://" in text


def test_once_says_that_the_api_cannot_be_reached(place: Place) -> None:
    code, text = place.end("worker", "app", "--once", CUEAPI_BASE_URL="http://127.0.0.1:9")
    assert code == 1
    assert "check CUEAPI_BASE_URL" in text


def test_tasks_that_are_not_deployed_are_named(place: Place) -> None:
    more = '\ncue.schedule(cron="0 5 * * *", task="more")(lambda: None)\n'
    (place.folder / "app.py").write_text(APP + more)
    code, text = place.end("worker", "app", "--once")
    assert code == 0
    assert "not_deployed tasks=app/more remedy='run cueapi-tasks deploy'" in text


def test_without_a_key_it_says_how_to_get_on(place: Place) -> None:
    code, text = place.end("worker", "app", CUEAPI_API_KEY="")
    assert code == 1
    assert "error [no_api_key]" in text
