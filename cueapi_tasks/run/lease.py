"""Keep the leases of running executions fresh, from one thread per process."""

from __future__ import annotations

import logging
import threading

from ..errors import LedgerError
from .ledger.base import LEASE_SECONDS, RENEW_SECONDS, Ledger

logger = logging.getLogger("cueapi_tasks.run")


class LeaseKeeper:
    """Renews every lease held by this process; its thread starts with the first run and dies with the process."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._tokens: set[str] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._failing = False

    def keep(self, token: str) -> None:
        """Keep a lease fresh until it is dropped."""
        with self._lock:
            self._tokens.add(token)
            self._start()

    def drop(self, token: str) -> None:
        """Renew this lease no longer."""
        with self._lock:
            self._tokens.discard(token)

    def close(self) -> None:
        """Stop renewing."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="cueapi-tasks-leases", daemon=True)
            self._thread.start()

    def _loop(self) -> None:
        while not self._stop.wait(RENEW_SECONDS):
            try:
                self._renew()
            except Exception:
                logger.exception("leases are renewed after an error that nobody foresaw")

    def _renew(self) -> None:
        with self._lock:
            tokens = sorted(self._tokens)
        if not tokens:
            return
        try:
            self._ledger.renew(tokens, lease=LEASE_SECONDS)
        except LedgerError as error:
            level = logging.DEBUG if self._failing else logging.WARNING  # once, and not every ten seconds
            logger.log(level, "the leases of %d runs could not be renewed: %s", len(tokens), error)
            self._failing = True
        else:
            self._failing = False
