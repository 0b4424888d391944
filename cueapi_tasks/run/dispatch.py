"""Bind a run's payload to its task and call it; knows nothing of HTTP or of the ledger."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any

from ..declare.binding import Bound
from ..declare.context import Context
from ..declare.task import AnyTask
from ..errors import NonRetriableError, PayloadError, RunError
from .hooks import Hooks, ends_process
from .loop import BackgroundLoop, ended
from .outcome import Disclosure, Result, failed, succeeded

logger = logging.getLogger("cueapi_tasks.run")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What surrounds the runs of one process."""

    hooks: Hooks = field(default_factory=Hooks)
    loop: BackgroundLoop = field(default_factory=BackgroundLoop)
    disclosure: Disclosure = field(default_factory=Disclosure)

    def failure(
        self, error: BaseException, *, status: int = 500, reason: str = "raised", final: bool = False
    ) -> Result:
        """Return the result of a run that failed, its error told as far as it may be."""
        return failed(self.disclosure.tell(error), cause=error, status=status, reason=reason, final=final)


def dispatch(task: AnyTask | None, context: Context, stage: Stage, *, timeout: float | None = None) -> Result:
    """Run the task and return how it ended; whatever the function raises becomes a failure.

    `timeout` is in seconds, for async functions.
    """
    if task is None:
        unknown = f"this code declares no task {context.task!r}; a deploy may be rolling"
        return stage.failure(RunError("unknown_task", unknown), status=404, reason="unknown_task")
    try:
        bound = task.binder.bind(context.payload, context)
    except PayloadError as error:
        misfit = PayloadError(error.code, f"the payload does not fit {task.name!r}: {error}")
        return stage.failure(misfit, status=422, reason=error.code)
    return _run(task, bound, context, stage, timeout)


def _run(task: AnyTask, bound: Bound, context: Context, stage: Stage, timeout: float | None) -> Result:
    try:
        value = _call(task, bound, context, stage, timeout)
    except NonRetriableError as error:
        logger.warning("task %s failed for good: %s", task.name, error)
        return stage.failure(error, status=422, reason="non_retriable", final=True)
    except BaseException as error:
        if ends_process(error):
            raise
        facts = {"task": task.name, "execution_id": context.execution_id, "attempt": context.attempt}
        logger.exception(
            "task %(task)s raised, execution %(execution_id)s, attempt %(attempt)d",
            facts,
            extra={"event": "raised", "facts": facts},
        )
        return stage.failure(error if isinstance(error, Exception) else ended(error))
    return succeeded(value)


def _call(task: AnyTask, bound: Bound, context: Context, stage: Stage, timeout: float | None) -> Any:
    value = None
    with stage.hooks.around():
        stage.hooks.before(context)
        value = task.function(*bound.args, **bound.kwargs)
        if value is not None and inspect.isawaitable(value):  # which takes a while to tell
            value = stage.loop.run(_awaited(value), timeout)
        stage.hooks.after(context, value)
    return value


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value
