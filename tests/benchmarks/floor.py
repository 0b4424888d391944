"""The floor of a request: a bare WSGI function that checks the signature, parses and answers; standard library only."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any

Environ = dict[str, Any]
App = Callable[..., Iterable[bytes]]

ARGUMENTS = {"region": "eu", "text": "x" * 500}
STAMP = {"v": 1, "app": "billing", "env": None, "task": "report", "schedule": None, "max_attempts": 3, "revision": None}
PAYLOAD = {**ARGUMENTS, "task": "billing/report", "_cueapi_tasks": STAMP}
DELIVERY = {
    "attempt": 1,
    "cue_id": "cue_abcdefghijkl",
    "name": "billing/report",
    "payload": PAYLOAD,
    "scheduled_for": "2026-11-24T12:00:00+00:00",
}


def delivery(secret: str) -> Environ:
    """Return a request with a delivery of 1 KB, signed now."""
    body = json.dumps({**DELIVERY, "execution_id": str(uuid.uuid4())}, sort_keys=True).encode()
    timestamp = str(int(time.time()))
    made = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return post("/cueapi", body, {"X-CueAPI-Signature": f"v1={made}", "X-CueAPI-Timestamp": timestamp})


def post(path: str, body: bytes, headers: dict[str, str], query: str = "") -> Environ:
    """Return a POST as a WSGI server hands it on."""
    return {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_HOST": "localhost:8000",
        "HTTP_USER_AGENT": "CueAPI/1.0",
        "HTTP_ACCEPT": "*/*",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()},
    }


def bare(secret: str) -> App:
    """Return the floor itself."""
    key = secret.encode()

    def app(environ: Environ, start_response: Callable[..., object]) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        message = environ["HTTP_X_CUEAPI_TIMESTAMP"].encode() + b"." + body
        expected = "v1=" + hmac.new(key, message, hashlib.sha256).hexdigest()
        assert hmac.compare_digest(expected, environ["HTTP_X_CUEAPI_SIGNATURE"])
        assert json.loads(body)["scheduled_for"] == DELIVERY["scheduled_for"]
        start_response("200 OK", [("Content-Type", "application/json")])
        return [b'{"status": "success"}']

    return app


def caller(app: App, requests: Iterable[Environ]) -> Callable[[], object]:
    """Return a step that sends the app the next of the requests and takes the whole answer, which must be a 200."""
    left = iter(requests)

    def step() -> bytes:
        started: list[str] = []
        answer = b"".join(app(next(left), lambda status, *_: started.append(status)))
        assert started == ["200 OK"], answer
        return answer

    return step
