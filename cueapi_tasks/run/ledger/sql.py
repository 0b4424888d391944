"""The ledger's transactions in SQL, the same for every database but for a few words."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from ...errors import LedgerError
from ..outcome import Outcome
from .base import OVERLAP, RUN, Answer, Claim, Claimed, Died, Entry, Finished, Lapsed, Report, Running
from .tokens import execution_of, make_token
from .values import dump_delivery, dump_outcome, load_outcome

_INSERT = """
    INSERT INTO {table} (execution_id, scope, task, cue_id, transport, attempt, max_attempts, delivery,
        state, owner, lease_until, starts, decision, created_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, {now} + ?, ?, ?, {now})
    ON CONFLICT DO NOTHING"""
_LOOK = """
    SELECT *, owner IS NOT NULL AND lease_until > {now} AS held
    FROM {table} WHERE execution_id = ?{for_update}"""
_KNOWN = "SELECT 1 FROM {table} WHERE execution_id = ?"
_SEE = "UPDATE {table} SET attempt = ? WHERE execution_id = ?"
_HOLD = """
    UPDATE {table}
    SET state = 'waiting', owner = ?, lease_until = {now} + ?, crashed = ?, max_attempts = ?,
        delivery = coalesce(delivery, ?)
    WHERE execution_id = ?"""
_OTHER = """
    SELECT 1 FROM {table}
    WHERE scope = ? AND reported_at IS NULL AND finished_at IS NULL AND task = ?
        AND state = 'running' AND decision = 'run' AND lease_until > {now} AND execution_id <> ? LIMIT 1"""
_START = """
    UPDATE {table}
    SET state = 'running', starts = ?, decision = ?, crashed = 0, retry_at = NULL, delivery = coalesce(?, delivery)
    WHERE execution_id = ?"""
_POSTPONE = """
    UPDATE {table} SET state = 'waiting', attempt = {greatest}(attempt, ?), retry_at = {now} + ?
    WHERE execution_id = ? AND owner = ?"""
_RENEW = "UPDATE {table} SET lease_until = {now} + ? WHERE execution_id = ? AND owner = ?"
_FORGET = "DELETE FROM {table} WHERE execution_id = ? AND owner = ?"
_RELEASE = """
    UPDATE {table} SET state = 'waiting', owner = NULL, lease_until = {now}
    WHERE execution_id = ? AND owner = ? AND attempt < ?"""
_FINISH = """
    UPDATE {table}
    SET state = 'finished', owner = NULL, answer_status = ?, answer = ?, outcome = ?, finished_at = {now}
    WHERE execution_id = ? AND owner = ?"""
_LAPSED = """
    SELECT execution_id, delivery, attempt, {greatest}(coalesce(retry_at - {now}, 0.0), 0.0) AS retry_in FROM {table}
    WHERE scope = ? AND transport = ? AND lease_until <= {now} AND delivery IS NOT NULL AND state <> 'finished'
    ORDER BY lease_until LIMIT ?"""
_DIED = """
    SELECT execution_id, owner FROM {table}
    WHERE scope = ? AND reported_at IS NULL AND finished_at IS NULL AND state = 'running' AND transport = 'webhook'
        AND attempt >= max_attempts AND lease_until < {now} - ? LIMIT ?"""
_UNREPORTED = """
    SELECT execution_id, task, outcome, {now} - finished_at AS age FROM {table}
    WHERE scope = ? AND reported_at IS NULL AND finished_at > 0 ORDER BY finished_at LIMIT ?"""
_REPORTED = """
    UPDATE {table} SET reported_at = {now}, accepted = ?
    WHERE execution_id = ? AND finished_at IS NOT NULL AND reported_at IS NULL"""
_PURGE = """
    DELETE FROM {table} WHERE execution_id IN (
        SELECT execution_id FROM {table}
        WHERE reported_at IS NOT NULL AND finished_at < {now} - ? ORDER BY finished_at LIMIT ?)"""
_PURGE_DUE = """
    DELETE FROM {table} WHERE execution_id IN (
        SELECT execution_id FROM {table}
        WHERE scope = ? AND reported_at IS NULL AND finished_at < {now} - ? ORDER BY finished_at LIMIT ?)"""


class Dialect(dict[str, str]):
    """Statements in one database's words: the table, its clock, the larger of two, the lock of a row that is read."""

    def __init__(self, *, table: str, now: str, greatest: str, for_update: str) -> None:
        super().__init__()
        self._words = {"table": table, "now": now, "greatest": greatest, "for_update": for_update}

    def __missing__(self, statement: str) -> str:
        made = self[statement] = statement.format(**self._words)
        return made


