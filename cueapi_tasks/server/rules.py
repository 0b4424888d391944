"""The server's rules as pure functions and tables; the contract's sections are named beside each."""

from __future__ import annotations

import functools
import json
import zoneinfo
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from croniter import CroniterError

from ..declare.schedules import Once, Recurring, Schedule, next_run
from .records import Answered, Cue, CueStatus, ExecutionStatus

MAX_PAYLOAD = 1_048_576
"""Bytes of a payload as JSON with spaced separators (section 4)."""
MAX_CRON = 100
MAX_ERROR = 500
"""Characters of an error's text (section 8.3)."""
METHODS = ("POST", "GET", "PUT", "PATCH")
VERIFICATION_MODES = ("none", "require_external_id", "require_result_url", "require_artifacts", "manual")

_FAILURES: Mapping[int, str] = {
    404: "Webhook endpoint not found (404)",
    408: "Webhook endpoint timed out",
    500: "Webhook endpoint returned server error (500)",
}


class ApiError(Exception):
    """A refusal in the API's own words (section 3, envelope E1)."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What an attempt makes of its execution; `due_at` is set when another attempt follows."""

    status: ExecutionStatus
    due_at: datetime | None
    error_message: str | None


def find_zone(name: str) -> str | None:
    """Return the zone's proper name; the API takes names in any case (section 5.1)."""
    return _zones().get(name.lower())


@functools.cache
def _zones() -> Mapping[str, str]:
    return {name.lower(): name for name in zoneinfo.available_timezones()}


def schedule_of(cue: Cue) -> Schedule:
    """Return the cue's schedule for computing runs."""
    if cue.at is not None and cue.schedule_type == "once":
        return Once(at=cue.at, timezone="UTC")
    return Recurring(cron=cue.cron or "", timezone=find_zone(cue.timezone) or "UTC")


def first_run(*, kind: str, cron: str | None, at: datetime | None, zone: str, now: datetime) -> datetime:
    """Return a new schedule's first run, or raise as section 5.1 says."""
    proper = find_zone(zone)
    if proper is None:
        raise ApiError(422, "invalid_timezone", f"Invalid timezone: {zone}")
    if kind == "once":
        return _moment_ahead(at, now)
    if kind != "recurring":
        raise ApiError(400, "invalid_schedule", f"Unknown schedule type: {kind}. Use 'recurring' or 'once'")
    if not cron or len(cron) > MAX_CRON:
        raise ApiError(400, "invalid_schedule", f"A recurring schedule needs cron, at most {MAX_CRON} characters")
    try:
        run = next_run(Recurring(cron=cron, timezone=proper), now)
    except (CroniterError, ValueError, OverflowError) as error:
        raise ApiError(400, "invalid_schedule", f"Invalid cron expression: {cron}") from error
    assert run is not None  # a recurring schedule that croniter accepts has a next run
    return run


def _moment_ahead(at: datetime | None, now: datetime) -> datetime:
    if at is None:
        raise ApiError(400, "invalid_schedule", "A one-time schedule needs at")
    moment = in_utc(at)
    if moment <= now:
        raise ApiError(400, "invalid_schedule", "at must be in the future")
    return moment


def in_utc(moment: datetime) -> datetime:
    """Return the moment in UTC; a naive one counts as UTC (section 5.1)."""
    return (moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment).astimezone(timezone.utc)


def check_payload(payload: Mapping[str, Any]) -> None:
    """Refuse a payload that the API's database could not hold (section 4)."""
    try:
        text = json.dumps(payload, ensure_ascii=False, allow_nan=False)
        size = len(text.encode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "invalid_payload", "Payload holds a value that JSON cannot carry") from error
    if "\\u0000" in text:
        raise ApiError(400, "invalid_payload", "Payload must not hold NUL characters")
    if size > MAX_PAYLOAD:
        raise ApiError(400, "invalid_payload_size", f"Payload is over {MAX_PAYLOAD} bytes")


def retry_delay(attempt: int, backoff_minutes: Sequence[int]) -> timedelta:
    """Return the wait after the `attempt`th attempt failed (section 8.4); never negative."""
    minutes = backoff_minutes[min(attempt, len(backoff_minutes)) - 1] if backoff_minutes else 1
    return timedelta(minutes=max(0, minutes))


def after_attempt(number: int, answered: Answered, cue: Cue, now: datetime) -> Ended:
    """Return what becomes of an execution after its `number`th attempt (sections 6.2 and 8.3)."""
    if answered.status is not None and 200 <= answered.status < 300:
        return Ended(status=ExecutionStatus.SUCCESS, due_at=None, error_message=None)
    message = answered.error if answered.status is None else failure_text(answered.status)
    if number < cue.max_attempts:
        due = now + retry_delay(number, cue.backoff_minutes)
        return Ended(status=ExecutionStatus.RETRYING, due_at=due, error_message=message)
    return Ended(status=ExecutionStatus.FAILED, due_at=None, error_message=message)


def failure_text(status: int) -> str:
    """Return what an unsuccessful status is called (section 8.3)."""
    if status in _FAILURES:
        return _FAILURES[status]
    if 400 <= status < 500:
        return f"Webhook endpoint rejected request ({status})"
    if status >= 500:
        return f"Webhook endpoint server error ({status})"
    return f"Webhook delivery failed ({status})"


def cue_status_after(cue: Cue, ended: ExecutionStatus) -> CueStatus:
    """Return the cue's status once one of its executions has ended (section 6.1)."""
    if cue.schedule_type == "once":
        return CueStatus.COMPLETED if ended is ExecutionStatus.SUCCESS else CueStatus.FAILED
    if ended is ExecutionStatus.FAILED and cue.on_failure.get("pause"):
        return CueStatus.PAUSED
    return cue.status


def outcome_state(cue: Cue, body: Mapping[str, Any]) -> str:
    """Return the state that an outcome reaches under the cue's verification mode (section 6.3)."""
    if not body["success"]:
        return "reported_failure"
    mode = (cue.verification or {}).get("mode", "none")
    if mode == "none":
        return "reported_success"
    if mode == "manual":
        return "verification_pending"
    return "verified_success" if body.get(mode.removeprefix("require_")) else "verification_failed"
