"""Bring outcomes to the API: one try in line, and the rest from the ledger until each is taken or refused."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from cueapi import (
    APIConnectionError,
    AuthenticationError,
    ConflictError,
    CueAPIError,
    CueNotFoundError,
    InvalidArgumentError,
    RateLimitError,
)

from .. import log
from ..errors import LedgerError
from .account import REPORT_TIMEOUT
from .ledger.base import KEEP_SECONDS, Answer, Ledger, Report
from .outcome import Outcome, failed

if TYPE_CHECKING:
    from cueapi import CueAPI

RETRY_SECONDS = 10.0
"""Between two rounds over the outcomes that could not be reported."""
LEAST_SECONDS = 1.0
"""Below this there is no time to report in line."""
IN_LINE_SECONDS = 5.0
"""An outcome younger than this is being reported by the request that made it."""
DIED_SECONDS = 60.0
"""How long after its lease an owner is taken for dead, for whom nobody waits."""
DIED = Answer(status=500, body={"status": "failure", "reason": "process_died"})
PURGE_SECONDS = 3600.0
"""Between two looks for executions that need not be kept any more."""
BATCH = 100
BLOCKING = (APIConnectionError, AuthenticationError, RateLimitError)
"""Failures that the next outcome would meet too."""
PASSING = (401, 403, 408, 425, 429)
"""Refusals that may pass: the key can be put right, a limit ends."""

logger = logging.getLogger("cueapi_tasks.run")


class Sent(Enum):
    """How the API took an outcome."""

    ACCEPTED = "it has the outcome"
    REFUSED = "it will never take it"
    LATER = "it could not say"
    BUSY = "it could not be asked, and neither could it be for another outcome now"


FINAL = (Sent.ACCEPTED, Sent.REFUSED)


class Reporter:
    """Reports the outcomes of one app; `connect` is called when the first is due, and may say that there is no way.

    What was due before the app was renamed is in the ledger under its former scope.
    """

    def __init__(
        self, ledger: Ledger, scope: str, connect: Callable[[], CueAPI | None], *, former: str | None = None
    ) -> None:
        self._ledger = ledger
        self._scope = scope
        self._scopes = (scope,) if former is None else (scope, former)
        self._connect = connect
        self._connected: tuple[CueAPI | None] | None = None
        self._born = self._purge_at = time.monotonic()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._waiting = self._without_ledger = self._asked = False

    def report(self, report: Report, *, within: float | None = None) -> None:
        """Try once, in line; what does not get through is tried again by a thread, which also purges now and then.

        Where hardly any of the seconds is left `within` which it should be done, the thread tries first. Once this is
        closed it stays in the ledger.
        """
        if self._stop.is_set():
            return
        too_late = within is not None and within < LEAST_SECONDS
        if too_late or self._send_and_note(report, within) not in FINAL or time.monotonic() >= self._purge_at:
            self.catch_up()

    def catch_up(self) -> None:
        """Report in the background what is still due in the ledger, until nothing is."""
        with self._lock:
            self._asked = True
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._loop, name="cueapi-tasks-reports", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Stop the background thread; what is due stays in the ledger."""
        self._stop.set()
        if (thread := self._thread) is not None:
            thread.join()
        if (client := self._connected and self._connected[0]) is not None:
            client.close()

    def _client(self) -> CueAPI | None:
        with self._lock:
            if self._connected is None:
                self._connected = (self._connect(),)
            return self._connected[0]

    def _loop(self) -> None:
        while True:
            self._asked = False
            done = self._round()
            if not self._without_ledger:
                self._purge()
            if (done and self._may_end()) or self._stop.wait(0.0 if done else RETRY_SECONDS):
                return

    def _may_end(self) -> bool:
        """Tell whether nobody asked for another round meanwhile; from then on a new thread is made for the next."""
        with self._lock:
            if not self._asked:
                self._thread = None
            return not self._asked

    def _purge(self) -> None:
        if time.monotonic() < self._purge_at:
            return
        self._purge_at = time.monotonic() + PURGE_SECONDS
        try:
            while self._ledger.purge(self._scope, age=KEEP_SECONDS, limit=BATCH) == BATCH and not self._stop.is_set():
                pass
        except LedgerError as error:
            logger.warning("old executions stay in the ledger for now: %s", error)

    def _round(self) -> bool:
        """Report one batch of what no request is reporting now; True when nothing is left."""
        if self._client() is None:
            return True
        try:
            self._end_what_died()
            due = [each for scope in self._scopes for each in self._ledger.unreported(scope, limit=BATCH)]
            left = [report for report in due if report.age >= min(IN_LINE_SECONDS, time.monotonic() - self._born)]
            self._without_ledger = False
            return self._send_all(left) and len(left) == len(due) < BATCH
        except LedgerError as error:
            level = logging.DEBUG if self._without_ledger else logging.WARNING  # once, and not in each round
            logger.log(level, "whether outcomes wait to be reported cannot be read: %s", error)
            self._without_ledger = True
            return False

    def _end_what_died(self) -> None:
        """Write down the end of what died in its last attempt: CueAPI makes no other, and nobody else could tell."""
        for scope in self._scopes:
            for execution_id, token in self._ledger.died(scope, since=DIED_SECONDS, limit=BATCH):
                self._ledger.finish(execution_id, token, DIED, failed("the process died in the last attempt").outcome)

    def _send_all(self, reports: Sequence[Report]) -> bool:
        """Send each, unless the API cannot be asked, or this is to stop: a failure may take its time."""
        done = True
        for report in reports:
            sent = self._send_and_note(report)
            done &= sent in FINAL
            if sent is Sent.BUSY or (not done and self._stop.is_set()):
                break
        return done

    def _send_and_note(self, report: Report, within: float | None = None) -> Sent:
        client = self._client()
        if client is None:
            return Sent.REFUSED
        if within is not None and within < REPORT_TIMEOUT:
            client = client.with_options(timeout=within)
        sent = send(client, report, level=logging.DEBUG if self._waiting else logging.WARNING)
        self._waiting = sent not in FINAL  # which is said once, and not in each round
        if self._waiting:
            return sent
        try:
            self._ledger.reported(report.execution_id, accepted=sent is Sent.ACCEPTED)
        except LedgerError as error:
            logger.warning("an outcome was reported, but not noted, and will be sent again: %s", error)
        return sent


