"""The threaded server over real sockets: what only a connection, a clock or a process can show."""

from __future__ import annotations

import http.client
import json
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cueapi import CueAPI
from cueapi_tasks.cli.logs import JsonFormatter
from cueapi_tasks.cli.main import main
from cueapi_tasks.server.http import HttpServer
from cueapi_tasks.server.main import Clock, Credentials, Server
from cueapi_tasks.server.profile import CORE, Profile
from cueapi_tasks.web import Request, Response, wsgi

from .support import API_KEY, SECRET

PATIENCE = 20.0


class Receiver:
    """Answers as told and keeps the bodies that arrive."""

    def __init__(self, status: int = 200) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.go = threading.Event()
        self.go.set()
        self._status = status
        self.http = HttpServer(wsgi(self._take), host="127.0.0.1", port=0)
        self.http.start()
        self.url = f"{self.http.url}/"

    def _take(self, request: Request) -> Response:
        self.bodies.append(json.loads(request.body))
        self.go.wait(PATIENCE)
        return Response(status=self._status, json={})

    def wait_for(self, count: int) -> list[dict[str, Any]]:
        deadline = time.monotonic() + PATIENCE
        while len(self.bodies) < count:
            assert time.monotonic() < deadline, f"{len(self.bodies)} of {count} arrived"
            time.sleep(0.005)
        return self.bodies

    def stop(self) -> None:
        self.go.set()
        self.http.stop()


Receivers = Callable[..., Receiver]
Servers = Callable[..., CueAPI]


@pytest.fixture
def receivers() -> Iterator[Receivers]:
    with ExitStack() as stack:

        def make(**options: Any) -> Receiver:
            made = Receiver(**options)
            stack.callback(made.stop)
            return made

        yield make


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    with ExitStack() as stack:

        def make(**options: Any) -> CueAPI:
            credentials = Credentials(api_key=API_KEY, webhook_secret=SECRET)
            server = Server(data=tmp_path, credentials=credentials, **options)
            server.start()
            stack.callback(server.stop)
            return stack.enter_context(CueAPI(API_KEY, base_url=server.url))

        yield make


def test_a_slow_receiver_delays_nobody_else(servers: Servers, receivers: Receivers) -> None:
    client, slow, quick = servers(), receivers(), receivers()
    slow.go.clear()
    hanging = client.cues.create("slow", cron="0 9 * * *", callback=slow.url)
    for _ in range(20):
        client.cues.fire(hanging.id)
    begun = time.monotonic()
    client.cues.fire(client.cues.create("quick", cron="0 9 * * *", callback=quick.url).id)
    quick.wait_for(1)
    assert time.monotonic() - begun < 5
    assert len(slow.bodies) < 21


def test_a_clock_that_runs_fast_fires_a_minutely_cue_within_seconds(servers: Servers, receivers: Receivers) -> None:
    receiver = receivers()
    servers(clock=Clock(120.0)).cues.create("minutely", cron="* * * * *", callback=receiver.url)
    slots = [body["scheduled_for"] for body in receiver.wait_for(3)]
    assert len({*slots}) == 3


def test_a_failure_is_told_to_the_webhook_of_on_failure(servers: Servers, receivers: Receivers) -> None:
    failing, told = receivers(status=503), receivers()
    client = servers()
    retry, on_failure = {"max_attempts": 2, "backoff_minutes": [0]}, {"webhook": told.url}
    cue = client.cues.create("n", cron="0 9 * * *", callback=failing.url, retry=retry, on_failure=on_failure)
    client.cues.fire(cue.id)
    (notice,) = told.wait_for(1)
    assert (notice["event"], notice["cue_name"], notice["attempts"]) == ("cue.failed", "n", 2)
    assert [body["attempt"] for body in failing.bodies] == [1, 2]


def test_counters_count_attempts_and_scheduled_fires_apart(servers: Servers, receivers: Receivers) -> None:
    receiver, client = receivers(), servers(clock=Clock(120.0))
    cue = client.cues.create("minutely", cron="* * * * *", callback=receiver.url)
    receiver.wait_for(1)
    client.cues.pause(cue.id)
    client.cues.fire(cue.id)
    deadline = time.monotonic() + PATIENCE
    while client.executions.list(status="success").total < len(client.executions.list().executions):
        assert time.monotonic() < deadline
    now = client.cues.get(cue.id)
    assert now.run_count == now.fired_count + 1 == client.executions.list().total


