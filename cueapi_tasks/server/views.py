"""Records as the API spells them, keys in its order; pure. Moments come in two spellings (contract, section 1)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from .records import Account, Cue, Execution, Page


def with_z(moment: datetime | None) -> str | None:
    """Spell a moment with `Z`, as the API's models do."""
    return None if moment is None else with_offset(moment).replace("+00:00", "Z")


def with_offset(moment: datetime) -> str:
    """Spell a moment with `+00:00`, as the API's hand-made fields do."""
    return moment.isoformat()


def cue_view(cue: Cue, warning: str | None = None) -> dict[str, Any]:
    """Return the cue object."""
    return {
        "id": cue.id,
        "name": cue.name,
        "description": cue.description,
        "status": cue.status.value,
        "transport": cue.transport,
        "schedule": _schedule(cue),
        "callback": {
            "url": cue.callback_url,
            "method": cue.callback_method,
            "headers": dict(cue.callback_headers),
        },
        "payload": dict(cue.payload),
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


def _schedule(cue: Cue) -> dict[str, Any]:
    view: dict[str, Any] = {"type": cue.schedule_type, "timezone": cue.timezone}
    if cue.cron is not None:
        view["cron"] = cue.cron
    if cue.at is not None:
        view["at"] = with_offset(cue.at)
    return view


def cue_page(cues: Sequence[Cue], total: int, page: Page) -> dict[str, Any]:
    """Return a page of cues."""
    return {
        "cues": [cue_view(cue) for cue in cues],
        "total": total,
        "limit": page.limit,
        "offset": page.offset,
    }


def cue_detail(cue: Cue, executions: Sequence[Execution], total: int, page: Page) -> dict[str, Any]:
    """Return a cue with a page of its executions."""
    return cue_view(cue) | {
        "executions": [execution_view(each) for each in executions],
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


def execution_page(executions: Sequence[Execution], total: int, page: Page) -> dict[str, Any]:
    """Return a page of executions."""
    return {
        "executions": [execution_view(each) for each in executions],
        "total": total,
        "limit": page.limit,
        "offset": page.offset,
        "has_more": page.offset + len(executions) < total,
        "oldest_claimed_at": None,
    }


def fired_view(execution: Execution) -> dict[str, Any]:
    """Return what a fire answers."""
    return {
        "id": execution.id,
        "cue_id": execution.cue_id,
        "scheduled_for": with_offset(execution.scheduled_for),
        "status": execution.status.value,
        "triggered_by": execution.triggered_by.value,
    }


def account_view(account: Account, active_cues: int) -> dict[str, Any]:
    """Return the account; the embedded server has no plan limits, said as numbers nobody reaches."""
    return {
        "email": account.email,
        "plan": "free",
        "active_cues": active_cues,
        "active_cue_limit": 10_000_000,
        "executions_this_month": 0,
        "monthly_execution_limit": 100_000_000,
        "rate_limit_per_minute": 10_000_000,
        "has_webhook_secret": True,
        "api_key_prefix": account.api_key_prefix,
        "slug": account.email.partition("@")[0],
    }
