"""The threaded shell around the engine: one thread for time, a pool for deliveries, waitress for HTTP."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from waitress import wasyncore
from waitress.server import create_server

from .. import log
from ..errors import ServerStartError
from ..web import WSGIApp
from .api import create_api, digest
from .deliver import deliver, make_client
from .engine import Engine
from .records import Account, Attempt
from .store import Store

DATABASE = "server.db"
DELIVERY_THREADS = 64
HTTP_THREADS = 8
STOP_SECONDS = 2.0
"""How long requests under way may take to end when the server stops."""
LONGEST_SLEEP = 5.0
"""Seconds after which the loop looks again even if nothing is due: the machine's clock may be set."""

logger = logging.getLogger("cueapi_tasks.server")


def utc_now() -> datetime:
    """Read the wall clock."""
    return datetime.now(timezone.utc)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The key that clients send and the secret that deliveries are signed with."""

    api_key: str = field(repr=False)
    webhook_secret: str = field(repr=False)


def make_credentials() -> Credentials:
    """Return new ones, in the service's own forms (contract, section 1)."""
    return Credentials(api_key=f"cue_sk_{secrets.token_hex(16)}", webhook_secret=f"whsec_{secrets.token_hex(32)}")


class HttpServer:
    """A WSGI app on a socket, served by threads; the port is bound when it is made."""

    def __init__(self, app: WSGIApp, *, host: str, port: int) -> None:
        listener = _bind(host, port)
        self.host = host
        self.port: int = listener.getsockname()[1]
        self._sockets: dict[int, Any] = {}
        self._server: Any = create_server(app, self._sockets, sockets=[listener], threads=HTTP_THREADS, ident="")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=f"cueapi-tasks-http-{self.port}", daemon=True)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{self.host}:{self.port}"

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Let the requests under way end, then close the sockets."""
        self._stopping.set()
        self._server.task_dispatcher.shutdown(timeout=STOP_SECONDS)
        if self._thread.is_alive():
            self._server.pull_trigger()
            self._thread.join()
        wasyncore.close_all(self._sockets)

    def _serve(self) -> None:
        while not self._stopping.is_set():
            wasyncore.loop(timeout=1.0, use_poll=True, map=self._sockets, count=1)


class Server:
    """The embedded server: its data, its loop and its HTTP."""

    def __init__(
        self,
        *,
        data: Path,
        credentials: Credentials,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        data.mkdir(parents=True, exist_ok=True)
        self._clock = clock
        self._store = Store(data / DATABASE)
        self._changed = threading.Event()
        self._stopping = threading.Event()
        self._engine = Engine(self._store, self._changed.set)
        with self._store.atomic():
            self._store.put_account(_local_account(credentials), digest(credentials.api_key))
        self._client = make_client()
        self._pool = ThreadPoolExecutor(DELIVERY_THREADS, thread_name_prefix="cueapi-tasks-delivery")
        self._loop = threading.Thread(target=self._run, name="cueapi-tasks-loop", daemon=True)
        try:
            self.http = HttpServer(create_api(self._engine, clock), host=host, port=port)
        except ServerStartError:
            self._store.close()
            raise

    @property
    def url(self) -> str:
        """The API's base URL."""
        return self.http.url

    def start(self) -> None:
        """Take up what an earlier process left, then answer and fire."""
        self._engine.recover(self._clock())
        self._loop.start()
        self.http.start()
        log.event(logger, "listening", url=self.url)

    def stop(self) -> None:
        """Stop answering and firing; deliveries under way are made again at the next start."""
        self._stopping.set()
        self._changed.set()
        self.http.stop()
        self._loop.join(timeout=5.0)
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._client.close()
        self._pool.shutdown(wait=True)
        self._store.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._changed.clear()
            try:
                self._turn()
            except Exception:
                logger.exception("a turn of the loop failed; the next one follows")
            self._changed.wait(self._seconds_to_wait())

    def _turn(self) -> None:
        while attempts := self._engine.tick(self._clock()):
            for attempt in attempts:
                self._pool.submit(self._deliver, attempt)

    def _seconds_to_wait(self) -> float:
        due = self._engine.next_due()
        if due is None:
            return LONGEST_SLEEP
        return min(LONGEST_SLEEP, max(0.0, (due - self._clock()).total_seconds()))

    def _deliver(self, attempt: Attempt) -> None:
        try:
            answered = deliver(self._client, attempt, self._clock())
            if not self._stopping.is_set():
                self._engine.attempted(attempt, answered, self._clock())
        except Exception:
            logger.exception("the delivery of %s failed in the server itself", attempt.execution_id)


def _local_account(credentials: Credentials) -> Account:
    email = "local@localhost"
    return Account(
        id=str(uuid.uuid5(uuid.NAMESPACE_URL, email)),
        email=email,
        webhook_secret=credentials.webhook_secret,
        api_key_prefix=credentials.api_key[:12],
    )


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    if os.name != "nt":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ServerStartError(
            "port_taken", f"cannot listen on {host}:{port}: {error.strerror}; give another --port"
        ) from error
    return listener
