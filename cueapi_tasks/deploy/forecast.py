"""Which runs follow from a schedule; pure."""

from __future__ import annotations

import itertools
from datetime import datetime

from ..declare.schedules import Schedule, runs_after

SHOWN = 5
"""Runs that a plan shows before and after."""


def coming_runs(schedule: Schedule, now: datetime, count: int = SHOWN) -> tuple[datetime, ...]:
    """Return the next runs (UTC)."""
    return tuple(itertools.islice(runs_after(schedule, now), count))
