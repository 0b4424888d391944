"""A webhook secret that is rotated while many deliveries are under way, over real sockets."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cueapi import CueAPI
from cueapi_tasks import Context, CueTasks
from cueapi_tasks.run.ledger.sqlite import SqliteLedger
from cueapi_tasks.run.receiver import Receiver
from cueapi_tasks.run.report import Reporter
from cueapi_tasks.run.runner import Clocks
from cueapi_tasks.run.secrets import Secrets
from cueapi_tasks.server.http import HttpServer
from cueapi_tasks.server.main import Clock, Credentials, Server
from cueapi_tasks.web import Environ, StartResponse, wsgi

from .support import API_KEY, SECRET

pytestmark = pytest.mark.slow

RATE = 20.0
"""So that the minute until a retry takes three seconds."""
EXECUTIONS = 300
FIRST = 100
"""How many are fired before the rotation."""
PATIENCE = 120.0


class Place:
    """A server on a fast clock, and a receiver whose secrets can be exchanged, as a restart does it."""

    def __init__(self, folder: Path) -> None:
        clock = Clock(RATE)
        credentials = Credentials(api_key=API_KEY, webhook_secret=SECRET)
        self.server = Server(data=folder / "server", credentials=credentials, clock=clock)
        self.client = CueAPI(API_KEY, base_url=self.server.url)
        self.runs: Counter[str] = Counter()
        self._clocks = Clocks(now=lambda: clock().timestamp())
        self._ledger = SqliteLedger(folder / "ledger.db")
        self._app = CueTasks("billing")

        @self._app.schedule(cron="0 9 * * *", retry={"max_attempts": 4, "backoff_minutes": [1]})
        def work(ctx: Context) -> None:
            self.runs[ctx.execution_id] += 1

        self.configure(Secrets([SECRET]))
        self._http = HttpServer(self._answer, host="127.0.0.1", port=0)
        self.server.start()
        self._http.start()
        (spec,) = self._app.specs()
        self._cue_id = self.client.cues.create(
            spec.name,
            cron="0 9 * * *",
            callback=self._http.url,
            payload=spec.wire_payload(),
            retry={"max_attempts": 4, "backoff_minutes": [1]},
        ).id

    def configure(self, secrets: Secrets) -> None:
        reporter = Reporter(self._ledger, "billing", lambda: self.client)
        self._receiver = Receiver(
            registry=self._app.registry,
            owner=self._app.owner,
            secrets=secrets,
            ledger=self._ledger,
            reporter=reporter,
            clocks=self._clocks,
        )

    def fire(self, _: int) -> str:
        return self.client.cues.fire(self._cue_id).id

    def wait_for(self, fired: Sequence[str]) -> None:
        """Wait until each has an outcome."""
        deadline = time.monotonic() + PATIENCE
        left = {*fired}
        while left and time.monotonic() < deadline:
            left -= {each.id for each in self.client.executions.iter(status="success") if each.outcome is not None}
            time.sleep(0.1)
        assert not left

    def close(self) -> None:
        self.server.stop()
        self._http.stop()
        self._receiver.close()
        self.client.close()

    def _answer(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        return wsgi(self._receiver.handle)(environ, start_response)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.close()


def refresh(place: Place) -> Callable[[str], None]:
    """Let the receiver learn what is new by itself."""
    place.configure(Secrets([SECRET], place.client.webhook_secret.get))
    return lambda _: None


def restart(place: Place) -> Callable[[str], None]:
    """Configure both secrets once the new one is known."""
    return lambda new: place.configure(Secrets([new, SECRET]))


@pytest.mark.parametrize("how", [refresh, restart])
def test_a_rotation_under_load_loses_no_execution_and_runs_none_twice(
    place: Place, how: Callable[[Place], Callable[[str], None]]
) -> None:
    rotated = how(place)
    with ThreadPoolExecutor(4) as threads:
        before = [threads.submit(place.fire, each) for each in range(FIRST)]
        after = [threads.submit(place.fire, each) for each in range(FIRST, EXECUTIONS)]
        before[-1].result()
        rotated(place.client.webhook_secret.regenerate(confirm=True))
    fired = [future.result() for future in (*before, *after)]
    place.wait_for(fired)
    assert place.runs == Counter(fired)
    attempts = {execution.attempts for execution in place.client.executions.iter()}
    assert max(attempts) <= 2  # none was refused for longer than a retry
