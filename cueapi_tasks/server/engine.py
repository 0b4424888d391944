"""What the server does, one method an operation: rules applied to the store in one transaction, at a given moment."""

from __future__ import annotations

import logging
import secrets
import string
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from .. import log
from ..declare.schedules import Recurring, latest_run, next_run
from . import rules
from .records import (
    Account,
    Answered,
    Attempt,
    Cue,
    CueStatus,
    Execution,
    ExecutionStatus,
    Page,
    Trigger,
)
from .rules import ApiError
from .schemas import CallbackIn, CueIn, CuePatch, FireIn, OnFailureIn, OutcomeIn, RetryIn, ScheduleIn
from .store import Store

BATCH = 500
"""Due cues, and due attempts, that one tick takes up (contract, section 7)."""
KEPT_RESPONSE = 2000
"""Characters of a receiver's answer that are kept (contract, section 4)."""

_ID_ALPHABET = string.ascii_lowercase + string.digits

logger = logging.getLogger("cueapi_tasks.server")


class Engine:
    """The server without threads, sockets or a clock of its own; `wake` is told that something may be due earlier."""

    def __init__(self, store: Store, wake: Callable[[], None] = lambda: None) -> None:
        self._store = store
        self.wake = wake

    # cues

    def create_cue(self, account: Account, body: CueIn, now: datetime) -> Cue:
        """Create a cue (contract, section 5.1)."""
        with self._store.atomic():
            self._refuse_taken_name(account, body.name)
            rules.check_payload(body.payload or {})
            cue = Cue(
                id="cue_" + "".join(secrets.choice(_ID_ALPHABET) for _ in range(12)),
                account_id=account.id,
                name=body.name,
                description=body.description,
                status=CueStatus.ACTIVE,
                transport=body.transport,
                payload=body.payload or {},
                verification=body.verification.model_dump() if body.verification else None,
                last_run=None,
                run_count=0,
                fired_count=0,
                created_at=now,
                updated_at=now,
                **_schedule_fields(body.schedule, now),
                **_callback_fields(body.callback or CallbackIn()),
                **_retry_fields(body.retry or RetryIn()),
                **_on_failure_fields(body.on_failure or OnFailureIn()),
            )
            self._store.insert_cue(cue)
        self.wake()
        return cue

    def cues(self, account: Account, status: str | None, page: Page) -> tuple[Sequence[Cue], int]:
        """Return a page of the account's cues and their number in all."""
        with self._store.atomic():
            return self._store.cues(account.id, status, page)

    def cue(self, account: Account, cue_id: str) -> Cue:
        """Return one of the account's cues."""
        with self._store.atomic():
            return self._owned(account, cue_id)

    def patch_cue(self, account: Account, cue_id: str, body: CuePatch, now: datetime) -> Cue:
        """Change a cue; null leaves a field as it is, sub-objects are replaced whole (contract, section 5.1)."""
        with self._store.atomic():
            cue = self._owned(account, cue_id)
            if body.name is not None and body.name != cue.name:
                self._refuse_taken_name(account, body.name)
            if body.payload is not None:
                rules.check_payload(body.payload)
            cue = replace(cue, updated_at=now, **_patched(body, cue, now))
            cue = replace(cue, **_status_fields(body.status, cue, now))
            self._store.update_cue(cue)
        self.wake()
        return cue

    def delete_cue(self, account: Account, cue_id: str) -> None:
        """Delete a cue and its executions."""
        with self._store.atomic():
            if not self._store.delete_cue(account.id, cue_id):
                raise _no_cue()

    def fire(self, account: Account, cue_id: str, body: FireIn, now: datetime) -> Execution:
        """Queue an execution by hand, in any status of the cue (contract, section 5.1)."""
        with self._store.atomic():
            cue = self._owned(account, cue_id)
            at = max(now, rules.in_utc(body.send_at)) if body.send_at else now
            execution = _new_execution(cue, at, Trigger.MANUAL_FIRE, now)
            if not self._store.insert_execution(execution, cue):
                raise ApiError(409, "duplicate_execution", "This cue has an execution for that moment already")
        _log_fired(cue, execution)
        self.wake()
        return execution

    # executions

    def executions(
        self, account: Account, page: Page, *, cue_id: str | None = None, status: str | None = None
    ) -> tuple[Sequence[Execution], int]:
        """Return a page of the account's executions and their number in all."""
        with self._store.atomic():
            return self._store.executions(account.id, page, cue_id=cue_id, status=status)

    def execution(self, account: Account, execution_id: str) -> Execution:
        """Return one of the account's executions."""
        with self._store.atomic():
            return self._owned_execution(account, execution_id)

    def record_outcome(self, account: Account, execution_id: str, body: OutcomeIn, now: datetime) -> Execution:
        """Write an execution's outcome, once (contract, section 5.2)."""
        given = body.model_dump(mode="json")
        with self._store.atomic():
            execution = self._owned_execution(account, execution_id)
            if execution.outcome is not None:
                raise ApiError(
                    409,
                    "outcome_already_recorded",
                    "Outcome has already been recorded for this execution",
                )
            cue = self._cue_of(execution)
            execution = replace(
                execution,
                outcome=_outcome(given, now),
                evidence=_evidence(given),
                outcome_state=rules.outcome_state(cue, given),
                updated_at=now,
            )
            self._store.update_execution(execution)
        log.event(
            logger,
            "outcome",
            cue=cue.name,
            execution_id=execution.id,
            state=execution.outcome_state,
            detail=body.result or body.error,
        )
        return execution

    # account

    def account_by_key(self, api_key_sha256: str) -> Account | None:
        """Return the account of a key's digest."""
        with self._store.atomic():
            return self._store.account_by_key(api_key_sha256)

    def active_cues(self, account: Account) -> int:
        """Return how many of the account's cues are active."""
        with self._store.atomic():
            return self._store.count_cues(account.id, CueStatus.ACTIVE)

    # time

    def recover(self, now: datetime) -> None:
        """Make the attempts due again that a process was making when it died; they keep their number."""
        with self._store.atomic():
            interrupted = self._store.requeue_interrupted(now)
        if interrupted:
            log.event(logger, "recovered", attempts=interrupted)

    def tick(self, now: datetime) -> list[Attempt]:
        """Fire what is due and return the attempts to make now; each is marked as under way."""
        with self._store.atomic():
            fired = [self._fire_due(cue, now) for cue in self._store.due_cues(now, BATCH)]
            attempts = [self._start(each, now) for each in self._store.due_executions(now, BATCH)]
        for cue, execution in fired:
            _log_fired(cue, execution)
        return attempts

    def next_due(self) -> datetime | None:
        """Return when `tick` next has something to do."""
        return self._store.next_due()

    def attempted(self, attempt: Attempt, answered: Answered, now: datetime) -> None:
        """Record how an attempt ended: success, another attempt later, or failure."""
        with self._store.atomic():
            execution = self._store.execution(attempt.execution_id)
            if execution is None:
                return  # the cue was deleted meanwhile
            cue = self._cue_of(execution)
            execution = _after(execution, attempt, answered, cue, now)
            self._store.update_execution(execution)
            self._store.set_response_body(execution.id, answered.body[:KEPT_RESPONSE])
            self._store.update_cue(_cue_after(cue, execution, now))
        _log_attempt(cue, execution)
        self.wake()

    def _fire_due(self, cue: Cue, now: datetime) -> tuple[Cue, Execution]:
        """Make one execution of a due cue, for its newest slot: what was missed while down is caught up with once."""
        schedule = rules.schedule_of(cue)
        slot = cue.next_run or now
        following = None
        if isinstance(schedule, Recurring):
            slot = latest_run(schedule, slot, now)
            following = next_run(schedule, slot)
        execution = _new_execution(cue, slot, Trigger.SCHEDULED, now)
        inserted = self._store.insert_execution(execution, cue)
        self._store.update_cue(replace(cue, next_run=following, fired_count=cue.fired_count + inserted))
        return cue, execution

    def _start(self, execution: Execution, now: datetime) -> Attempt:
        cue = self._cue_of(execution)
        account = self._store.account(cue.account_id)
        assert account is not None  # a foreign key holds it
        self._store.update_execution(
            replace(
                execution,
                status=ExecutionStatus.DELIVERING,
                due_at=None,
                started_at=execution.started_at or now,
                updated_at=now,
            )
        )
        return Attempt(
            execution_id=execution.id,
            cue_id=cue.id,
            cue_name=cue.name,
            number=execution.attempts + 1,
            scheduled_for=execution.scheduled_for,
            url=cue.callback_url or "",
            method=cue.callback_method,
            headers=cue.callback_headers,
            payload=cue.payload,
            secret=account.webhook_secret,
        )

    # look-ups

    def _owned(self, account: Account, cue_id: str) -> Cue:
        cue = self._store.cue(cue_id)
        if cue is None or cue.account_id != account.id:
            raise _no_cue()
        return cue

    def _owned_execution(self, account: Account, execution_id: str) -> Execution:
        execution = self._store.execution(execution_id, account.id)
        if execution is None:
            raise ApiError(404, "execution_not_found", "Execution not found")
        return execution

    def _cue_of(self, execution: Execution) -> Cue:
        cue = self._store.cue(execution.cue_id)
        assert cue is not None  # a foreign key holds it
        return cue

    def _refuse_taken_name(self, account: Account, name: str) -> None:
        if self._store.cue_named(account.id, name) is not None:
            raise ApiError(409, "duplicate_cue_name", f"A cue named '{name}' already exists")


