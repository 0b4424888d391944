"""Where a worker finds executions: in the account's queue, or cue by cue where that shows only others' work.

The queue's page is the account's 50 oldest, whoever they are for (contract, section 9.2).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from cueapi import (
    APIConnectionError,
    AuthenticationError,
    CueAPIError,
    CueNotFoundError,
)

from .delivery import Claimable
from .link import Link, Watch
from .runner import Clocks

if TYPE_CHECKING:
    from cueapi import Cue, CueAPI

PAGE = 50
"""How many executions the queue shows."""
LIST = 100
"""How many a list of executions shows at most."""
KNOWN_SECONDS = 300.0
"""How long the account's cues stay known."""
ROUND_SECONDS = 300.0
"""Within which time each cue is asked once: the core gives up what nobody claims for 900 s."""
ASK_SECONDS = 10.0
"""Between two cues that are asked, on average, where the round has room for it."""

Test = Callable[[Claimable], bool]


class Source:
    """The executions that wait for one app's worker.

    `ours` says whose one is, `wanted` whether this worker should take it, `takeable` whether it has a slot for it now.
    """

    def __init__(self, link: Link, *, ours: Test, wanted: Test, takeable: Test, clocks: Clocks) -> None:
        self.crowded = False
        """Whether the queue's page showed nothing that could be taken, and perhaps not all that waits."""
        self.failure: CueAPIError | None = None
        """Why the last poll was refused."""
        self._link = link
        self._ours = ours
        self._wanted = wanted
        self._takeable = takeable
        self._clocks = clocks
        self._queue = Watch("queue")
        self._cues: Sequence[Cue] = ()
        self._known_until: float | None = None
        self._asked: dict[str, float] = {}
        """When a cue had nothing that could be taken, on the steady clock."""

    def poll(self) -> Sequence[Claimable]:
        """Return what waits, the oldest first; cues are asked in rounds where the queue's page does not show it."""
        self._link.wait_for_turn(1)
        page = self._page()
        found = [item for item in page or () if self._wanted(item)]
        self.crowded = not any(map(self._takeable, found)) and (page is None or len(page) >= PAGE)
        return [*found, *self._elsewhere({item.execution_id for item in found})] if self.crowded else found

    def cues(self) -> Sequence[Cue]:
        """Return our worker cues, as they were some minutes ago at most."""
        now = self._clocks.steady()
        if self._known_until is None or now >= self._known_until:
            with self._link.calling() as client:
                pulled = [cue for cue in client.cues.iter() if cue.transport == "worker"]
            self._cues = [cue for cue in pulled if self._ours(_item("", cue, cue.created_at))]
            self._known_until = now + KNOWN_SECONDS
        return self._cues

    def _elsewhere(self, known: Collection[str]) -> Sequence[Claimable]:
        """Return what waits of the cues whose turn it is, but for what is known."""
        cues = self.cues()
        now = self._clocks.steady()
        span = min(ROUND_SECONDS, ASK_SECONDS * len(cues))
        self._asked = {cue.id: self._asked[cue.id] for cue in cues if cue.id in self._asked}
        found: list[Claimable] = []
        for cue in cues:
            if now - self._asked.get(cue.id, -span) < span or self._link.stopping.is_set():
                continue
            waiting = [item for item in self._of(cue) if self._wanted(item) and item.execution_id not in known]
            found += waiting
            if not any(map(self._takeable, waiting)):
                self._asked[cue.id] = now
        return found

    def _page(self) -> Sequence[Claimable] | None:
        """Return the queue's page, or None where one odd payload in it breaks it for the account (contract, Q22)."""
        page, refusal = self._ask()
        if refusal is None:
            self._queue.answered()
            self.failure = None
            return page
        self._queue.failed(refusal)
        if refusal.status_code == 500:
            return None
        self.failure = refusal
        raise refusal

    def _ask(self) -> tuple[Sequence[Claimable], CueAPIError | None]:
        """Ask for the page; an API that refuses this alone is there, and answers other calls."""
        with self._link.calling() as client:
            try:
                page = client.executions.claimable()
            except (APIConnectionError, AuthenticationError):
                raise
            except CueAPIError as refusal:
                return (), refusal
        return [
            Claimable(
                execution_id=each.execution_id,
                cue_id=each.cue_id,
                cue_name=each.cue_name,
                scheduled_for=each.scheduled_for,
                payload=each.payload,
            )
            for each in page
        ], None

    def _of(self, cue: Cue) -> Sequence[Claimable]:
        """Return what waits of one cue, with the payload that it carries now."""
        self._link.wait_for_turn(1)
        with self._link.calling() as client:
            waiting = _oldest(client, cue.id)
            try:
                current = client.cues.get(cue.id) if waiting else cue
            except CueNotFoundError:
                return []
        return [_item(each, current, moment) for each, moment in waiting]


def _oldest(client: CueAPI, cue_id: str) -> Sequence[tuple[str, datetime]]:
    """Return the oldest executions of a cue that wait; lists are newest first."""
    page = client.executions.list(cue_id=cue_id, status="pending", limit=LIST)
    if page.total > LIST:
        page = client.executions.list(cue_id=cue_id, status="pending", limit=LIST, offset=page.total - LIST)
    return [(each.id, each.scheduled_for) for each in reversed(page.executions)]


def _item(execution_id: str, cue: Cue, moment: datetime) -> Claimable:
    return Claimable(
        execution_id=execution_id, cue_id=cue.id, cue_name=cue.name, scheduled_for=moment, payload=cue.payload
    )
