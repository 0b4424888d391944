"""The ledger in PostgreSQL, for several machines; the one door to psycopg."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import DictRow, dict_row

from ...errors import ConfigurationError, LedgerError
from .base import Entry
from .connections import Connections
from .sql import Dialect, Execute, SqlLedger
from .urls import without_secrets

CONNECT_SECONDS = 5
"""How long a connection may take to open, unless the URL says otherwise."""
STATEMENT_MILLISECONDS = 5_000
"""How long a statement may take, a lock that it waits for included."""
SILENCE_MILLISECONDS = 10_000
"""How long what was sent may stay unconfirmed before its connection is lost, unless the URL says otherwise."""

_DIALECT = Dialect(
    table="cueapi_tasks_execution",
    now="extract(epoch FROM clock_timestamp())::double precision",
    greatest="greatest",
    for_update=" FOR UPDATE",
)
_EXCLUDE = "SELECT pg_advisory_xact_lock(hashtextextended('cueapi-tasks ' || ? || '/' || ?, 0))"

Connection = psycopg.Connection[DictRow]


class PostgresLedger(SqlLedger):
    """A ledger in one table, which `init` makes.

    No two threads use one connection at a time. Nothing is sent a second time: a connection that the server has
    closed while it was idle is replaced before anything is sent, and one that breaks later fails its call.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        try:
            given = conninfo_to_dict(url)
        except psycopg.Error:
            message = "the ledger's URL is not one of PostgreSQL: postgresql://user:password@host:5432/database"
            raise ConfigurationError("bad_ledger", message) from None  # the cause may show the password
        limits = {"connect_timeout": CONNECT_SECONDS, "tcp_user_timeout": SILENCE_MILLISECONDS}
        self._conninfo = make_conninfo(url, **{name: limits[name] for name in limits if name not in given})
        self._connections = Connections(self._connect, alive=_alive)

    def init(self) -> None:
        """Make the table, if it is not there; it is made by nothing else."""
        text = files("cueapi_tasks.run.ledger").joinpath("postgres.sql").read_text("utf-8")
        with self._usable() as connection, connection.transaction():
            connection.execute(_adapted(_EXCLUDE), ("cueapi-tasks", "init"))
            connection.execute(text.encode())

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    def _change(self, statement: str, values: Sequence[Any]) -> int:
        with self._usable() as connection:
            return connection.execute(_adapted(_DIALECT[statement]), values).rowcount

    def _all(self, statement: str, values: Sequence[Any]) -> Sequence[Any]:
        with self._usable() as connection:
            return connection.execute(_adapted(_DIALECT[statement]), values).fetchall()

    @contextmanager
    def _transaction(self) -> Generator[Execute]:
        with self._usable() as connection, connection.transaction():
            yield lambda statement, values: connection.execute(_adapted(_DIALECT[statement]), values)

    def _exclude(self, execute: Execute, entry: Entry) -> None:
        execute(_EXCLUDE, (entry.scope, entry.task))

    @contextmanager
    def _usable(self) -> Generator[Connection]:
        try:
            with self._connections.lent() as connection:
                yield connection
        except psycopg.errors.UndefinedTable as error:
            message = f"the ledger {without_secrets(self._url)} has no table yet; run: cueapi-tasks ledger init"
            raise LedgerError("ledger_not_initialised", message) from error
        except psycopg.Error as error:
            message = f"the ledger {without_secrets(self._url)} cannot be used: {error}"
            raise LedgerError("ledger_unavailable", message) from error

    def _connect(self) -> Connection:
        connection = Connection.connect(
            self._conninfo,
            autocommit=True,
            row_factory=dict_row,
            prepare_threshold=None,  # poolers between here and the server may not know prepared statements
        )
        # who waited for a lock must see what its owner wrote, whatever the database's default is
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        try:
            connection.execute(f"SET statement_timeout = {STATEMENT_MILLISECONDS}".encode())
        except BaseException:
            connection.close()
            raise
        return connection


def _alive(connection: Connection) -> bool:
    """Tell whether the server has not ended an idle connection, by what has arrived; nothing is sent."""
    try:
        for _ in range(2):  # its farewell, and then the end of what it says
            connection.pgconn.consume_input()
    except psycopg.OperationalError:
        return False
    return True


def _adapted(statement: str) -> bytes:
    return statement.replace("?", "%s").encode()
