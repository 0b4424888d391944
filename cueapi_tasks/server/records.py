"""What the server keeps, as values; moments are aware datetimes in UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any


class CueStatus(str, Enum):
    """A cue's state (contract, section 6.1)."""

    ACTIVE = "active"
    PAUSED = "paused"
    COMPLETED = "completed"
    """A one-time cue that ran."""
    FAILED = "failed"
    """A one-time cue whose last attempt failed."""


class ExecutionStatus(str, Enum):
    """An execution's state (contract, section 6.2)."""

    PENDING = "pending"
    """Waiting for its first attempt."""
    DELIVERING = "delivering"
    """An attempt is under way, or a worker has claimed it."""
    SUCCESS = "success"
    FAILED = "failed"
    RETRYING = "retrying"
    """Waiting for its next attempt."""


class Trigger(str, Enum):
    """What made an execution."""

    SCHEDULED = "scheduled"
    MANUAL_FIRE = "manual_fire"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Whose cues these are."""

    id: str
    email: str
    webhook_secret: str
    api_key_prefix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cue:
    """A named schedule."""

    id: str
    account_id: str
    name: str
    description: str | None
    status: CueStatus
    transport: str
    schedule_type: str
    cron: str | None
    at: datetime | None
    timezone: str
    callback_url: str | None
    callback_method: str
    callback_headers: Mapping[str, str]
    payload: Mapping[str, Any]
    max_attempts: int
    backoff_minutes: tuple[int, ...]
    on_failure: Mapping[str, Any]
    verification: Mapping[str, Any] | None
    next_run: datetime | None
    last_run: datetime | None
    run_count: int
    fired_count: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One firing of a cue; `due_at` is when its next attempt is to be made."""

    id: str
    cue_id: str
    scheduled_for: datetime
    status: ExecutionStatus
    triggered_by: Trigger
    attempts: int
    due_at: datetime | None
    http_status: int | None
    error_message: str | None
    started_at: datetime | None
    delivered_at: datetime | None
    last_attempt_at: datetime | None
    outcome: Mapping[str, Any] | None
    """`success`, `result`, `error`, `metadata`, `recorded_at`."""
    evidence: Mapping[str, Any] | None
    outcome_state: str | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One delivery to make: everything that the request needs."""

    execution_id: str
    cue_id: str
    cue_name: str
    number: int
    scheduled_for: datetime
    url: str
    method: str
    headers: Mapping[str, str]
    payload: Mapping[str, Any]
    secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """How an attempt ended: an HTTP status, or why there was none."""

    status: int | None
    error: str | None
    body: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Which part of a list is asked for."""

    limit: int
    offset: int
