"""Time two ways of doing the same, taking turns, so that the machine's moods fall on both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

ROUNDS = 9


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A measured ratio and the one that is aimed at; up to twice that passes."""

    name: str
    value: float
    target: float
    detail: str = ""
    enforced: bool = True
    """Whether a run fails beyond twice the target; a goal that is known not to be reached is only shown."""

    @property
    def passes(self) -> bool:
        return not self.enforced or self.value <= 2 * self.target


def seconds(step: Callable[[], object], times: int) -> float:
    begun = time.perf_counter()
    for _ in range(times):
        step()
    return (time.perf_counter() - begun) / times


def compare(name: str, ours: Callable[[], object], floor: Callable[[], object], *, target: float, times: int) -> Ratio:
    """Return how many times the floor's time ours takes, in the median of several rounds."""
    pairs = [(seconds(ours, times), seconds(floor, times)) for _ in range(ROUNDS)]
    mine, least = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(one / other for one, other in pairs)
    return Ratio(name=name, value=ratio, target=target, detail=f"{mine * 1e6:.1f} us against {least * 1e6:.1f} us")
