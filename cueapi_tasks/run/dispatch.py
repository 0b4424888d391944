"""Bind a delivery's payload to its task and call it; knows nothing of HTTP or of the ledger."""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import Any

from ..declare.binding import Bound
from ..declare.task import AnyTask
from ..errors import NonRetriableError, PayloadError
from .delivery import Delivery
from .outcome import Result, describe, failed, succeeded

logger = logging.getLogger("cueapi_tasks.run")


def dispatch(task: AnyTask | None, delivery: Delivery) -> Result:
    """Run the task and return how it ended; whatever the function raises becomes a failure."""
    if task is None:
        return failed(
            f"this code declares no task {delivery.task!r}; a deploy may be rolling",
            status=404,
            reason="unknown_task",
        )
    context = delivery.context(is_last_attempt=delivery.attempt >= delivery.max_attempts)
    try:
        bound = task.binder.bind(delivery.payload, context)
    except PayloadError as error:
        return failed(f"the payload does not fit {task.name!r}: {error}", status=422, reason=error.code)
    return _run(task, bound)


def _run(task: AnyTask, bound: Bound) -> Result:
    try:
        value = _call(task, bound)
    except NonRetriableError as error:
        logger.warning("task %s failed for good: %s", task.name, error)
        return failed(describe(error), status=422, reason="non_retriable", final=True)
    except Exception as error:
        logger.exception("task %s raised", task.name)
        return failed(describe(error))
    return succeeded(value)


def _call(task: AnyTask, bound: Bound) -> Any:
    value = task.function(*bound.args, **bound.kwargs)
    return asyncio.run(value) if inspect.iscoroutine(value) else value
