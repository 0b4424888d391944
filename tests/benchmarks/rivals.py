"""The receiver against what others have for the same: the official SDK's `verify_webhook` in Flask, and Inngest's.

They run in an environment of their own, since the official package has the name of ours. Each takes turns there with
the bare function that ours takes turns with here, and the ratios to that are what is compared.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from .measure import Ratio

PACKAGES = ("flask", "cueapi-sdk==0.1.3", "inngest==0.5.19")
SCRIPT = """
import hashlib, hmac, json, logging, sys, time, uuid
import flask, inngest, inngest.flask
from cueapi import verify_webhook
from floor import ARGUMENTS, bare, caller, delivery, post
from measure import ROUNDS, compare

times, secret = int(sys.argv[1]), sys.argv[2]
with_sdk, with_inngest = flask.Flask("sdk"), flask.Flask("inngest")

@with_sdk.post("/cueapi")
def receive():
    headers = flask.request.headers
    body = flask.request.get_data()
    if not verify_webhook(body, headers["X-CueAPI-Signature"], secret, headers["X-CueAPI-Timestamp"]):
        flask.abort(401)
    flask.request.get_json()["payload"]
    return {"status": "success"}

logger = logging.getLogger("quiet")
logger.disabled = True
client = inngest.Inngest(
    app_id="billing", is_production=True, signing_key="signkey-prod-" + secret.encode().hex(), logger=logger
)

@client.create_function(fn_id="report", trigger=inngest.TriggerCron(cron="0 9 * * *"))
def report(ctx: inngest.ContextSync) -> None:
    pass

inngest.flask.serve(with_inngest, client, [report])

def for_inngest():
    event = {"id": str(uuid.uuid4()), "name": "report", "data": ARGUMENTS, "ts": 1, "user": {}}
    run = {"attempt": 0, "disable_immediate_execution": True, "run_id": str(uuid.uuid4()), "stack": {"stack": []}}
    asked = {"ctx": run, "event": event, "events": [], "steps": {}, "use_api": False}
    body = json.dumps(asked, separators=(",", ":"), sort_keys=True).encode()
    now = str(int(time.time()))
    made = hmac.new(secret.encode().hex().encode(), body + now.encode(), hashlib.sha256).hexdigest()
    headers = {"X-Inngest-Signature": f"t={now}&s={made}"}
    return post("/api/inngest", body, headers, "fnId=billing-report&stepId=step")

def ratio(app, request):
    count = times * ROUNDS
    step = caller(app, [request() for _ in range(count)])
    floor = caller(bare(secret), [delivery(secret) for _ in range(count)])
    return compare("", step, floor, target=1, times=times).value

print(json.dumps([ratio(with_sdk, lambda: delivery(secret)), ratio(with_inngest, for_inngest)]))
"""


def run(ours: float, times: int, secret: str) -> list[Ratio]:
    """Compare our ratio to the floor with theirs."""
    return [
        Ratio(
            name=f"our request / {rival}",
            value=ours / theirs,
            target=1,
            detail=f"{ours:.1f} x the floor against {theirs:.1f} x",
        )
        for rival, theirs in zip(("Flask with verify_webhook", "Inngest in Flask"), _ratios(times, secret), strict=True)
    ]


def _ratios(times: int, secret: str) -> list[float]:
    with TemporaryDirectory() as folder:
        python = Path(folder) / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        arguments = [str(python), "-c", SCRIPT, str(times), secret]
        # in this folder it finds the floor and the clock, which import nothing of ours
        done = subprocess.run(arguments, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
        found: list[float] = json.loads(done.stdout)
        return found