def _no_cue() -> ApiError:
    return ApiError(404, "cue_not_found", "Cue not found")


def _schedule_fields(body: ScheduleIn, now: datetime) -> dict[str, Any]:
    run = rules.first_run(kind=body.type, cron=body.cron, at=body.at, zone=body.timezone, now=now)
    return {
        "schedule_type": body.type,
        "cron": body.cron,
        "at": rules.in_utc(body.at) if body.at and body.type == "once" else None,
        "timezone": body.timezone,
        "next_run": run,
    }


def _callback_fields(body: CallbackIn, url: str | None = None) -> dict[str, Any]:
    return {
        "callback_url": str(body.url) if body.url else url,
        "callback_method": body.method,
        "callback_headers": body.headers,
    }


def _retry_fields(body: RetryIn) -> dict[str, Any]:
    return {"max_attempts": body.max_attempts, "backoff_minutes": tuple(body.backoff_minutes)}


def _on_failure_fields(body: OnFailureIn) -> dict[str, Any]:
    return {"on_failure": {"email": body.email, "pause": body.pause, "webhook": body.webhook}}


def _patched(body: CuePatch, cue: Cue, now: datetime) -> dict[str, Any]:
    plain = {"name": body.name, "description": body.description, "payload": body.payload}
    changed = {field: value for field, value in plain.items() if value is not None}
    if body.schedule:
        changed |= _schedule_fields(body.schedule, now)
    if body.callback:
        changed |= _callback_fields(body.callback, cue.callback_url)
    if body.retry:
        changed |= _retry_fields(body.retry)
    if body.on_failure:
        changed |= _on_failure_fields(body.on_failure)
    if body.verification:
        changed["verification"] = body.verification.model_dump()
    return changed


