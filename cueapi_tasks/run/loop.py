"""One event loop for the async tasks of a process, in a thread that starts with the first of them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine
from typing import Any

from ..errors import RunError


class BackgroundLoop:
    """Runs coroutines for threads that wait for them; what clients and pools a task keeps stays on one loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event

    def run(self, coroutine: Coroutine[Any, Any, Any], timeout: float | None = None) -> Any:
        """Return what the coroutine returns, in the caller's context variables.

        Raises:
            TimeoutError: It was cancelled after `timeout` seconds.
            RunError: It was cancelled by something else, or the loop is closed.
        """
        future = self._submit(coroutine, timeout)
        try:
            return future.result()
        except concurrent.futures.CancelledError as error:
            coroutine.close()  # it may never have begun
            raise RunError("cancelled", "the run was cancelled before it ended") from error

    def close(self) -> None:
        """Cancel what is running, and wait for its end."""
        with self._lock:
            self._closed = True
            if self._thread is None or not self._thread.is_alive():
                return
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _submit(self, coroutine: Coroutine[Any, Any, Any], timeout: float | None) -> concurrent.futures.Future[Any]:
        with self._lock:
            if self._closed:
                coroutine.close()
                raise RunError("closed", "this process is ending, and runs no async task any more")
            self._start()
            return asyncio.run_coroutine_threadsafe(_limited(coroutine, timeout), self._loop)

    def _start(self) -> None:
        if self._thread is not None and self._thread.is_alive():  # a fork leaves the thread behind
            return
        ready = threading.Event()
        self._thread = threading.Thread(
            target=asyncio.run, args=(self._until_stopped(ready),), name="cueapi-tasks-async", daemon=True
        )
        self._thread.start()
        ready.wait()

    async def _until_stopped(self, ready: threading.Event) -> None:
        """Live until told otherwise; `asyncio.run` then cancels what is left and awaits it."""
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        ready.set()
        await self._stop.wait()


async def _limited(coroutine: Coroutine[Any, Any, Any], timeout: float | None) -> Any:
    """Await it for so long; a `TimeoutError` of the function's own is none of ours."""
    running = asyncio.ensure_future(_lasting(coroutine))
    try:
        await asyncio.wait([running], timeout=timeout)
        if running.done():
            return running.result()
    finally:
        running.cancel()
    await asyncio.wait([running])
    raise TimeoutError(f"the function ran longer than timeout={timeout} s")


async def _lasting(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Let no function end the loop, which is every other function's too."""
    try:
        return await coroutine
    except (SystemExit, KeyboardInterrupt) as error:
        raise ended(error) from error


def ended(error: BaseException) -> RunError:
    """Return the failure of a function that wanted to end the process; what it says stays here, but for a number."""
    code = getattr(error, "code", None)
    return RunError("ended", f"the function raised {type(error).__name__}({code if isinstance(code, int) else ''})")
