"""The ASGI edge, message by message."""

from __future__ import annotations

import asyncio
import contextvars
import json
import threading
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from cueapi_tasks import CueTasks
from cueapi_tasks.asgi import ASGIApp, Edge, Message, Receive, Scope, Send, mount
from cueapi_tasks.web import Request, Response

REQUEST: Message = {"type": "http.request"}
LEFT: Message = {"type": "http.disconnect"}


def handler(request: Request) -> Response:
    shown = {"method": request.method, "headers": dict(request.headers), "body": request.body.decode("latin-1")}
    return Response(status=200, json=shown | {"oversized": request.oversized}, headers={"X-Own": "1"})


async def inner(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": f"{scope['type']}.inner"})


@pytest.fixture
def edge() -> Edge:
    return Edge(handler, limit=5)


class Connection:
    """One scope of a server: the messages that it gives, and those that it gets."""

    def __init__(self, *given: Message, **scope: Any) -> None:
        self.left = [*given]
        self.sent: list[Message] = []
        self.scope: Scope = {"type": "http", "method": "POST", "path": "/", "headers": []} | scope

    def run(self, app: ASGIApp) -> list[Message]:
        asyncio.run(self.call(app))
        return self.sent

    async def call(self, app: ASGIApp) -> None:
        await app(self.scope, self.receive, self.send)

    async def receive(self) -> Message:
        return self.left.pop(0)

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def answer(self) -> Any:
        return json.loads(self.sent[1]["body"])


def chunks(*bodies: bytes) -> list[Message]:
    return [*({"type": "http.request", "body": body, "more_body": True} for body in bodies), REQUEST]


def test_a_request_is_raw_bytes_and_lower_case_headers(edge: Edge) -> None:
    connection = Connection(*chunks(b"\xff", b"", b"\0"), headers=[(b"X-CueAPI-Signature", b"v1=x")])
    start, _ = connection.run(edge)
    assert connection.answer == {
        "method": "POST",
        "headers": {"x-cueapi-signature": "v1=x"},
        "body": "\xff\0",
        "oversized": False,
    }
    assert start["status"] == 200
    length = str(len(connection.sent[1]["body"])).encode()
    assert start["headers"] == [(b"content-type", b"application/json"), (b"content-length", length), (b"x-own", b"1")]


def test_a_header_that_is_repeated_is_joined(edge: Edge) -> None:
    connection = Connection(REQUEST, headers=[(b"x-a", b"1"), (b"X-A", b"2")])
    connection.run(edge)
    assert connection.answer["headers"] == {"x-a": "1,2"}


@pytest.mark.parametrize(
    ("length", "bodies", "body", "oversized", "unread"),
    [
        (None, [b"123", b"45"], "12345", False, 0),
        (b"6", [b"123456"], "", True, 2),  # not read at all
        (b"9" * 400, [b"1"], "", True, 2),
        (b"3", [b"123", b"456"], "123456", True, 1),  # a lie
        (b"x", [b"123"], "123", False, 0),
        (b"-1", [b"123"], "123", False, 0),
        (None, [b"1234", b"5678", b"9"], "123456", True, 2),  # chunked
        (None, [b"1" * 100], "111111", True, 1),
    ],
)
def test_a_body_is_read_up_to_the_limit(
    edge: Edge, length: bytes | None, bodies: list[bytes], body: str, oversized: bool, unread: int
) -> None:
    connection = Connection(*chunks(*bodies), headers=[] if length is None else [(b"content-length", length)])
    connection.run(edge)
    assert (connection.answer["body"], connection.answer["oversized"]) == (body, oversized)
    assert len(connection.left) == unread


def test_head_has_no_body(edge: Edge) -> None:
    start, end = Connection(REQUEST, method="HEAD").run(edge)
    assert (int(dict(start["headers"])[b"content-length"]) > 0, end["body"]) == (True, b"")


def test_a_client_that_leaves_before_its_end_is_not_answered(edge: Edge) -> None:
    assert Connection(*chunks(b"12")[:1], LEFT).run(edge) == []


def test_a_client_that_leaves_before_its_answer_is_no_error(edge: Edge) -> None:
    class Gone(Connection):
        async def send(self, message: Message) -> None:
            raise OSError("gone")

    assert Gone(REQUEST).run(edge) == []


def test_the_bare_app_lives_through_a_lifespan_and_closes_a_websocket(edge: Edge) -> None:
    life = Connection({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}, type="lifespan")
    assert [each["type"] for each in life.run(edge)] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    (closed,) = Connection({"type": "websocket.connect"}, type="websocket").run(edge)
    assert closed["type"] == "websocket.close"


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
def test_a_mount_passes_on_what_is_no_request(edge: Edge, kind: str) -> None:
    assert Connection(type=kind, path="/cueapi").run(mount(inner, edge, "/cueapi")) == [{"type": f"{kind}.inner"}]


@pytest.mark.parametrize(
    ("path", "root", "here"),
    [
        ("/cueapi", "", True),
        ("/cueapi/", "", True),
        ("/cueapi", "/", True),
        ("/prefix/cueapi", "/prefix", True),
        ("/prefix/cueapi/", "/prefix/", True),
        ("/cueapi", "/prefix", True),  # a server that leaves the prefix out of the path
        ("/prefix/cueapi", "", False),
        ("/prefixcueapi", "/prefix", False),
        ("/cueapis", "", False),
        ("/cueapi/x", "", False),
        ("/", "", False),
        ("", "", False),
    ],
)
def test_a_mount_takes_its_path_with_or_without_a_slash_and_nothing_else(
    edge: Edge, path: str, root: str, here: bool
) -> None:
    sent = Connection(REQUEST, path=path, root_path=root).run(mount(inner, edge, "cueapi/"))
    assert (sent[0]["type"] == "http.response.start") == here


def test_the_handler_runs_in_a_thread_of_the_edge_in_the_context_of_the_request() -> None:
    user = contextvars.ContextVar("user", default="")
    seen: list[str] = []

    def look(request: Request) -> Response:
        seen.extend((user.get(), threading.current_thread().name))
        return Response(status=200, json={})

    user.set("ada")
    Connection(REQUEST).run(Edge(look))
    assert seen[0] == "ada"
    assert seen[1].startswith("cueapi-tasks-asgi")


def test_slow_runs_leave_the_loop_and_its_default_threads_free() -> None:
    go_on = threading.Event()

    def wait(request: Request) -> Response:
        assert go_on.wait(30)
        return Response(status=200, json={})

    async def scenario() -> None:
        edge = Edge(wait)
        slow = [asyncio.create_task(Connection(REQUEST).call(edge)) for _ in range(38)]
        await asyncio.to_thread(go_on.set)
        await asyncio.gather(*slow)

    asyncio.run(scenario())


def test_starlette_takes_the_mount_as_middleware_and_the_bare_app_as_a_route(cue: CueTasks) -> None:
    async def index(request: StarletteRequest) -> PlainTextResponse:
        return PlainTextResponse("index")

    middle = Starlette(routes=[Route("/", index)], middleware=[Middleware(cue.mount_asgi, path="/in/cueapi")])
    routed = Starlette(routes=[Route("/", index), Route("/cueapi", cue.asgi)])
    for app, path in ((middle, "/in/cueapi"), (middle, "/in/cueapi/"), (routed, "/cueapi")):
        connection = Connection(REQUEST, path=path, query_string=b"", root_path="")
        connection.run(app)
        assert connection.sent[0]["status"] == 401
        assert connection.answer == {"status": "refused", "reason": "missing_signature"}
        home = Connection(REQUEST, method="GET", query_string=b"", root_path="").run(app)
        assert home[1]["body"] == b"index"
    cue.close()


def test_other_methods_are_refused_as_on_wsgi(cue: CueTasks) -> None:
    for method in ("GET", "HEAD", "PUT", "OPTIONS", "BREW"):
        start = Connection(REQUEST, method=method).run(cue.asgi)[0]
        assert (start["status"], dict(start["headers"])[b"allow"]) == (405, b"POST")
    cue.close()
