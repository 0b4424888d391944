"""The secrets that deliveries may be signed with, and how a new one is learnt while the process runs."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable

from cueapi import CueAPIError

REFRESH_SECONDS = 60.0
"""Between two reads of the secret, whatever knocks at the door."""
OVERLAP_SECONDS = 600.0
"""How long a secret stays valid after another one was read: deliveries that wait were signed with it."""

logger = logging.getLogger("cueapi_tasks.run")


class Secrets:
    """The configured secrets, and where `fetch` is given the account's own, read when a signature does not match."""

    def __init__(
        self,
        configured: Iterable[str],
        fetch: Callable[[], str] | None = None,
        *,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._until = dict.fromkeys(configured, math.inf)
        self._fetch = fetch
        self._steady = steady
        self._next = -math.inf
        self._lock = threading.Lock()

    def current(self) -> tuple[str, ...]:
        """Return the secrets that are valid now."""
        now = self._steady()
        return tuple(secret for secret, until in self._until.items() if now < until)

    def known(self) -> tuple[str, ...]:
        """Return the secrets that are or were valid."""
        return tuple(self._until)

    def refreshed(self) -> tuple[str, ...]:
        """Return the secrets that are valid now, read anew first unless that was done within the minute.

        Who comes while another thread reads waits for what that one learns.
        """
        if self._fetch is not None:
            with self._lock:
                if self._steady() >= self._next:
                    self._next = self._steady() + REFRESH_SECONDS
                    self._read(self._fetch)
        return self.current()

    def _read(self, fetch: Callable[[], str]) -> None:
        try:
            secret = fetch()
        except CueAPIError as error:
            logger.warning("the webhook secret could not be read from the API: %r", error)
            return
        if secret and self._until.get(secret) != math.inf:
            logger.warning("the webhook secret was rotated; the previous one is valid for %d s", OVERLAP_SECONDS)
            last = self._steady() + OVERLAP_SECONDS
            self._until = {each: min(until, last) for each, until in self._until.items()} | {secret: math.inf}