def _status_fields(status: str | None, cue: Cue, now: datetime) -> dict[str, Any]:
    """Pausing forgets the next run; activating computes it anew, without making up for the pause."""
    if status == "paused":
        return {"status": CueStatus.PAUSED, "next_run": None}
    if status == "active":
        run = cue.at if cue.schedule_type == "once" else next_run(rules.schedule_of(cue), now)
        return {"status": CueStatus.ACTIVE, "next_run": run}
    return {}


def _new_execution(cue: Cue, scheduled_for: datetime, trigger: Trigger, now: datetime) -> Execution:
    return Execution(
        id=str(uuid.uuid4()),
        cue_id=cue.id,
        scheduled_for=scheduled_for,
        status=ExecutionStatus.PENDING,
        triggered_by=trigger,
        attempts=0,
        due_at=scheduled_for if cue.transport == "webhook" else None,
        http_status=None,
        error_message=None,
        started_at=None,
        delivered_at=None,
        last_attempt_at=None,
        outcome=None,
        evidence=None,
        outcome_state=None,
        created_at=now,
        updated_at=now,
    )


def _after(execution: Execution, attempt: Attempt, answered: Answered, cue: Cue, now: datetime) -> Execution:
    ended = rules.after_attempt(attempt.number, answered, cue, now)
    return replace(
        execution,
        status=ended.status,
        due_at=ended.due_at,
        error_message=ended.error_message,
        http_status=answered.status,
        attempts=attempt.number,
        last_attempt_at=now,
        delivered_at=now if ended.status is ExecutionStatus.SUCCESS else execution.delivered_at,
        updated_at=now,
    )


def _cue_after(cue: Cue, execution: Execution, now: datetime) -> Cue:
    cue = replace(cue, last_run=now, run_count=cue.run_count + 1, updated_at=now)
    if execution.status is ExecutionStatus.RETRYING:
        return cue
    status = rules.cue_status_after(cue, execution.status)
    return replace(cue, status=status, next_run=None if status is CueStatus.PAUSED else cue.next_run)


def _outcome(given: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    kept = {key: given[key] for key in ("success", "result", "error", "metadata")}
    return kept | {"recorded_at": now.isoformat().replace("+00:00", "Z")}


def _evidence(given: Mapping[str, Any]) -> dict[str, Any]:
    names = ("external_id", "result_url", "result_ref", "result_type", "summary", "artifacts")
    return {name: given[name] for name in names if given[name]}


def _log_fired(cue: Cue, execution: Execution) -> None:
    log.event(
        logger,
        "fired",
        cue=cue.name,
        execution_id=execution.id,
        scheduled_for=execution.scheduled_for.isoformat(),
        triggered_by=execution.triggered_by.value,
    )


def _log_attempt(cue: Cue, execution: Execution) -> None:
    log.event(
        logger,
        "delivered" if execution.status is ExecutionStatus.SUCCESS else "attempt_failed",
        cue=cue.name,
        execution_id=execution.id,
        attempt=execution.attempts,
        http_status=execution.http_status,
        error=execution.error_message,
        retry_at=execution.due_at.isoformat() if execution.due_at else None,
    )
