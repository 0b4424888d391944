"""What a worker takes on, turn by turn: what the dead left, what is due again, and what waits at the server."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from cueapi import CueAPIError, RateLimitError

from .. import log
from ..declare.options import is_async
from ..errors import CueTasksError, LedgerError
from .claims import Claims
from .delivery import Claimable, Job
from .holder import Holder
from .lane import Lane, Step
from .ledger.base import Lapsed, Ledger
from .link import Link, Watch
from .runner import Clocks
from .source import Source

LOOK_SECONDS = 10.0
"""Between two looks at what dead workers left in the ledger."""
FRESH_SECONDS = 5.0
"""How long a page of the queue is worked off before it is read again."""
LEAVE_SECONDS = 600.0
"""How long newer code may come for what this code cannot run; the core gives up what nobody claims for 900 s."""
BACKOFF_SECONDS = 60.0
"""The longest pause between two polls while the API fails."""
JITTER = 0.2
"""By which part a pause between polls may be longer, so that many workers do not poll together."""
TRIED_SECONDS = 10.0
"""How long an execution that was tried is left alone in the queue: another worker holds it, or the ledger is away."""
BATCH = 1000
"""How many of those one look shows."""

JobOf = Callable[[Claimable], Job | None]
"""Returns what this code declares for an execution; None if it is not this app's."""

logger = logging.getLogger("cueapi_tasks.run")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lanes:
    """The slots of a worker."""

    plain: Lane
    """Each a thread, for plain functions."""
    asynchronous: Lane
    """For `async def` tasks, which share one event loop."""

    def of(self, job: Job | None) -> Lane:
        """Return the lane that a job runs in."""
        return self.asynchronous if job and job.task and is_async(job.task.function) else self.plain

    @property
    def free(self) -> bool:
        """Whether there is a free slot."""
        return self.plain.free or self.asynchronous.free

    @property
    def idle(self) -> bool:
        """Whether nothing runs."""
        return self.plain.idle and self.asynchronous.idle


