"""Anything at all at both edges: never an exception or a 500, never an unverified call, never more read than allowed."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import io
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from cueapi_tasks import Context, CueTasks
from cueapi_tasks.asgi import Edge, Message
from cueapi_tasks.web import wsgi

from .support import NOON, SECRET, Clock, envelope, receiver_of

LIMIT = 300_000
"""Bytes of a body here, so that one over it is soon made."""
NOW = int(NOON.timestamp())
TOLERANCE = 300
CHUNK = 64 * 1024
REFUSED = {401, 405, 413}
"""What a stranger is answered."""
RUN = {200, 400, 404, 422}
"""What is answered to signed bytes where no function raises."""

Lines = list[tuple[str, str]]


@dataclass(frozen=True)
class Sent:
    """A request as it is on the wire; `lengths` are the Content-Length lines, none for a chunked body."""

    method: str
    lines: Lines
    lengths: list[str]
    body: bytes

    def of(self, name: str) -> list[str]:
        return [value for each, value in self.lines if each.lower() == name]

    @property
    def honest(self) -> bool:
        return self.lengths in ([], [str(len(self.body))])

    def authentic(self, body: bytes) -> bool:
        """Judge by the contract's own words, and not by the code that is tested."""
        signatures, timestamps = self.of("x-cueapi-signature"), self.of("x-cueapi-timestamp")
        if self.method != "POST" or len(body) > LIMIT or len(signatures) != 1 or len(timestamps) != 1:
            return False
        (timestamp,) = timestamps
        if not (timestamp.isascii() and timestamp.isdigit() and abs(int(timestamp) - NOW) <= TOLERANCE):
            return False
        made = hmac.new(SECRET.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        return signatures[0] == f"v1={made}"


class Stream(io.BytesIO):
    """A body that counts what is read of it, and is never asked for all there is."""

    taken = 0

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        assert size > 0
        part = super().read(size)
        self.taken += len(part)
        return part


class Victim:
    """A receiver at both edges, and the count of the calls of its functions."""

    def __init__(self, cue: CueTasks, receiver: Any) -> None:
        self.calls: Counter[str] = Counter()
        self.wsgi = wsgi(receiver.handle, limit=LIMIT)
        self.asgi = Edge(receiver.handle, limit=LIMIT)
        self.loop = asyncio.new_event_loop()
        declare(cue, self.calls)

    def over_wsgi(self, sent: Sent) -> tuple[int, Any]:
        stream = Stream(sent.body)
        environ: dict[str, Any] = {"REQUEST_METHOD": sent.method, "wsgi.input": stream}
        if sent.lengths:
            environ["CONTENT_LENGTH"] = ",".join(sent.lengths)
        else:
            environ["wsgi.input_terminated"] = True
        for name, value in sent.lines:
            key = "HTTP_" + name.upper().replace("-", "_")
            environ[key] = f"{environ[key]},{value}" if key in environ else value
        started: list[Any] = []
        content = b"".join(self.wsgi(environ, lambda *given: started.append(given)))
        assert stream.taken <= LIMIT + 1
        ((line, headers),) = started
        return int(line[:3]), self.checked(sent, dict(headers)["Content-Length"], content)

    def over_asgi(self, sent: Sent) -> tuple[int, Any]:
        lines = sent.lines + [("Content-Length", value) for value in sent.lengths]
        scope = {
            "type": "http",
            "method": sent.method,
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in lines],
        }
        pieces = [sent.body[start : start + CHUNK] for start in range(0, len(sent.body), CHUNK)]
        taken = 0
        answer: list[Message] = []

        async def receive() -> Message:
            nonlocal taken
            assert taken <= LIMIT
            part = pieces.pop(0) if pieces else b""
            taken += len(part)
            return {"type": "http.request", "body": part, "more_body": bool(pieces)}

        async def send(message: Message) -> None:
            answer.append(message)

        self.loop.run_until_complete(self.asgi(scope, receive, send))
        start, end = answer
        length = dict(start["headers"])[b"content-length"].decode()
        return start["status"], self.checked(sent, length, end["body"])

    def checked(self, sent: Sent, length: str, content: bytes) -> Any:
        """Return the answer's JSON, or None for HEAD."""
        if sent.method == "HEAD":
            assert content == b""
            return None
        assert int(length) == len(content)
        answer = json.loads(content)
        assert set(answer) == {"status", "reason"}
        return answer