def send(client: CueAPI, report: Report, *, level: int = logging.WARNING) -> Sent:
    """Send one outcome; evidence that the server refuses is left out rather than the outcome lost.

    `level` is that of the log when it has to wait.
    """
    success = report.outcome.success
    try:
        client.executions.report_outcome(report.execution_id, success=success, **report.outcome.evidence)
    except ConflictError:
        return Sent.ACCEPTED  # the outcome is written once, and stands
    except CueAPIError as error:
        if not _is_refusal(error):
            log.event(logger, "outcome_waits", level=level, **_facts(report), error=str(error))
            return Sent.BUSY if isinstance(error, BLOCKING) else Sent.LATER
        log.event(logger, "outcome_refused", level=logging.WARNING, **_facts(report), error=str(error))
        if not report.outcome.evidence or isinstance(error, CueNotFoundError):
            return Sent.REFUSED
        return send(client, replace(report, outcome=Outcome(success=success)))
    log.event(logger, "reported", **_facts(report), success=success)
    return Sent.ACCEPTED


def _is_refusal(error: CueAPIError) -> bool:
    """Tell whether the same outcome would be refused again: the request is at fault, and no key, limit or server."""
    status = error.status_code or (400 if isinstance(error, InvalidArgumentError) else 0)
    return 400 <= status < 500 and status not in PASSING


def _facts(report: Report) -> dict[str, Any]:
    return {"task": report.task, "execution_id": report.execution_id}
