"""What every ledger promises; leases end by ageing a row."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cueapi_tasks import ConfigurationError, LedgerError
from cueapi_tasks.run.ledger import open_ledger
from cueapi_tasks.run.ledger.base import Answer, Claimed, Entry, Finished, Running
from cueapi_tasks.run.ledger.sqlite import SqliteLedger
from cueapi_tasks.run.outcome import Outcome

OK = Answer(status=200, body={"status": "success", "reason": "completed"})
DONE = Outcome(success=True, evidence={"result": "sent"})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made" / "on first use" / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[SqliteLedger]:
    made = SqliteLedger(path)
    yield made
    made.close()


def entry(execution_id: str = "e1", attempt: int = 1, scope: str = "billing") -> Entry:
    return Entry(
        execution_id=execution_id,
        scope=scope,
        task="report",
        cue_id="cue_1",
        transport="webhook",
        attempt=attempt,
        max_attempts=3,
    )


def claimed(ledger: SqliteLedger, given: Entry | None = None) -> Claimed:
    claim = ledger.claim(given or entry(), lease=30)
    assert isinstance(claim, Claimed)
    return claim


def age(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("UPDATE execution SET lease_until = lease_until - 3600")
    db.close()


def test_one_owner_at_a_time(ledger: SqliteLedger) -> None:
    claimed(ledger)
    assert ledger.claim(entry(), lease=30) == Running()


def test_what_is_finished_is_never_claimed_again(ledger: SqliteLedger) -> None:
    assert ledger.finish("e1", claimed(ledger).token, OK, DONE)
    assert ledger.claim(entry(), lease=30) == Finished(answer=OK)


def test_an_expired_lease_is_taken_over_and_the_starts_are_counted(ledger: SqliteLedger, path: Path) -> None:
    first = claimed(ledger)
    age(path)
    second = claimed(ledger)
    assert (first.starts, second.starts) == (1, 2)
    assert first.token != second.token


def test_a_renewed_lease_is_not_taken_over(ledger: SqliteLedger, path: Path) -> None:
    claim = claimed(ledger)
    age(path)
    ledger.renew([claim.token], lease=30)
    assert ledger.claim(entry(), lease=30) == Running()


def test_a_stale_owner_can_neither_finish_nor_release_nor_renew(ledger: SqliteLedger, path: Path) -> None:
    stale = claimed(ledger)
    age(path)
    fresh = claimed(ledger)
    assert not ledger.finish("e1", stale.token, OK, DONE)
    assert not ledger.release("e1", stale.token, max_attempts=3)
    age(path)
    ledger.renew([stale.token], lease=30)
    assert claimed(ledger).starts == 3
    assert not ledger.finish("e1", fresh.token, OK, DONE)


def test_a_released_execution_is_claimed_by_its_next_attempt(ledger: SqliteLedger) -> None:
    assert ledger.release("e1", claimed(ledger).token, max_attempts=3)
    assert claimed(ledger, entry(attempt=2)).starts == 2


def test_nothing_is_released_after_the_last_attempt_was_seen_even_by_a_refused_claim(ledger: SqliteLedger) -> None:
    claim = claimed(ledger)
    assert ledger.claim(entry(attempt=3), lease=30) == Running()
    assert not ledger.release("e1", claim.token, max_attempts=3)
    assert ledger.finish("e1", claim.token, OK, DONE)


def test_outcomes_wait_for_their_own_app_until_they_are_reported(ledger: SqliteLedger) -> None:
    for execution_id, scope in (("e1", "billing"), ("e2", "billing@staging")):
        given = entry(execution_id, scope=scope)
        ledger.finish(execution_id, claimed(ledger, given).token, OK, DONE)
    (due,) = ledger.unreported("billing", limit=10)
    assert (due.execution_id, due.outcome) == ("e1", DONE)
    assert 0 <= due.age < 60
    ledger.reported("e1", accepted=True)
    assert ledger.unreported("billing", limit=10) == []


def test_what_was_written_is_there_after_a_restart(path: Path) -> None:
    before = SqliteLedger(path)
    before.finish("e1", claimed(before).token, OK, DONE)
    before.close()
    after = SqliteLedger(path)
    assert after.claim(entry(), lease=30) == Finished(answer=OK)
    after.close()


def test_eight_ledgers_that_open_a_new_file_at_once_give_an_execution_to_one(path: Path) -> None:
    ledgers = [SqliteLedger(path) for _ in range(8)]
    start = threading.Barrier(8)

    def race(number: int) -> bool:
        start.wait()
        return isinstance(ledgers[number].claim(entry(), lease=30), Claimed)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(race, range(8))) == 1
    for ledger in ledgers:
        ledger.close()


def test_a_ledger_that_cannot_be_opened_says_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"this is no database, but long enough to be taken for one" * 40)
    ledger = SqliteLedger(tmp_path / "ledger.db")
    with pytest.raises(LedgerError, match=r"ledger\.db"):
        ledger.claim(entry(), lease=30)
    ledger.close()


def test_an_unknown_kind_of_ledger_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="mysql"):
        open_ledger("mysql://u:secret@host/db")
