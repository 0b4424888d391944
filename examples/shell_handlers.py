"""Shell commands as tasks, for who moves over from cueapi-worker: see docs/moving-from-cueapi-worker.md."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cueapi_tasks import Context, CueTasks, Done

cue = CueTasks("handlers", transport="worker")


def run_command(
    command: list[str], ctx: Context, *, timeout: float = 300, cwd: str | None = None, env: dict[str, str] | None = None
) -> Done:
    """Run a command; its exit code, its output and what it writes to CUEAPI_OUTCOME_FILE become the outcome."""
    with TemporaryDirectory() as folder:
        outcome_file = Path(folder) / "outcome.json"
        variables = {
            "CUEAPI_EXECUTION_ID": ctx.execution_id,
            "CUEAPI_CUE_ID": ctx.cue_id,
            "CUEAPI_CUE_NAME": ctx.cue_name,
            "CUEAPI_PAYLOAD": json.dumps(ctx.payload),
            "CUEAPI_OUTCOME_FILE": str(outcome_file),
        }
        environment = {**os.environ, **variables, **(env or {})}
        done = subprocess.run(command, env=environment, cwd=cwd, timeout=timeout, capture_output=True, text=True)
        evidence = read_outcome(outcome_file)
    output = "\n".join(text for text in (done.stdout, done.stderr) if text)
    if done.returncode != 0 or not evidence.get("success", True):
        raise RuntimeError(evidence.get("error") or output or f"exit code {done.returncode}")
    told: dict[str, Any] = {"result": output or "completed"} | evidence
    return Done(**{each.name: told.get(each.name) for each in fields(Done)})


def read_outcome(file: Path) -> dict[str, Any]:
    """Return what a command told of its outcome; what is no JSON object is left out."""
    try:
        told: Any = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return {**told} if isinstance(told, dict) else {}


@cue.schedule(
    cron="0 2 * * *", payload={"target": "db", "region": "eu"}, retry={"max_attempts": 1}, adopts="nightly backup"
)
def backup(target: str, region: str, ctx: Context) -> Done:
    """Back the database up each night."""
    command = ["sh", "backup.sh", target]
    return run_command(command, ctx, timeout=600, cwd="/srv/billing", env={"REGION": region})
