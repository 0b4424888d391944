"""A whole request through the receiver against a bare WSGI function that checks the signature, parses and answers."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cueapi_tasks import CueTasks
from cueapi_tasks.run.ledger.memory import MemoryLedger
from cueapi_tasks.run.receiver import Clocks
from cueapi_tasks.web import Environ, StartResponse, wsgi
from tests.support import NOON, SECRET, Clock, envelope, receiver_of, signed, stamp_payload

from .measure import ROUNDS, Ratio, compare

PAYLOAD = {"region": "eu", "text": "x" * 500}


def run(size: int) -> list[Ratio]:
    app = CueTasks("billing", webhook_secret=SECRET)

    @app.schedule(cron="0 9 * * *", payload=PAYLOAD)
    def report(region: str, text: str) -> None: ...

    times = max(20, size // 10)
    found: list[Ratio] = []
    for kind, target in (("memory", 3), ("SQLite", 12)):
        with TemporaryDirectory() as folder:
            ledger = MemoryLedger() if kind == "memory" else Path(folder) / "ledger.db"
            with receiver_of(app, ledger, Clock(), None, clocks=Clocks()) as receiver:
                name = f"request with the {kind} ledger / bare WSGI function"
                step, floor = caller(wsgi(receiver.handle), times), caller(bare, times)
                found.append(replace(compare(name, step, floor, target=target, times=times), enforced=False))
    return found


def caller(app: Callable[[Environ, StartResponse], Iterable[bytes]], times: int) -> Callable[[], object]:
    """Return a step that sends the app the next of enough requests made beforehand."""
    requests = iter([request() for _ in range(times * ROUNDS)])
    return lambda: b"".join(app(next(requests), lambda status, headers: None))


def request() -> Environ:
    body = envelope(payload=PAYLOAD | stamp_payload(), execution_id=str(uuid.uuid4()))
    made = signed(body, at=datetime.now(timezone.utc))
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "POST",
        "CONTENT_LENGTH": str(len(made.body)),
        "wsgi.input": io.BytesIO(made.body),
        **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in made.headers.items()},
    }
    return environ


def bare(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    message = environ["HTTP_X_CUEAPI_TIMESTAMP"].encode() + b"." + body
    expected = "v1=" + hmac.new(SECRET.encode(), message, hashlib.sha256).hexdigest()
    assert hmac.compare_digest(expected, environ["HTTP_X_CUEAPI_SIGNATURE"])
    assert json.loads(body)["scheduled_for"] == NOON.isoformat()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [b'{"status": "success"}']
