"""The ASGI edge around the same handler: the body is read on the event loop, the handler runs in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import multiprocessing
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from os import getpid
from typing import Any

from .web import BODY_LIMIT, Handler, Request, Response, content_length, same_path

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
"""An ASGI 3 application."""

THREADS = 40
"""Requests of one process that are handled at the same time; further ones wait for their turn."""


class Edge:
    """An ASGI app that answers every path by a handler.

    It is an object and no function, so that Starlette's `Route` takes it for the ASGI app that it is. Its threads are
    its own: tasks that take long never hold up the framework's pool.
    """

    def __init__(self, handler: Handler, *, limit: int = BODY_LIMIT) -> None:
        self._handler = handler
        self._limit = limit
        self._threads: dict[int, ThreadPoolExecutor] = {}
        """By process: a fork leaves its parent's without a thread."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; a lifespan is lived through, a WebSocket is closed."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000, "reason": ""})
        else:
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = await _request(scope, receive, self._limit)
        if request is not None:
            await _send(await self._handle(request), send, with_body=request.method != "HEAD")

    async def _handle(self, request: Request) -> Response:
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool(), lambda: context.run(self._handler, request))

    def _pool(self) -> ThreadPoolExecutor:
        process = getpid()
        if process not in self._threads:
            self._threads[process] = ThreadPoolExecutor(THREADS, thread_name_prefix="cueapi-tasks-asgi")
        return self._threads[process]


def mount(inner: ASGIApp, mounted: ASGIApp, path: str) -> ASGIApp:
    """Return `inner` with `mounted` in its place at `path`, with or without a slash at its end."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        here = scope["type"] == "http" and same_path(_path(scope), path)
        await (mounted if here else inner)(scope, receive, send)

    return app


def _path(scope: Scope) -> str:
    """Return the path below the root path; servers differ in whether `path` begins with that."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    return path[len(root) :] if path == root or path.startswith(f"{root}/") else path


async def _request(scope: Scope, receive: Receive, limit: int) -> Request | None:
    """Return the request, or None if the client left before its end."""
    headers = _headers(scope["headers"])
    too_long = content_length(headers.get("content-length")) > limit
    body = b"" if too_long else await _read(receive, limit + 1)
    if body is None:
        return None
    return Request(
        method=scope["method"],
        headers=headers,
        body=body,
        oversized=too_long or len(body) > limit,
        # ASGI has no word for it; a server's workers are children of its own
        multiprocess=multiprocessing.parent_process() is not None,
    )


def _headers(lines: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the headers by lower-case name; one that is repeated is joined by commas, as WSGI servers do."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in lines:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


async def _read(receive: Receive, most: int) -> bytes | None:
    """Read the body to its end, or so many bytes of it; None if the client left."""
    body = bytearray()
    more = True
    while more and len(body) < most:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")[: most - len(body)]
        more = message.get("more_body", False)
    return bytes(body)


async def _send(response: Response, send: Send, *, with_body: bool) -> None:
    lines, body = response.encoded()
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in lines]
    with contextlib.suppress(OSError):  # the client has left; its answer is kept for when it asks again
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": body if with_body else b""})


async def _live(receive: Receive, send: Send) -> None:
    while (await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})
