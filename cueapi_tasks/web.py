"""A neutral request and response, and the WSGI edge around a handler of them; no rule of ours lives here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, BinaryIO, NamedTuple, Protocol

import pydantic_core

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
WSGIApp = Callable[[Environ, StartResponse], Iterable[bytes]]
"""A WSGI application (PEP 3333), as it is taken."""


class MountedApp(Protocol):
    """A WSGI application as it is given: its parameters have the names that frameworks declare."""

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        ...


BODY_LIMIT = 4 * 1024 * 1024
"""Bytes of a request's body: a payload of 1 MiB grows up to three times by its `\\u` escapes."""


class Request(NamedTuple):
    """One HTTP request; header names are lower-case, the body is raw."""

    method: str
    headers: Mapping[str, str]
    body: bytes
    oversized: bool = False
    """Whether the body is over the limit; then it was not read."""
    multiprocess: bool = False
    """Whether other processes answer for the same app."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One HTTP answer with a JSON body."""

    status: int
    json: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def encoded(self) -> tuple[list[tuple[str, str]], bytes]:
        """Return every header that goes out, those that describe the body included, and the body's bytes."""
        body = pydantic_core.to_json(self.json)
        described = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        return list({**described, **self.headers}.items()), body


Handler = Callable[[Request], Response]

_STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


def wsgi(handler: Handler, *, limit: int = BODY_LIMIT) -> MountedApp:
    """Return a WSGI app that answers every path by `handler`."""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        response = handler(_request(environ, limit))
        headers, body = response.encoded()
        start_response(_STATUS_LINES[response.status], headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    return app


def mount(inner: WSGIApp, mounted: WSGIApp, path: str) -> MountedApp:
    """Return `inner` with `mounted` in its place at `path`, with or without a slash at its end."""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        here = same_path(environ.get("PATH_INFO", ""), path)
        return (mounted if here else inner)(environ, start_response)

    return app


def same_path(asked: str, path: str) -> bool:
    """Tell whether a request's path is the one mounted at, with or without a slash at the end of either."""
    return asked.rstrip("/") == ("/" + path.strip("/")).rstrip("/")


def content_length(text: str | None) -> int:
    """Return the declared length of a body, 0 where there is none or none that RFC 9110 allows."""
    return int(text[:18]) if text and text.isascii() and text.isdigit() else 0


class _Headers(Mapping[str, str]):
    """A WSGI request's headers by lower-case name; most are never asked for, and stay where the server put them."""

    def __init__(self, environ: Environ) -> None:
        self._environ = environ

    def __getitem__(self, name: str) -> str:
        value: str = self._environ["HTTP_" + name.upper().replace("-", "_")]
        return value

    def __iter__(self) -> Iterator[str]:
        return (name[5:].replace("_", "-").lower() for name in self._environ if name.startswith("HTTP_"))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _request(environ: Environ, limit: int) -> Request:
    length = content_length(environ.get("CONTENT_LENGTH"))
    body = b"" if length > limit else _read(environ, length, limit)
    return Request(
        method=environ["REQUEST_METHOD"],
        headers=_Headers(environ),
        body=body,
        oversized=length > limit or len(body) > limit,
        multiprocess=bool(environ.get("wsgi.multiprocess")),
    )


def _read(environ: Environ, length: int, limit: int) -> bytes:
    """Read the body; a chunked one has no length, and is readable to its end only where the server says so."""
    most = length or (limit + 1 if environ.get("wsgi.input_terminated") else 0)
    stream: BinaryIO = environ["wsgi.input"]
    parts: list[bytes] = []
    while most > 0 and (part := stream.read(most)):
        parts.append(part)
        most -= len(part)
    return b"".join(parts)
