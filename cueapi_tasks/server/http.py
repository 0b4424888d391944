"""A WSGI app on a socket: waitress in threads of our own."""

from __future__ import annotations

import os
import socket
import threading
from typing import Any

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import create_server
from waitress.task import WSGITask

from ..errors import ServerStartError
from ..web import WSGIApp
from .wire import DROP_HEADER

HTTP_THREADS = 8
LARGEST_BODY = 5 * 1024 * 1024
"""Bytes over which a body is refused before any is read; the apps' own limits are below it."""
STOP_SECONDS = 2.0
"""How long requests under way may take to end when the server stops."""


class HttpServer:
    """A WSGI app on a socket, served by threads; the port is bound when it is made."""

    def __init__(self, app: WSGIApp, *, host: str, port: int) -> None:
        listener = _bind(host, port)
        self.host = host
        self.port: int = listener.getsockname()[1]
        self._sockets: dict[int, Any] = {}
        made: Any = create_server(
            app,
            self._sockets,
            sockets=[listener],
            threads=HTTP_THREADS,
            ident="",
            max_request_body_size=LARGEST_BODY,
        )
        made.channel_class = _Channel
        self._server = made
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=f"cueapi-tasks-http-{self.port}", daemon=True)

    @property
    def url(self) -> str:
        """Where it answers."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

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


class _Task(WSGITask):
    """Closes the connection after an answer that asks for it, without telling the client."""

    def build_response_header(self) -> Any:
        drop = (DROP_HEADER, "1") in self.response_headers
        self.response_headers = [pair for pair in self.response_headers if pair[0] != DROP_HEADER]
        header = super().build_response_header()
        self.close_on_finish = drop or self.close_on_finish
        return header


class _Channel(HTTPChannel):
    task_class = _Task


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
