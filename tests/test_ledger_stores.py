"""What each store of a ledger does in its own way: files, expiry, tables, and connections that end."""

from __future__ import annotations

import importlib
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
import redis

from cueapi_tasks import ConfigurationError, LedgerError
from cueapi_tasks.run.ledger import init_ledger, open_ledger, sql, sqlite
from cueapi_tasks.run.ledger.base import KEEP_SECONDS, OVERLAP, RUN, Claimed, Finished, Ledger, Running
from cueapi_tasks.run.ledger.urls import without_secrets

from .stores import NOWHERE, TABLE, Store, postgres_connection, postgres_store, redis_client, redis_store, sqlite_store
from .test_ledger import DONE, E1, OK, OTHER, at_once, claim, finish

CALLS: dict[str, Callable[[Ledger], object]] = {
    "claim": lambda ledger: ledger.claim(E1, lease=30),
    "hold": lambda ledger: ledger.hold(E1, lease=30),
    "start": lambda ledger: ledger.start(E1, "x:e1"),
    "postpone": lambda ledger: ledger.postpone("e1", "x:e1", attempt=1, delay=1),
    "renew": lambda ledger: ledger.renew(["x:e1"], lease=30),
    "abandon": lambda ledger: ledger.abandon(["x:e1"]),
    "forget": lambda ledger: ledger.forget("e1", "x:e1"),
    "release": lambda ledger: ledger.release("e1", "x:e1", max_attempts=3),
    "finish": lambda ledger: ledger.finish("e1", "x:e1", OK, DONE),
    "lapsed": lambda ledger: ledger.lapsed("billing", transport="worker", limit=1),
    "unreported": lambda ledger: ledger.unreported("billing", limit=1),
    "reported": lambda ledger: ledger.reported("e1", accepted=True),
}


@pytest.fixture(params=CALLS)
def call(request: pytest.FixtureRequest) -> Callable[[Ledger], object]:
    return CALLS[request.param]


@pytest.mark.parametrize("url", NOWHERE.values(), ids=NOWHERE)
def test_a_server_that_is_not_there_is_named_without_its_password(url: str, call: Callable[[Ledger], object]) -> None:
    with closing(open_ledger(url)) as ledger, pytest.raises(LedgerError, match=r"127\.0\.0\.1:1/") as caught:
        call(ledger)
    assert caught.value.code == "ledger_unavailable"
    assert caught.value.__cause__ is not None
    assert "hunter2" not in str(caught.value)


def test_a_file_that_is_no_database_is_named(tmp_path: Path, call: Callable[[Ledger], object]) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(b"this is no database, but long enough to be taken for one" * 40)
    with closing(open_ledger(f"sqlite:///{path}")) as ledger, pytest.raises(LedgerError, match=r"ledger\.db"):
        call(ledger)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://u:hunter2@host:6379/0", "redis://host:6379/0"),
        ("rediss://:hunter2@host/0?ssl_cert_reqs=none", "rediss://host/0"),
        ("redis://host?password=hunter2", "redis://host"),
        ("postgresql://host,other/db?password=a@hunter2", "postgresql://..."),
        ("postgresql://u:hunter2/3@host/db", "postgresql://..."),
        ("postgresql://u:hunter2#3@host/db", "postgresql://..."),
        ("postgresql://u:hunter2?3@host/db", "postgresql://..."),
        ("postgresql://u:hunter2@3@host/db", "postgresql://..."),
    ],
)
def test_no_message_shows_a_password(url: str, shown: str) -> None:
    assert without_secrets(url) == shown


