"""The ledger in memory: for one process, and for as long as it lives."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..outcome import Outcome
from .base import OVERLAP, RUN, Answer, Claim, Claimed, Died, Entry, Finished, Lapsed, Report, Running
from .tokens import execution_of, make_token


@dataclass(slots=True, kw_only=True)
class Row:
    """One execution; moments are those of the monotonic clock."""

    scope: str
    task: str
    transport: str
    attempt: int
    max_attempts: int
    state: str = "waiting"
    owner: str | None = None
    lease_until: float = 0.0
    starts: int = 0
    crashed: bool = False
    decision: str | None = None
    delivery: Mapping[str, Any] | None = None
    retry_at: float = 0.0
    answer: Answer | None = None
    outcome: Outcome | None = None
    reported: bool = False
    accepted: bool = False
    finished_at: float = 0.0

    def held(self, now: float) -> bool:
        """Whether an owner's lease is fresh."""
        return self.owner is not None and self.lease_until > now


class MemoryLedger:
    """A ledger in a dictionary; a lock makes each method one step."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}
        self._unfinished: dict[str, Row] = {}
        self._lock = threading.RLock()

    def claim(self, entry: Entry, *, lease: float) -> Claim:
        """Take and start it; see `Ledger.claim`."""
        with self._lock:
            row = self._take(entry, lease)
            return self._start(entry, row) if isinstance(row, Row) else row

    def hold(self, entry: Entry, *, lease: float) -> Claim:
        """Take it without starting it; see `Ledger.hold`."""
        with self._lock:
            row = self._take(entry, lease)
            return _claimed(row) if isinstance(row, Row) else row

    def start(self, entry: Entry, token: str) -> Claimed | None:
        """Start what is held; see `Ledger.start`."""
        with self._lock:
            row = self._owned(entry.execution_id, token)
            return self._start(entry, row) if row else None

    def postpone(self, execution_id: str, token: str, *, attempt: int, delay: float) -> bool:
        """Keep it for a later attempt; see `Ledger.postpone`."""
        with self._lock:
            if (row := self._owned(execution_id, token)) is None:
                return False
            row.state, row.attempt = "waiting", max(row.attempt, attempt)
            row.retry_at = time.monotonic() + delay
            return True

    def renew(self, tokens: Sequence[str], *, lease: float) -> None:
        """Extend leases; see `Ledger.renew`."""
        with self._lock:
            for token in tokens:
                if row := self._owned(execution_of(token), token):
                    row.lease_until = time.monotonic() + lease

    def abandon(self, tokens: Sequence[str]) -> None:
        """End leases; see `Ledger.abandon`."""
        self.renew(tokens, lease=0.0)

    def forget(self, execution_id: str, token: str) -> None:
        """Remove it; see `Ledger.forget`."""
        with self._lock:
            if self._owned(execution_id, token):
                del self._rows[execution_id], self._unfinished[execution_id]

    def release(self, execution_id: str, token: str, *, max_attempts: int) -> bool:
        """Give it back; see `Ledger.release`."""
        with self._lock:
            row = self._owned(execution_id, token)
            if row is None or row.attempt >= max_attempts:
                return False
            row.state, row.owner, row.lease_until = "waiting", None, time.monotonic()
            return True

    def finish(self, execution_id: str, token: str, answer: Answer, outcome: Outcome) -> bool:
        """Record the end; see `Ledger.finish`."""
        with self._lock:
            if (row := self._owned(execution_id, token)) is None:
                return execution_id not in self._rows
            row.state, row.owner, row.answer, row.outcome = "finished", None, answer, outcome
            row.finished_at = time.monotonic()
            del self._unfinished[execution_id]
            return True

    def lapsed(self, scope: str, *, transport: str, limit: int) -> Sequence[Lapsed]:
        """Return what nobody holds; see `Ledger.lapsed`."""
        with self._lock:
            now = time.monotonic()
            found = [
                (row.lease_until, Lapsed(execution_id=each, delivery=row.delivery, attempt=row.attempt, retry_in=wait))
                for each, row in self._unfinished.items()
                if (row.scope, row.transport) == (scope, transport) and not row.held(now)
                if row.delivery is not None
                for wait in [max(0.0, row.retry_at - now)]
            ]
        return [lapsed for _, lapsed in sorted(found, key=lambda each: each[0])][:limit]

    def died(self, scope: str, *, since: float, limit: int) -> Sequence[Died]:
        """Return what died in its last attempt; see `Ledger.died`."""
        with self._lock:
            before = time.monotonic() - since
            last = [
                Died(each, row.owner)
                for each, row in self._unfinished.items()
                if (row.scope, row.transport, row.state) == (scope, "webhook", "running")
                if row.owner is not None and row.attempt >= row.max_attempts and row.lease_until < before
            ]
        return last[:limit]

    def unreported(self, scope: str, *, limit: int) -> Sequence[Report]:
        """Return what is to be reported; see `Ledger.unreported`."""
        with self._lock:
            now = time.monotonic()
            due = [
                Report(execution_id=each, task=row.task, outcome=row.outcome, age=now - row.finished_at)
                for each, row in self._rows.items()
                if row.scope == scope and not row.reported and row.outcome is not None
            ]
        return sorted(due, key=lambda report: -report.age)[:limit]

    def reported(self, execution_id: str, *, accepted: bool) -> None:
        """Note that reporting has ended; see `Ledger.reported`."""
        with self._lock:
            if (row := self._rows.get(execution_id)) and row.answer and not row.reported:
                row.reported, row.accepted = True, accepted

    def purge(self, scope: str, *, age: float, limit: int) -> int:
        """Remove old executions; see `Ledger.purge`."""
        with self._lock:
            before = time.monotonic() - age
            old = [
                (row.finished_at, each)
                for each, row in self._rows.items()
                if row.answer and row.finished_at < before and (row.reported or row.scope == scope)
            ]
            removed = sorted(old)[:limit]
            for _, each in removed:
                del self._rows[each]
            return len(removed)

    def close(self) -> None:
        """Do nothing: what is in memory stays as long as the ledger does."""

    def _take(self, entry: Entry, lease: float) -> Row | Running | Finished:
        row = self._seen(entry)
        if row.answer is not None:
            return Finished(answer=row.answer)
        if row.held(now := time.monotonic()):
            return Running()
        row.crashed = row.crashed or row.state == "running"
        row.state, row.owner, row.lease_until = "waiting", make_token(entry.execution_id), now + lease
        row.delivery, row.max_attempts = row.delivery or entry.delivery, entry.max_attempts
        return row

    def _seen(self, entry: Entry) -> Row:
        row = self._rows.get(entry.execution_id)
        if row is None:
            made = Row(
                scope=entry.scope,
                task=entry.task,
                transport=entry.transport,
                attempt=entry.attempt,
                max_attempts=entry.max_attempts,
            )
            row = self._rows[entry.execution_id] = self._unfinished[entry.execution_id] = made
        row.attempt = max(row.attempt, entry.attempt)
        return row

    def _owned(self, execution_id: str, token: str) -> Row | None:
        row = self._rows.get(execution_id)
        return row if row is not None and row.owner == token else None

    def _start(self, entry: Entry, row: Row) -> Claimed:
        row.decision = row.decision or self._decide(entry)
        row.state, row.starts, row.retry_at = "running", row.starts + 1, 0.0
        row.delivery = entry.delivery or row.delivery
        claim = _claimed(row)
        row.crashed = False
        return claim

    def _decide(self, entry: Entry) -> str | None:
        return OVERLAP if entry.decision == RUN and entry.exclusive and self._other_runs(entry) else entry.decision

    def _other_runs(self, entry: Entry) -> bool:
        now = time.monotonic()
        return any(
            row.state == "running" and row.decision == RUN and row.held(now)
            for each, row in self._unfinished.items()
            if (row.scope, row.task) == (entry.scope, entry.task) and each != entry.execution_id
        )


def _claimed(row: Row) -> Claimed:
    token = row.owner or ""
    return Claimed(token=token, starts=row.starts, attempt=row.attempt, decision=row.decision, crashed=row.crashed)
