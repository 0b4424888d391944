"""Where a worker finds executions: in the account's queue, or cue by cue where that shows only others' work.

The queue's page is the account's 50 oldest, whoever they are for (contract, section 9.2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from cueapi import CueAPIServerError, CueNotFoundError

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

Test = Callable[[Claimable], bool]


class Source:
    """The executions that wait for one app's worker: `ours` says whose one is, `wanted` whether it can be taken now."""

    def __init__(self, link: Link, *, ours: Test, wanted: Test, clocks: Clocks) -> None:
        self._link = link
        self._ours = ours
        self._wanted = wanted
        self._clocks = clocks
        self._queue = Watch("queue")
        self._cues: Sequence[Cue] = ()
        self._known_until: float | None = None

    def poll(self) -> Sequence[Claimable]:
        """Return what can be taken, the oldest first."""
        self._link.wait_for_turn()
        page = self._page()
        found = [item for item in page or () if self._wanted(item)]
        if found or (page is not None and len(page) < PAGE):
            return found
        return [item for cue in self.cues() for item in self._of(cue) if self._wanted(item)]

    def cues(self) -> Sequence[Cue]:
        """Return our worker cues, as they were some minutes ago at most."""
        now = self._clocks.steady()
        if self._known_until is None or now >= self._known_until:
            with self._link.calling() as client:
                pulled = [cue for cue in client.cues.iter() if cue.transport == "worker"]
            self._cues = [cue for cue in pulled if self._ours(_item("", cue, cue.created_at))]
            self._known_until = now + KNOWN_SECONDS
        return self._cues

    def _page(self) -> Sequence[Claimable] | None:
        """Return the queue's page, or None where one odd payload in it breaks it for the account (contract, Q22)."""
        with self._link.calling() as client:
            try:
                page = client.executions.claimable()
            except CueAPIServerError as error:
                if error.status_code != 500:
                    raise
                self._queue.failed(error)
                return None
        self._queue.answered()
        return [
            Claimable(
                execution_id=each.execution_id,
                cue_id=each.cue_id,
                cue_name=each.cue_name,
                scheduled_for=each.scheduled_for,
                payload=each.payload,
            )
            for each in page
        ]

    def _of(self, cue: Cue) -> Sequence[Claimable]:
        """Return what is due of one cue, with the payload that it carries now."""
        self._link.wait_for_turn()
        now = datetime.fromtimestamp(self._clocks.now(), timezone.utc)
        with self._link.calling() as client:
            waiting = _oldest(client, cue.id)
            try:
                current = client.cues.get(cue.id) if waiting else cue
            except CueNotFoundError:
                return []
        return [_item(each, current, moment) for each, moment in waiting if moment <= now]


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