class Rows(Protocol):
    """What a statement gave back; a row is read by its columns' names."""

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        ...


Execute = Callable[[str, Sequence[Any]], Rows]


class SqlLedger(ABC):
    """The protocol on a table; a database adds how one statement and one transaction run."""

    @abstractmethod
    def _change(self, statement: str, values: Sequence[Any]) -> int:
        """Run one statement, a transaction of its own; return how many rows it changed."""

    @abstractmethod
    def _all(self, statement: str, values: Sequence[Any]) -> Sequence[Any]:
        """Return all rows of one statement."""

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[Execute]:
        """Run one transaction in which a row that was looked at stays as it was."""

    @abstractmethod
    def _exclude(self, execute: Execute, entry: Entry) -> None:
        """Let no other transaction decide about this task until this one ends."""

    def claim(self, entry: Entry, *, lease: float) -> Claim:
        """Take and start it, in one statement if it is unseen; see `Ledger.claim`."""
        token = make_token(entry.execution_id)
        if not entry.exclusive:
            started = ("running", token, lease, 1, entry.decision)
            if self._change(_INSERT, (*_row(entry), *started)):
                return Claimed(token=token, starts=1, attempt=entry.attempt, decision=entry.decision)
        with self._deciding(entry) as execute:
            claim = _take(execute, entry, token, lease)
            return _start(execute, entry, claim) if isinstance(claim, Claimed) else claim

    def hold(self, entry: Entry, *, lease: float) -> Claim:
        """Take it without starting it; see `Ledger.hold`."""
        with self._transaction() as execute:
            return _take(execute, entry, make_token(entry.execution_id), lease)

    def start(self, entry: Entry, token: str) -> Claimed | None:
        """Start what is held; see `Ledger.start`."""
        with self._deciding(entry) as execute:
            row = execute(_LOOK, (entry.execution_id,)).fetchone()
            return _start(execute, entry, _held(row)) if row is not None and row["owner"] == token else None

    def postpone(self, execution_id: str, token: str, *, attempt: int, delay: float) -> bool:
        """Keep it for a later attempt; see `Ledger.postpone`."""
        return self._change(_POSTPONE, (attempt, delay, execution_id, token)) == 1

    def renew(self, tokens: Sequence[str], *, lease: float) -> None:
        """Extend leases; see `Ledger.renew`."""
        failures: list[LedgerError] = []
        for token in tokens:  # each on its own: one row that somebody locks must not cost the leases of all
            try:
                self._change(_RENEW, (lease, execution_of(token), token))
            except LedgerError as error:
                failures.append(error)
                if len(failures) > 1:  # it is not this row
                    break
        if failures:
            raise failures[0]

    def abandon(self, tokens: Sequence[str]) -> None:
        """End leases; see `Ledger.abandon`."""
        self.renew(tokens, lease=0.0)

    def forget(self, execution_id: str, token: str) -> None:
        """Remove it; see `Ledger.forget`."""
        self._change(_FORGET, (execution_id, token))

    def release(self, execution_id: str, token: str, *, max_attempts: int) -> bool:
        """Give it back; see `Ledger.release`."""
        return self._change(_RELEASE, (execution_id, token, max_attempts)) == 1

    def finish(self, execution_id: str, token: str, answer: Answer, outcome: Outcome) -> bool:
        """Record the end, in one statement; see `Ledger.finish`."""
        ended = (answer.status, json.dumps(answer.body), dump_outcome(outcome))
        return self._change(_FINISH, (*ended, execution_id, token)) == 1 or not self._all(_KNOWN, (execution_id,))

    def lapsed(self, scope: str, *, transport: str, limit: int) -> Sequence[Lapsed]:
        """Return what nobody holds; see `Ledger.lapsed`."""
        return [_lapsed(row) for row in self._all(_LAPSED, (scope, transport, limit))]

    def died(self, scope: str, *, since: float, limit: int) -> Sequence[Died]:
        """Return what died in its last attempt; see `Ledger.died`."""
        return [Died(row["execution_id"], row["owner"]) for row in self._all(_DIED, (scope, since, limit))]

    def unreported(self, scope: str, *, limit: int) -> Sequence[Report]:
        """Return what is to be reported; see `Ledger.unreported`."""
        return [_report(row) for row in self._all(_UNREPORTED, (scope, limit))]

    def reported(self, execution_id: str, *, accepted: bool) -> None:
        """Note that reporting has ended; see `Ledger.reported`."""
        self._change(_REPORTED, (int(accepted), execution_id))

    def purge(self, scope: str, *, age: float, limit: int) -> int:
        """Remove old executions, what was reported first; see `Ledger.purge`."""
        removed = self._change(_PURGE, (age, limit))
        return removed + (self._change(_PURGE_DUE, (scope, age, limit - removed)) if removed < limit else 0)

    @contextmanager
    def _deciding(self, entry: Entry) -> Generator[Execute]:
        with self._transaction() as execute:
            if entry.exclusive:
                self._exclude(execute, entry)
            yield execute


