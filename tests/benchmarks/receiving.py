"""A whole request through the receiver against a bare WSGI function, and against what others have for the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from cueapi_tasks import CueTasks
from cueapi_tasks.run.ledger.base import Ledger
from cueapi_tasks.run.ledger.memory import MemoryLedger
from cueapi_tasks.run.runner import Clocks
from cueapi_tasks.web import wsgi
from tests.support import SECRET, Clock, receiver_of

from . import rivals, sharing
from .floor import ARGUMENTS, bare, caller, delivery
from .measure import ROUNDS, Ratio, compare


def run(size: int) -> list[Ratio]:
    times = max(20, size // 10)
    memory = replace(_request("memory", MemoryLedger(), 3, times), enforced=False)
    with TemporaryDirectory() as folder:
        sqlite = _request("SQLite", Path(folder) / "ledger.db", 12, times)
    return [memory, sqlite, *rivals.run(memory.value, times, SECRET), *sharing.run(size)]


def _request(kind: str, ledger: Path | Ledger, target: float, times: int) -> Ratio:
    app = CueTasks("billing", webhook_secret=SECRET)

    @app.schedule(cron="0 9 * * *", payload=ARGUMENTS)
    def report(region: str, text: str) -> None: ...

    name = f"request with the {kind} ledger / bare WSGI function"
    with receiver_of(app, ledger, Clock(), None, clocks=Clocks()) as receiver:
        step, floor = (
            caller(each, [delivery(SECRET) for _ in range(times * ROUNDS)])
            for each in (wsgi(receiver.handle), bare(SECRET))
        )
        return compare(name, step, floor, target=target, times=times)
