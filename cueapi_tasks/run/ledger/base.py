"""What every ledger promises, in values and one protocol.

No function runs again after its success was recorded: `claim` hands an execution to one owner at a time, for as
long as its lease is renewed, and to nobody once it is finished. Leases are durations, judged by the store's clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..outcome import Outcome

LEASE_SECONDS = 30.0
RENEW_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The execution that is to be claimed."""

    execution_id: str
    scope: str
    """The app and environment, as cue names spell them; a ledger may be shared."""
    task: str
    cue_id: str
    transport: str
    attempt: int
    max_attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The HTTP answer of a finished execution, given again to every redelivery."""

    status: int
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """This caller runs it; `token` guards what it writes afterwards."""

    token: str
    starts: int
    """How often it was claimed, this time included."""


@dataclass(frozen=True, slots=True)
class Running:
    """Another owner runs it and its lease is fresh."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """It ended before; this is its answer."""

    answer: Answer


Claim = Claimed | Running | Finished


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A finished execution whose outcome the API may not know yet."""

    execution_id: str
    outcome: Outcome
    age: float = 0.0
    """Seconds since it finished, by the store's clock."""


class Ledger(Protocol):
    """A store of executions; every method is one transaction and raises `LedgerError` if that fails."""

    def claim(self, entry: Entry, *, lease: float) -> Claim:
        """Take the execution for `lease` seconds, unless it is finished or another owner's lease is fresh.

        The highest attempt seen is kept in the row, whatever the answer is.
        """
        ...

    def renew(self, tokens: Sequence[str], *, lease: float) -> None:
        """Extend the leases that these tokens still hold."""
        ...

    def release(self, execution_id: str, token: str, *, max_attempts: int) -> bool:
        """Give the execution back for a later attempt; False, changing nothing, if none is left to come."""
        ...

    def finish(self, execution_id: str, token: str, answer: Answer, outcome: Outcome) -> bool:
        """Record how it ended, its outcome still to be reported; False if another owner has it now."""
        ...

    def unreported(self, scope: str, *, limit: int) -> Sequence[Report]:
        """Return finished executions whose outcome is still to be reported, oldest first."""
        ...

    def reported(self, execution_id: str, *, accepted: bool) -> None:
        """Note that the API has the outcome, or will never take it."""
        ...

    def close(self) -> None:
        """Close what is open."""
        ...
