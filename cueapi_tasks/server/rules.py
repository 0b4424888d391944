"""The server's rules as pure functions and tables; the contract's sections are named beside each."""

from __future__ import annotations

import functools
import ipaddress
import itertools
import json
import zoneinfo
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlsplit

from croniter import CroniterError

from ..declare.schedules import Once, Recurring, Schedule, latest_run, next_run, runs_after
from .profile import Profile, Quirk
from .records import Answered, CatchUp, Cue, CueStatus, Execution, ExecutionStatus

MAX_PAYLOAD = 1_048_576
"""Bytes of a payload as JSON with spaced separators (section 4)."""
MAX_CRON = 100
MAX_ZONE = 50
MAX_ERROR = 500
"""Characters of an error's text (section 8.3)."""
METHODS = ("POST", "GET", "PUT", "PATCH")
VERIFICATION_MODES = ("none", "require_external_id", "require_result_url", "require_artifacts", "manual")
EVIDENCE = ("external_id", "result_url", "result_ref", "result_type", "summary", "artifacts")

LEASE = timedelta(seconds=900)
"""How long a claim holds (section 9.3, R2)."""
WORKER_ALIVE = timedelta(seconds=180)
"""How long after its heartbeat a worker counts as alive (section 9.3, R2)."""
WORKER_STALE = timedelta(seconds=900)
"""After this a worker counts as dead (section 5.3)."""
STALE = timedelta(seconds=300)
"""Without an execution heartbeat for this long the core takes a run for dead (section 9.3, R1)."""
UNCLAIMED = timedelta(seconds=900)
"""The core gives an execution up that nobody claimed for this long (section 9.3, R3)."""
CYCLE = timedelta(seconds=5)
"""The core's poll interval; a run later than this was missed (section 7)."""
MOST_REPLAYED = 100
"""Slots that `replay_all_missed` makes up for (section 11)."""

_METADATA_HOSTS = frozenset(("metadata.google.internal", "metadata.internal"))
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


class Unchecked(ApiError):
    """A refusal of what the core does not check, and answers with a 500 (Q10)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What an attempt or a sweep makes of an execution; `final` says that on_failure acts."""

    execution: Execution
    final: bool


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
    proper = find_zone(zone) if len(zone) <= MAX_ZONE else None
    if proper is None:
        raise ApiError(422, "invalid_timezone", f"Invalid timezone: {zone[:MAX_ZONE]}")
    if kind == "once":
        return _moment_ahead(at, now)
    if kind != "recurring":
        raise ApiError(400, "invalid_schedule", "schedule.type must be 'recurring' or 'once'")
    if not cron:
        raise ApiError(400, "invalid_schedule", "A recurring schedule needs a cron expression")
    if len(cron) > MAX_CRON:
        raise Unchecked(400, "invalid_schedule", f"The cron expression is over {MAX_CRON} characters")
    try:
        run = next_run(Recurring(cron=cron, timezone=proper), now)
    except (CroniterError, ValueError, OverflowError, RecursionError) as error:
        raise ApiError(400, "invalid_schedule", f"Invalid cron expression: {cron}") from error
    if run is None:
        raise Unchecked(400, "invalid_schedule", f"The cron expression never matches: {cron}")
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
    try:
        return (moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment).astimezone(timezone.utc)
    except OverflowError as error:
        raise ApiError(400, "invalid_schedule", "The moment is out of range") from error


def due_slots(cue: Cue, now: datetime, profile: Profile) -> tuple[list[datetime], datetime | None]:
    """Return the slots of a due cue to fire now, and its next run (section 7; catch_up as in section 11)."""
    first = cue.next_run or now
    schedule = schedule_of(cue)
    if isinstance(schedule, Once):
        return [first], None
    following = next_run(schedule, first)
    if profile.has(Quirk.REPLAYED_SLOTS):
        return [first], following
    newest = first
    if following is not None and following <= now:
        newest = latest_run(schedule, following, now)
        following = next_run(schedule, newest)
    if cue.catch_up is CatchUp.SKIP and now - newest > CYCLE:
        return [], following
    if cue.catch_up is CatchUp.ALL:
        missed = itertools.takewhile(lambda run: run <= newest, runs_after(schedule, first))
        return [first, *missed][-MOST_REPLAYED:], following
    return [newest], following