class Order(BaseModel):
    region: str
    count: int = 0


def declare(cue: CueTasks, calls: Counter[str]) -> None:
    def echo(payload: dict[str, Any], ctx: Context) -> Any:
        calls[ctx.execution_id] += 1
        return payload

    def order(order: Order, ctx: Context) -> str:
        calls[ctx.execution_id] += 1
        return order.region

    def words(ctx: Context, region: str = "", count: int = 0, **more: Any) -> str:
        calls[ctx.execution_id] += 1
        return region * 2

    cue.schedule(cron="0 9 * * *")(echo)
    cue.schedule(cron="0 9 * * *", timezone="Asia/Tokyo", payload={"order": {"region": "eu"}})(order)
    cue.schedule(cron="0 9 * * *", timezone="America/New_York", late="latest")(words)


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    cue = CueTasks("billing", webhook_secret=SECRET)
    path: Path = tmp_path_factory.mktemp("fuzz") / "ledger.db"
    with receiver_of(cue, path, Clock(), None) as receiver:
        made = Victim(cue, receiver)
        yield made
        made.loop.close()


HUGE = "9" * 5000
DEEP = "[" * 100_000 + "]" * 100_000
WHOLE = json.dumps(envelope("billing/echo"))
odd_text = st.text(max_size=20) | st.sampled_from(
    ["\0", "a\0b", "\ud800", "\udfff\ud800", "a" * 5000, "billing/echo", "billing/../x", "billing/echo:\0", "１"]
)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | odd_text | st.sampled_from([10**400, -1, 1000, 1001])
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(odd_text, inner, max_size=3), max_leaves=8)  # fmt: skip
moments = st.sampled_from(
    [
        "",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "9999-12-31T09:00:00Z",
        "2026-11-24T12:00:00",
        "2026-11-24T12:00:00Z",
        "2026-11-24T25:00:00Z",
        "2026-11-24T12:00:00+99:99",
        "2026-W48-2T12:00:00Z",
        "２０２６-11-24T12:00:00Z",
        "now",
    ]
)
ids = st.sampled_from(["e1", "e2", "e3", "", "a" * 64, "a" * 65, "ä", "a\n", "a b", "\0"]) | st.uuids().map(str)
stamps = st.fixed_dictionaries(
    {},
    optional={
        "v": st.just(1) | values,
        "app": st.just("billing") | values,
        "env": st.none() | values,
        "task": st.sampled_from(["echo", "order", "words", "gone"]) | values,
        "schedule": st.none() | values,
        "max_attempts": st.integers(1, 5) | st.sampled_from([2**31, 10**30, -(10**30)]) | values,
        "revision": st.none() | values,
        "paused_by": values,
    },
)
payloads = st.fixed_dictionaries(
    {},
    optional={
        "task": st.just("billing/words") | values,
        "_cueapi_tasks": stamps | values,
        "region": st.just("eu") | values,
        "count": st.integers() | values,
        "order": st.fixed_dictionaries({}, optional={"region": values, "count": values}) | values,
        "payload": values,
        "ctx": values,
        "self": values,
    },
)
envelopes = st.fixed_dictionaries(
    {},
    optional={
        "attempt": st.integers(1, 5) | values,
        "cue_id": st.just("cue_abcdefghijkl") | ids | values,
        "execution_id": ids | values,
        "name": st.sampled_from(["billing/echo", "billing/order", "billing/words:x", "other/echo"]) | values,
        "payload": payloads | values,
        "scheduled_for": moments | values,
        "more": values,
    },
)


