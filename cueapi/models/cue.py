"""Cues, as the API answers them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from .base import Model
from .execution import Execution


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
    executions: list[Execution] | None = None
    """The newest ones, where one cue was asked for."""
    execution_total: int | None = None


class CueList(Model):
    """One page of cues, newest first; `total` counts all that match."""

    cues: list[Cue]
    total: int
    limit: int
    offset: int
