"""`worker`: pull executions and run them, from a process that a service manager, a container or cron starts."""

from __future__ import annotations

import concurrent.futures
import logging
import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

from cueapi import CueAPIError

from ..app import CueTasks
from ..errors import CueTasksError
from ..run.worker import Worker, WorkerOptions
from .deploy import connect
from .logs import log_to_stderr

Explain = Callable[[CueTasksError | CueAPIError], None]
"""Says why the command ends."""

TIMEOUT = 10.0
"""Seconds that a request of the worker may take."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run_worker(app: CueTasks, options: WorkerOptions, *, once: bool, log_format: str, explain: Explain) -> None:
    """Run a worker until a signal, or with `once` until nothing is due."""
    log_to_stderr(as_json=log_format == "json")
    with connect(app.settings) as client:
        worker = app.worker(client.with_options(timeout=TIMEOUT), options)
        try:
            _run(worker, once=once)
        except (CueTasksError, CueAPIError) as error:
            if worker.still_running:
                explain(error)
                exit_beside_threads(1)
            raise
        if worker.still_running:
            exit_beside_threads(0)


def _run(worker: Worker, *, once: bool) -> None:
    """Run the worker in a thread, since a signal's handler must not wait for the locks of what it interrupts."""
    with concurrent.futures.ThreadPoolExecutor(1, "cueapi-tasks-worker") as pool, _stopping(worker):
        future = pool.submit(worker.run, once=once)
        while not concurrent.futures.wait([future], timeout=0.5).done:
            pass
        future.result()


@contextmanager
def _stopping(worker: Worker) -> Generator[None]:
    """Drain on the first signal, and end at once on the second."""
    signals: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        signals.append(number)
        if len(signals) > 1:
            exit_beside_threads(128 + number)
        worker.stop()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [signal.signal(each, stop) for each in SIGNALS]
    try:
        yield
    finally:
        for each, handler in zip(SIGNALS, before, strict=True):
            signal.signal(each, handler)


def exit_beside_threads(code: int) -> None:
    """Exit though threads still run functions: a thread cannot be stopped, and its lease is given back."""
    logging.shutdown()
    os._exit(code)
