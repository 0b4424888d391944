"""Moments and durations as people read them; pure."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo


def local(moment: datetime, zone: str) -> str:
    """Return a moment as a clock on the wall of that zone shows it, with its offset's name."""
    return moment.astimezone(ZoneInfo(zone)).strftime("%a %Y-%m-%d %H:%M:%S %Z")


def spell_duration(seconds: float) -> str:
    """Return `45 s`, `7 min 30 s`, `2 h 5 min` or `3 d 4 h`: the two largest units that are not zero."""
    parts: list[str] = []
    left = round(seconds)
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        if left >= size:
            parts.append(f"{left // size} {unit}")
            left %= size
    return " ".join(parts[:2]) or "0 s"


def spell_moment(moment: datetime) -> str:
    """Return a moment (UTC) as JSON documents have it."""
    return moment.isoformat().replace("+00:00", "Z")
