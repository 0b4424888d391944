"""How the server departs from its default: named quirks of the open-source core, and a plan's limits; pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from ..errors import ConfigurationError


class Quirk(str, Enum):
    """One trap of cueapi-core (contract, sections 9.3 and 14); off by default, when the server is sane."""

    IGNORED_FIRE_KEYS = "ignored-fire-keys"
    """`fire` answers 200 and drops payload_override, merge_strategy and idempotency_key (Q19)."""
    IGNORED_CUE_KEYS = "ignored-cue-keys"
    """Create drops `catch_up`, PATCH refuses it (Q7)."""
    IGNORED_FILTERS = "ignored-filters"
    """The `triggered_by`, `has_evidence` and `result_type` filters return everything (Q39)."""
    HIDDEN_EXECUTION_FIELDS = "hidden-execution-fields"
    """An execution shows neither payload nor outcome_state nor triggered_by (Q24)."""
    LIMIT_BEFORE_TASK_FILTER = "limit-before-task-filter"
    """Claimable takes the 50 oldest and only then filters by task (section 9.2)."""
    FUTURE_FIRES_CLAIMABLE = "future-fires-claimable"
    """A worker execution fired for later can be claimed at once (Q28)."""
    STALE_SWEEP = "stale-sweep"
    """A claimed run without an execution heartbeat for 300 s is retried as a webhook (Q33)."""
    MISSED_AFTER_900 = "missed-after-900"
    """A worker execution that nobody claims within 900 s is missed; so is one whose claim expired (Q28, Q34)."""
    POLL_CYCLE = "poll-cycle"
    """The server looks only every 5 s, so that everything is up to 5 s late (section 7)."""
    REPLAYED_SLOTS = "replayed-slots"
    """After downtime every missed slot runs, one every 5 s (section 7)."""
    INTERNAL_ERRORS = "internal-errors"
    """What the server does not check is a 500 (Q8, Q10)."""
    DROPPED_CONNECTION = "dropped-connection"
    """After a 500 the connection is closed without notice (Q11)."""
    RACY_CLAIM_NEXT = "racy-claim-next"
    """Claim-next selects and updates apart, so that several workers get one execution (Q26)."""
    SILENT_SCHEDULE_TYPE = "silent-schedule-type"
    """PATCH with an unknown schedule type is a 200 that changes nothing (Q14)."""
    MISLABELLED_METHOD = "mislabelled-method"
    """Create with a bad callback method says that the name is taken (Q9)."""


CORE = frozenset(Quirk)
"""All of them: what `--quirks core` means."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a plan allows."""

    requests_per_minute: int = 10_000_000
    cues: int = 10_000_000
    executions_per_month: int = 100_000_000


FREE = Limits(requests_per_minute=60, cues=10, executions_per_month=300)
"""A new account's plan (contract, section 4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The departures that one server makes."""

    quirks: frozenset[Quirk] = frozenset()
    limits: Limits = Limits()

    def has(self, quirk: Quirk) -> bool:
        """Tell whether a quirk is on."""
        return quirk in self.quirks


def make_profile(*, quirks: Iterable[str] = (), limits: str | None = None) -> Profile:
    """Return the profile that names stand for; `core` stands for every quirk."""
    named = [name for each in quirks for name in each.split(",") if name]
    known = {quirk.value: frozenset({quirk}) for quirk in Quirk} | {"core": CORE}
    unknown = [name for name in named if name not in known]
    if unknown:
        raise ConfigurationError("unknown_quirk", f"there is no quirk {unknown[0]!r}; there are {', '.join(known)}")
    if limits not in (None, "free"):
        raise ConfigurationError("unknown_limits", f"there are no limits {limits!r}; there is free")
    return Profile(
        quirks=frozenset[Quirk]().union(*(known[name] for name in named)), limits=FREE if limits else Limits()
    )
