"""What every ledger promises, in values and one protocol.

No function runs again after its success was recorded: `claim` hands an execution to one owner at a time, for as
long as its lease is renewed, and to nobody once it is finished. Leases are durations in seconds, judged by the
store's own clock.

A row is *waiting* (held for later, given back, or between two attempts), *running*, or *finished*. It is held by an
owner while its lease is fresh, waiting or running.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from ...declare.policy import RUN as RUN
from ..outcome import Outcome

LEASE_SECONDS = 30.0
RENEW_SECONDS = 10.0
KEEP_SECONDS = 30 * 24 * 3600.0
"""How long a finished execution keeps its answer."""

OVERLAP = "overlap"
"""The decision against a run while another execution of the same task is running."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The execution that is to be claimed or started."""

    execution_id: str
    scope: str
    """The app and environment, as cue names spell them; a ledger may be shared."""
    task: str
    cue_id: str
    transport: str
    """`webhook` or `worker`."""
    attempt: int
    max_attempts: int
    decision: str | None = RUN
    """What the policies decide, if nothing is decided yet; what stands in the row wins. None decides nothing."""
    exclusive: bool = False
    """Whether `RUN` becomes `OVERLAP` if another execution of the same scope and task is running now."""
    delivery: Mapping[str, Any] | None = None
    """The whole delivery as JSON has it, for a worker that may have to take it up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The HTTP answer of a finished execution, given again to every redelivery."""

    status: int
    body: Mapping[str, Any]


class Claimed(NamedTuple):
    """This caller has it; `token` guards what it writes afterwards."""

    token: str
    starts: int
    """How often it was started, this time included."""
    attempt: int
    """The highest attempt seen."""
    decision: str | None
    """Decided once, at the first start; None while it is only held."""
    crashed: bool = False
    """Whether it was taken from an owner whose lease ran out in the middle of a run."""


@dataclass(frozen=True, slots=True)
class Running:
    """Another owner has it and its lease is fresh."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """It ended before; this is its answer."""

    answer: Answer


Claim = Claimed | Running | Finished


@dataclass(frozen=True, slots=True, kw_only=True)
class Lapsed:
    """An unfinished execution that nobody holds: its owner died, or gave it back."""

    execution_id: str
    delivery: Mapping[str, Any]
    attempt: int
    retry_in: float
    """Seconds until its next attempt is due; 0 where it is."""


class Died(NamedTuple):
    """An execution by webhook whose process died in its last attempt: no delivery will come that could say so."""

    execution_id: str
    token: str
    """Of its owner, who is dead; `finish` takes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A finished execution whose outcome the API may not know yet."""

    execution_id: str
    task: str
    outcome: Outcome
    age: float = 0.0
    """Seconds since it finished, by the store's clock."""


class Ledger(Protocol):
    """A store of executions; each method but `renew` and `purge` is one transaction, or raises `LedgerError`."""

    def claim(self, entry: Entry, *, lease: float) -> Claim:
        """Take and start the execution, unless it is finished or another owner's lease is fresh.

        The highest attempt seen is kept in the row, whatever the answer is.
        """
        ...

    def hold(self, entry: Entry, *, lease: float) -> Claim:
        """Take the execution without starting it: no start is counted and nothing is decided; see `start`.

        A delivery that is kept already stays: who took it first says how the server knows it.
        """
        ...

    def start(self, entry: Entry, token: str) -> Claimed | None:
        """Start what this token holds, keeping the entry's delivery; None if it is no longer this owner's."""
        ...

    def postpone(self, execution_id: str, token: str, *, attempt: int, delay: float) -> bool:
        """Keep it, waiting, for the attempt that is due in `delay` seconds; False if another owner has it now."""
        ...

    def renew(self, tokens: Sequence[str], *, lease: float) -> None:
        """Extend the leases that these tokens still hold."""
        ...

    def abandon(self, tokens: Sequence[str]) -> None:
        """End the leases that these tokens still hold, as if they had run out."""
        ...

    def forget(self, execution_id: str, token: str) -> None:
        """Remove an unfinished execution that this token holds: it is somebody else's, or gone."""
        ...

    def release(self, execution_id: str, token: str, *, max_attempts: int) -> bool:
        """Give the execution back for a later attempt; False, changing nothing, if none is left to come."""
        ...

    def finish(self, execution_id: str, token: str, answer: Answer, outcome: Outcome) -> bool:
        """Record how it ended, its outcome still to be reported; False if another owner has it now.

        What the store has lost nobody else has: then it is True, though nothing is recorded.
        """
        ...

    def lapsed(self, scope: str, *, transport: str, limit: int) -> Sequence[Lapsed]:
        """Return unfinished executions with a kept delivery that nobody holds, oldest first."""
        ...

    def died(self, scope: str, *, since: float, limit: int) -> Sequence[Died]:
        """Return executions by webhook in their last attempt, whose lease ran out over `since` seconds ago."""
        ...

    def unreported(self, scope: str, *, limit: int) -> Sequence[Report]:
        """Return finished executions whose outcome is still to be reported, oldest first."""
        ...

    def reported(self, execution_id: str, *, accepted: bool) -> None:
        """Note that the API has the outcome, or will never take it."""
        ...

    def purge(self, scope: str, *, age: float, limit: int) -> int:
        """Remove up to `limit` executions finished more than `age` seconds ago; return how many.

        Of other scopes than this one only what is no longer due. What was not reported until then never will be: no
        server keeps an execution for longer.
        """
        ...

    def close(self) -> None:
        """Close what is open."""
        ...
