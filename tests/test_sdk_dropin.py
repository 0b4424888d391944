"""Ours in the place of cueapi-sdk 0.1.3, which is installed beside it: the same names, signatures, values and errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cueapi import CueAPI
from cueapi_tasks.server.main import Credentials, Server

from .support import API_KEY, ROOT, SECRET

pytestmark = pytest.mark.slow

SURFACE = """
import importlib, inspect, json
out = {}
for module in %(modules)r:
    found = importlib.import_module(module)
    names = getattr(found, "__all__", None) or [n for n in dir(found) if not n.startswith("_")]
    for name in names:
        value = getattr(found, name, None)
        if value is None or inspect.ismodule(value) or "cueapi" not in (getattr(value, "__module__", None) or "cueapi"):
            continue
        parts = {name: value}
        if inspect.isclass(value):
            parts = {name: value} | {f"{name}.{n}": m for n, m in vars(value).items() if inspect.isfunction(m) and not n.startswith("_")}
            if hasattr(value, "model_fields"):
                out[f"{module}:{name}"] = [[f, "field", True] for f in value.model_fields]
                continue
        for label, part in parts.items():
            if not callable(part):
                out[f"{module}:{label}"] = None
                continue
            try: signature = inspect.signature(part)
            except ValueError: continue
            out[f"{module}:{label}"] = [[p.name, p.kind.name, p.default is not p.empty] for p in signature.parameters.values()]
print(json.dumps(out))
"""
MODULES = [
    "cueapi",
    "cueapi.client",
    "cueapi.exceptions",
    "cueapi.models",
    "cueapi.resources.cues",
    "cueapi.resources.executions",
    "cueapi.webhook",
    "cueapi.payload",
]
TYPING = {"Any", "Dict", "List", "Optional", "Union", "TYPE_CHECKING", "annotations", "datetime", "BaseModel", "Field"}
PARITY = """
import json
from cueapi import *
from cueapi import CueAPI, CuePayload, verify_webhook
OLD = ("AuthenticationError", "RateLimitError", "CueNotFoundError", "CueLimitExceededError", "InvalidScheduleError", "CueAPIServerError", "CueAPIError", "ValueError")
client = CueAPI("%(key)s", base_url="%(url)s", timeout=20.0)
out = {}
def steady(value):
    return json.loads(json.dumps(value, default=str).replace(cue.id, "<cue>").replace("%(execution)s", "<execution>"))
def attempt(name, call):
    try: out[name] = steady(call())
    except Exception as error:
        kinds = [k.__name__ for k in type(error).__mro__ if k.__name__ in OLD]
        answer = [error.code, error.status_code, error.message] if getattr(error, "status_code", None) else None
        out[name] = {"kinds": kinds, "answer": answer}
cue = client.cues.create(name="n", cron="0 9 * * *", timezone="America/New_York", callback="http://127.0.0.1:9/", payload=CuePayload().task("t").kind("k").extra("x", 1).build(), retry={"max_attempts": 2})
for field in ("name", "status", "transport", "payload", "run_count", "warning", "description"):
    out[field] = getattr(cue, field)
out["schedule"] = [cue.schedule.type, cue.schedule.cron, cue.schedule.timezone, cue.schedule.at]
out["retry"] = [cue.retry.max_attempts, cue.retry.backoff_minutes]
out["on_failure"] = [cue.on_failure.email, cue.on_failure.webhook, cue.on_failure.pause]
out["callback"] = [cue.callback.url, cue.callback.method, cue.callback.headers]
page = client.cues.list(limit=5, offset=0, status="active")
out["page"] = [[c.name for c in page.cues], page.total, page.limit, page.offset]
out["paused"] = client.cues.pause(cue.id).status
out["resumed"] = client.cues.resume(cue.id).status
out["updated"] = client.cues.update(cue.id, name="m", description="d", payload={"a": 1}).payload
attempt("missing", lambda: client.cues.get("cue_missing12345"))
attempt("double", lambda: client.cues.create(name="m", cron="0 9 * * *", callback="http://127.0.0.1:9/"))
attempt("bad cron", lambda: client.cues.create(name="b", cron="61 * * * *", callback="http://127.0.0.1:9/"))
attempt("no url", lambda: client.cues.create(name="b", cron="0 9 * * *"))
attempt("no schedule", lambda: client.cues.create(name="b"))
attempt("bad key", lambda: CueAPI("cue_sk_wrong", base_url="%(url)s").cues.list())
attempt("no key", lambda: CueAPI(""))
attempt("execution", lambda: client.executions.get("00000000-0000-0000-0000-000000000000"))
with client.executions.handle("%(execution)s", {"p": 1}) as context:
    context.result, context.evidence = "done", {"external_id": "x", "artifacts": [1]}
