"""Alerts: what the server tells a person of, and the POSTs that carry it (contract, sections 5.6 and 8.5)."""

from __future__ import annotations

import json
import uuid
from datetime import datetime

from cueapi import webhook

from .core import Core
from .records import Account, Alert, Cue, Execution, ExecutionStatus, Notice
from .views import with_offset

CONSECUTIVE = 3
"""Failed executions in a row that raise an alert."""
ALERT_TYPES = ("consecutive_failures", "verification_failed", "outcome_timeout")
DASHBOARD = "https://dashboard.cueapi.ai"
MAX_ERROR = 500


def raise_alerts(core: Core, account: Account, cue: Cue, execution: Execution, now: datetime) -> None:
    """Keep the alerts that an outcome raises, and queue their webhooks."""
    found: list[tuple[str, str]] = []
    if execution.outcome_state == "verification_failed":
        found.append(("verification_failed", f"Outcome verification failed for cue '{cue.name}'"))
    recent = core.store.recent_statuses(cue.id, CONSECUTIVE)
    if execution.outcome_state == "reported_failure" and recent == [ExecutionStatus.FAILED.value] * CONSECUTIVE:
        found.append(("consecutive_failures", f"Cue '{cue.name}' failed {CONSECUTIVE} times in a row"))
    for kind, message in found:
        alert = Alert(
            id=str(uuid.uuid4()),
            account_id=account.id,
            cue_id=cue.id,
            execution_id=execution.id,
            alert_type=kind,
            severity="warning",
            message=message,
            metadata={},
            created_at=now,
        )
        core.store.insert_alert(alert)
        if account.alert_webhook_url and account.alert_webhook_secret:
            core.notices.append(_alert_notice(account.alert_webhook_url, account.alert_webhook_secret, alert))


def failure_notice(cue: Cue, execution: Execution, *, attempts: int, now: datetime) -> Notice | None:
    """Return the POST that on_failure asks for: unsigned, in httpx's compact JSON."""
    url = cue.on_failure.get("webhook")
    if not url:
        return None
    body = {
        "event": "cue.failed",
        "cue_id": cue.id,
        "cue_name": cue.name,
        "attempts": attempts,
        "last_http_status": execution.http_status if attempts else None,
        "last_error": (execution.error_message or "")[:MAX_ERROR],
        "failed_at": with_offset(now),
        "dashboard_url": DASHBOARD,
    }
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return Notice(url=url, body=text, headers={"Content-Type": "application/json", "User-Agent": "CueAPI/1.0"})


def _alert_notice(url: str, secret: str, alert: Alert) -> Notice:
    view = {
        "alert_id": alert.id,
        "alert_type": alert.alert_type,
        "severity": alert.severity,
        "message": alert.message,
        "execution_id": alert.execution_id,
        "cue_id": alert.cue_id,
        "created_at": with_offset(alert.created_at),
        "metadata": dict(alert.metadata),
    }
    body = json.dumps(view, sort_keys=True).encode("ascii")
    timestamp = int(alert.created_at.timestamp())
    headers = {
        "Content-Type": "application/json",
        webhook.SIGNATURE_HEADER: webhook.sign(body, secret=secret, timestamp=timestamp),
        webhook.TIMESTAMP_HEADER: str(timestamp),
        "X-CueAPI-Alert-Id": alert.id,
        "X-CueAPI-Alert-Type": alert.alert_type,
        "User-Agent": "CueAPI/1.0",
    }
    return Notice(url=url, body=body, headers=headers)
