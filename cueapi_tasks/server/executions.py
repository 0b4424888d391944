"""Executions and workers: list, claim, keep alive, report, verify, replay (contract, sections 5.2, 5.3 and 6)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from . import rules
from .alerts import raise_alerts
from .core import Core, new_execution
from .database import Values
from .events import log_fired, log_outcome
from .profile import Quirk
from .records import IN_FLIGHT, Account, Cue, Execution, ExecutionStatus, Page, Trigger, Worker
from .rules import EVIDENCE, ApiError
from .schemas import EvidenceIn, ExecutionQuery, OutcomeIn, VerifyIn

CLAIMABLE_PAGE = 50
"""Executions that one listing offers (section 5.2)."""
MAX_METADATA = 10_240
"""Bytes of an outcome's metadata as ASCII JSON (section 4)."""
MAX_REASON = 500
"""Characters of a verification's reason, and of a late summary, that are kept (section 5.2)."""
VERIFIABLE = ("reported_success", "reported_failure", "verification_pending")
"""The outcome states that a verification can follow (section 6.3)."""

Found = tuple[Execution, Cue]


class Executions:
    """The account's executions, and the workers that pull them."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._store = core.store

    def list(
        self, account: Account, query: ExecutionQuery, page: Page
    ) -> tuple[Sequence[Execution], int, datetime | None]:
        """Return a page of executions, their number in all, and the oldest claim among them."""
        filters = self._filters(account, query)
        with self._store.atomic():
            found, total = self._store.executions(filters, page)
            return found, total, self._store.oldest_claim(filters)

    def get(self, account: Account, execution_id: str) -> Found:
        """Return one execution and its cue."""
        with self._store.atomic():
            execution = self._core.owned_execution(account, execution_id)
            return execution, self._core.cue_of(execution)

    def claimable(self, account: Account, task: str | None, now: datetime) -> Sequence[Found]:
        """Return what workers may claim, the oldest first; `task` is matched against the payload's `task`."""
        until = None if self._core.has(Quirk.FUTURE_FIRES_CLAIMABLE) else now
        filtered_first = task and not self._core.has(Quirk.LIMIT_BEFORE_TASK_FILTER)
        with self._store.atomic():
            limit = None if filtered_first else CLAIMABLE_PAGE
            found = self._with_cues(self._store.claimable(account.id, until, limit))
        matching = [each for each in found if not task or payload_of(*each).get("task") == task]
        return matching[:CLAIMABLE_PAGE]

    def claim(self, account: Account, execution_id: str, worker_id: str, now: datetime) -> Execution:
        """Give an execution to a worker, or refuse if it is not there to be claimed; one of several gets it."""
        execution_id = self._core.checked_id(execution_id)
        with self._store.atomic():
            execution = self._store.execution(execution_id, account.id)
            if execution is None or not self._is_claimable(execution, now):
                raise ApiError(409, "claim_failed", "Execution not available for claiming")
            return self._claimed(execution, worker_id, now)

    def claim_next(self, account: Account, worker_id: str, now: datetime) -> Execution:
        """Give a worker the oldest execution that waits."""
        until = None if self._core.has(Quirk.FUTURE_FIRES_CLAIMABLE) else now
        with self._store.atomic():
            found = self._store.claimable(account.id, until, 1)
            if found and not self._core.has(Quirk.RACY_CLAIM_NEXT):
                return self._claimed(found[0], worker_id, now)
        if not found:
            raise ApiError(409, "claim_failed", "No executions available for claiming")
        with self._store.atomic():  # apart from the look, as the core does it: whoever looked meanwhile gets it too
            return self._claimed(found[0], worker_id, now)

    def heartbeat(self, account: Account, execution_id: str, worker_id: str | None, now: datetime) -> Execution:
        """Keep a claim alive; a worker that names itself must be the one that claimed."""
        with self._store.atomic():
            execution = self._core.owned_execution(account, execution_id)
            if execution.status is not ExecutionStatus.DELIVERING:
                raise ApiError(409, "execution_not_claiming", "Execution is not currently being claimed")
            if worker_id and execution.claimed_by and worker_id != execution.claimed_by:
                raise ApiError(403, "not_execution_owner", "Only the claiming worker can heartbeat")
            execution = replace(execution, heartbeat_at=now, updated_at=now)
            return self._core.save(execution, self._core.cue_of(execution))

    def record_outcome(self, account: Account, execution_id: str, body: OutcomeIn, now: datetime) -> Execution:
        """Write an execution's outcome, once; for a worker's execution it is the end."""
        given = body.model_dump(mode="json")
        _check_metadata(given["metadata"])
        with self._store.atomic():
            execution = self._core.owned_execution(account, execution_id)
            if execution.outcome is not None:
                raise ApiError(409, "outcome_already_recorded", "Outcome has already been recorded for this execution")
            cue = self._core.cue_of(execution)
            kept = {key: given[key] for key in ("success", "result", "error", "metadata")}
            execution = replace(
                execution,
                outcome=kept | {"recorded_at": now.isoformat().replace("+00:00", "Z")},
                evidence={name: given[name] for name in EVIDENCE if given[name]},
                outcome_state=rules.outcome_state(cue, given),
                updated_at=now,
            )
            if cue.transport == "worker":
                execution, cue = self._ended_by_worker(execution, cue, given, now)
            self._core.save(execution, cue)
            raise_alerts(self._core, account, cue, execution, now)
        log_outcome(cue, execution)
        return execution

    def replay(self, account: Account, execution_id: str, now: datetime) -> Execution:
        """Queue an execution that has ended once more, with what its cue says now."""
        with self._store.atomic():
            earlier = self._core.owned_execution(account, execution_id)
            if earlier.status in IN_FLIGHT:
                raise ApiError(409, "execution_in_flight", "Execution is still in flight")
            cue = self._core.cue_of(earlier)
            execution = new_execution(self._core, cue, now, Trigger.REPLAY, now)
            execution = replace(execution, replayed_from=earlier.id, payload=earlier.payload)
            while not self._store.insert_execution(execution, cue):
                now += timedelta(microseconds=1)  # a fire or a replay within the same tick of the clock
                execution = replace(execution, scheduled_for=now, due_at=now if execution.due_at else None)
        log_fired(cue, execution)
        self._core.wake()
        return execution

    def verify(self, account: Account, execution_id: str, body: VerifyIn, now: datetime) -> Execution:
        """Settle an outcome that was reported, as valid or not."""
        with self._store.atomic():
            execution = self._core.owned_execution(account, execution_id)
            if execution.outcome_state not in VERIFIABLE:
                raise ApiError(409, "invalid_state", f"Cannot verify from state '{execution.outcome_state}'")
            state = "verified_success" if body.valid else "verification_failed"
            evidence = dict(execution.evidence or {})
            if not body.valid and body.reason:
                evidence["summary"] = body.reason[:MAX_REASON]
            return self._written(replace(execution, outcome_state=state, evidence=evidence, updated_at=now))

    def mark_pending(self, account: Account, execution_id: str, now: datetime) -> Execution:
        """Put an outcome back to be verified, from any state."""
        with self._store.atomic():
            execution = self._core.owned_execution(account, execution_id)
            _need_outcome(execution)
            return self._written(replace(execution, outcome_state="verification_pending", updated_at=now))

    def add_evidence(self, account: Account, execution_id: str, body: EvidenceIn, now: datetime) -> Execution:
        """Add evidence to an outcome; its state stays (section 5.2)."""
        given = {name: value for name, value in body.model_dump().items() if value}
        if "summary" in given:
            given["summary"] = given["summary"][:MAX_REASON]
        with self._store.atomic():
            execution = self._core.owned_execution(account, execution_id)
            _need_outcome(execution)
            merged = {**(execution.evidence or {}), **given}
            return self._written(replace(execution, evidence=merged, updated_at=now))

    def worker_heartbeat(self, account: Account, worker_id: str, handlers: Sequence[str] | None, now: datetime) -> None:
        """Note that a worker is alive, and what it says it handles."""
        worker = Worker(
            account_id=account.id, worker_id=worker_id, handlers=handlers, registered_at=now, heartbeat_at=now
        )
        with self._store.atomic():
            self._store.put_worker(worker)

    def workers(self, account: Account) -> Sequence[Worker]:
        """Return the account's workers, the last heard of first."""
        with self._store.atomic():
            return self._store.workers(account.id)

    def delete_worker(self, account: Account, worker_id: str) -> None:
        """Forget a worker."""
        with self._store.atomic():
            if not self._store.delete_worker(account.id, worker_id):
                raise ApiError(404, "worker_not_found", "Worker not found")

    def _filters(self, account: Account, query: ExecutionQuery) -> Values:
        if query.status and query.status__in:
            raise ApiError(400, "conflicting_filters", "Pass either `status` or `status__in`, not both.")
        several = None
        if query.status__in:
            several = [part.strip() for part in query.status__in.split(",") if part.strip()]
            if not several:
                raise ApiError(400, "invalid_status_in", "`status__in` names no status.")
        triggered = None if self._core.has(Quirk.IGNORED_FILTERS) else query.triggered_by
        return {
            "account_id": account.id,
            "cue_id": query.cue_id or None,
            "status": several or query.status or None,
            "claimed_by": query.worker_id or None,
            "outcome_state": query.outcome_state or None,
            "triggered_by": triggered or None,
        }

    def _with_cues(self, executions: Sequence[Execution]) -> Sequence[Found]:
        cues = {cue_id: self._store.cue(cue_id) for cue_id in {execution.cue_id for execution in executions}}
        return [(execution, cue) for execution in executions if (cue := cues[execution.cue_id]) is not None]

    def _is_claimable(self, execution: Execution, now: datetime) -> bool:
        early = self._core.has(Quirk.FUTURE_FIRES_CLAIMABLE)
        return (
            execution.status is ExecutionStatus.PENDING
            and self._store.transport_of(execution.id) == "worker"
            and (early or execution.scheduled_for <= now)
        )

    def _claimed(self, execution: Execution, worker_id: str, now: datetime) -> Execution:
        claimed = replace(
            execution,
            status=ExecutionStatus.DELIVERING,
            attempts=execution.attempts + 1,
            claimed_by=worker_id,
            claimed_at=now,
            heartbeat_at=None,
            started_at=now,
            last_attempt_at=now,
            updated_at=now,
        )
        return self._core.save(claimed, self._core.cue_of(execution))

    def _ended_by_worker(
        self, execution: Execution, cue: Cue, given: Mapping[str, Any], now: datetime
    ) -> tuple[Execution, Cue]:
        """A worker's report is final: no retry, no on_failure (section 5.2)."""
        if given["success"]:
            ended = replace(execution, status=ExecutionStatus.SUCCESS, delivered_at=now, due_at=None)
        else:
            error = given["error"]
            ended = replace(execution, status=ExecutionStatus.FAILED, error_message=error, due_at=None)
        counted = replace(cue, last_run=now, run_count=cue.run_count + 1, updated_at=now)
        after = rules.cue_after(counted, ended.status, escalates=False)
        self._store.update_cue(after)
        return ended, after

    def _written(self, execution: Execution) -> Execution:
        self._store.update_execution(execution)
        return execution


def payload_of(execution: Execution, cue: Cue) -> Mapping[str, Any]:
    """Return what an execution carries: its own payload where a fire gave it one, or the cue's as it is now."""
    return cue.payload if execution.payload is None else execution.payload


def _check_metadata(metadata: object) -> None:
    if len(json.dumps(metadata)) > MAX_METADATA:
        raise ApiError(400, "metadata_too_large", f"Metadata is over {MAX_METADATA} bytes")


def _need_outcome(execution: Execution) -> None:
    if execution.outcome is None:
        raise ApiError(409, "no_outcome", "Execution has no outcome yet")
