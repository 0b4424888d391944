"""`worker`: pull executions and run them, from a process that a service manager, a container or cron starts."""

from __future__ import annotations

import concurrent.futures
import logging
from collections.abc import Callable

from cueapi import CueAPIError

from .. import log
from ..app import CueTasks
from ..errors import CueTasksError
from ..run.worker import Worker, WorkerOptions
from .deploy import connect
from .logs import log_to_stderr
from .process import SIGNAL_SECONDS, exit_beside_threads, on_signal

Explain = Callable[[CueTasksError | CueAPIError], None]
"""Says why the command ends."""

logger = logging.getLogger("cueapi_tasks.run")


def run_worker(app: CueTasks, options: WorkerOptions, *, once: bool, log_format: str, explain: Explain) -> int:
    """Run a worker until a signal, or with `once` until nothing is due; return the exit code."""
    as_json = log_format == "json"
    log_to_stderr(as_json=as_json)
    explain = _log_failure if as_json else explain
    try:
        with connect(app.settings) as client:
            return _work(app.worker(client, options), once=once, explain=explain)
    except (CueTasksError, CueAPIError) as error:
        explain(error)
        return 1


def _work(worker: Worker, *, once: bool, explain: Explain) -> int:
    code = 0
    try:
        _run(worker, once=once)
    except (CueTasksError, CueAPIError) as error:
        explain(error)
        code = 1
    if not worker.idle:
        exit_beside_threads(code)
    return code


def _log_failure(error: CueTasksError | CueAPIError) -> None:
    log.event(logger, "failed", level=logging.ERROR, code=error.code or "api_error", error=str(error))


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
