"""Processes and threads that claim and finish the same executions in one SQLite file, each tried by two of them."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cueapi_tasks.run.ledger.base import LEASE_SECONDS, Answer, Claimed, Entry, Ledger
from cueapi_tasks.run.ledger.sqlite import SqliteLedger
from cueapi_tasks.run.outcome import Outcome

PROCESSES = THREADS = 4
ALL = PROCESSES * THREADS
ANSWER = Answer(status=200, body={"status": "success", "reason": "completed"})


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Who claimed what, in the order of nobody, and how long that took."""

    claimed: list[str]
    seconds: float


def entry(execution_id: str) -> Entry:
    return Entry(
        execution_id=execution_id, scope="billing", task="report", cue_id="c", transport="webhook", attempt=1,
        max_attempts=3,
    )  # fmt: skip


def claim_and_finish(ledger: Ledger, execution_id: str) -> bool:
    """Tell whether the execution was there to be claimed."""
    claim = ledger.claim(entry(execution_id), lease=LEASE_SECONDS)
    return isinstance(claim, Claimed) and ledger.finish(execution_id, claim.token, ANSWER, Outcome(success=True))


def contend(path: Path, count: int) -> Contest:
    """Have so many executions claimed by all threads of all processes."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(PROCESSES) as pool:
        barrier = manager.Barrier(PROCESSES)
        found = pool.starmap(_process, [(path, count, number, barrier) for number in range(PROCESSES)], chunksize=1)
    begun, ended, shares = zip(*found, strict=True)
    return Contest(claimed=[each for share in shares for each in share], seconds=max(ended) - min(begun))


def _process(path: Path, count: int, number: int, barrier: Any) -> tuple[float, float, list[str]]:
    ledger = SqliteLedger(path)
    barrier.wait()
    begun = time.monotonic()
    with ThreadPoolExecutor(THREADS) as threads:
        places = range(number * THREADS, (number + 1) * THREADS)
        shares = list(threads.map(lambda place: _thread(ledger, place, count), places))
    ended = time.monotonic()
    ledger.close()
    return begun, ended, [each for share in shares for each in share]


def _thread(ledger: Ledger, place: int, count: int) -> list[str]:
    return [each for each in _tried(place, count) if claim_and_finish(ledger, each)]


def _tried(place: int, count: int) -> Iterable[str]:
    """Yield the executions of a thread, and beside each one of a thread in the next process."""
    for first in range(0, count, ALL):
        for other in (place, (place + THREADS) % ALL):
            if first + other < count:
                yield f"execution-{first + other}"
