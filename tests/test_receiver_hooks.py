"""What runs beside a task: hooks, the context manager around it, and the loop of async ones."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cueapi_tasks import Context, CueTasks, DeclarationError, NonRetriableError, RunError
from cueapi_tasks.run.loop import BackgroundLoop
from cueapi_tasks.run.receiver import Receiver

from .support import SECRET, Clock, answer_of, envelope, receiver_of, signed, stamp_payload, stub_client

where: contextvars.ContextVar[str] = contextvars.ContextVar("where", default="outside")


@pytest.fixture
def log() -> list[Any]:
    return []


@pytest.fixture
def cue(log: list[Any]) -> CueTasks:
    @contextlib.contextmanager
    def around() -> Iterator[None]:
        token = where.set("inside")
        log.append("enter")
        try:
            yield
        finally:
            log.append("exit")
            where.reset(token)

    app = CueTasks("billing", webhook_secret=SECRET, around=around)

    @app.before_run
    def before(ctx: Context) -> None:
        log.append(f"before {ctx.attempt} {where.get()}")

    @app.after_run
    def after(ctx: Context, value: Any) -> None:
        log.append(f"after {value} {where.get()}")

    @app.after_failure
    def failure(ctx: Context, error: BaseException) -> None:
        log.append(f"failure {type(error).__name__} {where.get()}")

    return app


@pytest.fixture
def receiver(cue: CueTasks, tmp_path: Path) -> Iterator[Receiver]:
    with (
        stub_client() as stub,
        receiver_of(cue, tmp_path / "ledger.db", Clock(), stub.client) as made,
    ):
        yield made


def send(receiver: Receiver, *, most: int = 3, attempt: int = 1, **changes: Any) -> tuple[int, str]:
    return answer_of(receiver.handle(signed(envelope(payload=stamp_payload(most=most), attempt=attempt, **changes))))


def test_hooks_run_around_the_function_inside_its_context(cue: CueTasks, receiver: Receiver, log: list[Any]) -> None:
    @cue.schedule(cron="0 9 * * *")
    def report() -> str:
        log.append(f"run {where.get()}")
        return "sent"

    assert send(receiver) == (200, "completed")
    assert log == ["enter", "before 1 inside", "run inside", "after sent inside", "exit"]


def test_an_async_function_sees_the_context_that_it_was_called_in(
    cue: CueTasks, receiver: Receiver, log: list[Any]
) -> None:
    @cue.schedule(cron="0 9 * * *")
    async def report() -> str:
        await asyncio.sleep(0)
        return where.get()

    assert send(receiver) == (200, "completed")
    assert "after inside inside" in log


def test_only_a_final_failure_calls_the_failure_hooks(cue: CueTasks, receiver: Receiver, log: list[Any]) -> None:
    @cue.schedule(cron="0 9 * * *")
    def report() -> None:
        raise ValueError("no")

    assert send(receiver) == (500, "raised")
    assert log == ["enter", "before 1 inside", "exit"]
    log.clear()
    assert send(receiver, attempt=3) == (500, "raised")
    assert log == ["enter", "before 3 inside", "exit", "enter", "failure ValueError inside", "exit"]


def test_a_failure_without_a_run_calls_the_failure_hooks_too(cue: CueTasks, receiver: Receiver, log: list[Any]) -> None:
    assert send(receiver, most=1) == (404, "unknown_task")
    assert log == ["enter", "failure RunError inside", "exit"]


def test_what_a_hook_raises_is_logged_and_changes_nothing(
    cue: CueTasks, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    runs: list[int] = []

    @cue.schedule(cron="0 9 * * *")
    def report(ctx: Context) -> None:
        runs.append(1)
        if ctx.attempt == 2:
            raise NonRetriableError("no")

    @cue.before_run
    @cue.after_run
    @cue.after_failure
    def broken(*arguments: Any) -> None:
        raise RuntimeError("the hook's own")

    assert send(receiver) == (200, "completed")
    assert send(receiver, attempt=2) == (422, "non_retriable")
    assert len(runs) == 2
    assert caplog.text.count("broken raised") == 4


def test_what_around_raises_is_an_ordinary_failure_of_the_run(tmp_path: Path) -> None:
    @contextlib.contextmanager
    def transaction() -> Iterator[None]:
        yield
        raise RuntimeError("cannot commit")

    app = CueTasks("billing", webhook_secret=SECRET, around=transaction)

    @app.schedule(cron="0 9 * * *")
    def report() -> None: ...

    with stub_client() as stub, receiver_of(app, tmp_path / "l.db", Clock(), stub.client) as receiver:
        assert send(receiver) == (500, "raised")
        assert send(receiver, attempt=3) == (500, "raised")
        assert stub.received == [{"success": False, "error": "RuntimeError: cannot commit"}]


def test_a_hook_that_nothing_would_await_is_refused(cue: CueTasks) -> None:
    async def hook(ctx: Context) -> None: ...

    with pytest.raises(DeclarationError, match="nothing awaits it") as raised:
        cue.before_run(hook)
    assert raised.value.code == "async_hook"


def test_async_tasks_share_one_loop_that_ends_with_the_receiver(cue: CueTasks, tmp_path: Path) -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    @cue.schedule(cron="0 9 * * *")
    async def report() -> None:
        loops.append(asyncio.get_running_loop())

    with stub_client() as stub, receiver_of(cue, tmp_path / "l.db", Clock(), stub.client) as receiver:
        assert [send(receiver), send(receiver)] == [(200, "completed")] * 2
    assert loops[0] is loops[1]
    assert loops[0].is_closed()


def test_closing_the_loop_cancels_what_runs_and_says_so() -> None:
    loop = BackgroundLoop()
    began = threading.Event()

    async def wait() -> None:
        began.set()
        await asyncio.Event().wait()

    def close() -> None:
        began.wait()
        loop.close()

    closer = threading.Thread(target=close)
    closer.start()
    with pytest.raises(RunError, match="cancelled") as cancelled:
        loop.run(wait())
    closer.join()
    with pytest.raises(RunError, match="is ending") as closed:
        loop.run(wait())
    assert (cancelled.value.code, closed.value.code) == ("cancelled", "closed")


def test_two_async_tasks_run_side_by_side() -> None:
    loop = BackgroundLoop()
    meeting: list[asyncio.Event] = []

    async def first() -> str:
        meeting.append(asyncio.Event())
        there.set()
        await meeting[0].wait()
        return "met"

    async def second() -> None:
        meeting[0].set()

    there = threading.Event()
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(loop.run(first())))
    thread.start()
    there.wait()
    loop.run(second())
    thread.join()
    loop.close()
    assert results == ["met"]
