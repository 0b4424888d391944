"""What the API answers, typed; unknown fields are kept, so that a newer server breaks nothing."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Model(BaseModel):
    """Base of all answers: frozen, tolerant of unknown fields, which it keeps."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Schedule(Model):
    """When a cue fires: `type` is `recurring` (with `cron`) or `once` (with `at`)."""

    type: str
    cron: str | None = None
    at: datetime | None = None
    timezone: str = "UTC"


class Callback(Model):
    """Where a webhook cue is delivered; `headers` are sent with each delivery."""

    url: str | None = None
    method: str = "POST"
    headers: dict[str, str] = Field(default_factory=dict, repr=False)


class Retry(Model):
    """How often a delivery is tried in total, and the minutes between one attempt and the next."""

    max_attempts: int = 3
    backoff_minutes: list[int] = Field(default_factory=lambda: [1, 5, 15])


class OnFailure(Model):
    """What the service does when the last attempt failed."""

    email: bool = True
    webhook: str | None = None
    pause: bool = False


class Outcome(Model):
    """What the code reported of an execution; written once."""

    success: bool
    result: str | None = None
    error: str | None = None
    metadata: dict[str, Any] | None = None
    recorded_at: datetime | None = None


class Execution(Model):
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
    created_at: datetime | None = None
    updated_at: datetime | None = None


class FiredExecution(Model):
    """The execution that a `fire` queued."""

    id: str
    cue_id: str
    scheduled_for: datetime
    status: str
    triggered_by: str


class Cue(Model):
    """A named schedule; `status` is active, paused, completed or failed."""

    id: str
    name: str
    description: str | None = None
    status: str
    transport: str = "webhook"
    schedule: Schedule
    callback: Callback
    payload: dict[str, Any] = Field(default_factory=dict)
    retry: Retry = Field(default_factory=Retry)
    next_run: datetime | None = None
    last_run: datetime | None = None
    run_count: int = 0
    fired_count: int = 0
    on_failure: OnFailure | None = None
    verification: dict[str, Any] | None = None
    warning: str | None = None
    created_at: datetime
    updated_at: datetime


class CueList(Model):
    """One page of cues, newest first; `total` counts all that match."""

    cues: list[Cue]
    total: int
    limit: int
    offset: int


class ExecutionList(Model):
    """One page of executions, newest first; `total` counts all that match."""

    executions: list[Execution]
    total: int
    limit: int
    offset: int
    has_more: bool = False


class Account(Model):
    """The account that an API key belongs to, and its plan's limits."""

    email: str
    plan: str
    active_cues: int = 0
    active_cue_limit: int | None = None
    executions_this_month: int = 0
    monthly_execution_limit: int | None = None
    rate_limit_per_minute: int | None = None
