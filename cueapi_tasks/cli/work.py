"""`worker`: pull executions and run them, from a process that a service manager, a container or cron starts."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable

from cueapi import CueAPIError

from ..app import CueTasks
from ..errors import CueTasksError
from ..run.worker import Worker, WorkerOptions
from .deploy import connect
from .logs import log_to_stderr
from .process import SIGNAL_SECONDS, exit_beside_threads, on_signal

Explain = Callable[[CueTasksError | CueAPIError], None]
"""Says why the command ends."""

TIMEOUT = 10.0
"""Seconds that a request of the worker may take."""


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
    signals: list[int] = []

    def stop(number: int) -> None:
        """Drain on the first signal, and end at once on the second."""
        signals.append(number)
        if len(signals) > 1:
            exit_beside_threads(128 + number)
        worker.stop()

    with concurrent.futures.ThreadPoolExecutor(1, "cueapi-tasks-worker") as pool, on_signal(stop):
        future = pool.submit(worker.run, once=once)
        while not concurrent.futures.wait([future], timeout=SIGNAL_SECONDS).done:
            pass
        future.result()