class Intake:
    """Fills a worker's free slots; one thread calls `turn` again and again."""

    def __init__(
        self,
        *,
        scopes: Sequence[str],
        job_of: JobOf,
        link: Link,
        ledger: Ledger,
        claims: Claims,
        holder: Holder,
        lanes: Lanes,
        poll_interval: float,
        clocks: Clocks,
        chance: Callable[[], float],
    ) -> None:
        self.ledger_watch = Watch("ledger")
        """Of what the loop reads."""
        self.writing_watch = Watch("ledger_writing")
        """Of what the slots write."""
        self.source = Source(
            link,
            ours=lambda item: job_of(item) is not None,
            wanted=self._is_wanted,
            takeable=lambda item: lanes.of(job_of(item)).free,
            clocks=clocks,
        )
        self._scopes = scopes
        self._job_of = job_of
        self._link = link
        self._ledger = ledger
        self._claims = claims
        self._holder = holder
        self._lanes = lanes
        self._poll_interval = poll_interval
        self._clocks = clocks
        self._chance = chance
        self._backlog: Sequence[Claimable] = ()
        self._tried: dict[str, float] = {}
        self._left: set[tuple[str, str]] = set()
        self._seen: dict[str, float] = {}
        """When an execution was first seen that this code cannot run, in unix seconds."""
        self._failures = 0
        self._empty = False
        self._look_at = self._poll_at = self._fresh_until = clocks.steady()

    @property
    def done(self) -> bool:
        """Whether the last poll found nothing, and nothing runs."""
        return self._empty and self._lanes.idle and not self._holder.given_back

    def turn(self) -> float:
        """Take on what the free slots allow; return the seconds until there may be more."""
        if self._holder.given_back or self._clocks.steady() >= self._look_at:
            self._look()
        for held in self._holder.due():
            self._hand_out(held.item, partial(self._holder.resume, held))
        self._pull()
        return self._pause()

    def _look(self) -> None:
        """Take up what dead workers left in the ledger; retries that wait there are only kept alive."""
        self._look_at = self._clocks.steady() + LOOK_SECONDS
        self._holder.given_back = False
        lapsed = [
            each for scope in self._scopes for each in self._ledger.lapsed(scope, transport="worker", limit=BATCH)
        ]
        self.ledger_watch.answered()
        if self._link.watch.error is None:
            handed = [self._take_up(each) for each in lapsed]
            self._holder.given_back |= not all(handed)

    def _take_up(self, lapsed: Lapsed) -> bool:
        item = Claimable.from_json(lapsed.delivery)
        job = self._job_of(item)
        if job is None or self._is_left(job):
            return True
        return self._hand_out(item, partial(self._holder.take_up, lapsed))

    def _pull(self) -> None:
        now = self._clocks.steady()
        if now >= self._fresh_until or self._holder.troubled:
            self._backlog = ()
        if self._holder.troubled:
            self._holder.troubled = False
            self._poll_at = now + self._backoff()
        if not self._backlog and self._lanes.free and now >= self._poll_at:
            self._poll()
        self._backlog = [item for item in self._backlog if not self._take(item)]

    def _take(self, item: Claimable) -> bool:
        taken = self._claims.room and self._hand_out(item, partial(self._holder.take, item))
        if taken:
            self._tried[item.execution_id] = self._clocks.steady() + TRIED_SECONDS
        return taken

    def _poll(self) -> None:
        now = self._clocks.steady()
        self._tried = {each: until for each, until in self._tried.items() if until > now}
        forgotten = self._link.now() - 2 * LEAVE_SECONDS  # others took it
        self._seen = {each: since for each, since in self._seen.items() if since > forgotten}
        try:
            self._backlog = self.source.poll()
        except CueAPIError as error:
            wished = error.retry_after if isinstance(error, RateLimitError) else None
            self._poll_at = self._clocks.steady() + max(wished or 0.0, self._backoff())
            return
        self._failures = 0
        self._empty = not self._backlog
        now = self._clocks.steady()
        self._fresh_until = now + FRESH_SECONDS
        pause = self._poll_interval * (2 if self.source.crowded else 1)  # which costs about twice the requests
        self._poll_at = now + self._jittered(pause) if self._empty else now

    def _backoff(self) -> float:
        self._failures += 1
        return self._jittered(min(BACKOFF_SECONDS, self._poll_interval * 2.0 ** min(self._failures, 10)))

    def _jittered(self, seconds: float) -> float:
        return seconds * (1.0 + JITTER * self._chance())

    def _hand_out(self, item: Claimable, step: Step) -> bool:
        """Put an execution into a slot; False if there is none free for it, or it is in hand already."""
        lane = self._lanes.of(self._job_of(item))
        if not lane.free:
            return False
        if not self._holder.is_busy(item.execution_id):
            self._holder.enter(item.execution_id)
            lane.submit(partial(self._in_slot, item.execution_id, step))
        return True

    def _in_slot(self, execution_id: str, step: Step) -> None:
        try:
            step()
            self.writing_watch.answered()
        except LedgerError as error:
            self.writing_watch.failed(error)
        except Exception:
            logger.exception("the execution %s is left to the next look at the ledger", execution_id)
        except BaseException as error:  # a thread of the pool would end the step without a word
            logger.critical("%s raised %s, and counts as a crash", execution_id, type(error).__name__, exc_info=True)
            raise
        finally:
            self._holder.leave(execution_id)

    def _is_wanted(self, item: Claimable) -> bool:
        """Tell whether to take an execution now."""
        job = self._job_of(item)
        if job is None or item.execution_id in self._holder or item.execution_id in self._tried:
            return False
        return not self._is_left(job)

    def _is_left(self, job: Job) -> bool:
        """Tell whether this code cannot run it, and newer code may still come that can."""
        misfit = job.misfit
        if misfit is None:
            return False
        delivery, now = job.delivery, self._link.now()
        since = min(delivery.scheduled_for.timestamp(), self._seen.setdefault(delivery.execution_id, now))
        if now - since >= LEAVE_SECONDS:
            return False
        self._say_left(job, misfit)
        return True

    def _say_left(self, job: Job, misfit: CueTasksError) -> None:
        task = job.delivery.task
        if (task, misfit.code) not in self._left:
            self._left.add((task, misfit.code))
            facts = {"task": task, "execution_id": job.delivery.execution_id, "reason": misfit.code}
            minutes = round(LEAVE_SECONDS / 60)
            log.event(logger, "left", level=logging.WARNING, **facts, error=str(misfit), minutes=minutes)

    def _pause(self) -> float:
        moments = [self._look_at, self._holder.next_due()]
        if self._lanes.free and not self._backlog:
            moments.append(self._poll_at)
        return max(0.0, min(moments) - self._clocks.steady())
