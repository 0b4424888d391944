"""The account, its workers, usage and alerts, as the API answers them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from .base import Model


class Account(Model):
    """The account that an API key belongs to, and its plan's limits."""

    email: str
    plan: str
    active_cues: int = 0
    active_cue_limit: int | None = None
    executions_this_month: int = 0
    monthly_execution_limit: int | None = None
    rate_limit_per_minute: int | None = None


class Worker(Model):
    """A pull worker; `heartbeat_status` is active, stale or dead."""

    worker_id: str
    last_heartbeat: datetime
    seconds_since_heartbeat: int
    heartbeat_status: str
    handlers: list[str] | None = None
    registered_since: datetime | None = None


class Usage(Model):
    """What the account used of its plan this month, in the service's own nested objects."""

    plan: str | dict[str, Any]
    cues: dict[str, Any]
    executions: dict[str, Any]
    outcomes: dict[str, Any] = Field(default_factory=dict[str, Any])
    rate_limit: dict[str, Any] = Field(default_factory=dict[str, Any])


class Alert(Model):
    """Something that a person should know of: `consecutive_failures`, `verification_failed` or `outcome_timeout`."""

    id: str
    cue_id: str | None = None
    execution_id: str | None = None
    alert_type: str
    severity: str
    message: str
    metadata: dict[str, Any] | None = None
    acknowledged: bool = False
    created_at: datetime


class AlertList(Model):
    """One page of alerts, newest first; `total` counts all that match."""

    alerts: list[Alert]
    total: int
    limit: int
    offset: int
