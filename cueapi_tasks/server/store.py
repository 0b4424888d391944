"""The one door to the server's SQLite file: each method is one statement, run inside a caller's `atomic` block."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import datetime, timedelta, timezone
from enum import Enum
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from ..errors import ServerStartError
from .records import Account, Cue, CueStatus, Execution, ExecutionStatus, Page, Trigger

MEMORY = Path(":memory:")
"""In place of a file: nothing is kept."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_MOMENTS = frozenset(
    ("at", "next_run", "last_run", "created_at", "updated_at", "scheduled_for", "due_at", "started_at")
) | frozenset(("delivered_at", "last_attempt_at"))
_JSON = frozenset(
    ("callback_headers", "payload", "backoff_minutes", "on_failure", "verification", "outcome", "evidence")
)
_ENUMS: Mapping[tuple[type, str], type[Enum]] = {
    (Cue, "status"): CueStatus,
    (Execution, "status"): ExecutionStatus,
    (Execution, "triggered_by"): Trigger,
}

Record = TypeVar("Record", bound=Cue | Execution | Account)


class Store:
    """One connection that holds its file alone; safe to share between threads."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        try:
            self._db = _connect(path)
        except sqlite3.Error as error:
            raise ServerStartError(
                "data_unusable",
                f"the data in {path.parent} cannot be opened: {error}; "
                "another server may be running on it: stop that one, or give --data another directory",
            ) from error

    @contextmanager
    def atomic(self) -> Generator[None]:
        """Run the block as one transaction, alone."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    # accounts

    def put_account(self, account: Account, api_key_sha256: str) -> None:
        """Insert the account, or give the one of that email this key and secret."""
        self._db.execute(
            "INSERT INTO account (id, email, api_key_sha256, api_key_prefix, webhook_secret) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (email) DO UPDATE SET api_key_sha256 = excluded.api_key_sha256, "
            "api_key_prefix = excluded.api_key_prefix, webhook_secret = excluded.webhook_secret",
            (account.id, account.email, api_key_sha256, account.api_key_prefix, account.webhook_secret),
        )

    def account_by_key(self, api_key_sha256: str) -> Account | None:
        """Return the account of a key's digest."""
        return self._one(Account, "SELECT * FROM account WHERE api_key_sha256 = ?", (api_key_sha256,))

    def account(self, account_id: str) -> Account | None:
        """Return an account."""
        return self._one(Account, "SELECT * FROM account WHERE id = ?", (account_id,))

    # cues

    def insert_cue(self, cue: Cue) -> None:
        """Insert a cue; a taken name raises sqlite3.IntegrityError."""
        self._insert("cue", _row(cue))

    def update_cue(self, cue: Cue) -> None:
        """Write a cue's fields."""
        self._update("cue", _row(cue))

    def delete_cue(self, account_id: str, cue_id: str) -> bool:
        """Delete a cue with its executions; False if there is none."""
        return bool(self._db.execute("DELETE FROM cue WHERE account_id = ? AND id = ?", (account_id, cue_id)).rowcount)

    def cue(self, cue_id: str) -> Cue | None:
        """Return a cue of any account."""
        return self._one(Cue, "SELECT * FROM cue WHERE id = ?", (cue_id,))

    def cue_named(self, account_id: str, name: str) -> Cue | None:
        """Return the account's cue of that name."""
        return self._one(Cue, "SELECT * FROM cue WHERE account_id = ? AND name = ?", (account_id, name))

    def cues(self, account_id: str, status: str | None, page: Page) -> tuple[Sequence[Cue], int]:
        """Return a page of cues, newest first, and their number in all."""
        return self._page(Cue, "cue", {"account_id": account_id, "status": status}, page)

    def count_cues(self, account_id: str, status: CueStatus) -> int:
        """Return how many cues are in a status."""
        sql = "SELECT count(*) FROM cue WHERE account_id = ? AND status = ?"
        return int(self._db.execute(sql, (account_id, status.value)).fetchone()[0])

    def due_cues(self, now: datetime, limit: int) -> Sequence[Cue]:
        """Return active cues whose run is due, the longest waiting first."""
        sql = "SELECT * FROM cue WHERE status = 'active' AND next_run <= ? ORDER BY next_run LIMIT ?"
        return self._all(Cue, sql, (to_micros(now), limit))

    # executions

    def insert_execution(self, execution: Execution, cue: Cue) -> bool:
        """Insert an execution; False if the cue has one for that moment already (contract, section 7)."""
        row = _row(execution) | {"account_id": cue.account_id, "transport": cue.transport}
        return self._insert("execution", row, conflict="OR IGNORE") == 1

    def update_execution(self, execution: Execution) -> None:
        """Write an execution's fields."""
        self._update("execution", _row(execution))

    def set_response_body(self, execution_id: str, body: str) -> None:
        """Keep the start of what the receiver answered."""
        self._db.execute("UPDATE execution SET response_body = ? WHERE id = ?", (body, execution_id))

    def execution(self, execution_id: str, account_id: str | None = None) -> Execution | None:
        """Return an execution, of any account where none is named."""
        sql = "SELECT * FROM execution WHERE id = ? AND account_id = coalesce(?, account_id)"
        return self._one(Execution, sql, (execution_id, account_id))

    def executions(
        self, account_id: str, page: Page, *, cue_id: str | None = None, status: str | None = None
    ) -> tuple[Sequence[Execution], int]:
        """Return a page of executions, newest first, and their number in all."""
        filters = {"account_id": account_id, "cue_id": cue_id, "status": status}
        return self._page(Execution, "execution", filters, page)

    def due_executions(self, now: datetime, limit: int) -> Sequence[Execution]:
        """Return executions whose next attempt is due, the longest waiting first."""
        sql = "SELECT * FROM execution WHERE due_at <= ? ORDER BY due_at LIMIT ?"
        return self._all(Execution, sql, (to_micros(now), limit))

    def requeue_interrupted(self, now: datetime) -> int:
        """Make webhook attempts due again that a dead process was making; return how many."""
        sql = (
            "UPDATE execution SET due_at = ?, updated_at = ? "
            "WHERE status = 'delivering' AND transport = 'webhook' AND due_at IS NULL"
        )
        return self._db.execute(sql, (to_micros(now), to_micros(now))).rowcount

    def next_due(self) -> datetime | None:
        """Return when the next cue or attempt is due."""
        cue = "SELECT min(next_run) FROM cue WHERE status = 'active' AND next_run IS NOT NULL"
        attempt = "SELECT min(due_at) FROM execution WHERE due_at IS NOT NULL"
        with self._lock:
            found = [self._db.execute(sql).fetchone()[0] for sql in (cue, attempt)]
        return min((from_micros(each) for each in found if each is not None), default=None)

    # statements

    def _insert(self, table: str, row: Mapping[str, Any], *, conflict: str = "") -> int:
        marks = ", ".join("?" * len(row))
        sql = f"INSERT {conflict} INTO {table} ({', '.join(row)}) VALUES ({marks})"
        return self._db.execute(sql, tuple(row.values())).rowcount

    def _update(self, table: str, row: Mapping[str, Any]) -> None:
        sets = ", ".join(f"{column} = ?" for column in row)
        self._db.execute(f"UPDATE {table} SET {sets} WHERE id = ?", (*row.values(), row["id"]))

    def _page(
        self, kind: type[Record], table: str, filters: Mapping[str, str | None], page: Page
    ) -> tuple[Sequence[Record], int]:
        given = {column: value for column, value in filters.items() if value is not None}
        where = " AND ".join(f"{column} = ?" for column in given)
        matching = [*given.values()]
        total: int = self._db.execute(f"SELECT count(*) FROM {table} WHERE {where}", matching).fetchone()[0]
        sql = f"SELECT * FROM {table} WHERE {where} ORDER BY created_at DESC, rowid DESC LIMIT ? OFFSET ?"
        return self._all(kind, sql, (*matching, page.limit, page.offset)), total

    def _one(self, kind: type[Record], sql: str, values: Sequence[Any]) -> Record | None:
        row = self._db.execute(sql, values).fetchone()
        return None if row is None else _record(kind, row)

    def _all(self, kind: type[Record], sql: str, values: Sequence[Any]) -> list[Record]:
        return [_record(kind, row) for row in self._db.execute(sql, values).fetchall()]


