"""The SQLite ledger under several processes, and with many rows in it."""

from __future__ import annotations

import sqlite3
import uuid
from contextlib import closing
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from cueapi_tasks.run.ledger.sqlite import SqliteLedger
from tests.claiming import PROCESSES, THREADS, claim_and_finish, contend

from .measure import Ratio, compare

ROWS_PER_SIZE = 50
"""So that a run with `--size 20000` looks at a million rows."""
FILL = """
    INSERT INTO execution (execution_id, scope, task, cue_id, transport, state, starts, attempt, max_attempts, decision,
        answer_status, answer, outcome, created_at, finished_at, reported_at, accepted)
    VALUES (?, 'billing', 'report', 'c', 'webhook', 'finished', 1, 1, 3, 'run', 200, '{}', '{}', 1, 1, 1, 1)"""


def run(size: int) -> list[Ratio]:
    with TemporaryDirectory() as folder:
        return [_rate(Path(folder) / "shared.db", size), _flatness(Path(folder), size)]


def _rate(path: Path, size: int) -> Ratio:
    """Return the milliseconds of an execution's claim and finish, all threads at once; each is claimed just once."""
    contest = contend(path, size)
    assert len(contest.claimed) == len(set(contest.claimed)) == size
    return Ratio(
        name=f"claim and finish, {PROCESSES} processes x {THREADS} threads, one file (ms)",
        value=contest.seconds / size * 1000,
        target=1,
        detail=f"{size / contest.seconds:.0f} executions a second",
    )


def _flatness(folder: Path, size: int) -> Ratio:
    rows = size * ROWS_PER_SIZE
    full, empty = SqliteLedger(folder / "full.db"), SqliteLedger(folder / "empty.db")
    numbers = count()
    steps = [partial(_next, ledger, numbers) for ledger in (full, empty)]
    for step in steps:
        step()
    with closing(sqlite3.connect(folder / "full.db")) as db, db:
        db.executemany(FILL, ((str(uuid.uuid4()),) for _ in range(rows)))
    ratio = compare(f"SQLite ledger with {rows} rows / empty", *steps, target=1.5, times=max(20, size // 10))
    full.close()
    empty.close()
    return ratio


def _next(ledger: SqliteLedger, numbers: count[int]) -> bool:
    return claim_and_finish(ledger, f"{next(numbers)}-{uuid.uuid4()}")
