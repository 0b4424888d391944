"""The receiver mounted in real web apps under real servers, called over a socket."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from cueapi_tasks.web import BODY_LIMIT

from .support import ROOT, SECRET, envelope, signed

pytestmark = pytest.mark.slow

GUNICORN = ("gunicorn", "--threads=2", "--bind=127.0.0.1:{port}")
WAITRESS = ("waitress", "--listen=127.0.0.1:{port}")
UVICORN = ("uvicorn", "--host=127.0.0.1", "--port={port}", "--log-level=warning")
PREFIX = "/prefix"


@dataclass(frozen=True)
class Setup:
    """A server with an app, and how requests reach it: `below` is the prefix that their paths have."""

    command: Sequence[str]
    app: str
    below: str = ""
    script_name: str = ""

    def __str__(self) -> str:
        prefixed = self.below or self.script_name or "--root-path=/prefix" in self.command
        preloaded = "--preload" in self.command
        return f"{self.app}-{self.command[0]}{'-prefix' if prefixed else ''}{'-preload' if preloaded else ''}"


SETUPS = [
    Setup(GUNICORN, "flask_app"),
    Setup(GUNICORN, "flask_app", below=PREFIX, script_name=PREFIX),
    Setup((*GUNICORN, "--preload", "--workers=2"), "flask_app"),
    Setup(WAITRESS, "flask_app"),
    Setup((*WAITRESS, "--url-prefix=/prefix"), "flask_app", below=PREFIX),
    Setup(GUNICORN, "django_wsgi"),
    Setup(GUNICORN, "django_wsgi", below=PREFIX, script_name=PREFIX),
    Setup(UVICORN, "django_asgi"),
    Setup((*UVICORN, "--root-path=/prefix"), "django_asgi"),  # the proxy in front has cut the prefix off
    Setup(UVICORN, "fastapi_app"),
    Setup((*UVICORN, "--root-path=/prefix"), "fastapi_app"),
]


@dataclass
class Site:
    """A running server."""

    port: int
    below: str
    process: subprocess.Popen[bytes]

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        spelled = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, self.below + path, body, spelled)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, content

    def deliver(self, body: bytes, path: str, *, chunked: bool) -> tuple[int, Any]:
        """POST a signed body; an iterable has no length, so that it goes in chunks."""
        request = signed(body, at=datetime.now(timezone.utc))
        parts = iter([body[:7], body[7:]]) if chunked else body
        status, content = self.request("POST", path, parts, **request.headers)
        return status, json.loads(content)

    def raw(self, sent: bytes) -> bytes:
        """Send bytes as they are, end there, and return what comes back until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.fixture(scope="module", params=SETUPS, ids=str)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    made = start(request.param, folder)
    try:
        wait_for(made, folder)
        yield made
    finally:
        made.process.terminate()
        made.process.wait(20)


def start(setup: Setup, folder: Path) -> Site:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    command = [sys.executable, "-m", *(part.format(port=port) for part in setup.command), f"tests.mounted:{setup.app}"]
    environment = {
        **os.environ,
        "HOME": str(folder),
        "CUEAPI_WEBHOOK_SECRET": SECRET,
        "CUEAPI_LEDGER": f"sqlite:///{folder / 'ledger.db'}",
        "CALLS": str(folder / "calls"),
        "SCRIPT_NAME": setup.script_name,
    }
    (folder / "calls").touch()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    return Site(port, setup.below, process)


def wait_for(site: Site, folder: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and site.process.poll() is None:
        try:
            site.request("GET", "/")
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError((folder / "log").read_text())


@pytest.mark.parametrize("chunked", [False, True], ids=["plain", "chunked"])
@pytest.mark.parametrize("path", ["/cueapi", "/cueapi/"])
@pytest.mark.parametrize("task", ["report", "report_later"])
def test_a_delivery_runs_its_task_once_and_is_answered(site: Site, path: str, chunked: bool, task: str) -> None:
    text = f"{task}{path}{chunked}"
    body = json.dumps(envelope(f"billing/{task}", payload={"text": text})).encode()
    answers = [site.deliver(body, path, chunked=chunked) for _ in range(2)]
    assert answers == [(200, {"status": "success", "reason": "completed"})] * 2
    assert site.request("GET", "/")[1].decode().split().count(text) == 1


@pytest.mark.parametrize("chunked", [False, True], ids=["plain", "chunked"])
def test_a_payload_of_a_megabyte_arrives_whole(site: Site, chunked: bool) -> None:
    body = json.dumps(envelope("billing/report", payload={"text": "ü" * (BODY_LIMIT // 8)})).encode()
    assert site.deliver(body, "/cueapi", chunked=chunked)[0] == 200


def test_a_stranger_is_refused_and_the_rest_of_the_app_is_left_alone(site: Site) -> None:
    assert json.loads(site.request("POST", "/cueapi", b"{}")[1])["reason"] == "missing_signature"
    assert site.request("GET", "/cueapi")[0] == 405
    assert site.request("HEAD", "/cueapi/") == (405, b"")
    assert site.request("GET", "/")[0] == 200
    assert site.request("GET", "/cueapi/x")[0] == 404


def test_a_header_that_is_sent_twice_is_a_bad_signature(site: Site) -> None:
    body = json.dumps(envelope("billing/report", payload={"text": "twice"})).encode()
    headers = signed(body, at=datetime.now(timezone.utc)).headers
    lines = [f"POST {site.below}/cueapi HTTP/1.1", "Host: x", "Connection: close", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()] + [
        f"X-CueAPI-Signature: {headers['x-cueapi-signature']}"
    ]
    with socket.create_connection(("127.0.0.1", site.port), timeout=20) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert b" 401 " in answer.splitlines()[0]
    assert b"bad_signature" in answer


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 50\r\n\r\n12345",
        b"Content-Length: 5\r\nContent-Length: 3\r\n\r\n12345",
        b"Content-Length: -1\r\n\r\n12345",
        b"Content-Length: %d\r\n\r\n12345" % (BODY_LIMIT + 1),
        b"Transfer-Encoding: chunked\r\n\r\n8\r\n123",
        b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n123\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n3\r\n123\r\n0\r\n\r\n",
        b"\r\n12345",
    ],
)
def test_a_body_that_lies_about_its_length_is_refused_or_dropped_and_never_waited_for(
    site: Site, framing: bytes
) -> None:
    answer = site.raw(f"POST {site.below}/cueapi HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".encode() + framing)
    assert answer == b"" or answer.split(b" ")[1] in (b"400", b"401", b"413")
    assert site.request("GET", "/")[0] == 200


def test_a_chunked_body_over_the_limit_is_refused(site: Site) -> None:
    chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    head = f"POST {site.below}/cueapi HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", site.port), timeout=20) as connection:
        connection.sendall(head + chunk * 4 + b"1\r\nx\r\n0\r\n\r\n")
        assert b" 413 " in connection.recv(65536).splitlines()[0]
