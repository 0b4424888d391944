"""Cues: create, read, change, delete and fire them (contract, section 5.1)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from ..declare.schedules import next_run
from . import rules
from .core import Core, new_cue_id, new_execution, no_cue
from .events import log_fired
from .profile import Quirk
from .records import Account, Cue, CueStatus, Execution, Page, Trigger
from .rules import ApiError, Unchecked
from .schemas import (
    CallbackIn,
    CueIn,
    CuePatch,
    FireIn,
    HostedCueIn,
    HostedCuePatch,
    HostedFireIn,
    OnFailureIn,
    RetryIn,
    ScheduleIn,
)

KEY_LIVES = timedelta(hours=24)
"""How long a fire's idempotency key is remembered (section 11)."""


class Cues:
    """The account's cues."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._store = core.store

    def create(self, account: Account, body: CueIn, now: datetime) -> tuple[Cue, str | None]:
        """Create a cue and return it, with a warning where no worker is there to run it."""
        with self._store.atomic():
            self._refuse_taken_name(account, body.name)
            self._refuse_over_limit(account)
            cue = self._new(account, body, now)
            self._store.insert_cue(cue)
            warning = self._warning(cue, now)
        self._core.wake()
        return cue, warning

    def list(self, account: Account, status: str | None, page: Page) -> tuple[Sequence[Cue], int]:
        """Return a page of the account's cues and their number in all."""
        with self._store.atomic():
            return self._store.cues(account.id, status or None, page)

    def get(self, account: Account, cue_id: str, page: Page) -> tuple[Cue, Sequence[Execution], int]:
        """Return a cue with a page of its executions and their number in all."""
        with self._store.atomic():
            cue = self._core.owned_cue(account, cue_id)
            return cue, *self._store.executions({"account_id": account.id, "cue_id": cue_id}, page)

    def patch(self, account: Account, cue_id: str, body: CuePatch, now: datetime) -> Cue:
        """Change a cue; null leaves a field as it is, sub-objects are replaced whole."""
        with self._store.atomic():
            cue = self._core.owned_cue(account, cue_id)
            if body.name is not None and body.name != cue.name:
                self._refuse_taken_name(account, body.name, kind=Unchecked)
            cue = replace(cue, updated_at=now, **self._patched(body, cue, now))
            cue = replace(cue, **_status_fields(body.status, cue, now))
            self._store.update_cue(cue)
        self._core.wake()
        return cue

    def delete(self, account: Account, cue_id: str) -> None:
        """Delete a cue and its executions."""
        with self._store.atomic():
            if not self._store.delete_cue(account.id, cue_id):
                raise no_cue()

    def fire(self, account: Account, cue_id: str, body: FireIn, now: datetime) -> Execution:
        """Queue an execution by hand, in any status of the cue; a known idempotency key finds the earlier one."""
        hosted = body if isinstance(body, HostedFireIn) else HostedFireIn(send_at=body.send_at)
        with self._store.atomic():
            cue = self._core.owned_cue(account, cue_id)
            earlier = self._fired_before(cue, hosted, now)
            if earlier is not None:
                return earlier
            execution = self._queue(cue, hosted, now)
        log_fired(cue, execution)
        self._core.wake()
        return execution

    def _queue(self, cue: Cue, body: HostedFireIn, now: datetime) -> Execution:
        payload = rules.merged_payload(cue, body.payload_override, body.merge_strategy)
        rules.check_payload(payload or {})
        at = max(now, rules.in_utc(body.send_at)) if body.send_at else now
        execution = replace(new_execution(self._core, cue, at, Trigger.MANUAL_FIRE, now), payload=payload)
        while not self._store.insert_execution(execution, cue):
            if body.send_at and at > now:
                raise Unchecked(409, "duplicate_execution", "This cue has an execution for that moment already")
            at += timedelta(microseconds=1)  # two fires within one tick of the clock
            execution = replace(execution, scheduled_for=at, due_at=at if execution.due_at else None)
        if body.idempotency_key:
            self._store.put_fire_key(cue.id, body.idempotency_key, _digest(body), execution.id, now)
        return execution

    def _fired_before(self, cue: Cue, body: HostedFireIn, now: datetime) -> Execution | None:
        if not body.idempotency_key:
            return None
        found = self._store.fire_key(cue.id, body.idempotency_key, now - KEY_LIVES)
        if found is None:
            return None
        if found[0] != _digest(body):
            raise ApiError(409, "idempotency_key_conflict", "The idempotency key was used with another body")
        return self._store.execution(found[1])

    def _new(self, account: Account, body: CueIn, now: datetime) -> Cue:
        if body.callback is not None and body.transport == "webhook":
            rules.check_callback(str(body.callback.url))
        rules.check_payload(body.payload or {})
        return Cue(
            id=new_cue_id(),
            account_id=account.id,
            name=body.name,
            description=body.description,
            status=CueStatus.ACTIVE,
            transport=body.transport,
            payload=body.payload or {},
            verification=body.verification.model_dump() if body.verification else None,
            catch_up=body.catch_up if isinstance(body, HostedCueIn) else None,
            last_run=None,
            run_count=0,
            fired_count=0,
            created_at=now,
            updated_at=now,
            **self._schedule_fields(body.schedule, now),
            **_callback_fields(body.callback or CallbackIn()),
            **_retry_fields(body.retry or RetryIn()),
            **_on_failure_fields(body.on_failure or OnFailureIn()),
        )

    def _schedule_fields(self, body: ScheduleIn, now: datetime) -> dict[str, Any]:
        run = rules.first_run(kind=body.type, cron=body.cron, at=body.at, zone=body.timezone, now=now)
        return {
            "schedule_type": body.type,
            "cron": body.cron,
            "at": rules.in_utc(body.at) if body.at and body.type == "once" else None,
            "timezone": body.timezone,
            "next_run": run,
        }

    def _patched(self, body: CuePatch, cue: Cue, now: datetime) -> dict[str, Any]:
        plain: dict[str, Any] = {"name": body.name, "description": body.description, "payload": body.payload}
        if isinstance(body, HostedCuePatch):
            plain["catch_up"] = body.catch_up
        changed = {field: value for field, value in plain.items() if value is not None}
        rules.check_payload(body.payload or {})
        if body.schedule and not self._ignores(body.schedule):
            changed |= self._schedule_fields(body.schedule, now)
        if body.callback:
            changed |= _callback_fields(body.callback, cue.callback_url)
            rules.check_callback(changed["callback_url"])
        if body.retry:
            changed |= _retry_fields(body.retry)
        if body.on_failure:
            changed |= _on_failure_fields(body.on_failure)
        if body.verification:
            changed["verification"] = body.verification.model_dump()
        return changed

    def _ignores(self, schedule: ScheduleIn) -> bool:
        return schedule.type not in ("recurring", "once") and self._core.has(Quirk.SILENT_SCHEDULE_TYPE)

    def _warning(self, cue: Cue, now: datetime) -> str | None:
        if cue.transport != "worker":
            return None
        workers = self._store.workers(cue.account_id)
        if any(now - worker.heartbeat_at < rules.WORKER_ALIVE for worker in workers):
            return None
        return "No active workers found. Start a cueapi-worker to process this cue."

    def _refuse_taken_name(self, account: Account, name: str, kind: type[ApiError] = ApiError) -> None:
        if "\0" in name:
            raise Unchecked(422, "validation_error", "body.name: NUL characters are not allowed")
        if self._store.cue_named(account.id, name) is not None:
            raise kind(409, "duplicate_cue_name", taken_name(name))

    def _refuse_over_limit(self, account: Account) -> None:
        most = self._core.profile.limits.cues
        if self._store.count_cues(account.id, CueStatus.ACTIVE, CueStatus.PAUSED) >= most:
            raise ApiError(403, "cue_limit_exceeded", f"Your plan allows {most} active cues")