def to_micros(moment: datetime) -> int:
    """Return unix microseconds, exactly."""
    return (moment - _EPOCH) // _MICROSECOND


def from_micros(value: int) -> datetime:
    """Return the moment of unix microseconds."""
    return _EPOCH + timedelta(microseconds=value)


def _connect(path: Path) -> sqlite3.Connection:
    # check_same_thread: the store's lock lets one thread at a time in
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1.0)
    db.row_factory = sqlite3.Row
    try:
        # exclusive: a second server on the same file must fail, not share it
        for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            db.execute(f"PRAGMA {pragma}")
        db.executescript(files("cueapi_tasks.server").joinpath("schema.sql").read_text("utf-8"))
    except sqlite3.Error:
        db.close()
        raise
    return db


def _row(record: Cue | Execution) -> dict[str, Any]:
    return {each.name: _to_column(each.name, getattr(record, each.name)) for each in fields(record)}


def _to_column(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in _MOMENTS:
        return to_micros(value)
    if name in _JSON:
        return json.dumps(value)
    return value.value if isinstance(value, Enum) else value


def _record(kind: type[Record], row: sqlite3.Row) -> Record:
    return kind(**{each.name: _from_column(kind, each.name, row[each.name]) for each in fields(kind)})


def _from_column(kind: type[Any], name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in _MOMENTS:
        return from_micros(value)
    if name in _JSON:
        loaded = json.loads(value)
        return tuple(loaded) if name == "backoff_minutes" else loaded
    return _ENUMS[kind, name](value) if (kind, name) in _ENUMS else value
