"""What the server keeps, as values; moments are aware datetimes in UTC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    """Waiting for its first attempt, or for a worker."""
    DELIVERING = "delivering"
    """An attempt is under way, or a worker has claimed it."""
    SUCCESS = "success"
    FAILED = "failed"
    RETRYING = "retrying"
    """Waiting for its next attempt."""
    MISSED = "missed"
    """No worker claimed it in time."""


IN_FLIGHT = frozenset({ExecutionStatus.PENDING, ExecutionStatus.DELIVERING, ExecutionStatus.RETRYING})


class Trigger(str, Enum):
    """What made an execution."""

    SCHEDULED = "scheduled"
    MANUAL_FIRE = "manual_fire"
    REPLAY = "replay"


class CatchUp(str, Enum):
    """What becomes of runs whose time passed while the server was down, as the hosted service names it."""

    SKIP = "skip_missed"
    ONCE = "run_once_if_missed"
    ALL = "replay_all_missed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Whose cues these are."""

    id: str
    email: str
    webhook_secret: str
    api_key_prefix: str
    alert_webhook_url: str | None = None
    alert_webhook_secret: str | None = None


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
    catch_up: CatchUp | None
    next_run: datetime | None
    last_run: datetime | None
    run_count: int
    fired_count: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One firing of a cue."""

    id: str
    cue_id: str
    scheduled_for: datetime
    status: ExecutionStatus
    triggered_by: Trigger
    attempts: int = 0
    due_at: datetime | None = None
    """When its next attempt is to be made."""
    sweep_at: datetime | None = None
    """When a rule about claims may next apply to it."""
    http_status: int | None = None
    error_message: str | None = None
    started_at: datetime | None = None
    delivered_at: datetime | None = None
    last_attempt_at: datetime | None = None
    payload: Mapping[str, Any] | None = None
    """Set where a fire gave it one; else it is the cue's own."""
    outcome: Mapping[str, Any] | None = None
    """`success`, `result`, `error`, `metadata`, `recorded_at`."""
    evidence: Mapping[str, Any] | None = None
    outcome_state: str | None = None
    replayed_from: str | None = None
    claimed_by: str | None = None
    claimed_at: datetime | None = None
    heartbeat_at: datetime | None = None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A pull worker that has shown itself."""

    account_id: str
    worker_id: str
    handlers: Sequence[str] | None
    registered_at: datetime
    heartbeat_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something that a person should know of."""

    id: str
    account_id: str
    cue_id: str
    execution_id: str
    alert_type: str
    severity: str
    message: str
    metadata: Mapping[str, Any]
    created_at: datetime


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
class Notice:
    """A POST that is made once and not retried: of a failure, or of an alert."""

    url: str
    body: bytes
    headers: Mapping[str, str]


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