got = client.executions.get("%(execution)s")
out["got"] = [got["status"], got["outcome"]["result"], got.get("nothing"), "id" in got, sorted(got.keys()) == sorted(dict(got))]
attempt("again", lambda: client.executions.report_outcome("%(execution)s", success=True))
out["pending"] = client.executions.mark_verification_pending("%(execution)s")["outcome_state"]
out["verified"] = client.executions.mark_verified("%(execution)s")["outcome_state"]
listed = client.executions.list(status="success")
out["listed"] = [listed["total"], listed["executions"][0]["id"] == "%(execution)s"]
out["verify"] = [verify_webhook(payload=b"{}", signature="v1=x", secret="s", timestamp=t) for t in ("1", "x", "")]
out["deleted"] = client.cues.delete(cue.id)
out["none left"] = client.cues.list(status="paused").total
client.close()
print(json.dumps(out, sort_keys=True, default=str))
"""


def environment(folder: Path, *requirements: str) -> Path:
    """Make an environment of its own with these distributions, installed in this order, and return its bin folder."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    for requirement in requirements:
        subprocess.run([folder / "bin" / "pip", "install", "--quiet", requirement], check=True)
    return folder / "bin"


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment(tmp_path_factory.mktemp("sdk") / "venv", "cueapi-sdk==0.1.3")


def output(python: Path | str, script: str, folder: Path) -> Any:
    (folder / "script.py").write_text(script)
    path = {"PYTHONPATH": str(ROOT)} if str(python) == sys.executable else {}
    done = subprocess.run(
        [python, "script.py"], cwd=folder, capture_output=True, text=True, timeout=60, env={**os.environ, **path}
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_public_name_and_signature_of_0_1_3_is_ours_too(theirs: Path, tmp_path: Path) -> None:
    script = SURFACE % {"modules": MODULES}
    old, new = output(theirs / "python", script, tmp_path), output(sys.executable, script, tmp_path)
    wanted = {label: signature for label, signature in old.items() if label.partition(":")[2] not in TYPING}
    assert len(wanted) > 60
    assert [label for label in wanted if not accepts(new.get(everywhere(label, new), "absent"), wanted[label])] == []


def everywhere(label: str, new: dict[str, Any]) -> str:
    """Return where ours has a name: a module of 0.1.3 that only imported it need not show it in the same place."""
    name = label.partition(":")[2]
    return label if label in new else next((each for each in new if each.endswith(f":{name}")), label)


def accepts(ours: Any, theirs: Any) -> bool:
    """Tell whether every call that fits their signature fits ours."""
    if ours == "absent" or theirs is None:
        return bool(ours != "absent")
    mine = {name: (kind, default) for name, kind, default in ours}
    positional = [name for name, kind, _ in theirs if kind == "POSITIONAL_OR_KEYWORD"]
    open_ended = any(kind == "VAR_KEYWORD" for _, kind, _ in ours)
    named = all(name in mine or open_ended for name, _, _ in theirs)
    optional = all(mine[name][1] for name, _, default in theirs if default and name in mine)
    extra = all(
        default
        for name, kind, default in ours
        if name not in {each[0] for each in theirs} and not kind.startswith("VAR")
    )
    same_order = [name for name, kind, _ in ours if kind == "POSITIONAL_OR_KEYWORD"][: len(positional)] == positional
    return named and optional and extra and same_order


def test_one_script_gives_equal_values_and_errors_under_both(theirs: Path, tmp_path: Path) -> None:
    results: list[Any] = []
    pythons: list[Path | str] = [theirs / "python", sys.executable]
    for number, python in enumerate(pythons):
        folder = tmp_path / str(number)
        server = Server(data=folder / "data", credentials=Credentials(api_key=API_KEY, webhook_secret=SECRET))
        server.start()
        with CueAPI(API_KEY, base_url=server.url) as client:
            execution = client.cues.fire(client.cues.create("other", cron="0 9 * * *", transport="worker").id).id
        script = PARITY % {"key": API_KEY, "url": server.url, "execution": execution}
        results.append(output(python, script, folder))
        server.stop()
    old, new = results
    assert {key: (old[key], new[key]) for key in old if not equal(old[key], new[key])} == {}


def equal(old: Any, new: Any) -> bool:
    """Tell whether two results are the same; an error of ours may be of further classes too."""
    if isinstance(old, dict) and "kinds" in old:
        return {*old["kinds"]} <= {*new["kinds"]} and old["answer"] == new["answer"]
    return bool(old == new)


def test_the_command_line_says_so_when_another_distribution_owns_or_claims_the_package(tmp_path: Path) -> None:
    ours_last = environment(tmp_path / "ours last", "cueapi-sdk==0.1.3", str(ROOT))
    done = subprocess.run([ours_last / "cueapi-tasks", "--version"], capture_output=True, text=True)
    assert (done.returncode, "cueapi-sdk is installed too" in done.stderr) == (0, True)
    theirs_last = environment(tmp_path / "theirs last", str(ROOT), "cueapi-sdk==0.1.3")
    done = subprocess.run([theirs_last / "cueapi-tasks", "--version"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install --force-reinstall --no-deps cueapi-tasks" in done.stderr.splitlines()[-1]
