"""`dev` and `server` as programs: real processes, real sockets, SIGKILL and Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, Queue

import pytest

from cueapi import AuthenticationError, CueAPI
from cueapi_tasks.run.ledger.base import Answer, Claimed, Entry
from cueapi_tasks.run.ledger.sqlite import SqliteLedger
from cueapi_tasks.run.outcome import Outcome

PATIENCE = 30.0
APP = """
from cueapi_tasks import CueTasks
cue = CueTasks("app", base_url="http://127.0.0.1:9", callback="http://example.com/x", webhook_secret="other")

@cue.schedule(cron="0 9 * * *")
def good() -> str:
    return "fine"
"""
BAD = (
    APP
    + """
@cue.schedule(cron="0 9 * * *")
def bad() -> None:
    raise RuntimeError("boom")
"""
)
PULLED = """
@cue.schedule(cron="0 9 * * *", transport="worker")
def pulled() -> str:
    return "fine"

@cue.schedule(cron="0 9 * * *", transport="worker")
def failing() -> None:
    raise RuntimeError("boom")
"""
DECEIVED = APP.replace(
    "cue = CueTasks(",
    """
class Deceived(CueTasks):
    def override(self, **settings):
        super().override(**(settings | {"webhook_secret": "whsec_not_the_servers"}))

