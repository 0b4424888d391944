"""The WSGI edge, under the standard library's validator."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from cueapi_tasks import CueTasks
from cueapi_tasks.web import Environ, Request, Response, StartResponse, mount, wsgi

from .support import envelope, signed

SEEN: list[Request] = []


def handler(request: Request) -> Response:
    SEEN.append(request)
    return Response(status=200, json={"status": "ok"}, headers={"X-Own": "1"})


def inner(environ: Environ, start_response: StartResponse) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"inner"]


def call(app: Any, *, body: bytes = b"", checked: bool = True, **environ: Any) -> tuple[str, bytes, Request | None]:
    SEEN.clear()
    given: dict[str, Any] = {}
    setup_testing_defaults(given)
    given |= {
        "REQUEST_METHOD": "POST",
        "wsgi.input": io.BytesIO(body),
        "CONTENT_LENGTH": str(len(body)),
        "QUERY_STRING": "",
    }
    given |= environ
    status: list[str] = []

    def start_response(line: str, headers: Any, info: Any = None) -> Callable[[bytes], object]:
        status.append(line)
        return status.append  # type: ignore[return-value]  # PEP 3333's write(), which nothing here calls

    answer = (validator(app) if checked else app)(given, start_response)
    content = b"".join(answer)
    if hasattr(answer, "close"):
        answer.close()
    return status[0], content, SEEN[-1] if SEEN else None


def test_a_request_is_raw_bytes_and_lower_case_headers() -> None:
    status, content, request = call(wsgi(handler), body=b"\xff\0", HTTP_X_CUEAPI_SIGNATURE="v1=x")
    assert (status, json.loads(content)) == ("200 OK", {"status": "ok"})
    assert request is not None
    assert (request.method, request.body, request.headers["x-cueapi-signature"]) == ("POST", b"\xff\0", "v1=x")
    assert len(request.headers) == len(dict(request.headers))


@pytest.mark.parametrize(
    ("path", "answers"),
    [("/cueapi", b"{"), ("/cueapi/", b"{"), ("/", b"i"), ("/cueapis", b"i"), ("/cueapi/x", b"i"), ("", b"i")],
)
def test_a_mount_takes_its_path_with_or_without_a_slash_and_nothing_else(path: str, answers: bytes) -> None:
    app = mount(inner, wsgi(handler), "cueapi/")
    _, content, _ = call(app, PATH_INFO=path, SCRIPT_NAME="/prefix")
    assert content[:1] == answers


@pytest.mark.parametrize(
    ("environ", "body", "oversized"),
    [
        ({}, b"12345", False),
        ({"CONTENT_LENGTH": "6"}, b"", True),  # not read at all
        ({"CONTENT_LENGTH": "9" * 400}, b"", True),
        ({"CONTENT_LENGTH": "3"}, b"123", False),
        ({"CONTENT_LENGTH": ""}, b"", False),
        ({"CONTENT_LENGTH": "x"}, b"", False),
        ({"CONTENT_LENGTH": "-1"}, b"", False),
        ({"CONTENT_LENGTH": "", "wsgi.input_terminated": True}, b"12345", False),  # chunked
    ],
)
def test_a_body_is_read_up_to_the_limit(environ: dict[str, Any], body: bytes, oversized: bool) -> None:
    _, _, request = call(wsgi(handler, limit=5), body=b"12345", checked=False, **environ)
    assert request is not None
    assert (request.body, request.oversized) == (body, oversized)


def test_a_chunked_body_over_the_limit_is_not_read_to_its_end() -> None:
    stream = io.BytesIO(b"x" * 1000)
    chunked: dict[str, Any] = {"CONTENT_LENGTH": "", "wsgi.input_terminated": True, "wsgi.input": stream}
    _, _, request = call(wsgi(handler, limit=5), checked=False, **chunked)
    assert request is not None
    assert (request.oversized, stream.tell()) == (True, 6)


class Piecemeal(io.BytesIO):
    """A stream that gives less than it is asked for, as PEP 3333 allows no server, and some do."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or 0, 2))


def test_a_body_that_comes_in_pieces_is_read_whole_and_no_further() -> None:
    stream = Piecemeal(b"1234567")
    pieces: dict[str, Any] = {"CONTENT_LENGTH": "5", "wsgi.input": stream}
    _, _, request = call(wsgi(handler), checked=False, **pieces)
    assert request is not None
    assert (request.body, stream.tell()) == (b"12345", 5)


@pytest.mark.parametrize(
    "framing", [{}, {"CONTENT_LENGTH": "", "wsgi.input_terminated": True}], ids=["plain", "chunked"]
)
@pytest.mark.parametrize("path", ["/in/cueapi", "/in/cueapi/"])
@pytest.mark.parametrize("by", ["mount", "dispatcher"])
def test_a_delivery_runs_its_task_in_flask_under_the_validator(
    cue: CueTasks, by: str, path: str, framing: dict[str, Any]
) -> None:
    ran: list[str] = []
    cue.schedule(cron="0 9 * * *", task="report")(lambda: ran.append("report"))
    flask = Flask("app").wsgi_app
    mounted = cue.mount(flask, "/in/cueapi") if by == "mount" else DispatcherMiddleware(flask, {"/in/cueapi": cue.wsgi})
    request = signed(envelope("billing/report"), at=datetime.now(timezone.utc))
    headers: dict[str, Any] = {
        f"HTTP_{name.upper().replace('-', '_')}": value for name, value in request.headers.items()
    }
    status, _, _ = call(mounted, body=request.body, PATH_INFO=path, SCRIPT_NAME="/prefix", **headers, **framing)
    assert (status, ran) == ("200 OK", ["report"])
    assert call(mounted, PATH_INFO=path, REQUEST_METHOD="HEAD")[:2] == ("405 Method Not Allowed", b"")
    assert call(mounted, PATH_INFO="/else")[0] == "404 NOT FOUND"
    cue.close()


def test_a_mounted_app_answers_a_stranger_with_a_reason_and_leaves_the_rest_alone(cue: CueTasks) -> None:
    app = cue.mount(inner, path="/cueapi")
    status, content, _ = call(app, PATH_INFO="/cueapi", body=b"{}")
    assert (status, json.loads(content)) == ("401 Unauthorized", {"status": "refused", "reason": "missing_signature"})
    assert call(app, PATH_INFO="/")[1] == b"inner"
    cue.close()
