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


class Stopper:
    """Drains on the first signal, and ends at once on the second; one that comes before the worker is there counts."""

    def __init__(self) -> None:
        self.stopped = False
        self._stop: Callable[[], None] | None = None

    def signalled(self, number: int) -> None:
        """Take a signal."""
        if self.stopped:
            exit_beside_threads(128 + number)
        self.stopped = True
        if self._stop is not None:
            self._stop()

    def tell(self, stop: Callable[[], None]) -> None:
        """Call `stop` at the first signal, or now if that has come."""
        self._stop = stop
        if self.stopped:
            stop()


def run_worker(
    find: Callable[[], CueTasks], options: WorkerOptions, *, once: bool, log_format: str, explain: Explain
) -> int:
    """Run a worker for the app that `find` returns until a signal, or with `once` until nothing is due.

    Returns the exit code.
    """
    stopper = Stopper()
    with on_signal(stopper.signalled):
        app = find()
        if stopper.stopped:
            return 0
        as_json = log_format == "json"
        log_to_stderr(as_json=as_json)
        explain = _log_failure if as_json else explain
        try:
            with connect(app.settings) as client:
                return _work(app.worker(client, options), stopper, once=once, explain=explain)
        except (CueTasksError, CueAPIError) as error:
            explain(error)
            return 1


def _work(worker: Worker, stopper: Stopper, *, once: bool, explain: Explain) -> int:
    """Run the worker in a thread, since a signal's handler must not wait for the locks of what it interrupts."""
    code = 0
    with concurrent.futures.ThreadPoolExecutor(1, "cueapi-tasks-worker") as pool:
        stopper.tell(worker.stop)
        future = pool.submit(worker.run, once=once)
        while not concurrent.futures.wait([future], timeout=SIGNAL_SECONDS).done:
            pass
    try:
        future.result()
    except (CueTasksError, CueAPIError) as error:
        explain(error)
        code = 1
    if not worker.idle:
        exit_beside_threads(code)
    return code


def _log_failure(error: CueTasksError | CueAPIError) -> None:
    log.event(logger, "failed", level=logging.ERROR, code=error.code or "api_error", error=str(error))
