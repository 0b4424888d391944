"""The server's log: one line per event."""

from __future__ import annotations

import logging

from .. import log
from .records import Cue, Execution, ExecutionStatus

logger = logging.getLogger("cueapi_tasks.server")


def log_fired(cue: Cue, execution: Execution) -> None:
    """Log that an execution was made."""
    log.event(
        logger,
        "fired",
        cue=cue.name,
        execution_id=execution.id,
        scheduled_for=execution.scheduled_for.isoformat(),
        triggered_by=execution.triggered_by.value,
    )


def log_attempt(cue: Cue, execution: Execution) -> None:
    """Log how an attempt ended."""
    log.event(
        logger,
        "delivered" if execution.status is ExecutionStatus.SUCCESS else "attempt_failed",
        cue=cue.name,
        execution_id=execution.id,
        attempt=execution.attempts,
        http_status=execution.http_status,
        error=execution.error_message,
        retry_at=execution.due_at.isoformat() if execution.due_at else None,
    )


def log_outcome(cue: Cue, execution: Execution) -> None:
    """Log that an outcome was recorded."""
    outcome = execution.outcome or {}
    log.event(
        logger,
        "outcome",
        cue=cue.name,
        execution_id=execution.id,
        state=execution.outcome_state,
        detail=outcome.get("result") or outcome.get("error"),
    )
