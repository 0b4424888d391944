"""The one door to SQLite: a connection that holds its file alone, transactions, and records as rows and back."""

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
from .records import (
    Account,
    Alert,
    CatchUp,
    Cue,
    CueStatus,
    Execution,
    ExecutionStatus,
    Page,
    Trigger,
    Worker,
)

MEMORY = Path(":memory:")
"""In place of a file: nothing is kept."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_MOMENTS = frozenset(
    [
        "at",
        "next_run",
        "last_run",
        "created_at",
        "updated_at",
        "scheduled_for",
        "due_at",
        "sweep_at",
        "started_at",
        "delivered_at",
        "last_attempt_at",
        "claimed_at",
        "heartbeat_at",
        "registered_at",
    ]
)
_JSON = frozenset(
    [
        "callback_headers",
        "payload",
        "backoff_minutes",
        "on_failure",
        "verification",
        "outcome",
        "evidence",
        "handlers",
        "metadata",
    ]
)
_ENUMS: Mapping[tuple[type, str], type[Enum]] = {
    (Cue, "status"): CueStatus,
    (Cue, "catch_up"): CatchUp,
    (Execution, "status"): ExecutionStatus,
    (Execution, "triggered_by"): Trigger,
}

Values = Mapping[str, str | Sequence[str] | None]
"""Filters of a list by column: equal to a text, or one of several; None filters nothing."""

Record = TypeVar("Record", bound=Cue | Execution | Account | Worker | Alert)


class Database:
    """One connection that holds its file alone; safe to share between threads."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        try:
            self._db = _connect(path)
        except (sqlite3.Error, OSError) as error:
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

    def _insert(self, table: str, row: Mapping[str, Any], *, conflict: str = "") -> int:
        marks = ", ".join("?" * len(row))
        sql = f"INSERT {conflict} INTO {table} ({', '.join(row)}) VALUES ({marks})"
        return self._db.execute(sql, tuple(row.values())).rowcount

    def _update(self, table: str, row: Mapping[str, Any]) -> None:
        sets = ", ".join(f"{column} = ?" for column in row)
        self._db.execute(f"UPDATE {table} SET {sets} WHERE id = ?", (*row.values(), row["id"]))

    def _page(self, kind: type[Record], table: str, filters: Values, page: Page) -> tuple[Sequence[Record], int]:
        where, values = where_clause(filters)
        total: int = self._db.execute(f"SELECT count(*) FROM {table} WHERE {where}", values).fetchone()[0]
        sql = f"SELECT * FROM {table} WHERE {where} ORDER BY created_at DESC, rowid DESC LIMIT ? OFFSET ?"
        return self._all(kind, sql, (*values, page.limit, page.offset)), total

    def _earliest(self, sql: str) -> datetime | None:
        with self._lock:
            found = self._db.execute(sql).fetchone()[0]
        return None if found is None else from_micros(found)

    def _one(self, kind: type[Record], sql: str, values: Sequence[Any]) -> Record | None:
        row = self._db.execute(sql, values).fetchone()
        return None if row is None else _record(kind, row)

    def _all(self, kind: type[Record], sql: str, values: Sequence[Any]) -> list[Record]:
        return [_record(kind, row) for row in self._db.execute(sql, values).fetchall()]


def where_clause(filters: Values) -> tuple[str, list[str]]:
    """Return the condition that filters make, and its values."""
    given = {
        column: [value] if isinstance(value, str) else [*value]
        for column, value in filters.items()
        if value is not None
    }
    parts = [f"{column} IN ({', '.join('?' * len(values))})" for column, values in given.items()]
    return " AND ".join(parts), [value for values in given.values() for value in values]


def to_micros(moment: datetime) -> int:
    """Return unix microseconds, exactly."""
    return (moment - _EPOCH) // _MICROSECOND


def from_micros(value: int) -> datetime:
    """Return the moment of unix microseconds."""
    return _EPOCH + timedelta(microseconds=value)


def _connect(path: Path) -> sqlite3.Connection:
    if path != MEMORY:
        path.touch(mode=0o600)  # it holds secrets; SQLite gives its side files the same mode
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


_COLUMNS: Mapping[type, tuple[str, ...]] = {
    kind: tuple(each.name for each in fields(kind)) for kind in (Cue, Execution, Account, Worker, Alert)
}
"""The columns of each kind of record, looked up once: to do so for each row is what reading it would cost most."""


def row_of(record: Cue | Execution | Account | Worker | Alert) -> dict[str, Any]:
    """Return a record as its columns."""
    return {name: _to_column(name, getattr(record, name)) for name in _COLUMNS[type(record)]}


def _to_column(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in _MOMENTS:
        return to_micros(value)
    if name in _JSON:
        return json.dumps(value)
    return value.value if isinstance(value, Enum) else value


def _record(kind: type[Record], row: sqlite3.Row) -> Record:
    return kind(**{name: _from_column(kind, name, row[name]) for name in _COLUMNS[kind]})


def _from_column(kind: type[Any], name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in _MOMENTS:
        return from_micros(value)
    if name in _JSON:
        loaded = json.loads(value)
        return tuple(loaded) if name == "backoff_minutes" else loaded
    return _ENUMS[kind, name](value) if (kind, name) in _ENUMS else value