def _take(execute: Execute, entry: Entry, token: str, lease: float) -> Claim:
    """Hold the execution, unless it is finished or held."""
    row = _look(execute, entry)
    attempt = max(row["attempt"], entry.attempt)
    if attempt > row["attempt"]:
        execute(_SEE, (attempt, entry.execution_id))
    if row["state"] == "finished":
        return Finished(answer=Answer(status=row["answer_status"], body=json.loads(row["answer"])))
    if row["held"]:
        return Running()
    crashed = row["state"] == "running" or row["crashed"] == 1
    kept = (entry.max_attempts, dump_delivery(entry.delivery))
    execute(_HOLD, (token, lease, int(crashed), *kept, entry.execution_id))
    return Claimed(token=token, starts=row["starts"], attempt=attempt, decision=row["decision"], crashed=crashed)


def _look(execute: Execute, entry: Entry) -> Any:
    """Return the execution's row, made if there is none."""
    while True:  # once, unless another transaction removes the row between the two statements
        execute(_INSERT, (*_row(entry), "waiting", None, 0.0, 0, None))
        row = execute(_LOOK, (entry.execution_id,)).fetchone()
        if row is not None:
            return row


def _start(execute: Execute, entry: Entry, claim: Claimed) -> Claimed:
    started = claim._replace(starts=claim.starts + 1, decision=claim.decision or _decide(execute, entry))
    kept = dump_delivery(entry.delivery)
    execute(_START, (started.starts, started.decision, kept, entry.execution_id))
    return started


def _decide(execute: Execute, entry: Entry) -> str | None:
    if entry.decision == RUN and entry.exclusive:
        other = execute(_OTHER, (entry.scope, entry.task, entry.execution_id)).fetchone()
        return RUN if other is None else OVERLAP
    return entry.decision


def _row(entry: Entry) -> tuple[Any, ...]:
    named = (entry.execution_id, entry.scope, entry.task, entry.cue_id, entry.transport)
    return (*named, entry.attempt, entry.max_attempts, dump_delivery(entry.delivery))


def _held(row: Any) -> Claimed:
    return Claimed(
        token=row["owner"],
        starts=row["starts"],
        attempt=row["attempt"],
        decision=row["decision"],
        crashed=row["crashed"] == 1,
    )


def _lapsed(row: Any) -> Lapsed:
    return Lapsed(
        execution_id=row["execution_id"],
        delivery=json.loads(row["delivery"]),
        attempt=row["attempt"],
        retry_in=row["retry_in"],
    )


def _report(row: Any) -> Report:
    outcome = load_outcome(row["outcome"])
    return Report(execution_id=row["execution_id"], task=row["task"], outcome=outcome, age=row["age"])