def whole(changes: dict[str, Any], missing: str | None) -> bytes:
    made = envelope("billing/echo") | changes
    made.pop(missing or "", None)
    return json.dumps(made).encode()


def spliced(value: str, field: str) -> bytes:
    """Return an envelope in which the text of one field's value is this one, whatever it is."""
    rest = {key: each for key, each in envelope("billing/echo").items() if key != field}
    return (json.dumps(rest)[:-1] + f', "{field}": {value}}}').encode("utf-8", "surrogatepass")


def deep(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


odd_values = st.sampled_from(
    [
        HUGE,
        f"-{HUGE}",
        f"1e{HUGE}",
        "NaN",
        "-Infinity",
        DEEP,
        '{"a":' * 30_000,
        "[" * 100_000,
        '"\\ud800"',
        '"\0"',
        '{"a": 1, "a": 2}',
        '{"\\ud800": 1}',
        '{"\\u0000": "\\u0000"}',
        '"\ud800"',
        "",
        "1.",
        "01",
        f'{{"a": {HUGE}}}',
        f'{{"a": {DEEP}}}',
        "1e400",
        '{"a": 1e400}',
        "True",
        "'x'",
        '"' + "\\u00fc" * 40_000 + '"',
    ]
) | st.integers(1, 1500).map(deep)
fields = st.sampled_from(["attempt", "cue_id", "execution_id", "name", "payload", "scheduled_for"])
bodies = st.one_of(
    st.builds(whole, st.fixed_dictionaries({}, optional={"payload": payloads, "execution_id": ids}), st.none()),
    st.builds(whole, envelopes, st.none() | fields),
    st.builds(spliced, odd_values, fields),
    st.builds(lambda value, field: WHOLE[:-1].encode() + f', "{field}": 1, "{field}": {value}}}'.encode("utf-8", "surrogatepass"), odd_values, fields),  # duplicate keys
    odd_values.map(lambda text: text.encode("utf-8", "surrogatepass")),
    values.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=50),
    st.sampled_from(["utf-8-sig", "utf-16", "utf-32"]).map(WHOLE.encode),
    st.sampled_from([b"", b"x" * LIMIT, b"x" * (LIMIT + 1), b" " * (LIMIT + 1) + WHOLE.encode(), b"\0" * 3 * LIMIT]),
)  # fmt: skip

near = st.sampled_from([*[0] * 20, -TOLERANCE, TOLERANCE, -TOLERANCE - 1, TOLERANCE + 1, 10**11, -NOW]).map(
    lambda away: str(NOW + away)
)
odd_timestamps = st.sampled_from(
    [
        "",
        "+1",
        "-1",
        "1e9",
        "1.0",
        " ",
        "0x10",
        "nan",
        "²",
        "9" * 400,
        f"{NOW}.0",
        f"{NOW},{NOW}",
        f"0{NOW}",
        f"{NOW}\0",
    ]
)
other_lines = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "X-CueAPI-Execution-Id",
                "X-CueAPI-Cue-Id",
                "X-CueAPI-Attempt",
                "Content-Type",
                "Content-Encoding",
                "X-CueAPI-Signature",
                "x-cueapi-timestamp",
                "X-CueAPI-Signature-",
                "Expect",
                "Transfer-Encoding",
            ]
        ),
        st.text(st.characters(max_codepoint=255), max_size=20) | st.just(str(NOW)),
    ),
    max_size=2,
)


def sign(body: bytes, timestamp: str, secret: str) -> str:
    return "v1=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def mostly(value: Any, *others: Any) -> st.SearchStrategy[Any]:
    """Give the good value nine times of ten, so that most requests are wrong in one thing at most."""
    return st.sampled_from([value] * 9 * len(others) + [*others])


