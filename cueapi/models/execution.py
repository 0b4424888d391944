"""Executions, claims and outcomes, as the API answers them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from .base import Model, Record


class Outcome(Model):
    """What the code reported of an execution; written once."""

    success: bool
    result: str | None = None
    error: str | None = None
    metadata: dict[str, Any] | None = None
    recorded_at: datetime | None = None


class Execution(Record):
    """One firing of a cue; `status` is its delivery's, `outcome` what the code reported."""

    id: str
    cue_id: str
    scheduled_for: datetime
    status: str
    attempts: int = 0
    http_status: int | None = None
    error_message: str | None = None
    started_at: datetime | None = None
    delivered_at: datetime | None = None
    last_attempt_at: datetime | None = None
    outcome: Outcome | None = None
    payload: dict[str, Any] | None = None
    """Shown by the hosted service and the embedded server, when one execution is asked for."""
    outcome_state: str | None = None
    triggered_by: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


class FiredExecution(Record):
    """The execution that a `fire` queued."""

    id: str
    cue_id: str
    scheduled_for: datetime
    status: str
    triggered_by: str


class ExecutionList(Record):
    """One page of executions, newest first; `total` counts all that match."""

    executions: list[Execution]
    total: int
    limit: int
    offset: int
    has_more: bool = False
    oldest_claimed_at: datetime | None = None


class ClaimableExecution(Model):
    """An execution that a worker may claim; `attempt` counts the claims so far, from 0."""

    execution_id: str
    cue_id: str
    cue_name: str
    task: str | None = None
    scheduled_for: datetime
    payload: dict[str, Any] = Field(default_factory=dict[str, Any])
    attempt: int = 0


class Claim(Record):
    """A claim that was granted."""

    claimed: bool
    execution_id: str
    lease_seconds: int = 900


class Heartbeat(Record):
    """A claim that was kept alive."""

    execution_id: str | None = None
    acknowledged: bool
    lease_extended_until: datetime | None = None


class OutcomeReceipt(Record):
    """What an outcome, or a later word about it, led to."""

    execution_id: str | None = None
    outcome_state: str | None = None
    outcome_recorded: bool | None = None
    reason: str | None = None