cue = Deceived(""",
)


class Program:
    """A running `cueapi-tasks`, its lines read as they come."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cueapi_tasks", *arguments],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines: Queue[str | None] = Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.seen: list[str] = []

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Return the match in the first further line that has one."""
        while True:
            try:
                line = self._lines.get(timeout=PATIENCE)
            except Empty:
                pytest.fail(f"no line like {pattern!r} in:\n" + "\n".join(self.seen))
            if line is None:
                pytest.fail(f"ended without a line like {pattern!r}:\n" + "\n".join(self.seen))
            self.seen.append(line)
            if match := re.search(pattern, line):
                return match

    def end(self, number: int | None = None) -> int:
        """Send a signal, if one is given, and return the exit code."""
        if number is not None:
            self._process.send_signal(number)
        code = self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        while (line := self._lines.get()) is not None:
            self.seen.append(line)
        if self._process.stdout is not None:
            self._process.stdout.close()
        return code

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def text(self) -> str:
        return "\n".join(self.seen)


Run = Callable[..., Program]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    programs: list[Program] = []

    def start(*arguments: str, source: str = APP) -> Program:
        (tmp_path / "app.py").write_text(source)
        programs.append(Program(tmp_path, *arguments))
        return programs[-1]

    yield start
    for program in programs:
        if program.running:
            program.end(signal.SIGKILL)


def connect(folder: Path) -> CueAPI:
    state = json.loads((folder / ".cueapi" / "app" / "state.json").read_text())
    return CueAPI(state["api_key"], base_url=f"http://127.0.0.1:{state['server_port']}")


def test_now_and_exit_show_each_step_of_each_run_and_end_with_0(run: Run) -> None:
    program = run("dev", "app.py", "--now", "--exit")
    assert program.end() == 0
    for step in (
        "fired",
        "ran",
        "outcome +reported_success: fine",
        "delivered +attempt 1: HTTP 200",
        "1 of 1 runs succeeded",
    ):
        assert re.search(step, program.text), program.text
    assert "example.com" not in program.text


@pytest.mark.parametrize(("source", "says"), [(BAD, "RuntimeError: boom"), (DECEIVED, "401 bad_signature")])
def test_a_run_that_fails_ends_it_with_1_without_waiting_minutes_for_its_retry(
    run: Run, source: str, says: str
) -> None:
    program = run("dev", "app.py", "--now", "--exit", source=source)
    assert program.end() == 1
    assert says in program.text
    assert "not waiting for further attempts" in program.text


def test_what_a_fire_would_spoil_is_left_alone(run: Run) -> None:
    source = APP + '\ncue.schedule(at="2099-01-01T00:00", task="later")(lambda: None)\n'
    program = run("dev", "app.py", "--now", "--exit", source=source)
    assert program.end() == 0
    assert "later is not fired: a fire would use up its one-time cue" in program.text


def test_webhook_and_worker_tasks_of_one_app_both_run(run: Run) -> None:
    program = run("dev", "app.py", "--now", "--exit", source=APP + PULLED)
    assert program.end() == 1
    assert re.search(r"pulled +ran +in .* s: completed", program.text)
    assert re.search(r"failing +retry waits +attempt 2 in 60 s", program.text)
    assert re.search(r"good +delivered +attempt 1: HTTP 200", program.text)
    assert program.seen[-2:] == ["not waiting for further attempts", "2 of 3 runs succeeded"]


def test_ctrl_c_ends_cleanly_and_the_next_start_keeps_the_ports(run: Run) -> None:
    ports: list[str] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        program = run("dev", "app")
        program.wait_for("Ctrl-C")
        ports.append("".join(re.findall(r"127\.0\.0\.1:\d+", program.text)))
        assert program.end(number) == 0
        assert program.seen[-1] == "stopped"
        assert "Traceback" not in program.text
    assert ports[0] == ports[1]


def test_a_second_dev_on_the_same_data_is_refused(run: Run) -> None:
    run("dev", "app").wait_for("Ctrl-C")
    second = run("dev", "app")
    assert second.end() == 1
    assert "another server may be running" in second.text


def test_after_a_kill_everything_is_still_there(run: Run, tmp_path: Path) -> None:
    first = run("dev", "app", source=BAD)
    first.wait_for("Ctrl-C")
    with connect(tmp_path) as client:
        made = client.cues.create("made by hand", cron="0 9 * * *", callback="http://127.0.0.1:9/")
        cues = {cue.name: cue.id for cue in client.cues.iter()}
        waiting = client.cues.fire(cues["app/bad"])
        first.wait_for("attempt failed")
        unreported = client.cues.fire(made.id)
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    leave_unreported(tmp_path, unreported.id)
    second = run("dev", "app", source=BAD)
    second.wait_for("outcome +reported_success: late news")
    with connect(tmp_path) as client:
        assert client.cues.get(made.id).name == "made by hand"
        assert client.executions.get(waiting.id).status == "retrying"
        outcome = client.executions.get(unreported.id).outcome
        assert outcome is not None
        assert outcome.result == "late news"


def leave_unreported(folder: Path, execution_id: str) -> None:
    """Leave the ledger as a process does that is killed between finishing a run and reporting it."""
    ledger = SqliteLedger(folder / ".cueapi" / "app" / "ledger.db")
    entry = Entry(
        execution_id=execution_id, scope="app", task="t", cue_id="c", transport="webhook", attempt=1, max_attempts=3
    )
    claim = ledger.claim(entry, lease=30)
    assert isinstance(claim, Claimed)
    ledger.finish(
        execution_id, claim.token, Answer(status=200, body={}), Outcome(success=True, evidence={"result": "late news"})
    )
    ledger.close()


def test_the_server_alone_makes_a_key_once_and_keeps_it(run: Run, tmp_path: Path) -> None:
    first = run("server", "--port", "0", "--data", "data")
    key = first.wait_for(r"^CUEAPI_API_KEY=(\S+)")[1]
    secret = first.wait_for(r"^CUEAPI_WEBHOOK_SECRET=(\S+)")[1]
    first.wait_for("CueAPI on")
    assert first.end(signal.SIGTERM) == 0
    second = run("server", "--port", "0", "--data", "data")
    url = second.wait_for(r"CueAPI on (http://\S+),")[1]
    assert key not in second.text
    assert secret not in second.text
    with CueAPI(key, base_url=url) as client:
        assert client.me().email == "local@localhost"


def test_a_restart_brings_no_revoked_key_and_no_former_secret_back(run: Run) -> None:
    start = ("server", "--port", "0", "--data", "data", "--api-key", "cue_sk_1", "--webhook-secret", "s1")
    first = run(*start)
    with CueAPI("cue_sk_1", base_url=first.wait_for(r"CueAPI on (http://\S+),")[1]) as client:
        secret = client.webhook_secret.regenerate(confirm=True)
        headers = {"X-Confirm-Destructive": "true"}
        key = client.http._client.post("/v1/auth/key/regenerate", headers=headers).json()["api_key"]
    assert first.end(signal.SIGTERM) == 0
    second = run(*start)
    url = second.wait_for(r"CueAPI on (http://\S+),")[1]
    with CueAPI("cue_sk_1", base_url=url) as revoked, pytest.raises(AuthenticationError):
        revoked.me()
    with CueAPI(key, base_url=url) as client:
        assert client.webhook_secret.get() == secret
    assert second.end(signal.SIGTERM) == 0
    assert [*re.findall(r"regenerated_since given=(\w+)", second.text)] == ["webhook_secret", "api_key"]
    third = run(*start[:-4], "--api-key", "cue_sk_3", "--webhook-secret", "s3")  # another one is meant
    with CueAPI("cue_sk_3", base_url=third.wait_for(r"CueAPI on (http://\S+),")[1]) as client:
        assert client.webhook_secret.get() == "s3"


def test_the_server_takes_a_key_and_a_secret_and_refuses_a_taken_port(run: Run, tmp_path: Path) -> None:
    first = run("server", "--port", "0", "--data", "data", "--api-key", "k1", "--webhook-secret", "s1")
    port = first.wait_for(r"CueAPI on http://127\.0\.0\.1:(\d+)")[1]
    with CueAPI("k1", base_url=f"http://127.0.0.1:{port}") as client:
        assert client.cues.list().total == 0
    second = run("server", "--port", port, "--data", "other")
    assert second.end() == 1
    assert "error [port_taken]" in second.text
