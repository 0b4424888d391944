"""How a web process gets its receiver: settings that no receiver can be made of, and processes that fork."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from cueapi_tasks import CueTasks

from .support import ROOT, SECRET


def over_wsgi(cue: CueTasks) -> tuple[int, Any]:
    lines: list[str] = []
    environ: dict[str, Any] = {"REQUEST_METHOD": "POST", "wsgi.input": io.BytesIO()}
    content = b"".join(cue.wsgi(environ, lambda line, _: lines.append(line)))
    return int(lines[0][:3]), json.loads(content)


def over_asgi(cue: CueTasks) -> tuple[int, Any]:
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    asyncio.run(cue.asgi({"type": "http", "method": "POST", "headers": []}, receive, send))
    return sent[0]["status"], json.loads(sent[1]["body"])


@pytest.mark.parametrize("post", [over_wsgi, over_asgi])
@pytest.mark.parametrize(
    ("name", "value", "reason", "remedy"),
    [
        ("CUEAPI_LEDGER", "mysql://u:hunter2@host/db", "unknown_ledger", "use sqlite:"),
        ("CUEAPI_LEDGER", "redis://u:hunter2@host/0?foo=bar", "bad_ledger", "redis://user:password@host"),
        ("CUEAPI_LEDGER", "redis://host", "missing_extra", "pip install"),
        ("CUEAPI_ENVIRONMENT", "sta ging", "bad_name", "may hold only"),
    ],
)
def test_settings_that_make_no_receiver_are_a_refusal_that_is_explained_once_until_they_are_mended(
    post: Callable[[CueTasks], tuple[int, Any]],
    name: str,
    value: str,
    reason: str,
    remedy: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if reason == "missing_extra":
        monkeypatch.setitem(sys.modules, "redis", None)
        monkeypatch.delitem(sys.modules, "cueapi_tasks.run.ledger.redis", raising=False)
    monkeypatch.setenv("CUEAPI_LEDGER", "memory:")
    monkeypatch.setenv(name, value)
    cue = CueTasks("billing", webhook_secret=SECRET)
    for _ in range(2):
        assert post(cue) == (503, {"status": "refused", "reason": reason})
    (said,) = [record.message for record in caplog.records if record.message.startswith("nothing runs")]
    assert remedy in said
    assert "hunter2" not in caplog.text
    monkeypatch.setenv(name, "memory:" if name == "CUEAPI_LEDGER" else "staging")
    assert post(cue) == (401, {"status": "refused", "reason": "missing_signature"})
    cue.close()


FORKING = """
import os, sys, threading
from datetime import datetime, timezone
from cueapi_tasks import CueTasks
from tests.support import SECRET, envelope, signed, stamp_payload
from tests.test_receiver_start import over_asgi, over_wsgi

cue = CueTasks("billing", webhook_secret=SECRET, ledger=f"sqlite:///{sys.argv[1]}")
before = signed(envelope(payload=stamp_payload()), at=datetime.now(timezone.utc))

@cue.schedule(cron="0 9 * * *")
def report():
    assert "cueapi-tasks-leases" in [each.name for each in threading.enumerate()]

@cue.schedule(cron="0 9 * * *")
async def later():
    assert "cueapi-tasks-async" in [each.name for each in threading.enumerate()]

def run(task):
    body = envelope(payload=stamp_payload(task))
    answer = cue.receiver.handle(signed(body, at=datetime.now(timezone.utc)))
    assert answer.status == 200, answer

def both():
    run("report")
    run("later")
    assert cue.receiver.handle(before).json["reason"] == "completed"
    assert over_wsgi(cue) == over_asgi(cue) == (401, {"status": "refused", "reason": "missing_signature"})

both()
child = os.fork()
if child == 0:
    both()
    cue.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
both()
cue.close()
"""


def test_a_process_that_forks_leaves_its_child_a_receiver_of_its_own(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FORKING, str(tmp_path / "ledger.db")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