@pytest.mark.parametrize(
    "url", ["redis://u:hunter2/3@host/0", "redis://u:hunter2@host/0?foo=bar", "postgresql://u:hunter2/3@host:port/db%"]
)
def test_a_url_that_makes_no_sense_is_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught, closing(open_ledger(url)) as ledger:
        ledger.claim(E1, lease=30)
    assert caught.value.code == "bad_ledger"
    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_an_unknown_kind_of_ledger_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ConfigurationError, match=r"'mysql'.*sqlite:.*memory:.*redis:.*postgresql:") as caught:
        open_ledger("mysql://u:hunter2@host/db")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("library", "url", "extra"),
    [("redis", "rediss://host", "redis"), ("psycopg", "postgres://host/db", "postgres")],
)
def test_a_missing_library_names_the_extra(library: str, url: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"cueapi_tasks.run.ledger.{extra}", raising=False)
    with pytest.raises(ConfigurationError, match=rf"pip install 'cueapi-tasks\[{extra}\]'") as caught:
        open_ledger(url)
    assert caught.value.code == "missing_extra"


# SQLite


def test_the_file_is_made_on_first_use(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with closing(open_ledger(f"sqlite:///{path}")) as ledger:
        assert not path.exists()
        claim(ledger)
        assert path.exists()


def test_eight_ledgers_that_open_a_new_file_at_once_give_an_execution_to_one(tmp_path: Path) -> None:
    with sqlite_store(tmp_path / "ledger.db") as store:
        ledgers = [store.open() for _ in range(8)]
        claims = at_once(8, lambda number: ledgers[number].claim(E1, lease=30))
    assert sum(isinstance(each, Claimed) for each in claims) == 1


def test_whatever_is_looked_for_is_found_by_an_index() -> None:
    statements = [each for name, each in vars(sql).items() if name.startswith("_") and isinstance(each, str)]
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(sqlite._schema())
        plans = [plan(db, sqlite._DIALECT[each]) for each in statements if "{table}" in each]
    assert len(plans) > 10
    assert [each for each in plans if "SCAN" in each or "TEMP B-TREE" in each] == []


# Redis


def test_a_reported_row_expires_and_one_that_is_due_does_not(redis_url: str) -> None:
    with redis_store(redis_url) as store, closing(redis_client(redis_url)) as client:
        ledger = store.open()
        finish(ledger)
        assert client.pttl("cueapi-tasks:execution:e1") == -1
        ledger.reported("e1", accepted=False)
        assert 0 < client.pttl("cueapi-tasks:execution:e1") <= KEEP_SECONDS * 1000
        assert ledger.claim(replace(E1, attempt=3), lease=30) == Finished(answer=OK)
        assert client.pttl("cueapi-tasks:execution:e1") > 0
        assert ledger.purge("billing", age=0, limit=10) == 0
        assert client.keys() == ["cueapi-tasks:execution:e1"]


def test_all_keys_are_under_one_prefix(redis_url: str) -> None:
    with redis_store(redis_url) as store, closing(redis_client(redis_url)) as client:
        ledger = store.open()
        claim(ledger, replace(E1, delivery={}))
        finish(ledger, OTHER)
        assert [key for key in client.scan_iter() if not key.startswith("cueapi-tasks:")] == []


def test_a_row_that_was_removed_by_hand_is_not_listed(redis_url: str) -> None:
    with redis_store(redis_url) as store, closing(redis_client(redis_url)) as client:
        ledger = store.open()
        finish(ledger)
        client.delete("cueapi-tasks:execution:e1")
        assert ledger.unreported("billing", limit=10) == []
        assert client.keys() == []


def test_a_key_of_another_kind_is_an_error_of_the_ledger(redis_url: str) -> None:
    with redis_store(redis_url) as store, closing(redis_client(redis_url)) as client:
        client.set("cueapi-tasks:execution:e1", "not a row")
        with pytest.raises(LedgerError):
            store.open().claim(E1, lease=30)


def test_redis_goes_on_after_its_scripts_and_connections_are_gone(redis_url: str) -> None:
    with redis_store(redis_url) as store, closing(redis_client(redis_url)) as client:
        ledger = store.open()
        claim(ledger)
        client.script_flush()
        client.client_kill_filter(_type="normal", skipme=True)
        assert ledger.claim(E1, lease=30) == Running()


def test_a_script_whose_answer_is_lost_is_not_sent_again(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = redis.connection.Connection
    read = connection.read_response

    def lose_one(self: object, **more: object) -> None:
        monkeypatch.setattr(connection, "read_response", read)
        raise redis.ConnectionError("gone")

    with redis_store(redis_url) as store:
        ledger = store.open()
        claim(ledger)
        monkeypatch.setattr(connection, "read_response", lose_one)
        with pytest.raises(LedgerError, match="gone"):
            ledger.claim(OTHER, lease=30)


# PostgreSQL


def test_no_request_makes_the_table(postgres_url: str, call: Callable[[Ledger], object]) -> None:
    with postgres_store(postgres_url) as store, closing(postgres_connection(postgres_url)) as connection:
        connection.execute("DROP TABLE cueapi_tasks_execution")
        with pytest.raises(LedgerError, match="run: cueapi-tasks ledger init") as caught:
            call(store.open())
    assert caught.value.code == "ledger_not_initialised"


def test_to_initialise_again_or_at_once_changes_nothing(postgres_url: str) -> None:
    with postgres_store(postgres_url) as store:
        finish(store.open())
        at_once(4, lambda number: init_ledger(postgres_url))
        assert store.open().claim(E1, lease=30) == Finished(answer=OK)


def test_a_row_that_somebody_locks_is_an_outage_and_costs_no_other_lease(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.import_module("cueapi_tasks.run.ledger.postgres"), "STATEMENT_MILLISECONDS", 200)
    with postgres_store(postgres_url) as store, closing(psycopg.connect(postgres_url)) as locker:
        ledger = store.open()
        tokens = [claim(ledger, entry).token for entry in (E1, OTHER)]
        store.age("e2", 60)
        locker.execute(f"SELECT 1 FROM {TABLE} WHERE execution_id = 'e1' FOR UPDATE")
        with pytest.raises(LedgerError, match="statement timeout"):
            ledger.renew(tokens, lease=30)
        with pytest.raises(LedgerError, match="statement timeout"):
            ledger.finish("e1", tokens[0], OK, DONE)
        assert ledger.claim(OTHER, lease=30) == Running()


def test_an_idle_connection_that_the_server_ended_is_replaced(postgres_url: str) -> None:
    with postgres_store(postgres_url) as store:
        ledger = store.open()
        claim(ledger)
        end_all_others(postgres_url)
        assert ledger.claim(E1, lease=30) == Running()


def test_the_databases_own_isolation_level_does_not_matter(postgres_url: str) -> None:
    serializable = f"{postgres_url}&options=-c%20default_transaction_isolation%3Dserializable"
    with postgres_store(serializable) as store:
        ledgers = [store.open() for _ in range(8)]
        entries = [replace(E1, execution_id=f"x{number}", exclusive=True) for number in range(8)]
        claims = at_once(8, lambda number: claim(ledgers[number], entries[number]))
    assert sorted(str(each.decision) for each in claims) == [OVERLAP] * 7 + [RUN]


def test_two_that_renew_the_same_leases_do_not_wait_for_each_other(store: Store) -> None:
    entries = [replace(E1, execution_id=f"x{number}") for number in range(20)]
    ledger = store.open()
    tokens = [claim(ledger, entry).token for entry in entries]
    at_once(4, lambda number: ledger.renew(tokens if number % 2 else tokens[::-1], lease=30))
    assert {type(ledger.claim(entry, lease=30)) for entry in entries} == {Running}


def end_all_others(url: str) -> None:
    with closing(postgres_connection(url)) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )


def plan(db: sqlite3.Connection, statement: str) -> str:
    rows = db.execute(f"EXPLAIN QUERY PLAN {statement}", [1] * statement.count("?"))
    return "; ".join(row[3] for row in rows)
