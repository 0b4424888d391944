"""From a signed request to its answer: verify, claim, run, finish, report; a refusal has a stable reason."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from cueapi import WebhookVerificationError, webhook

from .. import log
from ..declare.registry import Registry
from ..declare.spec import Owner
from ..errors import LedgerError
from ..web import Request, Response
from .delivery import Delivery, Job, from_webhook, job_of
from .dispatch import Stage
from .include import Includes
from .lease import LeaseKeeper
from .ledger.base import LEASE_SECONDS, Claimed, Finished, Ledger
from .ledger.memory import MemoryLedger
from .outcome import Result
from .report import Reporter
from .runner import PAUSE_SECONDS, SLOW_SECONDS, Clocks, Runner, entry_of
from .secrets import Secrets

WAIT_SECONDS = 15.0
"""How long a redelivery waits for the answer of the run that is going on."""
CATCH_UP_SECONDS = 60.0
"""Between two looks for outcomes that another process left unreported."""

BAD_BODIES = ("invalid_json", "not_a_delivery")
"""Verification's reasons for authentic bytes that are not a delivery."""

logger = logging.getLogger("cueapi_tasks.run")


class Refused(Exception):
    """A request that runs nothing; becomes the answer."""

    def __init__(self, status: int, reason: str, **facts: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.facts = facts
        """What the log says besides; the answer tells nobody."""


class Receiver:
    """Answers CueAPI's deliveries for one app in one environment."""

    def __init__(
        self,
        *,
        registry: Registry,
        owner: Owner,
        secrets: Secrets,
        ledger: Ledger,
        reporter: Reporter,
        former: Owner | None = None,
        includes: Includes | None = None,
        stage: Stage | None = None,
        clocks: Clocks | None = None,
    ) -> None:
        self._registry = registry
        self._owner = owner
        self._owners = (owner,) if former is None else (owner, former)
        self._includes = includes or Includes()
        self._secrets = secrets
        self._ledger = ledger
        self._reporter = reporter
        self._stage = stage or Stage()
        self._leases = LeaseKeeper(ledger)
        self._clocks = clocks or Clocks()
        self._runner = Runner(ledger=ledger, reporter=reporter, stage=self._stage, clocks=self._clocks)
        self._catch_up_at = self._clocks.steady()
        self._looked = self._warned = self._mismatched = False

    def handle(self, request: Request) -> Response:
        """Return the answer; every status and reason is in the documentation's table."""
        began = self._clocks.steady()
        try:
            job = self._accept(request)
            self._warn_of_processes(request)
            self.catch_up()
            claim = self._claim(job)
        except Refused as refused:
            return refusal(refused.status, refused.reason, **refused.facts)
        if isinstance(claim, Finished):
            self._reporter.catch_up()
            return Response(status=claim.answer.status, json=claim.answer.body)
        return self._settle(job, claim, self._run(job, claim), until=began + SLOW_SECONDS)

    def catch_up(self) -> None:
        """Report in the background, now and then, what another process could not; requests do it too."""
        now = self._clocks.steady()
        if now >= self._catch_up_at:
            self._catch_up_at = now + CATCH_UP_SECONDS
            self._reporter.catch_up()

    def close(self) -> None:
        """Stop the background threads and close the ledger; what is due stays in it."""
        self._stage.loop.close()
        self._reporter.close()
        self._leases.close()
        self._ledger.close()

    def _accept(self, request: Request) -> Job:
        if request.method != "POST":
            raise Refused(405, "method_not_allowed")
        if request.oversized:
            raise Refused(413, "body_too_large")
        secrets = self._secrets.current() or self._secrets.refreshed()
        if not secrets:
            logger.error("no webhook secret is configured: set CUEAPI_WEBHOOK_SECRET; nothing runs until then")
            raise Refused(503, "no_secret")
        webhook_delivery = self._verify(request, secrets)
        self._import()
        delivery = from_webhook(webhook_delivery, self._owners, self._registry.find)
        if delivery is None:
            raise Refused(404, "other_environment", cue=webhook_delivery.name, here=self._owner.scope)
        return job_of(delivery, self._registry.get(delivery.task))

    def _verify(self, request: Request, secrets: Sequence[str]) -> webhook.WebhookDelivery:
        try:
            return self._authentic(request, secrets)
        except Refused as refused:
            newer = self._secrets.refreshed() if refused.reason == "bad_signature" else secrets
            if newer == secrets:
                self._explain_mismatch(refused.reason)
                raise
        return self._authentic(request, newer)

    def _authentic(self, request: Request, secrets: Sequence[str]) -> webhook.WebhookDelivery:
        try:
            return webhook.verify(
                request.body,
                signature=request.headers.get(webhook.SIGNATURE_HEADER.lower()),
                timestamp=request.headers.get(webhook.TIMESTAMP_HEADER.lower()),
                secrets=secrets,
                now=self._clocks.now(),
            )
        except WebhookVerificationError as error:
            raise Refused(400 if error.reason in BAD_BODIES else 401, error.reason) from error

    def _explain_mismatch(self, reason: str) -> None:
        """Say once what a signature may mean that does not match."""
        if reason == "bad_signature" and not self._mismatched:
            self._mismatched = True
            logger.warning(
                "a signature does not match: if CueAPI sent it, CUEAPI_WEBHOOK_SECRET is not what it signs with; "
                "was that rotated? CueTasks(refresh_secret=True) learns a new one"
            )

    def _warn_of_processes(self, request: Request) -> None:
        """Say once that a ledger in memory cannot see what other worker processes run."""
        if request.multiprocess and not self._warned and isinstance(self._ledger, MemoryLedger):
            self._warned = True
            logger.error(
                "the ledger is in memory and several processes receive: each may run what another has run; "
                "set CUEAPI_LEDGER to sqlite:///path, redis://... or postgresql://..."
            )

    def _import(self) -> None:
        """Make sure that the tasks are declared; only for an authentic delivery, since a stranger may knock often."""
        if not self._includes.ready():
            raise Refused(503, "include_failed")
        if not self._looked and not len(self._registry):
            logger.warning(
                "the receiver of %r knows no task: import the modules that declare them, "
                "or name them in CueTasks(include=[...])",
                self._owner.scope,
            )
        self._looked = True

    def _claim(self, job: Job) -> Claimed | Finished:
        deadline = self._clocks.steady() + WAIT_SECONDS
        while True:
            try:
                claim = self._ledger.claim(entry_of(job, self._owner), lease=LEASE_SECONDS)
            except LedgerError as error:
                logger.error("nothing runs: %s", error)
                raise Refused(503, error.code) from error
            if isinstance(claim, Claimed | Finished):
                return claim
            if self._clocks.steady() >= deadline:
                raise Refused(409, "running")
            self._clocks.sleep(PAUSE_SECONDS)

    def _run(self, job: Job, claim: Claimed) -> Result:
        self._leases.keep(claim.token)
        try:
            return self._runner.run(job, claim)
        finally:
            self._leases.drop(claim.token)

    def _settle(self, job: Job, claim: Claimed, result: Result, *, until: float) -> Response:
        """Give a failure with attempts left back, or write the end down and report it by then; then answer."""
        if not result.final and self._released(job.delivery, claim):
            return Response(status=result.status, json={"status": "retry", "reason": result.reason})
        answer = self._runner.end(job, claim, result, until=until)
        return Response(status=answer.status, json=answer.body)

    def _released(self, delivery: Delivery, claim: Claimed) -> bool:
        """Give it back, so that the next attempt is no crash; tell whether one may come."""
        execution_id, most = delivery.execution_id, delivery.max_attempts
        try:
            return self._runner.written(lambda: self._ledger.release(execution_id, claim.token, max_attempts=most))
        except LedgerError as error:
            logger.warning("a failed run keeps its lease until it ends by itself: %s", error)
            return delivery.attempt < most


def refusal(status: int, reason: str, **facts: str) -> Response:
    """Return the answer to a request that runs nothing, and log it with further facts."""
    level = logging.WARNING if status < 500 else logging.ERROR
    log.event(logger, "refused", level=level, status=status, reason=reason, **facts)
    headers = {"Allow": "POST"} if status == 405 else {}
    return Response(status=status, json={"status": "refused", "reason": reason}, headers=headers)
