"""What passes between a task and its caller: the run's facts going in, a rich result coming out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The facts of one run; annotate a parameter with it to receive them."""

    execution_id: str
    """The same over all attempts of an execution: use it as your idempotency key."""
    cue_id: str
    cue_name: str
    task: str
    scheduled_for: datetime
    attempt: int
    """From 1."""
    is_last_attempt: bool
    transport: str
    """`webhook` or `worker`."""
    payload: Mapping[str, Any]
    """What the cue carries for the function, without CueAPI's own keys."""
    now: datetime
    """When this attempt was signed, in UTC: the run's own clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A success with its evidence, as a task's return value; limits are the server's (contract, section 4)."""

    result: str | None = None
    external_id: str | None = None
    """The id of what was made, at most 255 characters."""
    result_url: str | None = None
    result_ref: str | None = None
    result_type: str | None = None
    """At most 50 characters."""
    summary: str | None = None
    artifacts: Sequence[Any] | None = None
    metadata: Mapping[str, Any] | None = None
