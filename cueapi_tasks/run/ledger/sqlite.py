"""The ledger in a SQLite file: several threads and processes of one machine share it; the one door to that file."""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from ...errors import LedgerError
from ..outcome import Outcome
from .base import Answer, Claim, Claimed, Entry, Finished, Report, Running

SCHEMA_VERSION = 1
BUSY_MILLISECONDS = 5_000
"""How long a statement waits for another process's transaction."""

NOW = "(julianday('now') - 2440587.5) * 86400.0"
"""The store's clock in unix seconds, with milliseconds (SQLite before 3.42 has no unixepoch('subsec'))."""

_INSERT = f"""
    INSERT OR IGNORE INTO execution
        (execution_id, scope, task, cue_id, transport, state,
         owner, lease_until, starts, attempt, max_attempts, created_at)
    VALUES (?, ?, ?, ?, ?, 'running', ?, {NOW} + ?, 1, ?, ?, {NOW})"""
_LOOK = f"""
    SELECT state, starts, answer_status, answer, state = 'running' AND lease_until > {NOW} AS held
    FROM execution WHERE execution_id = ?"""
_SEE = "UPDATE execution SET attempt = max(attempt, ?) WHERE execution_id = ?"
_TAKE_OVER = f"""
    UPDATE execution
    SET state = 'running', owner = ?, lease_until = {NOW} + ?, starts = starts + 1,
        attempt = max(attempt, ?), max_attempts = ?
    WHERE execution_id = ?"""
_RENEW = f"UPDATE execution SET lease_until = {NOW} + ? WHERE owner = ? AND state = 'running'"
_RELEASE = """
    UPDATE execution SET state = 'waiting', owner = NULL, lease_until = NULL
    WHERE execution_id = ? AND owner = ? AND state = 'running' AND attempt < ?"""
_FINISH = f"""
    UPDATE execution
    SET state = 'finished', owner = NULL, lease_until = NULL,
        answer_status = ?, answer = ?, outcome = ?, report = 'due', finished_at = {NOW}
    WHERE execution_id = ? AND owner = ? AND state = 'running'"""
_UNREPORTED = f"""
    SELECT execution_id, outcome, {NOW} - finished_at AS age FROM execution
    WHERE report = 'due' AND scope = ? ORDER BY finished_at LIMIT ?"""
_REPORTED = "UPDATE execution SET report = ? WHERE execution_id = ?"


class SqliteLedger:
    """A ledger in one file; each thread has a connection of its own, opened on first use."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._open: list[sqlite3.Connection] = []
        self._lock = threading.Lock()

    def claim(self, entry: Entry, *, lease: float) -> Claim:
        """Take the execution; see `Ledger.claim`."""
        token = secrets.token_hex(16)
        if self._write(_INSERT, _row(entry, token, lease)):
            return Claimed(token=token, starts=1)
        with self._transaction() as db:
            row = db.execute(_LOOK, (entry.execution_id,)).fetchone()
            if row["state"] == "finished":
                return Finished(answer=Answer(status=row["answer_status"], body=json.loads(row["answer"])))
            if row["held"]:
                db.execute(_SEE, (entry.attempt, entry.execution_id))
                return Running()
            db.execute(_TAKE_OVER, (token, lease, entry.attempt, entry.max_attempts, entry.execution_id))
            return Claimed(token=token, starts=row["starts"] + 1)

    def renew(self, tokens: Sequence[str], *, lease: float) -> None:
        """Extend leases; see `Ledger.renew`."""
        with self._transaction() as db:
            db.executemany(_RENEW, [(lease, token) for token in tokens])

    def release(self, execution_id: str, token: str, *, max_attempts: int) -> bool:
        """Give it back; see `Ledger.release`."""
        return self._write(_RELEASE, (execution_id, token, max_attempts))

    def finish(self, execution_id: str, token: str, answer: Answer, outcome: Outcome) -> bool:
        """Record the end; see `Ledger.finish`."""
        return self._write(_FINISH, (answer.status, json.dumps(answer.body), _dump(outcome), execution_id, token))

    def unreported(self, scope: str, *, limit: int) -> Sequence[Report]:
        """Return what is to be reported; see `Ledger.unreported`."""
        with self._usable() as db:
            rows = db.execute(_UNREPORTED, (scope, limit)).fetchall()
        return [Report(execution_id=row["execution_id"], outcome=_load(row["outcome"]), age=row["age"]) for row in rows]

    def reported(self, execution_id: str, *, accepted: bool) -> None:
        """Note that reporting has ended; see `Ledger.reported`."""
        self._write(_REPORTED, ("done" if accepted else "refused", execution_id))

    def close(self) -> None:
        """Close the connections of all threads."""
        with self._lock:
            for connection in self._open:
                connection.close()
            self._open.clear()
        self._local = threading.local()

    def _write(self, sql: str, values: Sequence[Any]) -> bool:
        """Run one statement, a transaction of its own; tell whether it changed a row."""
        try:
            return self._connection().execute(sql, values).rowcount == 1
        except (sqlite3.Error, OSError) as error:
            raise self._unavailable(error) from error

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        """Run one transaction that holds the write lock from its start, so that what it read stays true."""
        with self._usable() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")

    @contextmanager
    def _usable(self) -> Generator[sqlite3.Connection]:
        try:
            yield self._connection()
        except (sqlite3.Error, OSError) as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> LedgerError:
        return LedgerError("ledger_unavailable", f"the ledger {self._path} cannot be used: {error}")

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect()
        return connection

    def _connect(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # check_same_thread: each thread uses its own; only close() reaches over
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        connection.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
        with self._lock:
            self._open.append(connection)
            _use_wal(connection)
            if connection.execute("PRAGMA user_version").fetchone()[0] != SCHEMA_VERSION:
                connection.executescript(_schema())
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch the file to write-ahead logging; of several processes that do so first, SQLite refuses all but one."""
    for _ in range(BUSY_MILLISECONDS // 10):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            time.sleep(0.01)  # the busy timeout does not cover this switch
        else:
            return


def _schema() -> str:
    text = files("cueapi_tasks.run.ledger").joinpath("schema.sql").read_text("utf-8")
    return f"BEGIN IMMEDIATE;\n{text}\nPRAGMA user_version = {SCHEMA_VERSION};\nCOMMIT;"


def _row(entry: Entry, token: str, lease: float) -> tuple[Any, ...]:
    named = (entry.execution_id, entry.scope, entry.task, entry.cue_id, entry.transport)
    return (*named, token, lease, entry.attempt, entry.max_attempts)


def _dump(outcome: Outcome) -> str:
    return json.dumps({"success": outcome.success, "evidence": dict(outcome.evidence)})


def _load(text: str) -> Outcome:
    value = json.loads(text)
    return Outcome(success=value["success"], evidence=value["evidence"])
