"""Time: what is due fires, attempts are handed out and settled, claims expire (contract, sections 6 to 9)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from .. import log
from . import rules
from .alerts import failure_notice
from .core import Core, new_execution
from .events import log_attempt, log_fired, logger
from .executions import payload_of
from .profile import Quirk
from .records import Account, Answered, Attempt, Cue, Execution, ExecutionStatus, Notice, Trigger

BATCH = 25
"""Due cues, due attempts and claims that a tick takes up: few, so that the first are delivered while the rest fire."""
KEPT_RESPONSE = 2000
"""Characters of a receiver's answer that are kept (section 4)."""


class Scheduler:
    """The engine's part that moves with the clock."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._store = core.store
        self._cycle_at: datetime | None = None
        """Where the core's poll cycle is copied: when the next one begins."""

    def recover(self, now: datetime) -> None:
        """Make the attempts due again that a process was making when it died; they keep their number."""
        with self._store.atomic():
            interrupted = self._store.requeue_interrupted(now)
        if interrupted:
            log.event(logger, "recovered", attempts=interrupted)

    def tick(self, now: datetime) -> list[Attempt]:
        """Fire what is due, let claims expire, and return the attempts to make now, each marked as under way."""
        cycle = self._begins_cycle(now)
        if not cycle and self._core.has(Quirk.POLL_CYCLE):
            return []
        with self._store.atomic():
            due = self._store.due_cues(now, BATCH if cycle else 0)
            fired = [pair for cue in due for pair in self._fire(cue, now)]
            for execution in self._store.sweepable(now, BATCH):
                self._sweep(execution, now)
            accounts = functools.cache(self._account)  # nearly always the same one
            started = [self._start(each, accounts, now) for each in self._store.due_executions(now, BATCH)]
        for cue, execution in fired:
            log_fired(cue, execution)
        return [attempt for attempt in started if attempt is not None]

    def take_notices(self) -> list[Notice]:
        """Return the notices that wait to be sent, and forget them."""
        with self._store.atomic():
            taken, self._core.notices[:] = [*self._core.notices], []
        return taken

    def next_due(self) -> datetime | None:
        """Return when `tick` next has something to do."""
        run = self._not_before_cycle(self._store.next_run())
        moments = [run, self._store.next_attempt(), self._store.next_sweep()]
        due = min((moment for moment in moments if moment is not None), default=None)
        return self._not_before_cycle(due) if self._core.has(Quirk.POLL_CYCLE) else due

    def attempted(self, attempt: Attempt, answered: Answered, now: datetime) -> None:
        """Record how an attempt ended: success, another attempt later, or failure."""
        with self._store.atomic():
            execution = self._store.execution(attempt.execution_id)
            if execution is None:
                return  # the cue was deleted meanwhile
            cue = self._core.cue_of(execution)
            ended = rules.after_attempt(execution, attempt.number, answered, cue, now)
            self._core.save(ended.execution, cue)
            self._store.set_response_body(execution.id, answered.body[:KEPT_RESPONSE])
            if ended.execution.status is ExecutionStatus.SUCCESS:
                self._store.count_delivery(cue.account_id, month_of(now))
            counted = replace(cue, last_run=now, run_count=cue.run_count + 1, updated_at=now)
            self._settle(counted, ended, attempts=attempt.number, now=now)
        log_attempt(cue, ended.execution)
        self._core.wake()

    def _begins_cycle(self, now: datetime) -> bool:
        """Tell whether cues may be looked at now; always, but where the core's cycle is copied."""
        if not (self._core.has(Quirk.POLL_CYCLE) or self._core.has(Quirk.REPLAYED_SLOTS)):
            return True
        if self._cycle_at is not None and now < self._cycle_at:
            return False
        self._cycle_at = now + rules.CYCLE
        return True

    def _not_before_cycle(self, moment: datetime | None) -> datetime | None:
        return moment if moment is None or self._cycle_at is None else max(moment, self._cycle_at)

    def _fire(self, cue: Cue, now: datetime) -> list[tuple[Cue, Execution]]:
        slots, following = rules.due_slots(cue, now, self._core.profile)
        made = [new_execution(self._core, cue, slot, Trigger.SCHEDULED, now) for slot in slots]
        inserted = [execution for execution in made if self._store.insert_execution(execution, cue)]
        self._store.update_cue(replace(cue, next_run=following, fired_count=cue.fired_count + len(inserted)))
        return [(cue, execution) for execution in inserted]

    def _sweep(self, execution: Execution, now: datetime) -> None:
        cue = self._core.cue_of(execution)
        heartbeat = self._store.worker_heartbeat(cue.account_id, execution.claimed_by)
        ended = rules.swept(execution, cue, heartbeat, self._core.profile, now)
        self._core.save(ended.execution, cue)
        self._settle(cue, ended, attempts=0, now=now)

    def _settle(self, cue: Cue, ended: rules.Ended, *, attempts: int, now: datetime) -> None:
        """Write what an ended execution makes of its cue, and let on_failure act."""
        if ended.execution.status is not ExecutionStatus.RETRYING:
            cue = rules.cue_after(cue, ended.execution.status, escalates=ended.final)
        self._store.update_cue(cue)
        notice = failure_notice(cue, ended.execution, attempts=attempts, now=now) if ended.final else None
        if notice is not None:
            self._core.notices.append(notice)

    def _account(self, account_id: str) -> Account:
        account = self._store.account(account_id)
        assert account is not None  # a foreign key holds it
        return account

    def _start(self, execution: Execution, accounts: Callable[[str], Account], now: datetime) -> Attempt | None:
        cue = self._core.cue_of(execution)
        started = replace(
            execution,
            status=ExecutionStatus.DELIVERING,
            due_at=None,
            started_at=execution.started_at or now,
            updated_at=now,
        )
        if self._is_over_quota(cue, execution, now):
            message = "Monthly execution limit reached"
            over = replace(started, status=ExecutionStatus.FAILED, error_message=message)
            self._core.save(over, cue)
            return None
        self._store.update_execution(started)
        return _attempt(started, cue, accounts(cue.account_id))

    def _is_over_quota(self, cue: Cue, execution: Execution, now: datetime) -> bool:
        """Only scheduled first deliveries count against the month (section 7)."""
        if execution.triggered_by is not Trigger.SCHEDULED or execution.attempts:
            return False
        return self._store.deliveries(cue.account_id, month_of(now)) >= self._core.profile.limits.executions_per_month


def month_of(now: datetime) -> str:
    """Return the calendar month that a delivery counts for."""
    return f"{now:%Y-%m}"


def _attempt(execution: Execution, cue: Cue, account: Account) -> Attempt:
    return Attempt(
        execution_id=execution.id,
        cue_id=cue.id,
        cue_name=cue.name,
        number=execution.attempts + 1,
        scheduled_for=execution.scheduled_for,
        url=cue.callback_url or "",
        method=cue.callback_method,
        headers=cue.callback_headers,
        payload=payload_of(execution, cue),
        secret=account.webhook_secret,
    )