def check_payload(payload: Mapping[str, Any]) -> None:
    """Refuse a payload that the API's database could not hold (section 4)."""
    try:
        text = json.dumps(payload, ensure_ascii=False, allow_nan=False)
        size = len(text.encode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Unchecked(400, "invalid_payload", "Payload holds a value that JSON cannot carry") from error
    if "\\u0000" in text:
        raise ApiError(400, "invalid_payload", "Payload must not hold NUL characters")
    if size > MAX_PAYLOAD:
        raise ApiError(400, "invalid_payload_size", f"Payload is over {MAX_PAYLOAD} bytes")


def check_callback(url: str | None, prefix: str = "") -> None:
    """Refuse a URL that names a link-local or metadata address; loopback and private ones are this server's use."""
    host = (urlsplit(url or "").hostname or "").rstrip(".").lower()
    if host in _METADATA_HOSTS or is_link_local(host):
        raise ApiError(400, "invalid_callback_url", f"{prefix}The URL points to a link-local or metadata address")


def is_address(host: str) -> bool:
    """Tell whether a host is an IP address rather than a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_link_local(host: str) -> bool:
    """Tell whether a host is an address of 169.254/16 or fe80::/10, a v4-mapped one included."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_link_local


def merged_payload(cue: Cue, override: Mapping[str, Any] | None, strategy: str) -> Mapping[str, Any] | None:
    """Return an execution's own payload: merged key by key over the cue's, or in its place (section 11)."""
    if override is None:
        return None
    return dict(override) if strategy == "replace" else {**cue.payload, **override}


def retry_delay(attempt: int, backoff_minutes: Sequence[int]) -> timedelta:
    """Return the wait after the `attempt`th attempt failed (section 8.4); never negative."""
    minutes = backoff_minutes[min(attempt, len(backoff_minutes)) - 1] if backoff_minutes else 1
    return timedelta(minutes=max(0, min(minutes, 10**6)))


def after_attempt(execution: Execution, number: int, answered: Answered, cue: Cue, now: datetime) -> Ended:
    """Return what becomes of an execution after its `number`th attempt (sections 6.2 and 8.3)."""
    tried = replace(
        execution, attempts=number, http_status=answered.status, last_attempt_at=now, updated_at=now, error_message=None
    )
    if answered.status is not None and 200 <= answered.status < 300:
        return Ended(execution=replace(tried, status=ExecutionStatus.SUCCESS, delivered_at=now), final=False)
    message = answered.error if answered.status is None else failure_text(answered.status)
    failed = replace(tried, error_message=message)
    if number < cue.max_attempts:
        due = now + retry_delay(number, cue.backoff_minutes)
        return Ended(execution=replace(failed, status=ExecutionStatus.RETRYING, due_at=due), final=False)
    return Ended(execution=replace(failed, status=ExecutionStatus.FAILED), final=True)


def failure_text(status: int) -> str:
    """Return what an unsuccessful status is called (section 8.3)."""
    if status in _FAILURES:
        return _FAILURES[status]
    if 400 <= status < 500:
        return f"Webhook endpoint rejected request ({status})"
    if status >= 500:
        return f"Webhook endpoint server error ({status})"
    return f"Webhook delivery failed ({status})"


def cue_after(cue: Cue, ended: ExecutionStatus, *, escalates: bool) -> Cue:
    """Return the cue once one of its executions has ended (section 6.1); `escalates` where on_failure acts."""
    if cue.schedule_type == "once" and ended not in (ExecutionStatus.RETRYING, ExecutionStatus.PENDING):
        return replace(cue, status=CueStatus.COMPLETED if ended is ExecutionStatus.SUCCESS else CueStatus.FAILED)
    if escalates and cue.on_failure.get("pause"):
        return replace(cue, status=CueStatus.PAUSED, next_run=None)
    return cue


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


def claim_expires(execution: Execution, heartbeat: datetime | None, profile: Profile) -> datetime | None:
    """Return when a claim may be taken away: the lease is over and the worker silent (section 9.3, R2).

    The core does not let an execution heartbeat move the lease; this server does.
    """
    if execution.claimed_at is None:
        return None
    from_ = execution.claimed_at
    if not profile.has(Quirk.MISSED_AFTER_900) and execution.heartbeat_at is not None:
        from_ = max(from_, execution.heartbeat_at)
    silent = heartbeat + WORKER_ALIVE if heartbeat is not None else from_
    return max(from_ + LEASE, silent)


def next_sweep(execution: Execution, heartbeat: datetime | None, profile: Profile) -> datetime | None:
    """Return when a rule about claims may next apply to a worker's execution (section 9.3)."""
    if execution.status is ExecutionStatus.PENDING and profile.has(Quirk.MISSED_AFTER_900):
        return execution.created_at + UNCLAIMED
    if execution.status is not ExecutionStatus.DELIVERING:
        return None
    expires = claim_expires(execution, heartbeat, profile)
    stale = execution.updated_at + STALE if profile.has(Quirk.STALE_SWEEP) else None
    return min((moment for moment in (expires, stale) if moment is not None), default=None)


def swept(execution: Execution, cue: Cue, heartbeat: datetime | None, profile: Profile, now: datetime) -> Ended:
    """Apply the rules about claims in the core's order, R1, R2, R3 (section 9.3)."""
    claimed = execution.status is ExecutionStatus.DELIVERING
    if claimed and profile.has(Quirk.STALE_SWEEP) and execution.updated_at + STALE <= now:
        return _taken_for_dead(execution, cue, now)
    expires = claim_expires(execution, heartbeat, profile)
    if claimed and expires is not None and expires <= now:
        execution = replace(
            execution,
            status=ExecutionStatus.PENDING,
            claimed_by=None,
            claimed_at=None,
            heartbeat_at=None,
            updated_at=now,
        )
    unclaimed = execution.status is ExecutionStatus.PENDING and execution.created_at + UNCLAIMED <= now
    if unclaimed and profile.has(Quirk.MISSED_AFTER_900):
        return Ended(execution=replace(execution, status=ExecutionStatus.MISSED, updated_at=now), final=True)
    return Ended(execution=execution, final=False)


def _taken_for_dead(execution: Execution, cue: Cue, now: datetime) -> Ended:
    message = "Recovered from stale delivering state after 300s"
    lost = replace(execution, error_message=message, updated_at=now)
    if execution.attempts < cue.max_attempts:
        due = now + retry_delay(execution.attempts + 1, cue.backoff_minutes)
        return Ended(execution=replace(lost, status=ExecutionStatus.RETRYING, due_at=due), final=False)
    return Ended(execution=replace(lost, status=ExecutionStatus.FAILED), final=True)


def worker_state(heartbeat: datetime, now: datetime) -> str:
    """Return how a worker's last heartbeat reads (section 5.3)."""
    if now - heartbeat < WORKER_ALIVE:
        return "active"
    return "stale" if now - heartbeat < WORKER_STALE else "dead"