@st.composite
def requests(draw: st.DrawFn) -> Sent:
    """Make a request that is signed well, or nearly so."""
    body = draw(bodies)
    timestamp = draw(draw(mostly(near, odd_timestamps)))
    signature = draw(mostly(str, *MISSPELLINGS))(
        sign(body, timestamp, draw(mostly(SECRET, SECRET[:-1], "whsec_", "x")))
    )
    first, second = ("X-CueAPI-Signature", signature), ("X-CueAPI-Timestamp", timestamp)
    lines = draw(
        mostly([first, second], [first], [second], [], [first, second] * 2, [first, second, first], [second] * 2)
    )
    lines = [*lines, *draw(draw(mostly(st.just([]), other_lines)))]
    body = draw(mostly(body, body + b" ", body[:-1], b" " + body, b""))
    length = str(len(body))
    lengths = draw(mostly([length], []) | mostly([], [length, length], [f"+{length}"], [f" {length}"], *LIES))
    method = draw(mostly("POST", "GET", "HEAD", "PUT", "post", "OPTIONS", "BREW", ""))
    return Sent(method=method, lines=draw(st.permutations(lines)), lengths=lengths, body=body)


MISSPELLINGS: list[Any] = [str.upper, lambda each: each[3:], lambda each: each[:-1], lambda each: each + "0"]
MISSPELLINGS += [lambda each: "v2" + each[2:], lambda each: each + "\n", lambda each: "v1=" + "0" * 64, lambda each: ""]
LIES = [[each] for each in ("0", "1", "-1", "x", "", "9" * 400, str(LIMIT), str(LIMIT + 1), "²", "1_0", "0x5")]
LIES += [["5", "3"]]


def seen_over_wsgi(sent: Sent) -> bytes:
    """Return the body that the server's framing leaves for a WSGI app."""
    if not sent.lengths:
        return sent.body
    text = ",".join(sent.lengths)
    return sent.body[: int(text)] if text.isascii() and text.isdigit() else b""


@settings(max_examples=600, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(sent=requests())
def test_only_what_is_signed_runs_and_nothing_breaks(victim: Victim, sent: Sent) -> None:
    check(victim, sent)


def check(victim: Victim, sent: Sent) -> None:
    """Send a request over both edges, and fail unless each answers as it may."""
    answers: list[tuple[int, Any]] = []
    for call, seen in ((victim.over_wsgi, seen_over_wsgi(sent)), (victim.over_asgi, sent.body)):
        before = victim.calls.total()
        status, answer = call(sent)
        event(f"{status} {answer and answer['reason']}")
        authentic = sent.authentic(seen)
        assert victim.calls.total() - before <= authentic
        assert status in REFUSED or authentic
        assert status not in REFUSED or not authentic or not sent.honest
        assert status in REFUSED | RUN
        answers.append((status, answer))
    assert not sent.honest or answers[0] == answers[1]
    assert max(victim.calls.values(), default=0) <= 1


@settings(max_examples=100)
@given(sent=requests(), lines=other_lines, attempt=st.integers(1, 9))
def test_a_captured_delivery_runs_no_second_time_under_other_headers(
    victim: Victim, sent: Sent, lines: Lines, attempt: int
) -> None:
    body = json.dumps(envelope("billing/echo", attempt=attempt)).encode()
    own = [("X-CueAPI-Signature", sign(body, str(NOW), SECRET)), ("X-CueAPI-Timestamp", str(NOW))]
    captured = Sent(method="POST", lines=own, lengths=[], body=body)
    before = victim.calls.total()
    assert victim.over_wsgi(captured)[0] == 200
    for other in (captured, Sent("POST", own + lines, [], body), Sent("POST", sent.lines, [], body)):
        assert {victim.over_wsgi(other)[0], victim.over_asgi(other)[0]} <= {200, 401}
    assert victim.over_wsgi(Sent("POST", own, [], sent.body))[0] in (401, 413)
    assert victim.calls.total() == before + 1
