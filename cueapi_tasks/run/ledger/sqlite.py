"""The ledger in a SQLite file: several threads and processes of one machine share it; the one door to that file."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from ...errors import LedgerError
from .base import Entry
from .connections import Connections
from .sql import Dialect, Execute, SqlLedger

SCHEMA_VERSION = 1
BUSY_MILLISECONDS = 5_000
"""How long a statement waits for another process's transaction."""
PAGE_BYTES = 2_048
"""A commit writes each page it touched, whole; rows are small."""
CHECKPOINT_PAGES = 8_000
"""How far the log grows before it is written back, which waits for the disk."""

_FAILURES = (sqlite3.Error, OSError)
_DIALECT = Dialect(
    table="execution",
    # unix seconds with milliseconds; SQLite before 3.42 has no unixepoch('subsec')
    now="((julianday('now') - 2440587.5) * 86400.0)",
    greatest="max",
    for_update="",
)


class SqliteLedger(SqlLedger):
    """A ledger in one file; no two threads use one connection at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connections = Connections(self._connect)
        self._opening = threading.Lock()

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    def _change(self, statement: str, values: Sequence[Any]) -> int:
        try:
            return self._connections.use(lambda db: db.execute(_DIALECT[statement], values).rowcount)
        except _FAILURES as error:
            raise self._unavailable(error) from error

    def _all(self, statement: str, values: Sequence[Any]) -> Sequence[Any]:
        try:
            return self._connections.use(lambda db: db.execute(_DIALECT[statement], values).fetchall())
        except _FAILURES as error:
            raise self._unavailable(error) from error

    @contextmanager
    def _transaction(self) -> Generator[Execute]:
        """Run one transaction that holds the write lock from its start, so that what it read stays true."""
        try:
            with self._connections.lent() as db:
                db.execute("BEGIN IMMEDIATE")
                yield lambda statement, values: db.execute(_DIALECT[statement], values)
                db.execute("COMMIT")
        except _FAILURES as error:
            raise self._unavailable(error) from error

    def _exclude(self, execute: Execute, entry: Entry) -> None:
        """Do nothing: a transaction has the whole file to itself."""

    def _unavailable(self, error: Exception) -> LedgerError:
        return LedgerError("ledger_unavailable", f"the ledger {self._path} cannot be used: {error}")

    def _connect(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # check_same_thread: a connection is lent to one thread at a time
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            with self._opening:
                _prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection


def _prepare(connection: sqlite3.Connection) -> None:
    connection.row_factory = sqlite3.Row
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    _use_wal(connection)
    if connection.execute("PRAGMA user_version").fetchone()[0] != SCHEMA_VERSION:
        connection.executescript(_schema())
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")


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
