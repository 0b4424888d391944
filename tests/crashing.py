"""A receiver in a process of its own that can be told to die at one step of its work; see test_receiver_crash."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import waitress.server

from cueapi import CueAPI, webhook
from cueapi_tasks import Context, CueTasks
from cueapi_tasks.run import lease, receiver, report, runner
from cueapi_tasks.run.ledger import open_ledger
from cueapi_tasks.run.ledger.base import Answer, Claim, Entry, Ledger
from cueapi_tasks.run.outcome import Outcome
from cueapi_tasks.run.secrets import Secrets
from cueapi_tasks.web import Environ, StartResponse, wsgi

STEPS = ("verified", "claimed", "running", "returned", "finished", "reported", "answered")


class Mortal:
    """Dies at one step, once over all processes: the marker of a death is a file."""

    def __init__(self, step: str, folder: Path) -> None:
        self._step = step
        self._marker = folder / f"died-{step}"

    def reach(self, step: str) -> None:
        if step == self._step and not self._marker.exists():
            self._marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)


class Watched:
    """A ledger that passes everything on, with a step to die at beside its commits."""

    def __init__(self, inner: Ledger, mortal: Mortal, note: Callable[[str, str], None]) -> None:
        self._inner = inner
        self._mortal = mortal
        self._note = note

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def claim(self, entry: Entry, *, lease: float) -> Claim:
        claim = self._inner.claim(entry, lease=lease)
        self._mortal.reach("claimed")
        return claim

    def finish(self, execution_id: str, token: str, answer: Answer, outcome: Outcome) -> bool:
        self._mortal.reach("returned")
        done = self._inner.finish(execution_id, token, answer, outcome)
        if done and outcome.success:
            self._note("recorded", execution_id)
        self._mortal.reach("finished")
        return done

    def reported(self, execution_id: str, *, accepted: bool) -> None:
        self._mortal.reach("reported")
        self._inner.reported(execution_id, accepted=accepted)


def serve(settings: dict[str, Any]) -> None:
    """Answer deliveries on an inherited socket, on a clock that runs as fast as the server's."""
    folder, rate = Path(settings["folder"]), settings["rate"]
    began = datetime.fromisoformat(settings["began"]).timestamp()
    mortal = Mortal(settings["step"], folder)
    effects = os.open(folder / "effects", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(what: str, execution_id: str) -> None:
        os.write(effects, f"{what} {execution_id}\n".encode())
        os.fsync(effects)

    for module, name in ((receiver, "LEASE_SECONDS"), (lease, "LEASE_SECONDS"), (lease, "RENEW_SECONDS")):
        setattr(module, name, getattr(module, name) / rate)
    report.RETRY_SECONDS /= rate
    verify = webhook.verify

    def verified(*arguments: Any, **options: Any) -> webhook.WebhookDelivery:
        delivery = verify(*arguments, **options)
        mortal.reach("verified")
        return delivery

    webhook.verify = verified
    app = CueTasks("billing")

    @app.schedule(cron="0 9 * * *")
    def work(ctx: Context) -> str:
        note("started", ctx.execution_id)
        time.sleep(0.01)  # the window in which a kill finds a run
        mortal.reach("running")
        return "done"

    ledger = Watched(open_ledger(settings["ledger"]), mortal, note)
    client = CueAPI(settings["api_key"], base_url=settings["url"], timeout=3.0, max_retries=0)
    made = receiver.Receiver(
        registry=app.registry,
        owner=app.owner,
        secrets=Secrets([settings["secret"]]),
        ledger=ledger,
        reporter=report.Reporter(ledger, app.owner.scope, lambda: client),
        clocks=runner.Clocks(now=lambda: began + (datetime.now(timezone.utc).timestamp() - began) * rate),
    )
    edge = wsgi(made.handle)

    def answered(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        body = list(edge(environ, start_response))
        mortal.reach("answered")
        return body

    made.catch_up()
    listener = socket.socket(fileno=settings["fd"])
    waitress.server.create_server(answered, sockets=[listener], threads=8).run()


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