def taken_name(name: str) -> str:
    """Return what is said of a name that another cue has."""
    return f"A cue named '{name}' already exists"


def _digest(body: HostedFireIn) -> str:
    text = json.dumps(body.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _callback_fields(body: CallbackIn, url: str | None = None) -> dict[str, Any]:
    return {
        "callback_url": str(body.url) if body.url else url,
        "callback_method": body.method,
        "callback_headers": body.headers,
    }


def _retry_fields(body: RetryIn) -> dict[str, Any]:
    return {"max_attempts": body.max_attempts, "backoff_minutes": tuple(body.backoff_minutes)}


def _on_failure_fields(body: OnFailureIn) -> dict[str, Any]:
    rules.check_callback(body.webhook, "on_failure.webhook: ")
    return {"on_failure": {"email": body.email, "pause": body.pause, "webhook": body.webhook}}


def _status_fields(status: str | None, cue: Cue, now: datetime) -> dict[str, Any]:
    """Pausing forgets the next run; activating computes it anew, without making up for the pause (section 6.1)."""
    if status == "paused":
        return {"status": CueStatus.PAUSED, "next_run": None}
    if status == "active":
        run = cue.at if cue.schedule_type == "once" else next_run(rules.schedule_of(cue), now)
        return {"status": CueStatus.ACTIVE, "next_run": run}
    return {}
