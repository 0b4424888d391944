"""Records as the API spells them, keys in its order; pure. Moments come in two spellings (contract, section 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from .records import Alert, Cue, Execution, Page, Worker
from .rules import worker_state


def with_z(moment: datetime | None) -> str | None:
    """Spell a moment with `Z`, as the API's models do."""
    return None if moment is None else with_offset(moment).replace("+00:00", "Z")


def with_offset(moment: datetime) -> str:
    """Spell a moment with `+00:00`, as the API's hand-made fields do."""
    return moment.isoformat()


def cue_view(cue: Cue, warning: str | None = None) -> dict[str, Any]:
    """Return the cue object."""
    view = {
        "id": cue.id,
        "name": cue.name,
        "description": cue.description,
        "status": cue.status.value,
        "transport": cue.transport,
        "schedule": _schedule(cue),
        "callback": {"url": cue.callback_url, "method": cue.callback_method, "headers": ordered(cue.callback_headers)},
        "payload": ordered(cue.payload),
        "retry": {"max_attempts": cue.max_attempts, "backoff_minutes": list(cue.backoff_minutes)},
        "next_run": with_z(cue.next_run),
        "last_run": with_z(cue.last_run),
        "run_count": cue.run_count,
        "fired_count": cue.fired_count,
        "on_failure": dict(cue.on_failure),
        "verification": cue.verification,
        "warning": warning,
        "created_at": with_z(cue.created_at),
        "updated_at": with_z(cue.updated_at),
    }
    return view if cue.catch_up is None else view | {"catch_up": cue.catch_up.value}


def _schedule(cue: Cue) -> dict[str, Any]:
    view: dict[str, Any] = {"type": cue.schedule_type, "timezone": cue.timezone}
    if cue.cron is not None:
        view["cron"] = cue.cron
    if cue.at is not None:
        view["at"] = with_offset(cue.at)
    return view


def ordered(value: Any) -> Any:
    """Return JSON with its keys as PostgreSQL's JSONB gives them back: the shorter first, then by their bytes."""
    if isinstance(value, Mapping):
        items = cast("Mapping[str, Any]", value).items()
        return {key: ordered(each) for key, each in sorted(items, key=lambda item: _jsonb_rank(item[0]))}
    if isinstance(value, list):
        return [ordered(each) for each in cast("Sequence[Any]", value)]
    return value


def _jsonb_rank(key: str) -> tuple[int, bytes]:
    raw = key.encode("utf-8", "replace")
    return len(raw), raw


def cue_page(cues: Sequence[Cue], total: int, page: Page) -> dict[str, Any]:
    """Return a page of cues."""
    return {"cues": [cue_view(cue) for cue in cues], "total": total, "limit": page.limit, "offset": page.offset}


def cue_detail(cue: Cue, executions: Sequence[dict[str, Any]], total: int, page: Page) -> dict[str, Any]:
    """Return a cue with a page of its executions."""
    return cue_view(cue) | {
        "executions": [*executions],
        "execution_total": total,
        "execution_limit": page.limit,
        "execution_offset": page.offset,
    }


def execution_view(execution: Execution) -> dict[str, Any]:
    """Return the execution object."""
    return {
        "id": execution.id,
        "cue_id": execution.cue_id,
        "scheduled_for": with_z(execution.scheduled_for),
        "status": execution.status.value,
        "http_status": execution.http_status,
        "attempts": execution.attempts,
        "error_message": execution.error_message,
        "started_at": with_z(execution.started_at),
        "delivered_at": with_z(execution.delivered_at),
        "last_attempt_at": with_z(execution.last_attempt_at),
        "outcome": execution.outcome,
        "created_at": with_z(execution.created_at),
        "updated_at": with_z(execution.updated_at),
    }


def hosted_fields(execution: Execution, payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return what only the hosted service shows of an execution (contract, section 11)."""
    evidence = execution.evidence or {}
    names = ("external_id", "result_url", "result_ref", "result_type", "summary", "artifacts")
    return {
        "payload": ordered(payload),
        "triggered_by": execution.triggered_by.value,
        "replayed_from": execution.replayed_from,
        "outcome_state": execution.outcome_state,
        "claimed_by_worker": execution.claimed_by,
        "claimed_at": with_z(execution.claimed_at),
        "last_heartbeat_at": with_z(execution.heartbeat_at),
        **{f"evidence_{name}": evidence.get(name) for name in names},
    }


def execution_page(
    executions: Sequence[dict[str, Any]], total: int, page: Page, oldest_claim: datetime | None
) -> dict[str, Any]:
    """Return a page of executions."""
    return {
        "executions": [*executions],
        "total": total,
        "limit": page.limit,
        "offset": page.offset,
        "has_more": page.offset + len(executions) < total,
        "oldest_claimed_at": None if oldest_claim is None else with_offset(oldest_claim),
    }


def fired_view(execution: Execution) -> dict[str, Any]:
    """Return what a fire or a replay answers."""
    view = {
        "id": execution.id,
        "cue_id": execution.cue_id,
        "scheduled_for": with_offset(execution.scheduled_for),
        "status": execution.status.value,
        "triggered_by": execution.triggered_by.value,
    }
    return view if execution.replayed_from is None else view | {"replayed_from": execution.replayed_from}


def claimable_view(execution: Execution, cue: Cue, payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a worker is offered; `attempt` counts the claims so far (contract, Q29)."""
    task = payload.get("task")
    return {
        "execution_id": execution.id,
        "cue_id": cue.id,
        "cue_name": cue.name,
        "task": task if isinstance(task, str) else None,
        "scheduled_for": with_z(execution.scheduled_for),
        "payload": ordered(payload),
        "attempt": execution.attempts,
    }


def worker_view(worker: Worker, now: datetime) -> dict[str, Any]:
    """Return a worker."""
    return {
        "worker_id": worker.worker_id,
        "last_heartbeat": with_z(worker.heartbeat_at),
        "seconds_since_heartbeat": max(0, int((now - worker.heartbeat_at).total_seconds())),
        "heartbeat_status": worker_state(worker.heartbeat_at, now),
        "handlers": worker.handlers,
        "registered_since": with_z(worker.registered_at),
    }


def alert_page(alerts: Sequence[Alert], total: int, page: Page) -> dict[str, Any]:
    """Return a page of alerts."""
    views = [
        {
            "id": alert.id,
            "cue_id": alert.cue_id,
            "execution_id": alert.execution_id,
            "alert_type": alert.alert_type,
            "severity": alert.severity,
            "message": alert.message,
            "metadata": dict(alert.metadata),
            "acknowledged": False,
            "created_at": with_z(alert.created_at),
        }
        for alert in alerts
    ]
    return {"alerts": views, "total": total, "limit": page.limit, "offset": page.offset}
