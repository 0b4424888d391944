"""The threaded shell around the engine: one thread for time, a pool for deliveries, HTTP beside them."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

from .. import log
from ..errors import ServerStartError
from .accounts import digest, make_account, new_api_key, new_webhook_secret
from .api import create_api
from .deliver import deliver, make_client, notify
from .engine import Engine
from .events import logger
from .guard import LOOPBACK
from .http import HttpServer
from .pool import DaemonPool
from .profile import Profile
from .records import Attempt, Notice
from .store import Store

DATABASE = "server.db"
LOCAL_ACCOUNT = "local@localhost"
DELIVERY_THREADS = 128
"""Deliveries under way at once: a receiver that hangs holds one for 30 s."""
STOP_SECONDS = 1.0
"""How long deliveries under way may take to end when the server stops."""
LONGEST_SLEEP = 5.0
"""Seconds after which the loop looks again even if nothing is due: the machine's clock may be set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The key that clients send and the secret that deliveries are signed with."""

    api_key: str = field(repr=False)
    webhook_secret: str = field(repr=False)


def make_credentials() -> Credentials:
    """Return new ones, in the service's own forms."""
    return Credentials(api_key=new_api_key(), webhook_secret=new_webhook_secret())


class Clock:
    """The wall clock, or one that started at the same moment and runs `rate` times as fast, for tests."""

    def __init__(self, rate: float = 1.0) -> None:
        self.rate = rate
        self._began = datetime.now(timezone.utc)

    def __call__(self) -> datetime:
        """Return the moment, in UTC."""
        now = datetime.now(timezone.utc)
        return now if self.rate == 1.0 else self._began + (now - self._began) * self.rate

    def seconds_until(self, moment: datetime) -> float:
        """Return the real seconds until the clock shows a moment, 0 if it has passed."""
        return max(0.0, (moment - self()) / timedelta(seconds=1) / self.rate)


class Server:
    """The embedded server: its data, its loop and its HTTP."""

    def __init__(
        self,
        *,
        data: Path,
        credentials: Credentials,
        previous: Credentials | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        profile: Profile | None = None,
        clock: Clock | None = None,
        allowed_hosts: Iterable[str] = (),
        allow_register: bool = False,
    ) -> None:
        """Take, besides how it is reached, the credentials, and those that the start before was given.

        What is given again does not undo what was regenerated through the API meanwhile.
        """
        data.mkdir(parents=True, exist_ok=True)
        self._clock = clock or Clock()
        self._store = Store(data / DATABASE)
        self._changed = threading.Event()
        self._stopping = threading.Event()
        self.engine = Engine(self._store, profile, self._changed.set)
        self._scheduler = self.engine.scheduler
        with self._store.atomic():
            self._settle_account(credentials, previous)
        self._client = make_client()
        self._pool = DaemonPool(DELIVERY_THREADS, "cueapi-tasks-delivery")
        self._loop = threading.Thread(target=self._run, name="cueapi-tasks-loop", daemon=True)
        hosts = (*LOOPBACK, host, *allowed_hosts)
        api = create_api(self.engine, self._clock, hosts=hosts, allow_register=allow_register)
        try:
            self.http = HttpServer(api, host=host, port=port)
        except ServerStartError:
            self._store.close()
            raise

    @property
    def url(self) -> str:
        """The API's base URL."""
        return self.http.url

    def start(self) -> None:
        """Take up what an earlier process left, then answer and fire."""
        self._scheduler.recover(self._clock())
        self._loop.start()
        self.http.start()
        log.event(logger, "listening", url=self.url)

    def stop(self) -> None:
        """Stop answering and firing; deliveries under way are made again at the next start."""
        self._stopping.set()
        self._changed.set()
        self.http.stop()
        self._loop.join(timeout=5.0)
        self._pool.stop(STOP_SECONDS)
        self._client.close()
        self._store.close()

    def _settle_account(self, given: Credentials, previous: Credentials | None) -> None:
        kept = self._store.account_by_email(LOCAL_ACCOUNT)
        secret = given.webhook_secret
        if kept is not None and previous is not None and secret == previous.webhook_secret != kept.webhook_secret:
            log.event(logger, "regenerated_since", level=logging.WARNING, given="webhook_secret")
            secret = kept.webhook_secret
        if kept is None or previous is None or given.api_key != previous.api_key:
            self._store.put_account(make_account(LOCAL_ACCOUNT, given.api_key, secret), digest(given.api_key))
            return
        if self._store.account_by_key(digest(given.api_key)) is None:
            log.event(logger, "regenerated_since", level=logging.WARNING, given="api_key")
        self._store.update_account(replace(kept, webhook_secret=secret))

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._changed.clear()
            try:
                self._turn()
            except Exception:
                logger.exception("a turn of the loop failed; the next one follows")
            self._changed.wait(self._seconds_to_wait())

    def _turn(self) -> None:
        while attempts := self._scheduler.tick(self._clock()):
            self._submit(self._deliver, attempts)
        self._submit(self._notify, self._scheduler.take_notices())

    def _submit(self, work: Callable[..., None], items: Iterable[Attempt | Notice]) -> None:
        for item in items:
            if not self._stopping.is_set():
                self._pool.submit(functools.partial(work, item))

    def _seconds_to_wait(self) -> float:
        due = self._scheduler.next_due()
        return LONGEST_SLEEP if due is None else min(LONGEST_SLEEP, self._clock.seconds_until(due))

    def _deliver(self, attempt: Attempt) -> None:
        if self._stopping.is_set():
            return
        try:
            answered = deliver(self._client, attempt, self._clock())
            if not self._stopping.is_set():
                self._scheduler.attempted(attempt, answered, self._clock())
        except Exception:
            logger.exception("the delivery of %s failed in the server itself", attempt.execution_id)

    def _notify(self, notice: Notice) -> None:
        notify(self._client, notice)