def test_a_page_shifts_under_an_insertion_and_the_walk_over_all_pages_does_not_mind(servers: Servers) -> None:
    client = servers()
    for number in range(5):
        client.cues.create(f"c{number}", cron="0 9 * * *", transport="worker")
    first = client.cues.list(limit=2)
    client.cues.create("new", cron="0 9 * * *", transport="worker")
    second = client.cues.list(limit=2, offset=2)
    assert [cue.name for cue in (*first.cues, *second.cues)] == ["c4", "c3", "c3", "c2"]
    assert [cue.name for cue in client.cues.iter()] == ["new", "c4", "c3", "c2", "c1", "c0"]


@pytest.mark.parametrize(("profile", "dropped"), [(Profile(quirks=CORE), True), (Profile(), False)])
def test_after_a_500_the_connection_is_closed_without_notice_under_the_quirk(
    servers: Servers, profile: Profile, dropped: bool
) -> None:
    host, port = servers(profile=profile).base_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        ask = f"GET /v1/executions/x HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {API_KEY}\r\n\r\n".encode()
        connection.sendall(ask)
        response = http.client.HTTPResponse(connection)
        response.begin()
        response.read()
        assert (response.status, response.getheader("Connection")) == (500 if dropped else 404, None)
        assert response.getheader("Content-Type") == "application/json"
        assert (response.getheader("X-RateLimit-Limit"), response.getheader("X-Drop-Connection")) == (
            None if dropped else "10000000",
            None,
        )
        try:
            connection.sendall(ask)
            answered = bool(connection.recv(1))
        except ConnectionError:
            answered = False
    assert answered != dropped


def test_a_body_over_the_limit_is_refused_without_being_read(servers: Servers) -> None:
    host, port = servers().base_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        head = f"POST /v1/cues HTTP/1.1\r\nHost: {host}\r\nContent-Length: 99999999999\r\n\r\n"
        connection.sendall(head.encode())
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert response.status == 413


def test_it_stops_within_seconds_though_a_receiver_hangs_and_delivers_again_afterwards(
    tmp_path: Path, receivers: Receivers
) -> None:
    receiver = receivers()
    receiver.go.clear()
    first = serve(tmp_path, "--log-format", "json")
    with CueAPI(API_KEY, base_url=url_of(first)) as client:
        fired = client.cues.fire(client.cues.create("n", cron="0 9 * * *", callback=receiver.url).id)
    receiver.wait_for(1)
    begun = time.monotonic()
    first.send_signal(signal.SIGTERM)
    _, log = first.communicate(timeout=PATIENCE)
    assert (first.returncode, time.monotonic() - begun < 5) == (0, True)
    assert {"listening", "fired"} <= {json.loads(line)["event"] for line in log.splitlines()}
    receiver.go.set()
    second = serve(tmp_path)
    url_of(second)
    assert {body["execution_id"] for body in receiver.wait_for(2)} == {fired.id}
    second.terminate()
    second.communicate(timeout=PATIENCE)


def serve(folder: Path, *options: str) -> subprocess.Popen[str]:
    keys = ("--api-key", API_KEY, "--webhook-secret", SECRET)
    command = [
        sys.executable,
        "-m",
        "cueapi_tasks",
        "server",
        "--port",
        "0",
        "--data",
        str(folder / "data"),
        *keys,
        *options,
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def url_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().split()[2].rstrip(",")


def test_another_address_than_loopback_needs_a_key_given_on_purpose(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["server", "--host", "0.0.0.0", "--data", str(tmp_path / "data")]) == 1
    assert "error [no_key_given]" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("content", ["{", "[]", '"x"'])
def test_a_credentials_file_that_cannot_be_read_says_what_to_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    (tmp_path / "keys.json").write_text(content)
    assert main(["server", "--credentials", str(tmp_path / "keys.json"), "--data", str(tmp_path / "data")]) == 1
    assert "error [bad_credentials]" in capsys.readouterr().err


def test_a_log_line_in_json_holds_its_traceback() -> None:
    try:
        raise ValueError("boom")
    except ValueError:
        record = logging.LogRecord("n", 40, "f", 1, "it %s", ("broke",), sys.exc_info())
    line = json.loads(JsonFormatter().format(record))
    assert (line["event"], line["message"], "ValueError: boom" in line["traceback"]) == ("log", "it broke", True)
