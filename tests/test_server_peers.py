"""Programs that were never written for this server drive it: the official SDK, worker and CLI, in environments of their own.

What they did is read back through our client.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cueapi import CueAPI, Execution
from cueapi_tasks.server.http import HttpServer
from cueapi_tasks.server.main import Server
from cueapi_tasks.web import Request, Response, wsgi

from .support import API_KEY

pytestmark = pytest.mark.slow

PATIENCE = 60.0
SDK_CALLS = """
import json, sys
from cueapi import CueAPI, CueNotFoundError, InvalidScheduleError, CueAPIError
client = CueAPI("%(key)s", base_url="%(url)s")
cue = client.cues.create(name="sdk", cron="0 9 * * *", timezone="America/New_York", callback="%(callback)s",
    callback_headers={"X-A": "1"}, payload={"task": "t"}, description="d", retry={"max_attempts": 2, "backoff_minutes": [1]},
    on_failure={"email": False, "webhook": None, "pause": True})
once = client.cues.create(name="once", at="2099-01-01T00:00:00Z", transport="worker")
out = {"next_run": str(cue.next_run), "total": client.cues.list(limit=1).total, "got": client.cues.get(cue.id).name}
out["paused"] = client.cues.pause(cue.id).status
out["resumed"] = client.cues.resume(cue.id).status
out["updated"] = client.cues.update(cue.id, name="renamed", description="e", payload={"task": "u"}, cron="0 8 * * *").name
for name, call in {"missing": lambda: client.cues.get("cue_x"), "bad": lambda: client.cues.create(name="b", cron="61 * * * *", callback="%(callback)s"),
                   "double": lambda: client.cues.create(name="once", cron="0 9 * * *", callback="%(callback)s")}.items():
    try: call()
    except CueAPIError as error: out[name] = [type(error).__name__, error.code, error.status_code]
execution = client._post("/v1/cues/" + once.id + "/fire", json={})["id"]
client._post("/v1/executions/" + execution + "/claim", json={"worker_id": "w"})
out["beat"] = client.executions.heartbeat(execution)["acknowledged"]
with client.executions.handle(execution) as context:
    context.result = "handled"
    context.evidence = {"external_id": "x1", "result_url": "https://e.com/", "result_type": "k", "summary": "s", "artifacts": [1]}
out["state"] = client.executions.get(execution)["outcome_state"]
out["pending"] = client.executions.mark_verification_pending(execution)["outcome_state"]
out["verified"] = client.executions.mark_verified(execution)["outcome_state"]
out["listed"] = client.executions.list(cue_id=once.id, status="success")["total"]
client.cues.delete(cue.id)
print(json.dumps(out))
"""


@pytest.fixture
def callback() -> Iterator[str]:
    def take(request: Request) -> Response:
        return Response(status=200, json={})

    http = HttpServer(wsgi(take), host="127.0.0.1", port=0)
    http.start()
    yield f"{http.url}/"
    http.stop()


def eventually(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def test_the_official_sdk_through_every_method_it_has(
    install: Callable[[str], Path], server: Server, client: CueAPI, callback: str, tmp_path: Path
) -> None:
    python = install("cueapi-sdk==0.1.3") / "python"
    script = tmp_path / "calls.py"
    script.write_text(SDK_CALLS % {"key": API_KEY, "url": server.url, "callback": callback})
    done = subprocess.run([python, script], capture_output=True, text=True, cwd=tmp_path, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    out = json.loads(done.stdout)
    assert out.pop("next_run").startswith("20")
    assert out == {
        "total": 2,
        "got": "sdk",
        "paused": "paused",
        "resumed": "active",
        "updated": "renamed",
        "missing": ["CueNotFoundError", "cue_not_found", 404],
        "bad": ["InvalidScheduleError", "invalid_schedule", 400],
        "double": ["CueAPIError", "duplicate_cue_name", 409],
        "beat": True,
        "state": "reported_success",
        "pending": "verification_pending",
        "verified": "verified_success",
        "listed": 1,
    }
    (cue,) = client.cues.list().cues
    (execution,) = client.executions.list(cue_id=cue.id).executions
    assert (cue.name, cue.status) == ("once", "completed")
    assert execution.outcome is not None
    assert execution.outcome.result == "handled"


def test_the_official_worker_claims_runs_and_reports_with_evidence(
    install: Callable[[str], Path], server: Server, client: CueAPI, tmp_path: Path
) -> None:
    command = install("cueapi-worker==0.3.0") / "cueapi-worker"
    outcome = json.dumps({"result": "from the file", "external_id": "x1", "summary": "s"})
    (tmp_path / "good.sh").write_text(
        f"test -n \"$CUEAPI_PAYLOAD\" && printf '%s' '{outcome}' > \"$CUEAPI_OUTCOME_FILE\"\n"
    )
    config = {
        "api_key": API_KEY,
        "api_base": server.url,
        "worker_id": "official",
        "poll_interval": 1,
        "handlers": {"good": f"sh {tmp_path}/good.sh", "bad": {"cmd": "echo broken; exit 3"}},
    }
    (tmp_path / "worker.yaml").write_text(json.dumps(config))
    fired = {}
    for task in ("good", "bad", "unknown"):
        cue = client.cues.create(task, cron="0 9 * * *", transport="worker", payload={"task": task})
        fired[task] = client.cues.fire(cue.id).id
    daemon = subprocess.Popen(
        [command, "start", "--config", str(tmp_path / "worker.yaml")],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )

    def ended(task: str) -> Execution | None:
        execution = client.executions.get(fired[task])
        return execution if execution.outcome is not None else None

    good, bad = eventually(lambda: ended("good")), eventually(lambda: ended("bad"))
    daemon.send_signal(signal.SIGTERM)
    daemon.communicate(timeout=PATIENCE)
    assert (good.status, good.outcome.result, good.model_extra["evidence_external_id"]) == (
        "success",
        "from the file",
        "x1",
    )
    assert (bad.status, bad.outcome.success, "broken" in bad.outcome.error) == ("failed", False, True)
    assert good.model_extra["claimed_by_worker"] == "official"
    assert client.executions.get(fired["unknown"]).status == "pending"


def test_the_official_cli_through_a_cues_life(
    install: Callable[[str], Path], server: Server, client: CueAPI, callback: str, tmp_path: Path
) -> None:
    command = install("cueapi==0.2.0") / "cueapi"
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "CUEAPI_API_KEY": API_KEY,
        "CUEAPI_API_BASE": f"{server.url}/v1",
    }

    def cli(*arguments: str) -> str:
        done = subprocess.run(
            [command, *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
            timeout=PATIENCE,
            input="y\n",
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    cli("create", "--name", "from the cli", "--cron", "0 9 * * *", "--url", callback, "--payload", '{"n": 1}')
    (cue,) = client.cues.list().cues
    assert (cue.name, cue.payload, cue.callback.url) == ("from the cli", {"n": 1}, callback)
    assert "from the cli" in cli("list")
    assert "from the cli" in cli("get", cue.id)
    cli("pause", cue.id)
    assert client.cues.get(cue.id).status == "paused"
    cli("resume", cue.id)
    assert client.cues.get(cue.id).status == "active"
    cli("fire", cue.id)
    fired = eventually(lambda: client.executions.list(cue_id=cue.id, status="success").executions)
    assert fired[0].id[:8] in cli("executions", "list", "--cue-id", cue.id)
    cli("delete", cue.id)
    assert client.cues.list().total == 0
