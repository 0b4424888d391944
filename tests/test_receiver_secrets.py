"""Secrets: how a rotated one is learnt, and that none leaves with an error; slow runs and old rows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from cueapi import APIConnectionError, CueAPIError
from cueapi_tasks import CueTasks, DeclarationError
from cueapi_tasks.run.ledger.base import KEEP_SECONDS, Answer, Claimed, Entry
from cueapi_tasks.run.outcome import Outcome
from cueapi_tasks.run.secrets import OVERLAP_SECONDS, REFRESH_SECONDS, Secrets
from cueapi_tasks.server.main import Server, make_credentials

from .stores import sqlite_store
from .support import API_KEY, SECRET, Clock, answer_of, envelope, receiver_of, signed, stamp_payload, stub_client

NEW = "whsec_" + "6" * 64


class Api:
    """Where the secret is read."""

    def __init__(self, *answers: str | Exception) -> None:
        self.answers = list(answers)
        self.reads = 0

    def __call__(self) -> str:
        self.reads += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


Send = Callable[[str, Secrets], tuple[int, str]]


@pytest.fixture
def send(cue: CueTasks, clock: Clock, tmp_path: Path) -> Send:
    @cue.schedule(cron="0 9 * * *")
    def report() -> None: ...

    def sending(secret: str, secrets: Secrets) -> tuple[int, str]:
        body = envelope(payload=stamp_payload())
        with (
            stub_client() as stub,
            receiver_of(cue, tmp_path / "l.db", clock, stub.client, secrets=secrets) as receiver,
        ):
            return answer_of(receiver.handle(signed(body, secret=secret, at=clock.now)))

    return sending


def test_a_rotated_secret_is_learnt_and_the_previous_one_stays_valid_for_a_while(send: Send, clock: Clock) -> None:
    api = Api(NEW, NEW, NEW)
    secrets = Secrets([SECRET], api, steady=clock.timestamp)
    assert send(NEW, secrets) == (200, "completed")
    assert send(SECRET, secrets) == (200, "completed")
    clock.advance(seconds=OVERLAP_SECONDS)
    assert send(SECRET, secrets) == (401, "bad_signature")
    assert send(NEW, secrets) == (200, "completed")


def test_a_forger_makes_the_secret_be_read_once_a_minute_at_most(send: Send, clock: Clock) -> None:
    api = Api(SECRET, SECRET)
    secrets = Secrets([SECRET], api, steady=clock.timestamp)
    assert [send("forged", secrets) for _ in range(3)] == [(401, "bad_signature")] * 3
    assert api.reads == 1
    clock.advance(seconds=REFRESH_SECONDS)
    assert send("forged", secrets) == (401, "bad_signature")
    assert api.reads == 2


@pytest.mark.parametrize("answer", [APIConnectionError("down"), CueAPIError("no secret", code="unexpected_answer"), ""])
def test_a_read_that_fails_changes_nothing(send: Send, clock: Clock, answer: str | Exception) -> None:
    secrets = Secrets([SECRET], Api(answer), steady=clock.timestamp)
    assert send(NEW, secrets) == (401, "bad_signature")
    assert send(SECRET, secrets) == (200, "completed")


def test_without_the_option_nothing_is_read(send: Send) -> None:
    assert send(NEW, Secrets([SECRET])) == (401, "bad_signature")


def test_threads_that_come_together_share_one_read() -> None:
    api = Api(NEW)
    secrets = Secrets([SECRET], api)
    seen: list[tuple[str, ...]] = []
    threads = [threading.Thread(target=lambda: seen.append(secrets.refreshed())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [(SECRET, NEW)] * 8


def test_a_secret_that_comes_back_is_valid_again(clock: Clock) -> None:
    secrets = Secrets([SECRET], Api(NEW, SECRET), steady=clock.timestamp)
    secrets.refreshed()
    clock.advance(seconds=OVERLAP_SECONDS)
    assert secrets.current() == (NEW,)
    assert set(secrets.refreshed()) == {NEW, SECRET}
    clock.advance(seconds=OVERLAP_SECONDS)
    assert secrets.current() == (SECRET,)


def test_without_a_key_the_secret_cannot_be_refreshed_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    app = CueTasks("billing", webhook_secret=SECRET, refresh_secret=True)
    assert answer_of(app.receiver.handle(signed(envelope(), secret=NEW)))[0] == 401
    app.close()
    assert "not refreshed: set CUEAPI_API_KEY" in caplog.text


def test_the_secret_is_read_from_the_server(tmp_path: Path) -> None:
    credentials = make_credentials()
    server = Server(data=tmp_path / "data", credentials=credentials)
    server.start()
    app = CueTasks(
        "billing",
        api_key=credentials.api_key,
        base_url=server.url,
        webhook_secret="whsec_of_yesterday",
        ledger="memory:",
        refresh_secret=True,
    )

    @app.schedule(cron="0 9 * * *")
    def report() -> None: ...

    now = datetime.now(timezone.utc)
    request = signed(envelope(payload=stamp_payload()), secret=credentials.webhook_secret, at=now)
    assert answer_of(app.receiver.handle(request)) == (200, "completed")
    app.close()
    server.stop()


def failing(**arguments: Any) -> CueTasks:
    app = CueTasks("billing", webhook_secret=[SECRET, SECRET[:20]], api_key=API_KEY, **arguments)

    @app.schedule(cron="0 9 * * *")
    def report() -> None:
        raise ValueError("x" * 1970 + f" {SECRET} and {API_KEY}")

    return app


@pytest.mark.parametrize(
    ("how", "told"), [("message", "ValueError: " + "x" * 1970 + " *** and *** "), ("type", "ValueError")]
)
def test_no_key_or_secret_leaves_with_an_error(tmp_path: Path, how: str, told: str) -> None:
    with (
        stub_client() as stub,
        receiver_of(failing(report_errors=how), tmp_path / "l.db", Clock(), stub.client) as receiver,
    ):
        receiver.handle(signed(envelope(payload=stamp_payload(most=1))))
    assert stub.received == [{"success": False, "error": told.strip()}]


def test_how_errors_are_told_is_checked() -> None:
    with pytest.raises(DeclarationError, match="'message' or 'type'"):
        CueTasks("billing", report_errors="none")


@pytest.mark.parametrize(("seconds", "warned"), [(25, False), (26, True)])
def test_a_run_too_long_for_a_webhook_says_what_to_do(
    cue: CueTasks, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture, seconds: int, warned: bool
) -> None:
    @cue.schedule(cron="0 9 * * *")
    def report() -> None:
        clock.advance(seconds=seconds)

    with stub_client() as stub, receiver_of(cue, tmp_path / "l.db", clock, stub.client) as receiver:
        assert receiver.handle(signed(envelope(payload=stamp_payload()))).status == 200
    assert ("slow_run task=report" in caplog.text) is warned
    assert ("transport='worker'" in caplog.text) is warned


def test_what_ended_long_ago_is_forgotten(cue: CueTasks, clock: Clock, tmp_path: Path) -> None:
    with sqlite_store(tmp_path / "l.db") as store:
        ledger = store.open()
        entries = [entry(name) for name in ("old", "young")]
        for each in entries:
            claim = ledger.claim(each, lease=30)
            assert isinstance(claim, Claimed)
            answer = Answer(status=200, body={})
            ledger.finish(each.execution_id, claim.token, answer, Outcome(success=True))
            ledger.reported(each.execution_id, accepted=True)
        store.age("old", KEEP_SECONDS + 1)
        with stub_client() as stub, receiver_of(cue, tmp_path / "l.db", clock, stub.client) as receiver:
            receiver.catch_up()
        assert [isinstance(ledger.claim(each, lease=30), Claimed) for each in entries] == [True, False]


def entry(name: str) -> Entry:
    return Entry(
        execution_id=name,
        scope="billing",
        task="report",
        cue_id="cue_abcdefghijkl",
        transport="webhook",
        attempt=1,
        max_attempts=3,
    )
