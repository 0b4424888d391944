"""The SDK over a transport that answers as told: envelopes, errors, retries, updates that change what was asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import httpx
import pytest

import cueapi
from cueapi import CueAPI
from cueapi._http import Call, Http
from cueapi._retry import Loss, Repeat, RetryPolicy, parse_retry_after
from cueapi.pagination import pages

KEY = "cue_sk_secret"
CUE = {
    "id": "cue_1",
    "name": "n",
    "status": "active",
    "schedule": {"type": "recurring", "cron": "0 9 * * *", "timezone": "America/New_York"},
    "callback": {"url": "https://e.com/", "method": "POST", "headers": {"X-A": "1"}},
    "created_at": "2026-01-01T00:00:00Z",
    "updated_at": "2026-01-01T00:00:00Z",
    "new_field": {"kept": True},
}

Answer = Callable[[httpx.Request], httpx.Response]


def client_of(answer: Answer, **options: Any) -> CueAPI:
    http = httpx.Client(transport=httpx.MockTransport(answer))
    return CueAPI(KEY, base_url="https://api.test/v1", http_client=http, **({"max_retries": 0} | options))


def refusing(status: int, body: Any, **headers: str) -> CueAPI:
    content = body if isinstance(body, str) else json.dumps(body)
    return client_of(lambda request: httpx.Response(status, text=content, headers=headers))


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (
            401,
            {"error": {"code": "invalid_api_key", "message": "m", "status": 401}},
            cueapi.AuthenticationError,
            "invalid_api_key",
        ),
        (
            403,
            {"error": {"code": "cue_limit_exceeded", "message": "m"}},
            cueapi.CueLimitExceededError,
            "cue_limit_exceeded",
        ),
        (404, {"error": {"code": "cue_not_found", "message": "m"}}, cueapi.CueNotFoundError, "cue_not_found"),
        (
            409,
            {"error": {"code": "duplicate_cue_name", "message": "m"}},
            cueapi.DuplicateCueNameError,
            "duplicate_cue_name",
        ),
        (409, {"error": {"code": "claim_failed", "message": "m"}}, cueapi.ClaimFailedError, "claim_failed"),
        (400, {"error": {"code": "invalid_schedule", "message": "m"}}, cueapi.InvalidScheduleError, "invalid_schedule"),
        (422, {"detail": [{"loc": ["body"], "msg": "m"}]}, cueapi.InvalidRequestError, None),
        (
            404,
            {"detail": {"error": {"code": "cue_not_found", "message": "m"}}},
            cueapi.CueNotFoundError,
            "cue_not_found",
        ),
        (500, {"error": {"code": "internal_error", "message": "m"}}, cueapi.CueAPIServerError, "internal_error"),
        (502, "<html>bad gateway</html>", cueapi.CueAPIServerError, None),
        (404, ["odd"], cueapi.CueNotFoundError, None),
        (418, {}, cueapi.CueAPIError, None),
        (200, "<html>a login page</html>", cueapi.CueAPIError, None),
    ],
)
def test_every_envelope_becomes_its_error(
    status: int, body: Any, kind: type[cueapi.CueAPIError], code: str | None
) -> None:
    with refusing(status, body, **{"X-Request-Id": "r1"}) as client, pytest.raises(cueapi.CueAPIError) as caught:
        client.cues.get("cue_1")
    assert type(caught.value) is kind
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert KEY not in repr(caught.value) + str(caught.value)


def test_a_rate_limit_says_how_long_to_wait() -> None:
    with refusing(429, {}, **{"Retry-After": "7"}) as client, pytest.raises(cueapi.RateLimitError) as caught:
        client.cues.list()
    assert caught.value.retry_after == 7.0


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (httpx.ConnectError("refused"), cueapi.APIConnectionError),
        (httpx.ReadTimeout("slow"), cueapi.APITimeoutError),
        (httpx.RemoteProtocolError("closed"), cueapi.APIConnectionError),
    ],
)
def test_no_answer_is_an_error_of_its_own(failure: Exception, kind: type[cueapi.CueAPIError]) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise failure

    with client_of(fail) as client, pytest.raises(kind, match=r"no answer from https://api\.test"):
        client.cues.get("cue_1")


def test_the_key_is_sent_and_never_shown() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=CUE)

    with client_of(answer) as client:
        cue = client.cues.get("cue_1")
    assert seen[0].headers["Authorization"] == f"Bearer {KEY}"
    assert str(seen[0].url) == "https://api.test/v1/cues/cue_1"
    assert KEY not in repr(client)
    assert (cue.model_extra or {})["new_field"] == {"kept": True}


def test_a_client_needs_a_key() -> None:
    with pytest.raises(ValueError, match="CUEAPI_API_KEY"):
        CueAPI()


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUEAPI_API_KEY", KEY)
    monkeypatch.setenv("CUEAPI_BASE_URL", "http://127.0.0.1:9/v1")
    with CueAPI() as client:
        assert client.base_url == "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("change", "sent"),
    [
        (
            {"cron": "0 8 * * *"},
            {"schedule": {"type": "recurring", "cron": "0 8 * * *", "timezone": "America/New_York"}},
        ),
        ({"timezone": "UTC"}, {"schedule": {"type": "recurring", "cron": "0 9 * * *", "timezone": "UTC"}}),
        (
            {"callback": "https://f.com"},
            {"callback": {"url": "https://f.com", "method": "POST", "headers": {"X-A": "1"}}},
        ),
        ({"description": ""}, {"description": ""}),
        ({"status": "paused"}, {"status": "paused"}),
    ],
)
def test_an_update_changes_what_was_asked_and_nothing_else(change: dict[str, Any], sent: dict[str, Any]) -> None:
    bodies: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "PATCH":
            bodies.append(json.loads(request.content))
        return httpx.Response(200, json=CUE)

    with client_of(answer) as client:
        client.cues.update("cue_1", **change)
    assert bodies == [sent]


@pytest.mark.parametrize("arguments", [{}, {"cron": "0 9 * * *", "at": "2027-01-01"}])
def test_a_create_without_exactly_one_schedule_is_refused_here(arguments: dict[str, Any]) -> None:
    with client_of(lambda request: pytest.fail("sent")) as client, pytest.raises(cueapi.InvalidArgumentError):
        client.cues.create("n", **arguments)


def test_a_naive_send_at_is_refused_here() -> None:
    with client_of(lambda request: pytest.fail("sent")) as client, pytest.raises(ValueError, match="UTC offset"):
        client.cues.fire("cue_1", send_at=datetime(2027, 1, 1))


POLICY = RetryPolicy(max_retries=2)


@pytest.mark.parametrize(
    ("repeat", "loss", "again"),
    [
        (Repeat.SAFE, Loss.UNKNOWN, True),
        (Repeat.NEVER, Loss.UNKNOWN, False),
        (Repeat.NEVER, Loss.NOT_SENT, True),
        (Repeat.NEVER, Loss.REFUSED, True),
    ],
)
def test_a_call_is_sent_again_only_where_that_cannot_do_harm(repeat: Repeat, loss: Loss, again: bool) -> None:
    assert POLICY.again(1, repeat, loss, None) is again
    assert not POLICY.again(3, repeat, loss, None)


def test_backoff_grows_to_a_ceiling_with_full_jitter_and_the_servers_wish_wins() -> None:
    assert [POLICY.delay(tries, None, lambda: 1.0) for tries in (1, 2, 3, 9)] == [0.5, 1.0, 2.0, 8.0]
    assert POLICY.delay(1, None, lambda: 0.0) == 0.0
    assert POLICY.delay(1, 7.0, lambda: 1.0) == 7.0
    assert not POLICY.again(1, Repeat.SAFE, Loss.REFUSED, 3600.0)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("Tue, 24 Nov 2026 12:00:30 GMT", 30.0),
        ("Tue, 24 Nov 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("", None),
        (None, None),
        ("-1", None),
        ("٧", None),
    ],
)
def test_retry_after_is_read_in_both_its_forms(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header, datetime(2026, 11, 24, 12, tzinfo=timezone.utc)) == seconds


def test_a_safe_call_is_sent_again_after_the_wait_and_then_answers() -> None:
    answers = [
        httpx.Response(503),
        httpx.Response(429, headers={"Retry-After": "3"}),
        httpx.Response(200, json={"ok": 1}),
    ]
    waits: list[float] = []
    client = httpx.Client(transport=httpx.MockTransport(lambda request: answers.pop(0)), base_url="http://a")
    http = Http(client, POLICY, sleep=waits.append, jitter=lambda: 1.0)
    assert http.send(Call(method="GET", path="/", repeat=Repeat.SAFE)) == {"ok": 1}
    assert waits == [0.5, 3.0]
    http.close()


def test_a_fire_whose_answer_was_lost_is_not_sent_again() -> None:
    tries: list[str] = []

    def lose(request: httpx.Request) -> httpx.Response:
        tries.append(request.url.path)
        raise httpx.ReadError("lost")

    with client_of(lose, max_retries=5) as client, pytest.raises(cueapi.APIConnectionError):
        client.cues.fire("cue_1")
    assert tries == ["/v1/cues/cue_1/fire"]


def moving(rows: list[str], move: Callable[[list[str]], None]) -> Callable[[int], tuple[list[str], int]]:
    """Return a page function over rows that move once, after the first page was read."""
    moves = [move]

    def page(offset: int) -> tuple[list[str], int]:
        found = rows[offset : offset + 3], len(rows)
        if moves:
            moves.pop()(rows)
        return found

    return page


@pytest.mark.parametrize(
    ("move", "stays"),
    [
        (lambda rows: None, {*"abcdefg"}),
        (lambda rows: rows.insert(0, "new"), {*"abcdefg", "new"}),
        (lambda rows: rows.remove("a"), {*"bcdefg"}),  # shifts a row that was not read yet onto a page that was
        (lambda rows: rows.clear(), set[str]()),
    ],
)
def test_all_pages_are_walked_though_the_list_moves(move: Callable[[list[str]], None], stays: set[str]) -> None:
    found = list(pages(moving([*"abcdefg"], move), key=str))
    assert {*found} >= stays
    assert len(found) == len({*found})


def test_a_list_that_never_stands_still_is_an_error() -> None:
    with pytest.raises(cueapi.CueAPIError, match="kept changing"):
        list(pages(lambda offset: (["row"][offset:], 2 + offset), key=str))
